"""Overinterpretation: how few pixels does a network need to be sure, and do they carry what it learnt from?

    python experiments/sufficiency/overinterpretation.py                              # all three parts
    python experiments/sufficiency/overinterpretation.py --parts cifar10 --images 1000

The same command goes on where it was stopped. Needs the extra `experiments`, the data sets cifar10 and imagenet_nips2017, and the weights cifar10_resnet20
and cifar10_resnet56.

Claims that are tested (Carter et al. 2021, arXiv 2003.08907): (1) networks classify CIFAR-10 images with confidence when 95 % of the pixels are
removed, and ImageNet photographs by pixels of their border; random pixels do not do; (2) such subsets are no accident of one network: a network
trained on 5 % subsets alone does nearly as well on those of new images as one on whole images, and far better than one on random subsets (published:
92 to 95 % against 10 to 50); (3) ensembles and input dropout need more pixels.

Part `cifar10`: the first `images` test images, the predicted class, batched gradient backward selection (`per_step` pixels at a step, published: one);
a removed pixel becomes the mean colour that the network subtracts. Beside it random order and the order of attributions (`passes` forward passes for
black-box methods, `steps` for averages of gradients). Measured: pixels that suffice for .9 and .99 (of images where the whole one does), and what
`share` of the pixels leaves: its probability, whether the class stays, and whether it does for the other network ("other").
Part `imagenet`: the same of EfficientNet-Lite0 and the first `photographs` of imagenet_nips2017 of which it is sure (.9); and how much of the kept
pixels lies on the border, a tenth of the side wide (.35 of all pixels).
Part `training`: small CNNs (`subset_training.py`) on `taught` training images (of the 10 000 of 50 000 that are here), by `seeds`: whole; the subsets
that such a network itself selects, as the paper has it; those that ResNet-20 selects; random subsets of as many pixels; and *the masks alone*, without
any colour, a control that the paper lacks: a subset is selected for a class, so that its very shape may tell which. Each is judged on test images
treated alike. Then accuracy on whole images and the pixels that suffice for `confidence`: one network, ensembles of `members`, and one trained under
input dropout (.8 of the pixels kept); and of ResNet-20, ResNet-56 and both together, for .9.

Found (500 images, 50 photographs, 3 seeds; [95 % intervals over images]). "In 5 %": the class stays.

| ResNet-20, order | pixels for .9 | for .99 | p ≥ .9 in 5 % | in 5 % | in 5 %, other |
|---|---|---|---|---|---|
| backward selection | .066 [.062, .071] | .098 [.091, .105] | .45 [.40, .49] | .68 [.64, .72] | .18 [.15, .22] |
| random | .69 [.65, .72] | .74 [.70, .77] | .11 [.09, .14] | .11 [.09, .14] | .11 [.09, .14] |
| grad-cam | .25 [.23, .27] | .33 [.31, .35] | .08 [.06, .11] | .20 [.17, .24] | .20 [.16, .23] |
| rise | .38 [.35, .40] | .48 [.45, .51] | .09 [.07, .12] | .20 [.16, .23] | .20 [.16, .23] |
| occlusion | .39 [.37, .41] | .48 [.46, .50] | .06 [.04, .08] | .12 [.09, .15] | .13 [.10, .16] |
| guided backprop | .52 [.49, .56] | .61 [.57, .65] | .13 [.10, .16] | .16 [.13, .20] | .16 [.13, .19] |
| |gradient| | .56 [.53, .59] | .61 [.58, .64] | .11 [.08, .14] | .12 [.09, .15] | .12 [.10, .15] |
| kernel shap, sobol | .58, .59 | .65, .68 | .05, .08 | .11, .15 | .10, .13 |
| integrated gradients | .59 [.56, .63] | .67 [.63, .70] | .11 [.09, .14] | .15 [.12, .18] | .15 [.12, .18] |
| input × gradient, gradient, smoothgrad | .65, .67, .70 | .72, .73, .76 | .11 | .13, .13, .12 | .12 |
| ResNet-56: backward selection | .069 [.064, .075] | .095 [.087, .101] | .48 [.44, .52] | .62 [.58, .67] | .20 [.17, .24] |
| random, grad-cam | .58, .21 | .66, .27 | .08, .12 | .11, .21 | .11, .22 |
| EfficientNet-Lite0: backward selection | .18 [.15, .22] | | .06 [0, .14] | .40 [.26, .56] | |
| random, |gradient|, grad-cam | .88, .77, .49 | | 0 | 0, .02, .06 | |

| small CNNs, judged on test images treated as they were taught | accuracy | by seed |
|---|---|---|
| whole images | .462 [.444, .480] | .454 to .470 |
| the 4.7 % of the pixels that such a network selects | .456 [.438, .473] | .452 to .460 |
| the masks of these alone, without any colour | .446 [.428, .463] | .441 to .448 |
| the 4.7 % that ResNet-20 selects | .476 [.459, .494] | .467 to .489 |
| the masks of these alone | .347 [.330, .364] | .344 to .350 |
| random subsets of as many | .281 [.265, .297] | .278 to .283 |

(1) holds: 7 % of the pixels suffice for .9, where random orders need 58 to 69 % and the best attribution, Grad-CAM, 21 to 25 %; in 5 % of the pixels both networks
keep .9 for nearly half of the images. EfficientNet-Lite0 needs more, 18 %; of 5 % of its pixels .65 [.62, .68] lie on the border, which has .35 of all. (Of the 11 %
that keep .9 in random order 54 of 56 are airplanes, all that there are: ResNet-20 sees one in any scattered pixels.)
(2) holds by the figures and not by what they were taken to mean. Networks taught by subsets do as well as on whole images, and far better than by random ones, as published.
But so do those that see *where* the subset is and nothing of what it shows: .446 of .456. A subset is selected for the class that the network predicts of the
whole image, and its shape tells which; so this protocol cannot show that the pixels' content generalises. Nor do subsets transfer: the other ResNet keeps the
class of 18 to 20 % of them (random pixels 11, Grad-CAM's 20 to 22), although it agrees on 93 % of the whole images.
(3) holds for ensembles of the ResNets (both together need .114 [.099, .131] for .9, one .070 and .077), and is open for small ones (.34 [.25, .44] for .7, one .26
[.19, .33]); input dropout does nothing of the kind here (.23 [.20, .27]) and costs accuracy (.40).

Cost: 75 minutes on 2 CPU cores that test suites and another experiment used. Writes `out/overinterpretation/DIGEST/results.json` (95 % bootstrap intervals over
images; of training over seeds and images) and contact sheets.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jxai
from experiments.sufficiency.pixel_subsets import (
    NETWORKS,
    THRESHOLDS,
    Order,
    Ranking,
    at_random,
    by_attribution,
    by_gradients,
    on_border,
    ordered,
    rankings,
    sheet,
    shown,
)
from experiments.sufficiency.subset_training import training
from jxai import data
from jxai.evaluate import findings
from jxai.evaluate.answers import probabilities
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import available
from jxai.models.ordinary import mnist
from jxai.models.resnet import MEAN
from jxai.scores import one_of, positive

BIG = "efficientnet_lite0"
FEW = ("|gradient|", "integrated gradients", "grad-cam")
"""The rankings that are tried on the larger networks too; ResNet-20 gets all."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    parts: tuple[str, ...] = ("cifar10", "imagenet", "training")
    images: int = 500
    per_step: int = 4
    """Pixels removed at a step, of 1024; twice as many in a given order."""
    photographs: int = 50
    photograph_per_step: int = 400
    """The same, of 50176."""
    share: float = 0.05
    """Of the pixels, that is kept."""
    passes: int = 130
    steps: int = 16
    taught: int = 4000
    """Training images of the small networks."""
    judged: int = 1000
    """Test images that they are judged on."""
    subset_per_step: int = 16
    """Pixels removed at a step where subsets are made to train on."""
    epochs: int = 12
    seeds: int = 3
    members: int = 3
    sized: int = 200
    """Test images whose sufficient subsets compare mitigations."""
    confidence: float = 0.7
    """That they are to suffice for, by small networks, which are sure of little."""
    seed: int = 0
    out: str = "out/overinterpretation"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Runs the parts, and returns the rows."""
    positive(**{name: value for name, value in dataclasses.asdict(config).items() if isinstance(value, int) and name != "seed"})
    for part in config.parts:
        one_of("parts", part, tuple(PARTS))
    for name in ("share", "confidence"):
        if not 0 < getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)} must lie between 0 and 1")
    return [{**row, "part": part} for part in config.parts for row in PARTS[part](config, here)]


def orders(
    config: Config, here: Record, name: str, f: Callable, x: np.ndarray, label: np.ndarray, per_step: int, fill: Any, methods: dict[str, Any]
) -> dict[str, Order]:
    """The orders of all kinds, by name."""
    key, fill = jax.random.key(config.seed), jnp.asarray(fill)
    batch_size = 64 if x.shape[1] < 100 else 2
    makes = {
        "backward selection": lambda: by_gradients(f, x, label, key, per_step, fill, batch_size),
        "random": lambda: at_random(f, x, label, key, 2 * per_step, fill),
    }
    makes |= {method: functools.partial(by_attribution, f, x, label, key, 2 * per_step, fill, of) for method, of in methods.items()}
    return {kind: ordered(here, f"{name}, {kind}", make) for kind, make in makes.items()}


def measured(config: Config, f: Callable, x: np.ndarray, label: np.ndarray, order: Order, fill: Any, other: Callable | None = None) -> dict[str, np.ndarray]:
    """`[n]` by metric."""
    found = {f"pixels for {t}": order.sizes(t) for t in THRESHOLDS}
    left = shown(x, order.masks(order.step_of(config.share), x.shape[1:3]), fill)
    p = probabilities(f, left)
    at = f"at {config.share:.0%}"
    own = p[np.arange(len(x)), label]
    found |= {f"p {at}": own, f"class stays {at}": p.argmax(1) == label, **{f"p ≥ {t} {at}": own >= t for t in THRESHOLDS}}
    if other is not None:
        q = probabilities(other, left)
        found |= {f"other: class stays {at}": q.argmax(1) == label, f"other: p {at}": q[np.arange(len(x)), label]}
    return found


def cifar10(config: Config, here: Record) -> list[dict[str, Any]]:
    """The two given ResNets."""
    x, y = mnist("test", config.images, dataset="cifar10")
    nets = {name: available()[name].build() for name in NETWORKS}
    rows = []
    for name, other in zip(NETWORKS, reversed(NETWORKS), strict=True):
        f, names = nets[name].model, nets[name].class_names
        label = probabilities(f, x).argmax(1)
        rows.append(findings.row(label == y, network=name, order="whole images", metric="accuracy"))
        rows.append(findings.row(probabilities(nets[other].model, x).argmax(1) == label, network=name, order="whole images", metric="other: class stays"))
        found = orders(config, here, name, f, x, label, config.per_step, MEAN, ranked(config, x, name == NETWORKS[0]))
        for kind, order in found.items():
            values = measured(config, f, x, label, order, MEAN, nets[other].model)
            rows += [findings.row(value, network=name, order=kind, metric=metric) for metric, value in values.items()]
        if name == NETWORKS[0]:
            contact(here.path / "cifar10.png", f, x, label, found, names, MEAN, 12)
    return rows


def imagenet(config: Config, here: Record) -> list[dict[str, Any]]:
    """EfficientNet-Lite0."""
    subject = available()[BIG].build()
    x = sure(subject, config.photographs)
    f, fill = subject.model, np.float32(0.5)
    label = probabilities(f, x, 2).argmax(1)
    rows, width = [], x.shape[1] // 10
    found = orders(config, here, BIG, f, x, label, config.photograph_per_step, fill, ranked(config, x, False))
    for kind, order in found.items():
        values = measured(config, f, x, label, order, fill)
        for share in (config.share, 2 * config.share):
            values[f"on the border at {share:.0%}"] = on_border(order.masks(order.step_of(share), x.shape[1:3]), width)
        rows += [findings.row(value, network=BIG, order=kind, metric=metric) for metric, value in values.items()]
    contact(here.path / "imagenet.png", f, x, label, found, subject.class_names, fill, 8)
    return rows


def ranked(config: Config, x: np.ndarray, all_of_them: bool) -> dict[str, Ranking]:
    """The attributions that order the pixels of images like x."""
    every = rankings(config.passes, config.steps, x.shape[1])
    return every if all_of_them else {name: every[name] for name in FEW if name in every}


def sure(subject: Any, count: int) -> np.ndarray:
    """The first photographs that the network is sure of.

    Raises:
      ValueError: there are not so many.
    """
    source, found = data.source("imagenet_nips2017", num_classes=len(subject.class_names)), []
    for i in range(len(source)):
        x = data.load(source, [i], preprocess=subject.preprocess).x
        if probabilities(subject.model, x).max() >= THRESHOLDS[0]:
            found.append(x[0])
        if len(found) == count:
            return np.stack(found)
    raise ValueError(f"photographs={count} must be at most {len(found)}, as many as the network is sure of")


def contact(path: Path, f: Callable, x: np.ndarray, label: np.ndarray, found: dict[str, Order], names: Any, fill: Any, count: int) -> None:
    """The contact sheet of the first images of which the network is sure: what suffices for .99 (else .9), and random pixels as many."""
    chosen, rest = found["backward selection"], found["random"]
    at = THRESHOLDS[1] if np.isfinite(chosen.sizes(THRESHOLDS[1])).sum() >= count else THRESHOLDS[0]
    first = np.flatnonzero(np.isfinite(chosen.sizes(at)))[:count]
    sizes = chosen.sizes(at)[first]
    columns = []
    for text, order in (("suffice", chosen), ("random, as many", rest)):
        part = Order(order.removed_at[first], order.curve[first], order.per_step)
        steps = np.asarray([order.step_of(share) for share in sizes])
        left = shown(x[first], part.masks(steps, x.shape[1:3]), fill)
        columns.append((text, left, probabilities(f, left)[np.arange(len(first)), label[first]]))
    titles = [f"{names[c].split(',')[0][:18]}\n{share:.1%}" for c, share in zip(label[first], sizes, strict=True)]
    jxai.plot.save(sheet(x[first], titles, columns), path)


PARTS = {"cifar10": cifar10, "imagenet": imagenet, "training": training}


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints a table for each part and network."""
    for part, network in dict.fromkeys((r["part"], r["network"]) for r in rows):
        print(f"\n{part}, {network}\n\n{findings.table([r for r in rows if (r['part'], r['network']) == (part, network)], 'order', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
