"""Concept relevance by ablation: does the logit fall faster without the channels that CRP finds most relevant than without those of other rankings?

    python experiments/concepts/crp_ablation.py
    python experiments/concepts/crp_ablation.py --dataset cifar10 --model cifar10_resnet20 --shares .05 .1 .2 .4 --atlas "" \
--layers "blocks[2].first.bias" "blocks[5].first.bias" "blocks[7].first.bias" "blocks[8].first.bias"

The same command goes on where it was stopped. Needs the extra `experiments`, and imagenet_nips2017 (or the data set that is named).

Claim that is tested (Achtibat et al. 2023, "From attribution maps to human-understandable explanations through Concept Relevance Propagation"): the channels of a
layer that are most relevant for the class, by relevance propagation, are those that the decision rests on.

Each photograph's predicted class is explained. For every layer the channels are ranked by their relevance (the sum over positions, by several composites), by activation, by gradient, by
gradient × activation (the first-order estimate of what their removal costs) and at random; the first so many are set to 0 at that layer, and the rest of the
network is run on. What is reported of a ranking is its logit over that of the whole network at every share of channels, and the mean over the shares
(`area`; lower is better), with 95 % bootstrap intervals over photographs; and the difference of areas, of each composite's minus each other ranking's on the same
photograph, negative where CRP's logit falls faster.

What was found, on 200 photographs (areas): by the ε rule CRP is ahead of the gradient and of random orders in all four layers, of activation in all but the first, and
of gradient × activation in the two middle ones, by little (.016 [.005, .027] and .006 [.003, .010]); in the first, neither activation nor gradient × activation can be told
from it, and the last is followed by linear steps alone, where all composites are gradient × activation. By the paper's composite (ε, z⁺ and flat), by α2β1 and by γ, CRP is behind activation in all but the
last layer and behind the gradient in the two middle ones; it is ahead of random orders, in blocks[13] by .03 to .10 only. So on this network the claim holds for the ε rule,
and not for the rules that give clear maps. On CIFAR-10 and ResNet-20 the ε rule is gradient × activation (there are only ReLUs) and ahead of all others; z⁺ and α2β1 are ahead of activation
and of random orders, and behind the gradient in all layers but the last.

| | blocks[3] | blocks[8] | blocks[13] | head |
|---|---|---|---|---|
| CRP, epsilon_plus_flat | .432 | .654 | .928 | .142 |
| CRP, epsilon_alpha2_beta1_flat | .481 | .737 | .922 | .142 |
| CRP, epsilon_gamma_box | .467 | .592 | .865 | .142 |
| CRP, epsilon | .306 | .366 | .623 | .142 |
| gradient × activation | .311 | .381 | .630 | .142 |
| gradient | .471 | .464 | .730 | .350 |
| activation | .285 | .484 | .818 | .379 |
| random | .713 | .771 | .962 | .889 |

Writes `out/crp_ablation/DIGEST/results.json`, `curves.png` and `curves.pdf`, and `atlas.png`: what the most relevant channels of one layer
stand for. Cost: 30 minutes for 200 photographs on 2 cores that others use, too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import concepts, data, each, relevance, taps
from jxai.concepts.channels import by_channel
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import available
from jxai.scores import wide

OTHERS = ("gradient × activation", "gradient", "activation", "random")
_BLOCK = 10
"""Photographs that are kept together."""
_SIDE = 100
"""Pixels of a picture of the atlas."""
_AT_ONCE = 8
"""Networks with other channels removed that run together."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    dataset: str = "imagenet_nips2017"
    model: str = "efficientnet_lite0"
    limit: int = 200
    layers: tuple[str, ...] = ("blocks[3].expand.bias", "blocks[8].expand.bias", "blocks[13].expand.bias", "head.bias")
    """Names of `jxai.taps`; what follows each, its activation, is ablated."""
    composites: tuple[str, ...] = ("epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box", "epsilon")
    shares: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    """Of the channels, how many are removed."""
    atlas: str = "blocks[13].expand.bias"
    """The layer of the atlas; "" for none."""
    references: int = 400
    """Photographs that the atlas takes its references from."""
    seed: int = 0
    out: str = "out/crp_ablation"


def ablated(f, x, key, *, layers: tuple[int, ...], composites: tuple[str, ...], shares: tuple[float, ...]):
    """`[L, M, 1 + S]`: the logit of the predicted class without the first channels of each ranking, the composites' and `OTHERS`; first of none removed."""
    target = f(x).argmax()
    by_composite = [relevance.propagate(f, x, target, composite=name, at=layers).at for name in composites]
    found = []
    for layer in layers:
        here, value, head = taps.split(f, x, layer)
        slope = jax.grad(lambda v, head=head: wide(head(v))[target])(value)
        spread = [by_channel(v, here).value for v in (*(at[layer] for at in by_composite), slope * value, slope, value)]
        scores = jnp.stack([*spread, jax.random.uniform(jax.random.fold_in(key, layer), spread[0].shape)])
        ranks = jnp.argsort(jnp.argsort(-scores, axis=1), axis=1)
        counts = jnp.asarray([0, *(max(1, round(share * ranks.shape[1])) for share in shares)])
        number = taps.channels(here)

        def logit(case, head=head, value=value, number=number):
            rank, count = case
            return wide(head(value * (rank >= count)[number]))[target]

        cases = jnp.repeat(ranks, len(counts), 0), jnp.tile(counts, len(ranks))
        found.append(jax.lax.map(logit, cases, batch_size=_AT_ONCE).reshape(len(ranks), -1))
    return jnp.stack(found)


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Ablates and returns the rows: layer × ranking, and layer × pair."""
    subject = available()[config.model].build()
    source = data.source(config.dataset, num_classes=len(subject.class_names))
    count, values = min(config.limit, len(source)), []
    options = {"composites": config.composites, "shares": config.shares}
    for start in range(0, count, _BLOCK):

        def make(start=start):
            batch = data.load(source, range(start, min(start + _BLOCK, count)), preprocess=subject.preprocess)
            layers = tuple(taps.find(subject.model, batch.x[0], name).index + 1 for name in config.layers)
            key, keep = jax.random.key(config.seed), batch.valid
            logits = each(ablated, subject.model, batch.x[keep], key=key, index=batch.index[keep], batch_size=1, layers=layers, **options)
            return {"logits": np.asarray(logits)}

        values.append(here.kept(f"images {start}", make)["logits"])
        here.tell(f"{min(start + _BLOCK, count)} of {count} photographs")
    logits = np.concatenate(values).astype(np.float64)
    rows = summary(config, logits / logits[..., :1])
    picture(config, rows, here.path / "curves.png")
    if config.atlas:
        atlas(config, here, subject, source)
    return rows


def summary(config: Config, left: np.ndarray) -> list[dict[str, Any]]:
    """Rows of `left` `[n, L, M, 1 + S]`, the share of the logit that is left: of every ranking its area and curve, and of every composite by what it differs from the others."""
    rows, names = [], rankings(config)
    area = left[..., 1:].mean(-1)
    for n, layer in enumerate(config.layers):
        for m, name in enumerate(names):
            points = [findings.row(left[:, n, m, s]) for s in range(left.shape[-1])]
            more = {"shares": [0.0, *config.shares], **{key: [point[key] for point in points] for key in ("mean", "low", "high")}}
            rows.append(findings.row(area[:, n, m], more, layer=layer, ranking=name, metric="area"))
        for m, other in ((m, other) for m in range(len(config.composites)) for other in OTHERS):
            difference = area[:, n, m] - area[:, n, names.index(other)]
            rows.append(findings.row(difference, layer=layer, ranking=f"{names[m]} − {other}", metric="difference"))
    return rows


def rankings(config: Config) -> list[str]:
    """Their names, in order."""
    return [*(f"CRP, {name}" for name in config.composites), *OTHERS]


def picture(config: Config, rows: list[dict[str, Any]], path: Path) -> None:
    """Draws a panel for each layer: what is left of the logit over the share of channels removed, with bands."""
    from jxai import plot
    from jxai.plot.page import Page

    figure = Page(figsize=(3.1 * len(config.layers), 3.2), layout="constrained")
    panels = figure.subplots(1, len(config.layers), sharey=True, squeeze=False)[0]
    for axes, layer in zip(panels, config.layers):
        for n, name in enumerate(rankings(config)):
            curve = next(row["more"] for row in rows if (row["layer"], row["ranking"], row["metric"]) == (layer, name, "area"))
            x, style = np.arange(len(curve["shares"])), "-" if name not in OTHERS else "--"
            axes.plot(x, curve["mean"], style, color=f"C{n}", linewidth=1.3, label=name)
            axes.fill_between(x, curve["low"], curve["high"], color=f"C{n}", alpha=0.18, linewidth=0)
        axes.set_xticks(x, [f"{100 * share:g}" for share in curve["shares"]], fontsize=7)
        axes.set_title(layer.removesuffix(".bias"), fontsize=9)
        axes.set_xlabel("channels removed (%)", fontsize=8)
    panels[0].set_ylabel("logit, of the whole network's", fontsize=8)
    panels[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for suffix in (".png", ".pdf"):
        plot.save(figure, path.with_suffix(suffix))


def atlas(config: Config, here: Record, subject: Any, source: data.Source) -> None:
    """Draws the channels of one layer where they serve the same photographs, the most relevant ones as what they saw in the photograph that speaks most for each."""
    from jxai import plot

    f, composite = subject.model, config.composites[0]
    x = data.load(source, [0], preprocess=subject.preprocess).x[0]
    layer = taps.find(f, x, config.atlas).index + 1
    options = {"preprocess": subject.preprocess, "composite": composite}
    told = {"limit": min(config.references, len(source)), "model_name": config.model, "seed": config.seed}
    here.tell(f"references of {config.atlas}")
    done = concepts.collect(f, source, layer, here.path / "channels", target="predicted", **told, **options)
    found, means = concepts.strongest(done, 1), concepts.class_means(done)
    place = concepts.atlas(means.mean, jax.random.key(config.seed)).place
    weight = np.abs(concepts.vectors(done).value).mean(0)
    shown = apart(place, np.argsort(-weight, kind="stable"))
    crops = concepts.reference_crops(f, layer, found, source, shown, **options)
    pictures = [jax.image.resize(plot.spotlight(*seen[0]), (_SIDE, _SIDE, 3), "linear") for seen in crops]
    plot.save(plot.atlas(place, shown=shown, pictures=pictures, zoom=0.32), here.path / "atlas.png", dpi=150)


def apart(place: np.ndarray, order: np.ndarray, least: float = 0.08) -> list[int]:
    """The channels, by this order, whose pictures do not cover those of earlier ones: a share of the page apart along one axis."""
    scaled = (place - np.nanmin(place, 0)) / np.maximum(np.nanmax(place, 0) - np.nanmin(place, 0), 1e-12)
    chosen: list[int] = []
    for channel in order.tolist():
        if np.isfinite(scaled[channel]).all() and all(np.abs(scaled[channel] - scaled[other]).max() >= least for other in chosen):
            chosen.append(channel)
    return chosen


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints the areas, and what CRP is ahead by."""
    for metric, what in (("area", "mean share of the logit that is left, lower is better"), ("difference", "negative: CRP's logit falls faster")):
        chosen = [row for row in rows if row["metric"] == metric]
        print(f"\n{what}, {chosen[0]['n']} photographs\n{findings.table(chosen, 'ranking', 'layer')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
