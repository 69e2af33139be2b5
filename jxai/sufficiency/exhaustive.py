"""The truth about two labels where there are few segments: every set of them is tried."""

from __future__ import annotations

import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.removal.fills import FillLike
from jxai.removal.segments import Segmentation
from jxai.scores import positive
from jxai.sufficiency.contest import Contest, Disambiguation, Found, Sets, answer, areas, common, conclude, contest, directed, judge, whole_scores
from jxai.typing import Array, Model

__all__ = ["disambiguate_exactly"]

_MOST = 14


@plainly
def disambiguate_exactly(
    f: Model,
    x: Array,
    labels: Array,
    key: Array | None = None,
    *,
    segments: Array | Segmentation,
    num_segments: int | None = None,
    delta: float | Array = 0.8,
    max_area: float = 0.5,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Disambiguation:
    """The truth about two labels at few segments: every set of them is removed, and the best proofs of all are found.

    Args, Returns, Raises: as `disambiguate`, of at most 14 segments.

    Cost: `2^num` forward passes.
    Reference: the definitions are those of `disambiguate`.
    """
    asked, num = contest(f, x, labels, key, segments, num_segments, delta, max_area, fill, score)
    if num > _MOST:
        raise ValueError(f"segments has {num} labels, and an exact search is for {_MOST} at most")
    size = loops.at_once(x, chunk)
    positive(chunk=size)
    return answer(_by_all, f, asked, score=score, num=num, max_area=float(max_area), size=size)


def _by_all(f: Model, asked: Contest, *, score: str, num: int, max_area: float, size: int) -> Found:
    whole, count = whole_scores(f, asked, score), 2**num
    shares = judge(f, asked, whole, score)
    number = jnp.arange(count)
    removed = (number[:, None] >> jnp.arange(num)) & 1 > 0
    every = Sets(removed, loops.stack(lambda i: shares(removed[i], i), count, size), number)
    first, second = directed(every.shares)
    sizes, others = removed.sum(1), count - 1 - number
    # The best set for the second label within what each set of the first one leaves.
    best, partner = _best_subset(second)
    reached = jnp.minimum(first, best[others])
    most = reached.max()
    cheapest, cheap_partner = _best_subset(-jnp.where(second >= asked.delta, sizes, jnp.inf))
    cost = jnp.where(first >= asked.delta, sizes, jnp.inf) - cheapest[others]
    a = jnp.where(most >= asked.delta, jnp.argmin(cost), jnp.argmax(reached))
    b = jnp.where(most >= asked.delta, cheap_partner[others[a]], partner[others[a]])
    shared = jnp.where(removed @ areas(asked, num) <= max_area, common(every.shares), -jnp.inf)
    reaching = shared >= asked.delta
    c = jnp.where(reaching.any(), jnp.argmin(jnp.where(reaching, sizes, num + 1)), jnp.argmax(shared))
    return conclude(asked, whole, every.at(jnp.stack([a, b])), every.at(c), most, shared.max())


def _best_subset(value: Array) -> tuple[Array, Array]:
    """Of values by set `[2^n]` (bit i: whether i is in it), for each set the greatest value of a subset of it, and which subset."""
    which = jnp.arange(value.shape[0])
    for bit in range(value.shape[0].bit_length() - 1):
        v, w = (part.reshape(-1, 2, 2**bit) for part in (value, which))
        better = v[:, 0] > v[:, 1]
        value = jnp.stack([v[:, 0], jnp.where(better, v[:, 0], v[:, 1])], 1).ravel()
        which = jnp.stack([w[:, 0], jnp.where(better, w[:, 0], w[:, 1])], 1).ravel()
    return value, which
