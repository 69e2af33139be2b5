"""When two labels are likely: are they two things in the picture, or two guesses about one?"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.attribution.path import integrated_gradients
from jxai.callables import compiled, plainly
from jxai.certificates import digests
from jxai.metrics.common import by_feature, check_attribution
from jxai.removal.fills import FillLike
from jxai.removal.masks import Features
from jxai.removal.segments import Segmentation
from jxai.scores import positive, sharing
from jxai.sufficiency.contest import Contest, Disambiguation, Found, Sets, answer, areas, check_whole, common, conclude, contest, directed, judge, whole_scores
from jxai.typing import Array, Model

__all__ = ["disambiguate", "disambiguate_pairs", "extreme_baselines"]

DEFAULT = Segmentation("slic", (20,))


@plainly
def extreme_baselines(f: Model, x: Array, target: int | Array | None, key: Array | None = None, *, steps: int = 50, score: str = "logit") -> Array:
    """Integrated gradients with a constant baseline of the darkest and of the brightest entry of x, averaged; of channels the greatest.

    Args:
      f, x, target, score: as in `integrated_gradients`. key: not used. steps: for each baseline.

    Returns:
      `[H, W, 1]` (for a vector `[D]`).

    Cost: `2 steps` forward and backward passes.
    Reference: Mummani et al. 2024, as for `disambiguate`.
    """
    both = loops.map(lambda b: integrated_gradients(f, x, target, baseline=b, steps=steps, score=score), jnp.stack([x.min(), x.max()]))
    mean = both.mean(0)
    return mean.max(-1, keepdims=True) if x.ndim > 1 else mean


@plainly
def disambiguate(
    f: Model,
    x: Array,
    labels: Array,
    key: Array | None = None,
    *,
    attribution: Callable | Array = extreme_baselines,
    attribution_options: dict[str, Any] | None = None,
    segments: Array | Segmentation = DEFAULT,
    num_segments: int | None = None,
    delta: float | Array = 0.8,
    max_area: float = 0.5,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Disambiguation:
    """Looks for proofs that two labels rest on disjoint parts of x, or on one and the same, by removing segments in the order of their attribution.

    Disjoint, from two kinds of sets: (1) every segment belongs to the label for which it is worth more, `c(s) = a(s) / max a`, and of each
    label's own the worthiest are removed; (2) the worthiest of all, without what both sets have in common. Overlapping: the worthiest of one label
    or the other, and the segments common to the first set of each that lowers both scores. Every set is shown to the model before it counts.

    Args:
      f: a model `x -> logits [K]`. x: one example. labels: `[2]`, integers a ≠ b. key: for `attribution` and for a fill that draws noise.
      attribution: a method `(f, x, target, key, *, …)`, or its two maps `[2, …]`, each of x's rank and broadcasting against it. A segment's is
        the mean over its positions of the sum over channels. attribution_options: of the method, which by
        default explains the same score.
      segments: integer label map over all positions of x, or a `jxai.segments.Segmentation` (the default: SLIC, 20) where x is concrete.
      num_segments: the number of labels, static; needed where `segments` is traced.
      delta: δ in (0, 1); the authors take .8 for overlapping. max_area: share of the positions that an overlapping set may have, in (0, 1]: without all
        of x every score is low. (Not in the paper; 1 is its form.)
      fill: what a removed position becomes. score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. Where the logit of one label falls, the
        probability of the other rises, so that probabilities show labels disjoint more easily. Of logits, both must be positive.
      chunk: passes at once.

    Returns:
      A `Disambiguation`. Under a trace, where the score of a label is not positive, nothing holds.

    Raises:
      ValueError: labels that are no two classes, segments that do not fit x or miss positions, δ or `max_area` out of range, a bad attribution,
        fill, score or chunk. Of concrete values: a logit that is not positive, of which there are no shares.

    Cost: `4 num + 7` forward passes, and the attribution twice; the check of a proof is three, or two.
    Reference: Mummani, Ketha and Ramaswamy 2024, "Peter Parker or Spiderman? Disambiguating Multiple Class Labels", arXiv 2410.19479.
    """
    asked, num = contest(f, x, labels, key, segments, num_segments, delta, max_area, fill, score)
    if callable(attribution):
        maps = list(_attributed(f, x, asked.labels, key, attribution, sharing(attribution, attribution_options, score)))
    else:
        maps = list(attribution)
    if len(maps) != 2:
        raise ValueError(f"attribution must be a method or two maps, one for each label, got {len(maps)}")
    for one in maps:
        check_attribution(one, x)
    asked = asked._replace(ranks=jnp.stack([by_feature(one, x, Features(asked.segments, num)) for one in maps]))
    size = loops.at_once(x, chunk)
    positive(chunk=size)
    return answer(_by_rank, f, asked, score=score, num=num, max_area=float(max_area), size=size)


@plainly
def disambiguate_pairs(
    f: Model,
    x: Array,
    pairs: Sequence[tuple[int, int]],
    key: Array | None = None,
    *,
    attribution: Callable = extreme_baselines,
    attribution_options: dict[str, Any] | None = None,
    segments: Array | Segmentation = DEFAULT,
    num_segments: int | None = None,
    **options: Any,
) -> tuple[Disambiguation, ...]:
    """`disambiguate` of many pairs at once, such as all of the top five labels: a label is attributed once, and pairs go side by side.

    Args:
      pairs: of labels. options: `delta`, `max_area`, `fill`, `score` and `chunk` of `disambiguate`; the others as there. x must be concrete.

    Returns:
      One for each pair, with digests.

    Raises:
      ValueError: no pairs; as `disambiguate`.

    Cost: the attribution of each label, and for each pair `4 num + 7` forward passes.
    Reference: as for `disambiguate`.
    """
    if not len(pairs):
        raise ValueError(f"pairs={list(pairs)} must be at least one pair of labels")
    defaults = inspect.signature(disambiguate).parameters
    checked = [options.get(name, defaults[name].default) for name in ("delta", "max_area", "fill", "score")]
    positive(chunk=loops.at_once(x, options.get("chunk")))
    for pair in pairs:
        asked, num = contest(f, x, pair, key, segments, num_segments, *checked)
        segments, num_segments = asked.segments, num
    labels = np.unique(np.asarray(pairs, np.int32))
    maps = compiled(_attributed, f, x, jnp.asarray(labels), key, attribution, sharing(attribution, attribution_options, checked[-1]))
    places = jnp.asarray(np.searchsorted(labels, np.asarray(pairs)))
    given = {"attribution": maps, "segments": segments, "key": key, **{name: options.pop(name) for name in ("fill", "delta") if name in options}}
    stacked = compiled(_side_by_side, f, x, jnp.asarray(pairs, jnp.int32), places, given, num_segments=num, **options)
    about = digests(f, x)
    for pair, whole in zip(pairs, np.asarray(stacked.disjoint.whole)):
        check_whole(whole, pair, stacked.disjoint.score)

    def alone(i: int) -> Disambiguation:
        one = jax.tree.map(lambda v: v[i], stacked)
        return one._replace(**{kind: dataclasses.replace(getattr(one, kind), digests=about) for kind in ("disjoint", "overlapping")})

    return tuple(alone(i) for i in range(len(pairs)))


def _attributed(f: Model, x: Array, labels: Array, key: Array | None, attribution: Callable, options: dict[str, Any]) -> Array:
    """`[labels, …]`, one after another, each with the key that it has in `disambiguate` of whichever pair."""
    keys = None if key is None else jax.random.fold_in(key, 1)
    return loops.map(lambda label: attribution(f, x, label, None if keys is None else jax.random.fold_in(keys, label), **options), labels)


def _side_by_side(f: Model, x: Array, pairs: Array, places: Array, given: dict[str, Any], **static: Any) -> Disambiguation:
    maps, key = given["attribution"], given["key"]
    rest = {name: value for name, value in given.items() if name not in ("attribution", "key")}
    return jax.vmap(lambda pair, place: disambiguate(f, x, pair, key, attribution=maps[place], **rest, **static))(pairs, places)


def _by_rank(f: Model, asked: Contest, *, score: str, num: int, max_area: float, size: int) -> Found:
    whole = whole_scores(f, asked, score)
    shares = judge(f, asked, whole, score)
    sets = _sets(asked.ranks)
    shown = Sets(sets, loops.stack(lambda i: shares(sets[i], i), 4 * num, size), jnp.arange(4 * num))
    of = [shown.at(slice(i * num, (i + 1) * num)) for i in range(4)]
    firsts, seconds = directed(of[0].shares)[0], directed(of[1].shares)[1]
    own = directed(of[2].shares)[0], directed(of[3].shares)[1]
    both = common(of[0].shares), common(of[1].shares)
    pairs, overlaps, number = [], [], 4 * num
    for choose in (lambda v: _first(v, asked.delta), jnp.argmax):
        pairs.append(jax.tree.map(lambda *v: jnp.stack(v), of[2].at(choose(own[0])), of[3].at(choose(own[1]))))
        a, b = of[0].removed[choose(firsts)], of[1].removed[choose(seconds)]
        anew = jnp.stack([a & ~b, b & ~a, of[0].removed[choose(both[0])] & of[1].removed[choose(both[1])]])
        again = Sets(anew, jnp.stack([shares(out, number + i) for i, out in enumerate(anew)]), number + jnp.arange(3))
        pairs.append(again.at(slice(2)))
        overlaps.append(again.at(slice(2, 3)))
        number += 3
    pairs = jax.tree.map(lambda *v: jnp.stack(v), *pairs)
    reached = jnp.minimum(directed(pairs.shares[:, 0])[0], directed(pairs.shares[:, 1])[1])
    every = jax.tree.map(lambda *v: jnp.concatenate(v), shown, *overlaps)
    shared = jnp.where(every.removed @ areas(asked, num) <= max_area, common(every.shares), -jnp.inf)
    disjoint = pairs.at(_fewest(reached, pairs.removed.sum((1, 2)), asked.delta))
    overlapping = every.at(_fewest(shared, every.removed.sum(1), asked.delta))
    return conclude(asked, whole, disjoint, overlapping, reached.max(), shared.max())


def _sets(ranks: Array) -> Array:
    """`[4 num, num]`: the worthiest 1, 2, … of the first label, of the second, and of those that are each label's own."""
    num = ranks.shape[1]
    place = jnp.argsort(jnp.argsort(-ranks, axis=1, stable=True), axis=1, stable=True)
    most = jnp.maximum(ranks.max(1), jnp.finfo(ranks.dtype).tiny)
    first = ranks[0] * most[1] >= ranks[1] * most[0]  # a(s) / max a >= b(s) / max b, without the rounding of quotients where one segment tops both
    own = jnp.stack([first, ~first])
    within = jnp.argsort(jnp.argsort(jnp.where(own, place, num + place), axis=1, stable=True), axis=1, stable=True)
    many = jnp.arange(1, num + 1)[:, None]
    return jnp.concatenate([place[0] < many, place[1] < many, own[0] & (within[0] < many), own[1] & (within[1] < many)])


def _first(reached: Array, delta: Array) -> Array:
    """The first that reaches δ, else the one that reaches most."""
    return jnp.where((reached >= delta).any(), jnp.argmax(reached >= delta), jnp.argmax(reached))


def _fewest(reached: Array, sizes: Array, delta: Array) -> Array:
    """Of what reaches δ the one of fewest segments, else the one that reaches most."""
    return jnp.where((reached >= delta).any(), jnp.argmin(jnp.where(reached >= delta, sizes, jnp.iinfo(jnp.int32).max)), jnp.argmax(reached))
