"""What every search about a pair of labels shares: its inputs checked, the scores of what it removes, and its answer as certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import compiled
from jxai.certificates import digests
from jxai.removal import fills
from jxai.removal.fills import FillLike
from jxai.removal.masks import features, positions
from jxai.removal.segments import Segmentation
from jxai.scores import SCORES, check_example, check_values, num_classes, one_of
from jxai.sufficiency.pairs import DisjointPair, OverlappingPair, apart, kept, pair_scores, together
from jxai.typing import Array, Model


class Disambiguation(NamedTuple):
    """What was found out about a pair of labels."""

    disjoint: DisjointPair
    """The sets of fewest segments that show it at δ; where none do, those that come nearest."""
    overlapping: OverlappingPair
    """As above."""
    largest_disjoint: Array
    """`[]`: the largest δ at which the labels were found disjoint."""
    largest_overlapping: Array
    """`[]`: the same of overlapping."""


class Contest(NamedTuple):
    """The arrays of a question about two labels, and the fill."""

    x: Array
    labels: Array
    segments: Array
    ranks: Array
    """`[2, num]`: the attribution of each segment for each label."""
    delta: Array
    key: Array | None
    fill: FillLike


class Sets(NamedTuple):
    """Sets of segments that were removed: `[n]` of them."""

    removed: Array
    """`[n, num]`, booleans."""
    shares: Array
    """`[n, 2]`: both scores without them, over those of x; NaN where these are not positive."""
    number: Array
    """`[n]`: of the pass that showed it, for fills that draw noise."""

    def at(self, i: Any) -> Sets:
        """Those at an index of the leading axis."""
        return jax.tree.map(lambda part: part[i], self)


class Found(NamedTuple):
    """The answer, before it is made certificates."""

    disjoint: Sets
    """Two sets."""
    overlapping: Sets
    """One set, without the leading axis."""
    largest_disjoint: Array
    largest_overlapping: Array
    whole: Array
    fills: Array
    """`[3, *shape of x]`: of the three sets."""


def contest(
    f: Model,
    x: Array,
    labels: Array,
    key: Array | None,
    segments: Array | Segmentation,
    num_segments: int | None,
    delta: float | Array,
    max_area: float,
    fill: FillLike,
    score: str,
) -> tuple[Contest, int]:
    """Checks a question, and says how many segments there are. Its ranks are 0.

    Raises:
      ValueError: see `disambiguate`.
    """
    check_example(x)
    one_of("score", score, SCORES)
    if not isinstance(labels, jax.core.Tracer):
        labels = np.asarray(labels)
        if labels.shape != (2,) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels={labels.tolist()} must be two integer classes, labels=(a, b)")
        classes = num_classes(f, x)
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels={labels.tolist()} must be classes from 0 to {classes - 1}")
        if labels[0] == labels[1]:
            raise ValueError(f"labels={labels.tolist()} must be two different classes")
    elif labels.shape != (2,):
        raise ValueError(f"labels must be two integer classes, got shape {labels.shape}")
    check_values(f, x, score)
    for name, value in (("delta", delta), ("max_area", max_area)):
        if isinstance(value, (int, float)) and not (0 < value < 1 or (name, value) == ("max_area", 1)):
            raise ValueError(f"{name}={value!r} must lie between 0 and 1")
    if isinstance(segments, Segmentation):
        if isinstance(x, jax.core.Tracer):
            raise ValueError(f"segments={segments} needs a concrete x: under jit or vmap give a label map")
        segments = segments(np.asarray(x))
        if segments.ndim != len(positions(x)):
            raise ValueError("segments must be one segmentation, got several numbers of segments")
    of = features(x, segments, None, num_segments)
    if not isinstance(of.labels, jax.core.Tracer) and int(np.asarray(of.labels).max()) >= of.num:
        raise ValueError(f"segments must cover all positions of x: a label {int(np.asarray(of.labels).max())} is not below {num_segments=}")
    if key is None:
        fills.resolve(fill, x, jnp.ones_like(x), key)  # says what is wrong with it
    labels = jnp.asarray(labels, jnp.int32)
    return Contest(x, labels, jnp.asarray(of.labels), jnp.zeros((2, of.num)), jnp.asarray(delta, jnp.float32), key, fill), of.num


def answer(body: Callable, f: Model, asked: Contest, *, score: str, **static: Any) -> Disambiguation:
    """What `body(f, asked, score=…, **static) -> Found` finds, as certificates; compiled once unless something is traced."""
    about = digests(f, asked.x)
    if about is None or any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves(asked)):
        found = body(f, asked, score=score, **static)
    else:
        # Before the search: without shares its numbers are NaN, which `jax_debug_nans` would meet first.
        check_whole(compiled(whole_scores, f, asked, score=score), asked.labels, score)
        found = compiled(body, f, asked, score=score, **static)
    common = dict(labels=asked.labels, segments=asked.segments, delta=asked.delta, whole=found.whole, score=score, digests=about)
    disjoint = DisjointPair(removed=found.disjoint.removed, shares=found.disjoint.shares, fill=found.fills[:2], **common)
    overlapping = OverlappingPair(removed=found.overlapping.removed, shares=found.overlapping.shares, fill=found.fills[2], **common)
    return Disambiguation(disjoint, overlapping, found.largest_disjoint, found.largest_overlapping)


def check_whole(whole: Array, labels: Any, score: str) -> None:
    """Raises ValueError where the concrete scores `[2]` of x have no shares."""
    for value, label in zip(np.asarray(whole), np.asarray(labels)):
        if not value > 0:
            raise ValueError(f"the {score} of label {label} is {value:.3g}, of which there are no shares: use score='probability'")


def whole_scores(f: Model, asked: Contest, score: str) -> Array:
    """`[2]`: the scores of x."""
    return pair_scores(f, asked.x, asked.labels, score)


def judge(f: Model, asked: Contest, whole: Array, score: str) -> Callable[[Array, Array], Array]:
    """`(removed [num], number) -> shares [2]`."""
    removed = fills.remover(asked.x, asked.fill, asked.key)
    fair = (whole > 0).all() & (asked.labels[0] != asked.labels[1])

    def shares(out: Array, number: Array) -> Array:
        return jnp.where(fair, pair_scores(f, removed(kept(out, asked.segments, asked.x), number), asked.labels, score) / whole, jnp.nan)

    return shares


def areas(asked: Contest, num: int) -> Array:
    """`[num]`: the share of the positions that each segment has."""
    return jnp.bincount(asked.segments.ravel(), length=num) / asked.segments.size


def conclude(asked: Contest, whole: Array, disjoint: Sets, overlapping: Sets, largest_disjoint: Array, largest_overlapping: Array) -> Found:
    """The answer, with the fills that were shown."""
    fixed = fills.fixed(asked.fill, asked.x, asked.key)

    def filled(out: Array, number: Array) -> Array:
        key = None if asked.key is None else jax.random.fold_in(asked.key, number)
        return jnp.broadcast_to(fills.resolve(fixed, asked.x, kept(out, asked.segments, asked.x), key), asked.x.shape)

    three = [filled(disjoint.removed[0], disjoint.number[0]), filled(disjoint.removed[1], disjoint.number[1])]
    three.append(filled(overlapping.removed, overlapping.number))
    return Found(disjoint, overlapping, largest_disjoint, largest_overlapping, whole, jnp.stack(three))


def directed(shares: Array) -> tuple[Array, Array]:
    """Of shares `[..., 2]` the largest δ at which the set may be the first label's, and the second's; −∞ for NaN."""
    return known(apart(shares)), known(apart(shares[..., ::-1]))


def common(shares: Array) -> Array:
    """Of shares `[..., 2]` the largest δ at which the set may show them overlapping; −∞ for NaN."""
    return known(together(shares))


def known(delta: Array) -> Array:
    """−∞ for NaN."""
    return jnp.where(jnp.isnan(delta), -jnp.inf, delta)
