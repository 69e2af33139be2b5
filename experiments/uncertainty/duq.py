"""Does one pass of a network that was trained with centroids tell clothes from digits and letters better than a softmax, and than an ensemble?

    python experiments/uncertainty/duq.py

The same command goes on where it was stopped. Needs the extra `experiments` and the data sets fashion_mnist, mnist and notmnist.

Claims that are tested (van Amersfoort et al. 2020, arXiv 2003.02037), as remembered from the paper and not checked again: trained on Fashion-MNIST, DUQ tells MNIST from it with an
AUROC of .955 and notMNIST with .946, where one softmax has .843 and five together .861 (MNIST), at an accuracy like the softmax's; and the two-sided penalty of the gradient is
what makes it so.

Each of `seeds` trainings begins with other weights and takes other `train` images of Fashion-MNIST: DUQ with each λ of `penalties`, and `members` softmax networks of the same
backbone. The backbone is the paper's three convolutions, narrower (`channels` and `width`), and so is the embedding; 4000 images are passed over 6 times, where
the paper has 60 000 and 30. σ = .1 as published; γ is .99 rather than .999, whose memory is longer than this training. Scores: −max_c K_c; the entropy of one network; the entropy of the members' mean, and their mutual
information. AUROC of `tests` test images of Fashion-MNIST against as many of MNIST and of notMNIST, which are the positives.

Found (3 seeds, 2000 images of each set; means over seeds [95 % interval over them]):

| score | accuracy | AUROC, MNIST | AUROC, notMNIST |
|---|---|---|---|
| DUQ, λ = 0 | .757 [.749, .761] | .905 [.845, .949] | .928 [.892, .949] |
| DUQ, λ = .05 | .749 [.728, .766] | .877 [.770, .940] | .926 [.907, .941] |
| softmax, entropy | .847 [.841, .854] | .595 [.465, .745] | .752 [.690, .786] |
| 3 together, entropy | .858 [.854, .862] | .737 [.686, .813] | .867 [.847, .878] |
| 3 together, mutual information | .858 [.854, .862] | .845 [.817, .894] | .936 [.931, .939] |

So DUQ is far ahead of a softmax's entropy in each seed, and of the entropy of three together on MNIST in each (on notMNIST too); their mutual information is level with it on notMNIST. It is not
as accurate: after so few steps the centroids are not learnt as the softmax is. The penalty makes no difference that three seeds would show.

Cost: 7 minutes on 2 CPU cores, 8 of processor time.
Writes `out/duq/DIGEST/results.json` (by seed with 95 % bootstrap intervals over images, and over seeds) and `auroc.png`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.uncertainty.deterministic_networks import Classifier, ConvFeatures, cross_entropy, evaluated, momentum
from jxai import uncertainty
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, over_seeds, recorded
from jxai.evaluate.record import Record
from jxai.models.ordinary import mnist
from jxai.train import train
from jxai.training.batch_norm import settled
from jxai.uncertainty.detection import auroc, bootstrap
from jxai.uncertainty.networks import DUQ, duq_training

OUTSIDE = ("mnist", "notmnist")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run. As published: `--train 60000 --epochs 30 --channels 64 128 128 --width 256 --gamma 0.999 --members 5`, a few days on two cores."""

    seeds: int = 3
    train: int = 4000
    epochs: int = 6
    tests: int = 2000
    channels: tuple[int, ...] = (16, 32, 32)
    width: int = 64
    """Of the features, and of each class's embedding."""
    members: int = 3
    penalties: tuple[float, ...] = (0.0, 0.05)
    """λ."""
    gamma: float = 0.99
    batch_size: int = 128
    out: str = "out/duq"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Trains, scores and judges, and returns the rows."""
    names = ("fashion_mnist", *OUTSIDE)
    tests = {name: mnist("test", config.tests, seed=0, dataset=name) for name in names}
    rows = []
    for seed in range(config.seeds):
        for name in (*(f"DUQ, λ = {penalty:g}" for penalty in config.penalties), "softmax"):
            made = lambda name=name, seed=seed: of_network(config, here, name, seed, tests)
            rows += [{**r, "seed": seed} for r in here.kept_rows(f"{seed}, {name}", made)]
    rows += findings.overall(rows, "score")
    draw(here, rows)
    return rows


def of_network(config: Config, here: Record, name: str, seed: int, tests: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[dict[str, Any]]:
    """The rows of a DUQ, or of softmax networks alone and together."""
    x, y = mnist("train", config.train, seed=seed + 1, dataset="fashion_mnist")
    options = dict(epochs=config.epochs, batch_size=config.batch_size)
    optimizer = momentum(config.epochs * (len(x) // config.batch_size))
    keys = jax.random.split(jax.random.key(seed), config.members)

    def backbone(rngs: nnx.Rngs) -> ConvFeatures:
        return ConvFeatures(config.channels, config.width, rngs=rngs)

    if name != "softmax":
        rngs = nnx.Rngs(params=keys[0])
        penalty = float(name.split()[-1])
        model = DUQ(backbone(rngs), config.width, 10, embedding=config.width, count=config.batch_size / 10, rngs=rngs)
        done = train(model, duq_training(optimizer, penalty=penalty, gamma=config.gamma), (x, y), key=keys[0], **options)
        here.tell(f"seed {seed}, {name}: {done.outcome}, {', '.join(f'{n} {v[-20:].mean():.3f}' for n, v in done.history.items())}")
        model = settled(done.model, x)
        logits = {at: evaluated(model, v) for at, (v, _) in tests.items()}
        return judged(name, {at: -np.exp(z.max(1)) for at, z in logits.items()}, logits["fashion_mnist"], tests["fashion_mnist"][1])
    models = []
    for key in keys:
        rngs = nnx.Rngs(params=key)
        done = train(Classifier(backbone(rngs), config.width, rngs=rngs), cross_entropy, (x, y), key=key, optimizer=optimizer, **options)
        here.tell(f"seed {seed}, softmax: {done.outcome}, accuracy {done.history['accuracy'][-20:].mean():.3f}")
        models.append(settled(done.model, x))
    together = uncertainty.ensemble(models)
    logits = {at: evaluated(together, v) for at, (v, _) in tests.items()}  # [n, S, K]
    parts = {at: jax.jit(jax.vmap(lambda z: uncertainty.decompose(jax.nn.softmax(z))))(z) for at, z in logits.items()}
    alone = {at: np.asarray(jax.jit(jax.vmap(uncertainty.formulas.entropy))(z[:, 0])) for at, z in logits.items()}
    labels, mean = tests["fashion_mnist"][1], np.asarray(jax.nn.softmax(logits["fashion_mnist"])).mean(1)
    rows = judged("softmax entropy", alone, logits["fashion_mnist"][:, 0], labels)
    rows += judged(f"entropy of {config.members} together", {at: np.asarray(p.total) for at, p in parts.items()}, mean, labels)
    return rows + judged(f"mutual information of {config.members}", {at: np.asarray(p.epistemic) for at, p in parts.items()}, mean, labels)


def judged(score: str, values: dict[str, np.ndarray], answers: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """The accuracy on Fashion-MNIST, and the AUROC of a score against each other data set."""
    rows = [findings.row(answers.argmax(1) == labels, score=score, metric="accuracy")]
    for at in OUTSIDE:
        found = bootstrap(auroc, values["fashion_mnist"], values[at], key=jax.random.key(0))
        rows.append({"score": score, "metric": f"AUROC, {at}", "mean": found.value, "low": found.low, "high": found.high, "n": len(values[at])})
    return rows


def draw(here: Record, rows: list[dict[str, Any]]) -> None:
    """Each score's AUROC, by seed and in the mean."""
    import matplotlib.pyplot as plt

    scores = list(dict.fromkeys(r["score"] for r in rows))
    fig, axes = plt.subplots(1, len(OUTSIDE), figsize=(4.5 * len(OUTSIDE), 3), sharey=True, layout="constrained")
    for axis, at in zip(axes, OUTSIDE):
        of = [r for r in rows if r["metric"] == f"AUROC, {at}"]
        for r in of:
            place = scores.index(r["score"])
            if r["seed"] == "all":
                axis.barh(place, r["mean"] - 0.4, left=0.4, color="#9ecae1")
            else:
                axis.plot(r["mean"], place, "o", color="#08519c", markersize=4)
        axis.set(title=f"Fashion-MNIST against {at}", xlabel="AUROC (dots: seeds)", xlim=(0.4, 1), yticks=range(len(scores)), yticklabels=scores)
    axes[0].invert_yaxis()
    fig.savefig(here.path / "auroc.png", dpi=150)
    plt.close(fig)


show = over_seeds("score", "metric")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
