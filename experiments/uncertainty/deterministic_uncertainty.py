"""Networks that say how sure they are in one pass: good at what is out of distribution, and poorly calibrated where the distribution shifts?

    python experiments/uncertainty/deterministic_uncertainty.py

The same command goes on where it was stopped. Needs the extra `experiments` and the data sets mnist, fashion_mnist and notmnist.

Claim that is tested (Postels et al. 2022, arXiv 2107.00649): methods of one deterministic pass (DUQ, DDU, SNGP) match MC dropout and ensembles in telling out-of-distribution
examples, but under a continuous shift of the inputs their uncertainty says less of whether the answer is right.

On MNIST, `train` digits and `epochs` passes over them, one backbone for all: DDU's residual network of `widths` without batch normalisation. Softmax; last-layer Laplace on it
(a probit of each pair); MC dropout of a tenth before the last layer (`samples` draws); an ensemble of `members`; DUQ (σ = .1, λ = .05, γ = .99); DDU and SNGP with convolutions held to norm 3.
Adam at 3e-3 falling to 0. Uncertainty: the entropy of the (mean) prediction for the first four, −max_c K_c, −log density of the features, the variance of the Gaussian process.
Probabilities: the (mean) prediction; DUQ's softmax of log K; SNGP's mean field at λ = π/8.

Measured on `tests` test digits, rotated (15° to 75°) and with fog, contrast and impulse noise of CIFAR-10-C, severities 1 to 5: accuracy, ECE (15 bins of equal width), negative
log-likelihood, and rAULC, the relative area under the lift curve of accuracy (1: uncertainty orders right before wrong; 0: it says nothing), all means over the four
shifts; AUROC against as many images of Fashion-MNIST and notMNIST.

Found: the claim holds. Means of 3 seeds [95 % bootstrap interval]:

|            | AUROC, Fashion-MNIST | AUROC, notMNIST   | accuracy, severity 0 | ECE, severity 3   | rAULC, severity 0 | rAULC, severity 3 |
|------------|----------------------|-------------------|----------------------|-------------------|-------------------|-------------------|
| softmax    | .813 [.788, .849]    | .680 [.560, .813] | .928                 | .198 [.175, .227] | .897 [.867, .922] | .661 [.562, .719] |
| Laplace    | .904 [.891, .930]    | .912 [.893, .934] | .928                 | .196 [.186, .204] | .892 [.858, .913] | .669 [.567, .723] |
| MC dropout | .778 [.687, .824]    | .715 [.617, .816] | .924                 | .212 [.158, .263] | .896 [.851, .924] | .627 [.518, .706] |
| ensemble   | .871 [.794, .917]    | .824 [.708, .889] | .944                 | .161 [.150, .170] | .909 [.899, .920] | .690 [.640, .746] |
| DUQ        | .878 [.849, .919]    | .954 [.943, .971] | .879                 | .155 [.142, .168] | .821 [.783, .882] | .138 [.057, .240] |
| DDU        | .998 [.998, .999]    | 1.00 [1.00, 1.00] | .883                 | .262 [.237, .311] | .704 [.611, .785] | .192 [.121, .249] |
| SNGP       | .949 [.898, .981]    | .984 [.955, .998] | .926                 | .191 [.141, .257] | .600 [.538, .664] | .314 [.272, .357] |

The rate of the training was chosen by accuracy on training digits, after a first run at 1e-2 in which dropout learnt nothing; Laplace has the prior precision 1.

Cost: about 8 minutes of processor time on a CPU.
Writes `out/deterministic_uncertainty/DIGEST/results.json` (means over `seeds` trainings with 95 % bootstrap intervals) and `shift.png`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import scipy.ndimage
from flax import nnx

from experiments.uncertainty.deterministic_networks import Classifier, ResidualFeatures, cross_entropy, dropped, evaluated, held
from jxai import data, uncertainty
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, over_seeds, recorded
from jxai.evaluate.record import Record
from jxai.models.ordinary import mnist
from jxai.models.spectral import SpectralNorm
from jxai.train import train
from jxai.uncertainty.calibration import expected_calibration_error, negative_log_likelihood
from jxai.uncertainty.detection import auroc
from jxai.uncertainty.networks import DUQ, SNGP, duq_training
from jxai.uncertainty.selective import raulc

OUTSIDE = ("fashion_mnist", "notmnist")
SHIFTS = ("rotation", "fog", "contrast", "impulse_noise")
METHODS = ("softmax", "Laplace", "MC dropout", "ensemble", "DUQ", "DDU", "SNGP")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run. The paper's networks are ResNets on CIFAR and segmentation: days on two cores."""

    seeds: int = 3
    train: int = 2500
    epochs: int = 6
    tests: int = 400
    widths: tuple[int, ...] = (8, 16, 32)
    members: int = 3
    samples: int = 10
    batch_size: int = 32
    out: str = "out/deterministic_uncertainty"


class Told(NamedTuple):
    """What a method says of n examples."""

    probabilities: jax.Array
    uncertainty: jax.Array


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Trains every method with every seed and returns the rows."""
    digits, labels = mnist("test", config.tests, seed=0)
    shifted = {("none", 0): digits} | {(shift, s): spoilt(digits, shift, s) for shift in SHIFTS for s in range(1, 6)}
    outside = {at: mnist("test", config.tests, seed=0, dataset=at)[0] for at in OUTSIDE}
    rows = []
    for seed in range(config.seeds):
        made = lambda seed=seed: of_seed(config, here, seed, shifted, labels, outside)
        rows += [{**r, "seed": seed} for r in here.kept_rows(f"seed {seed}", made)]
    rows += findings.overall(rows, "method")
    draw(here, rows)
    return rows


def spoilt(digits: np.ndarray, shift: str, severity: int) -> np.ndarray:
    """The digits under a shift."""
    if shift == "rotation":
        return np.clip(scipy.ndimage.rotate(digits, 15 * severity, axes=(1, 2), reshape=False, order=1), 0, 1).astype(np.float32)
    pixels = np.round(255 * digits).astype(np.uint8)
    return np.stack([np.float32(data.corrupt(one, shift, severity, seed=n)) / 255 for n, one in enumerate(pixels)])


def of_seed(config: Config, here: Record, seed: int, shifted: dict, labels: np.ndarray, outside: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The rows of all methods, trained with one seed."""
    rows, sets = [], {**shifted, **outside}
    for method, tell in trained(config, here, seed):
        probabilities, uncertain = evaluated(tell, np.concatenate(list(sets.values())), 100)  # in one program
        told = {at: Told(*pair) for at, *pair in zip(sets, np.split(probabilities, len(sets)), np.split(uncertain, len(sets)))}
        values = {f"AUROC, {at}": [auroc(told["none", 0].uncertainty, told[at].uncertainty)] for at in outside}
        for (_, severity), one in ((at, told[at]) for at in shifted):
            right = one.probabilities.argmax(1) == labels
            found = {"accuracy": right.mean(), "ECE": expected_calibration_error(one.probabilities, labels)}
            found |= {"NLL": negative_log_likelihood(one.probabilities, labels), "rAULC": raulc(one.uncertainty, right)}
            for name, value in found.items():
                values.setdefault(f"{name}, severity {severity}", []).append(float(value))
        rows += [findings.row(np.asarray(v), method=method, metric=metric) for metric, v in values.items()]
        here.tell(f"seed {seed}, {method}: {', '.join(f'{m} {np.mean(v):.3f}' for m, v in values.items() if 'AUROC' in m or 'severity 5' in m)}")
    return rows


def trained(config: Config, here: Record, seed: int) -> Any:
    """Each method's name, and its function of one example: `x -> (probabilities [K], uncertainty)`."""
    x, y = mnist("train", config.train, seed=seed + 1)
    keys = jax.random.split(jax.random.key(seed), config.members + 4)
    schedule = optax.cosine_decay_schedule(3e-3, config.epochs * (len(x) // config.batch_size))
    optimizer, width = optax.adam(schedule), config.widths[-1]

    def learnt(make: Callable[[nnx.Rngs], Any], loss: Any, key: jax.Array, **options: Any) -> Any:
        done = train(make(nnx.Rngs(key)), loss, (x, y), key=key, epochs=config.epochs, batch_size=config.batch_size, **options)
        here.tell(f"seed {seed}: {done.outcome}, accuracy {done.history['accuracy'][-20:].mean():.3f}")
        return done.model

    backbone = lambda rngs: ResidualFeatures(config.widths, rngs=rngs)
    plain = lambda rngs: Classifier(backbone(rngs), width, rngs=rngs)
    members = [learnt(plain, cross_entropy, key, optimizer=optimizer) for key in keys[: config.members]]
    yield "softmax", lambda v: by_entropy(members[0](v))
    answers = evaluated(lambda v: uncertainty.answers(members[0], v), x)
    laplace = uncertainty.LaplaceModel(members[0], uncertainty.fit_laplace(answers.features, answers.logits))
    yield "Laplace", lambda v: by_entropy(laplace(v))
    drawing = uncertainty.monte_carlo(
        learnt(lambda rngs: Classifier(backbone(rngs), width, 0.1, rngs=rngs), dropped, keys[-1], optimizer=optimizer), config.samples
    )
    yield "MC dropout", lambda v: by_entropy(uncertainty.Averaged(drawing.at(keys[-1]))(v))
    yield "ensemble", lambda v: by_entropy(uncertainty.Averaged(uncertainty.ensemble(members))(v))
    parts = duq_training(optimizer, penalty=0.05, gamma=0.99)
    duq = learnt(lambda rngs: DUQ(backbone(rngs), width, 10, embedding=32, count=config.batch_size / 10, spread=0.05, rngs=rngs), parts, keys[-2])
    yield "DUQ", lambda v: Told(jax.nn.softmax(duq(v)), uncertainty.max_kernel(duq, v))
    bounded = SpectralNorm(3.0, iterations=200)
    ddu = bounded(learnt(plain, held, keys[-3], optimizer=optimizer))
    answers = evaluated(lambda v: uncertainty.answers(ddu, v), x)
    density = uncertainty.fit_gaussian_density(answers.features, answers.logits, y)
    yield "DDU", lambda v: Told(jax.nn.softmax(ddu(v)), uncertainty.gaussian_density(ddu, v, fitted=density))
    sngp = bounded(learnt(lambda rngs: SNGP(backbone(rngs), width, 10, num_features=256, rngs=rngs), held, keys[-4], optimizer=optimizer))
    answers = evaluated(lambda v: uncertainty.answers(sngp, v), x)
    posterior = uncertainty.fit_sngp(answers.features, answers.logits)
    shrunk = uncertainty.SNGPModel(sngp, posterior)
    yield "SNGP", lambda v: Told(jax.nn.softmax(shrunk(v)), uncertainty.sngp_variance(sngp, v, fitted=posterior))


def by_entropy(logits: jax.Array) -> Told:
    """The softmax and its entropy."""
    return Told(jax.nn.softmax(logits), uncertainty.formulas.entropy(logits))


def draw(here: Record, rows: list[dict[str, Any]]) -> None:
    """AUROCs, and accuracy, ECE and rAULC by severity, in the mean over seeds."""
    import matplotlib.pyplot as plt

    by = {(r["method"], r["metric"]): r for r in rows if r["seed"] == "all"}
    fig, axes = plt.subplots(1, 4, figsize=(14, 3.4), layout="constrained")
    for place, method in enumerate(METHODS):
        for at, side in zip(OUTSIDE, (-0.2, 0.2)):
            r = by[method, f"AUROC, {at}"]
            axes[0].barh(place + side, r["mean"] - 0.5, 0.38, left=0.5, color=f"C{place}", alpha=1 if side < 0 else 0.5)
        for axis, metric in zip(axes[1:], ("accuracy", "ECE", "rAULC")):
            found = [by[method, f"{metric}, severity {s}"] for s in range(6)]
            axis.plot(range(6), [r["mean"] for r in found], color=f"C{place}", label=method, linestyle="-" if method in ("DUQ", "DDU", "SNGP") else "--")
    axes[0].set(title=f"AUROC, {OUTSIDE[0]} (full) and {OUTSIDE[1]}", yticks=range(len(METHODS)), yticklabels=METHODS, xlim=(0.5, 1))
    axes[0].invert_yaxis()
    for axis, metric in zip(axes[1:], ("accuracy", "ECE", "rAULC")):
        axis.set(title=metric, xlabel="severity of the shift")
    axes[3].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), title="solid: one pass", title_fontsize=7)
    fig.savefig(here.path / "shift.png", dpi=150)
    plt.close(fig)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    over_seeds("method", "metric")(config, [r for r in rows if "AUROC" in r["metric"]])
    for metric in ("accuracy", "ECE", "NLL", "rAULC"):
        print()
        over_seeds("method", "metric")(config, [r for r in rows if r["metric"].startswith(f"{metric},")])


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
