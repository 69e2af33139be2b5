"""Sufficient input subsets: few features that alone bring the model to its confidence, found by removing the others one after another."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import plainly
from jxai.loops import at_once, cond, scan, while_loop
from jxai.removal.fills import FillLike
from jxai.removal.masks import default_grid
from jxai.scores import positive
from jxai.sufficiency.asked import Asked, Found, Removal, Shape, answered, ask, looked_at, smallest
from jxai.sufficiency.subset import SufficientSubset
from jxai.typing import Array, Model

__all__ = ["sis", "sis_collection"]


@plainly
def sis(
    f: Model,
    x: Array,
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    threshold: float | Array | None = None,
    fill: FillLike = 0.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> SufficientSubset:
    """A sufficient input subset, by exact backward selection.

    From all features, `i = argmax_i s(x with i removed too)` is removed (the lowest i of equal ones) until none is left. The subset is what was
    left at the last step at which the score was `threshold` or more: the smallest set on that way that suffices.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: the class; None: the predicted one. key: for a fill that draws noise.
      threshold: τ, of the score; None: .9 of a probability (or sigmoid). No logit is known to suffice: it must be named. fill: what a removed feature becomes.
      segments: integer label map over the positions of x; features are its labels, and positions of none are held always.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis (or its length).
      num_segments: the number of labels, static; needed where `segments` is traced. score: `"logit"`, `"probability"` or `"sigmoid"`.
      chunk: passes at once; None: `jxai.loops.at_once`, on a CPU at most an eighth of the features.

    Returns:
      A `SufficientSubset`; where the score of x itself is below the threshold it does not hold, and holds all of x. Under a trace it lacks
      digests (see there). A score of NaN is below every threshold, and its feature is removed last.
      Where the fill alone has the score, none is held and the certificate is `vacuous`, which is a warning outside of a trace.

    Raises:
      ValueError: bad x, target, threshold, fill, segments, grid, score or chunk.

    Cost: `num (num + 1) / 2 + 1` forward passes. The check of what comes out is one.
    Reference: Carter et al. 2019, "What made you do this? Understanding black-box decisions with sufficient input subsets", AISTATS, arXiv 1810.03805.
    """
    asked, shape = ask(f, x, target, key, threshold, fill, segments, default_grid(x, segments, grid), num_segments, score)
    found, about = answered(_one, f, asked, shape, size=_block(asked, shape, chunk))
    return looked_at(found.certificate(asked, shape, about), f, asked)


@plainly
def sis_collection(
    f: Model,
    x: Array,
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    max_subsets: int = 8,
    threshold: float | Array | None = None,
    fill: FillLike = 0.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> tuple[SufficientSubset, ...]:
    """Disjoint sufficient subsets: each by `sis` from what the ones before it left, until the rest no longer suffices.

    Args:
      max_subsets: at most so many. f, x, target, key, threshold, fill, segments, grid, num_segments, score, chunk: as in `sis`.

    Returns:
      `max_subsets` certificates, those that hold first; outside of a trace only these. A subset may be empty, and is the last one then: the
      fill alone has the score.

    Raises:
      ValueError: as `sis`.

    Cost: `num (num + 1) / 2 + 1` forward passes for the first subset, less for each further one.
    Reference: as for `sis`.
    """
    positive(max_subsets=max_subsets)
    asked, shape = ask(f, x, target, key, threshold, fill, segments, default_grid(x, segments, grid), num_segments, score)
    found, about = answered(_several, f, asked, shape, size=_block(asked, shape, chunk), most=max_subsets)
    every = (jax.tree.map(lambda v: v[i], found).certificate(asked, shape, about) for i in range(max_subsets))
    every = (looked_at(c, f, asked) if n == 0 else c for n, c in enumerate(every))
    return tuple(c for c in every if isinstance(c.value, jax.core.Tracer) or c.holds)


def _block(asked: Asked, shape: Shape, chunk: int | None) -> int:
    size = default_chunk(asked.x, shape.num) if chunk is None else chunk
    positive(chunk=size)
    return min(size, shape.num)


def default_chunk(x: Array, num: int) -> int:
    """Passes at once where none are asked for: what keeps the device busy; on a CPU an eighth of the features at most, since a block runs whole
    however few candidates are left for it (64 of 64 features at once: twice the passes)."""
    size = at_once(x, None)
    return min(size, -(-num // 8)) if jax.default_backend() == "cpu" else size


def _one(f: Model, asked: Asked, shape: Shape, *, size: int) -> Found:
    return _subset(f, asked, shape, jnp.ones(shape.num, bool), jnp.int32(0), size)


def _several(f: Model, asked: Asked, shape: Shape, *, size: int, most: int) -> Found:
    """Stacked: `[most, …]`."""

    def step(left: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Found]:
        present, going = left
        find = lambda: _subset(f, asked, shape, present, i, size)
        nothing = jax.tree.map(lambda s: jnp.full(s.shape, jnp.nan if jnp.issubdtype(s.dtype, jnp.floating) else 0, s.dtype), jax.eval_shape(find))
        found = cond(going, find, lambda: nothing)
        holds = found.value >= asked.threshold
        return (present & ~(found.held & holds), going & holds & found.held.any()), found

    return scan(step, (jnp.ones(shape.num, bool), jnp.bool_(True)), jnp.arange(most, dtype=jnp.int32))[1]


class _State(NamedTuple):
    present: Array
    removed_at: Array
    score: Array


def _subset(f: Model, asked: Asked, shape: Shape, present: Array, round: Array, size: int) -> Found:
    """The smallest subset of the present features that the selection comes by."""
    value, num = shape.scores(f, asked), shape.num
    first = (round * (num + 1)) * num
    """Of the passes of this round; each candidate of each step has its own, and x itself the one after them."""
    whole = first + num * num
    start = value(present.astype(jnp.float32), whole)
    lowest = -jnp.finfo(start.dtype).max

    def step(state: _State, t: Array) -> tuple[_State, tuple[Array, Array]]:
        scores = _candidates(value, state.present, first + t * num, size, start.dtype)
        key = jnp.where(state.present, jnp.maximum(jnp.where(jnp.isnan(scores), lowest, scores), lowest), -jnp.inf)
        chosen, some = jnp.argmax(key), state.present.any()
        gone = (jnp.arange(num) == chosen) & some
        after = jnp.where(some, scores[chosen], jnp.nan)
        removed_at = jnp.where(gone, t, state.removed_at)
        return _State(state.present & ~gone, removed_at, after), (after, first + t * num + chosen)

    end, (scores, passes) = scan(step, _State(present, jnp.full(num, -1, jnp.int32), start), jnp.arange(num, dtype=jnp.int32))
    removal = Removal(end.removed_at, jnp.concatenate([start[None], scores]))
    return smallest(asked, shape, removal, jnp.concatenate([whole[None], passes]))


def _candidates(value, present: Array, number: Array, size: int, dtype: Any) -> Array:
    """`[num]`: the score with each of the present features removed as well; passes run only for these."""
    num = present.shape[0]
    order = jnp.argsort(~present, stable=True).astype(jnp.int32)
    order = jnp.concatenate([order, jnp.full(size, num, jnp.int32)])
    count = present.sum()

    def block(state: tuple[Array, Array]) -> tuple[Array, Array]:
        b, scores = state
        i = lax.dynamic_slice(order, (b * size,), (size,))
        without = lambda j: value((present & (jnp.arange(num) != j)).astype(jnp.float32), number + j)
        live = b * size + jnp.arange(size) < count
        return b + 1, scores.at[jnp.where(live, i, num)].set(jax.vmap(without)(i), mode="drop")

    return while_loop(lambda state: state[0] * size < count, block, (jnp.int32(0), jnp.full(num, -jnp.inf, dtype)))[1]
