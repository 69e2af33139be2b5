"""A generator as the prior of inverse problems: is its range a good restriction, and what is outside of it more consistent with small deviations allowed?

    python experiments/counterfactual/generative_regularizers.py                                        # 3 seeds × 10 digits × 3 sets × 3 problems × 3 forms
    python experiments/counterfactual/generative_regularizers.py --generators mnist_vae mnist_gan   # and with a GAN, whose weights it needs too

The same command goes on where it was stopped. Needs the extra `experiments`, the data set mnist and the weights mnist_vae.

Claim that is tested (Duff, Campbell & Ehrhardt 2023, arXiv 2107.11191): solutions that lie exactly in the range of a generator can be good, but small
deviations from it (soft, or sparse) give more consistent results. `jxai.counterfactual.regularized` solves y = A x + noise for each form: deblurring
(Gaussian of 1.5 pixels), inpainting (30 % of the pixels are seen), and tomography (parallel beams, 8 angles), with noise of 5 % of the root mean square of
A x. Images: `range`, what the generator makes of the codes of test digits; `digits`, test digits themselves; `marked`, these with a white square of 4 × 4
pixels in a corner, that no digit has. Baseline: Tikhonov, `min ‖A x − y‖² + λ ‖x‖²`, in closed form; every search starts at the code of its solution.
λ is c times the noise's variance, with c of .1, 1, 10, 100, 1000 that is best (least squared error) for each problem, generator and form on training digits.

Measured, all solutions clipped to [0, 1]: PSNR in dB; MSE; the PSNR lost by the mark (digits − marked, the same digit); MSE at the mark; the squared misfit
over its expectation for the true image (1 is consistent with the data; what is above is not explained); PSNR above the hard form on the same image.
Solutions that are not finite are failures, in rows of their own. Intervals (95 %, bootstrap) are over images, pooled over seeds (each with other digits,
mask and noise).

Found with mnist_vae (3 seeds, n = 30 images for each cell, no failures, 90 s on 2 busy cores), PSNR and misfit:

| problem, form (c) | PSNR range | digits | marked | lost by the mark | misfit digits | misfit marked |
|---|---|---|---|---|---|---|
| deblurring, tikhonov (10) | 24.0 [23.7, 24.3] | 21.5 [21.1, 21.8] | 20.1 [19.8, 20.4] | 1.4 [1.2, 1.5] | 4.7 [4.5, 4.9] | 4.7 [4.5, 5.0] |
| deblurring, hard (0.1) | 44.4 [43.7, 45.2] | 22.8 [21.5, 24.0] | 14.6 [14.2, 15.0] | 8.2 [7.1, 9.3] | 2.8 [1.9, 4.3] | 46.5 [43.3, 49.6] |
| deblurring, soft (100) | 35.2 [34.9, 35.4] | 24.6 [23.6, 25.5] | 21.4 [20.9, 21.9] | 3.1 [2.7, 3.7] | 1.5 [1.4, 1.7] | 1.9 [1.7, 2.0] |
| deblurring, sparse (10) | 35.3 [34.9, 35.7] | 24.2 [23.4, 25.0] | 21.9 [21.4, 22.4] | 2.4 [2.0, 2.7] | 1.4 [1.3, 1.6] | 1.8 [1.7, 2.0] |
| inpainting, tikhonov (0.1) | 12.2 [11.6, 12.9] | 11.7 [11.1, 12.3] | 10.7 [10.2, 11.2] | 1.0 [0.8, 1.1] | 0.4 [0.4, 0.4] | 0.4 [0.4, 0.4] |
| inpainting, hard (100) | 32.2 [31.5, 32.9] | 20.7 [19.5, 21.8] | 15.0 [14.6, 15.4] | 5.6 [4.8, 6.5] | 20.1 [12.1, 31.8] | 81.0 [67.1, 97.6] |
| inpainting, soft (1000) | 35.3 [34.5, 36.0] | 21.0 [19.8, 22.2] | 15.8 [15.3, 16.2] | 5.3 [4.5, 6.2] | 1.0 [0.8, 1.4] | 3.1 [2.8, 3.5] |
| inpainting, sparse (1000) | 40.4 [38.7, 41.9] | 20.6 [19.5, 21.8] | 15.7 [15.2, 16.2] | 4.9 [4.2, 5.8] | 4.4 [3.8, 5.1] | 5.3 [4.7, 6.0] |
| tomography, tikhonov (10) | 20.9 [20.3, 21.4] | 18.7 [18.2, 19.2] | 16.9 [16.6, 17.2] | 1.8 [1.6, 2.1] | 9.1 [8.5, 9.7] | 10.6 [10.0, 11.2] |
| tomography, hard (0.1) | 39.6 [39.1, 40.1] | 23.1 [21.9, 24.4] | 15.4 [15.1, 15.7] | 7.7 [6.7, 8.7] | 4.0 [2.8, 5.8] | 19.8 [18.3, 21.6] |
| tomography, soft (100) | 33.9 [33.7, 34.1] | 24.4 [23.5, 25.4] | 18.7 [18.3, 19.0] | 5.7 [5.1, 6.4] | 2.1 [1.7, 2.6] | 4.6 [4.2, 5.0] |
| tomography, sparse (10) | 32.4 [32.0, 32.8] | 24.4 [23.6, 25.2] | 21.1 [20.6, 21.7] | 3.2 [2.9, 3.6] | 1.5 [1.3, 1.7] | 2.0 [1.8, 2.3] |

So the hard form is the best of all for images in the range when deblurring and in tomography (by 9, and by 6 to 7 dB), and fails outside of it: it drops
the mark (squared error there .88 to .99) and leaves the data unexplained (misfit 20 to 81). Small deviations gain there 6.8 [6.4, 7.2] dB (soft) and 7.3
[6.8, 7.7] (sparse) when deblurring, 3.3 [3.2, 3.4] and 5.7 [5.4, 6.1] in tomography, and on plain digits, which the range does not hold exactly either, 1.2
to 1.8: the claim holds. When inpainting the hard form is behind in the range too (by 3 and 8 dB; its λ was chosen for digits), and deviations gain only .7
with the mark, since no operator tells what a deviation is in pixels that are not seen. Tikhonov loses least by the mark, of less quality: on marked images
it is above the hard form when deblurring and in tomography. c at the ends of its grid: hard (.1, where the prior hardly counts), soft and sparse when
inpainting (1000), Tikhonov when inpainting (.1).

With mnist_gan, whose codes are found by inversion, the same holds more faintly (`--generators mnist_gan`, 5 minutes on busy cores, no failures). In the range the
hard form is best when deblurring (33.8 [31.3, 36.1] dB; soft 25.8, sparse 30.4, Tikhonov 22.1) and in tomography (32.3 [30.0, 34.2]; 28.0, 29.7, 19.5). Outside of
it deviations gain 5.7 [5.4, 5.9] dB (soft) and 6.4 [6.1, 6.8] (sparse) with the mark when deblurring, 3.7 [3.5, 3.9] and 5.7 [5.3, 6.1] in tomography, and 1.4 to
2.7 on plain digits. When inpainting the inversion of what little Tikhonov gives ends at another digit: no form is above 17 dB, even in the range.

Writes `out/generative_regularizers/DIGEST/results.json` (rows by seed and pooled, the chosen c) and `reconstructions.png`.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jxai
from jxai import counterfactual, models
from jxai.counterfactual.operators import Matrix, ParallelBeam, gaussian
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models.ordinary import mnist

FORMS = ("hard", "soft", "sparse")
MARK = np.s_[2:6, 2:6]
PROBLEMS = ("deblurring", "inpainting", "tomography")
SEEN = 235
"""Pixels of the 784, when inpainting."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 10
    """By seed."""
    tuning: int = 30
    """Training digits that λ is chosen on."""
    seeds: int = 3
    """Of the digits, the mask and the noise."""
    generators: tuple[str, ...] = ("mnist_vae",)
    problems: tuple[str, ...] = PROBLEMS
    noise: float = 0.05
    """Its standard deviation, as a share of the root mean square of A x."""
    scales: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0, 1000.0)
    """c: λ over the noise's variance."""
    steps: int = 150
    out: str = "out/generative_regularizers"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Chooses λ, solves every problem, and returns the rows."""
    values, shown, rows = {}, {}, []
    for name in config.generators:
        generator = functools.cache(models.generators()[name])
        for problem in config.problems:
            best = {form: float(c) for form, c in here.kept(f"{name}, {problem}, c", functools.partial(tuned, generator(), problem, config)).items()}
            names = dict(seed="all", generator=name, problem=problem, images="tuning", metric="c")
            rows += [findings.row([c], form=form, **names) for form, c in best.items()]
            here.tell(f"{name}, {problem}: c = {best}")
            for seed in range(config.seeds):
                operator, sets, y, variance = problem_of(generator(), problem, seed, config)
                for form, c in best.items():
                    make = functools.partial(solved, form, operator, y, variance, c, generator(), config.steps)
                    found = here.kept(f"{name}, {problem}, {seed}, {form}", lambda make=make: {"x": make()})["x"]
                    for (images, x), seen, made in zip(sets.items(), np.split(y, 3), np.split(found, 3)):
                        for metric, value in judged(operator, x, seen, variance, made).items():
                            values[seed, name, problem, images, form, metric] = value
                        if seed == 0 and images != "range" and name == config.generators[0]:
                            shown.setdefault((problem, images), (x[0], {}))[1][form] = made[0]
    jxai.plot.save(picture(shown), here.path / "reconstructions.png")
    return rows + rows_of(values, config)


def problem_of(generator: Any, problem: str, seed: int, config: Config) -> tuple[Matrix, dict[str, np.ndarray], np.ndarray, float]:
    """A seed's operator, its images by set, their measurements, and the variance of the noise."""
    operator = measuring(problem, seed)
    sets = image_sets(generator, mnist("test", config.images, seed)[0])
    return operator, sets, *measured(operator, np.concatenate(list(sets.values())), config.noise, seed)


@functools.cache
def measuring(problem: str, seed: int) -> Matrix:
    """The operator as a matrix: on a CPU faster than the interpolation of beams, and Tikhonov's solution is in closed form."""
    if problem == "inpainting":
        return Matrix(jnp.eye(784)[np.sort(np.random.default_rng(seed).permutation(784)[:SEEN])])
    operator = gaussian(1.5) if problem == "deblurring" else ParallelBeam(jnp.arange(8) * 22.5)
    columns = jax.jit(lambda v: jax.lax.map(lambda v: operator(v).ravel(), v, batch_size=56))(jnp.eye(784).reshape(784, 28, 28, 1))
    matrix = columns.T
    return Matrix(matrix[np.flatnonzero(np.abs(matrix).sum(1))])  # what sees nothing carries noise only


def image_sets(generator: Any, digits: np.ndarray) -> dict[str, np.ndarray]:
    """Images in the generator's range, digits, and digits with a foreign mark."""
    made = jax.jit(jax.vmap(lambda v: generator.decode(generator.encode(v))))(digits)
    marked = digits.copy()
    marked[:, *MARK] = 1
    return {"range": np.asarray(made), "digits": digits, "marked": marked}


def measured(operator: Matrix, x: np.ndarray, noise: float, seed: int) -> tuple[np.ndarray, float]:
    """`[n, m]`: A x with noise, the same for the same seed; and the noise's variance, by the root mean square over these images."""
    clean = x.reshape(len(x), -1) @ np.asarray(operator.matrix).T
    sigma = noise * float(np.sqrt((clean**2).mean()))
    return np.float32(clean + sigma * np.random.default_rng(seed).normal(size=clean.shape)), sigma**2


def solved(form: str, operator: Matrix, y: np.ndarray, variance: float, c: float, generator: Any, steps: int) -> np.ndarray:
    """The images that a form makes of measurements, in [0, 1]; "tikhonov" is the one without the generator."""
    if form == "tikhonov":
        return np.clip(tikhonov(operator, y, c * variance), 0, 1)
    start = np.clip(tikhonov(operator, y, 10 * variance), 0, 1)
    search = counterfactual.regularized(generator=generator, form=form, weight=jnp.float32(c * variance), steps=steps)
    found = counterfactual.run(search, operator, start, None, per_example={"y": y})
    return np.clip(np.where(found.valid.reshape(-1, 1, 1, 1), found.x, np.nan), 0, 1)


def tikhonov(operator: Matrix, y: np.ndarray, weight: float) -> np.ndarray:
    """`(AᵀA + λ)⁻¹ Aᵀ y` for each y."""
    a = np.asarray(operator.matrix, np.float64)
    return np.float32(np.linalg.solve(a.T @ a + weight * np.eye(a.shape[1]), a.T @ y.T).T.reshape(-1, 28, 28, 1))


def tuned(generator: Any, problem: str, config: Config) -> dict[str, float]:
    """The c of least squared error on training digits, for each form."""
    x, operator = mnist("train", config.tuning, 0)[0], measuring(problem, 1000)
    y, variance = measured(operator, x, config.noise, 1000)
    error = lambda form, c: np.nanmean((solved(form, operator, y, variance, c, generator, config.steps) - x) ** 2)
    return {form: min(config.scales, key=lambda c: error(form, c)) for form in ("tikhonov", *FORMS)}


def judged(operator: Matrix, x: np.ndarray, y: np.ndarray, variance: float, found: np.ndarray) -> dict[str, np.ndarray]:
    """`[n]` for each measure; NaN where the solution is not finite."""
    mse = ((found - x) ** 2).mean((1, 2, 3))
    off = found.reshape(len(x), -1) @ np.asarray(operator.matrix).T - y
    misfit = (off**2).sum(1) / (variance * y.shape[1])
    at_mark = ((found - x)[:, *MARK] ** 2).mean((1, 2, 3))
    return {"PSNR": -10 * np.log10(mse), "MSE": mse, "MSE at the mark": at_mark, "misfit": misfit, "failed": np.isnan(mse) * 1.0}


def rows_of(values: dict[tuple, np.ndarray], config: Config) -> list[dict[str, Any]]:
    """Rows for each seed and pooled over seeds; PSNRs lost by the mark, and above the hard form's, on the same digits."""
    more = {}
    for (seed, name, problem, images, form, metric), value in values.items():
        if metric == "PSNR":
            more[seed, name, problem, images, form, "PSNR above hard"] = value - values[seed, name, problem, images, "hard", metric]
            if images == "marked":
                more[seed, name, problem, images, form, "PSNR lost by the mark"] = values[seed, name, problem, "digits", form, metric] - value
    values = values | more
    values |= findings.pooled(values, config.seeds)
    names = ("seed", "generator", "problem", "images", "form", "metric")
    return [findings.row(value, **dict(zip(names, key)), case=", ".join(key[1:5])) for key, value in values.items()]


def picture(shown: dict[tuple[str, str], tuple[np.ndarray, dict[str, np.ndarray]]]):
    """A digit and its reconstructions, a row for each problem, without and with the mark; below each its error."""
    x, found = np.stack([x for x, _ in shown.values()]), np.stack([np.stack(list(by.values())) for _, by in shown.values()])
    titles = [[f"{form}: {-10 * np.log10(((image - x) ** 2).mean()):.1f} dB" for form, image in by.items()] for x, by in shown.values()]
    return jxai.plot.counterfactuals(x, found, titles=titles, originals=[f"{problem}, {images}" for problem, images in shown])


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints what was measured, pooled over seeds."""
    print(findings.table([r for r in rows if r["seed"] == "all" and r["images"] != "tuning"], "case", "metric"))


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
