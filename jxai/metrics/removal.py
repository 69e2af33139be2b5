"""Taking features away in the order of their attribution: what the metrics on class-score drops share.

A feature's score is the mean over its positions of the attribution summed over channels, raw and signed. Equal scores are ordered at random
where a key is given, else by position. An attribution that is not finite gives NaN everywhere; one that is constant is ordered as ties are.
A label without positions is no feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import fresh
from jxai.kernels.order import order_keys
from jxai.loops import while_loop
from jxai.metrics.common import by_feature, by_position, nan_unless_finite
from jxai.removal.fills import FillLike, remover
from jxai.removal.masks import Features, features, position_shape, positions, present, spread
from jxai.scores import SCORES, need_key, objective, one_of, positive, wide, within
from jxai.typing import Array, Model, Scalar

ORDERS = ("most", "least", "random")
_LAST = -(2**31)
_TURN_BITS = 30
# Above so many thresholds, a full sort is cheaper than comparing with each.
_MOST_COMPARED = 128


class Parts(NamedTuple):
    """What is taken away: `labels` (None: every position is a feature), their number `num` (static), which of them have a
    position (`[num]`, None: all), and how many those are (traced where the labels are)."""

    labels: Array | None
    num: int
    exists: Array | None
    count: int | Array  # type: ignore[assignment]  # a tuple has a method of this name


def parts(x: Array, segments: Array | None, grid: int | tuple[int, ...] | None, num_segments: int | None) -> Parts:
    """The features of a label map or a grid; by default the positions."""
    if segments is None and grid is None:
        num = int(np.prod(positions(x)))
        return Parts(None, num, None, num)
    of = features(x, segments, grid, num_segments)
    exists = present(of)
    return Parts(*of, exists, exists.sum(dtype=jnp.int32))


def schedule(of: Parts, steps: int | None, max_fraction: float = 1.0) -> Array | np.ndarray:
    """How many features are gone after 0, 1, …, `steps` removals, as evenly as may be, up to `max_fraction` of them and at least one.

    There are at most as many steps as features; None: one feature a step.
    """
    positive(steps=1 if steps is None else steps)
    within(0.0, 1.0, max_fraction=max_fraction)
    most = max(1, int(np.floor(max_fraction * of.num + 0.5)))
    steps = min(steps or most, most)
    xp = np if of.labels is None else jnp
    last = xp.maximum(1, xp.floor(max_fraction * of.count + 0.5).astype(int))
    return (2 * np.arange(steps + 1) * last + steps) // (2 * steps)


def walk(
    s: Scalar,
    x: Array,
    attribution: Array,
    key: Array | None,
    of: Parts,
    counts: Array | Sequence[int],
    order: str = "most",
    keep: bool = False,
    fill: FillLike = 0.0,
    chunk: int | None = None,
) -> Array:
    """`[s(x without its first n features) for n in counts]`, or with `keep` s(x with those alone), `[len(counts)]`.

    Args:
      s: what is measured. of: the features. counts: ascending, in [0, of.count].
      order: which come first: the "most" or the "least" relevant, or "random".

    Cost: `len(counts)` forward passes.
    """
    one_of("order", order, ORDERS)
    tie_key, fill_key = (None, None) if key is None else jax.random.split(key)
    scores = by_position(attribution, x).ravel() if of.labels is None else by_feature(attribution, x, Features(of.labels, of.num))
    counts = jnp.asarray(counts, jnp.int32)
    gone = when(scores, counts, order, tie_key, of.exists)
    # Positions of no feature are never removed.
    gone = gone.reshape(position_shape(x)) if of.labels is None else spread(gone, of.labels, x, -1 if keep else counts.size)
    removed = remover(x, fill, fill_key)
    y = loops.stack(lambda k: s(removed((gone <= k) if keep else (gone > k), k)), counts.size, loops.at_once(x, chunk))
    return nan_unless_finite(y, attribution)


def when(scores: Array, counts: Array, order: str = "most", key: Array | None = None, exists: Array | None = None) -> Array:
    """The first k for which a feature is among the `counts[k]` first ones; `len(counts)` where it never is; int32 `[n]`.

    Args:
      scores: `[n]`. counts: ascending integers `[k]` in [0, n]. key: orders ties, and everything for "random".
      exists: `[n]` boolean; the others come last.
    """
    position = jnp.arange(scores.size, dtype=jnp.int32)
    turn = position if key is None else _random_turn(key, scores.size)
    if order == "random":
        need_key(key, "order='random'")
        rank = turn
    else:
        rank = order_keys(scores)
        rank = ~rank if order == "least" else rank
    rank = rank if exists is None else jnp.where(exists, rank, _LAST)
    if counts.size > _MOST_COMPARED:
        place = jnp.zeros_like(position).at[jnp.lexsort((turn, ~rank))].set(position)
        return jnp.searchsorted(counts, place, side="right").astype(jnp.int32)
    bits = scores.size.bit_length() if key is None else _TURN_BITS
    return (~_first(rank, turn, bits, counts)).sum(0, dtype=jnp.int32)


def _first(rank: Array, turn: Array, bits: int, counts: Array) -> Array:
    """Whether each entry is among the `counts[k]` of largest rank, of equal ones those of smallest turn; `[len(counts), n]`.

    Turns are all different, in [0, 2^bits). On a CPU, a sort of integers alone takes a sixth of one that carries an index or
    compares floats: it gives the thresholds only.
    """
    n = rank.size
    ordered = jnp.sort(rank)
    threshold = ordered[jnp.minimum(n - counts, n - 1)]
    above, equal = rank > threshold[:, None], rank == threshold[:, None]
    # A count of 0 has no threshold of its own: no turn comes early enough.
    have = jnp.where(counts > 0, n - jnp.searchsorted(ordered, threshold).astype(jnp.int32), 0)
    above = above & (counts > 0)[:, None]

    def halve(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """One bit less of the turns that equal entries must be below."""
        bit, limit, have = state
        trial = limit - (jnp.int32(1) << bit)
        got = (above | (equal & (turn < trial[:, None]))).sum(1, dtype=jnp.int32)
        enough = got >= counts
        return bit - 1, jnp.where(enough, trial, limit), jnp.where(enough, got, have)

    # Does not run unless a threshold falls among equal entries.
    start = (jnp.int32(bits - 1), jnp.where(counts > 0, 2**bits, 0).astype(jnp.int32), have)
    limit = while_loop(lambda state: (state[0] >= 0) & (state[2] != counts).any(), halve, start)[1]
    return above | (equal & (turn < limit[:, None]))


def _random_turn(key: Array, n: int) -> Array:
    """n different numbers in [0, 2^30), in random order: random bits above those of the position, which settles what draws alike.

    A shuffle would be fused into every comparison with a threshold, and computed anew for each.
    """
    low = (n - 1).bit_length()
    drawn = jax.random.bits(key, (n,), jnp.uint32) >> (32 - _TURN_BITS + low)
    return (drawn.astype(jnp.int32) << low) | jnp.arange(n, dtype=jnp.int32)


def measure(f: Model, x: Array, target: int | Array | None, score: str) -> Scalar:
    """`objective`, and one score more: `"accuracy"` is 1 where target is f's answer (the first largest logit), else 0."""
    if score != "accuracy":
        return objective(f, x, target, one_of("score", score, ("accuracy", *SCORES)))
    if target is None:
        raise ValueError("score='accuracy' needs a target class, got target=None")
    objective(f, x, target)

    model = fresh(f)

    def right(v: Array) -> Array:
        logits = wide(model(v))
        known = (target >= 0) & (target < logits.size) & ~jnp.isnan(logits).any()
        return jnp.where(known, (jnp.argmax(logits) == target).astype(logits.dtype), jnp.nan)

    return right
