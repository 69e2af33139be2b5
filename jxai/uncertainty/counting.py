"""What a curve is worth, from how many examples lie at each threshold: of the examples as they are, or, along the last axis, of a thousand draws of them at once.

A threshold that no example of a draw reaches repeats the point before it, and adds nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def beyond(inside: np.ndarray, outside: np.ndarray, positive: str) -> tuple[np.ndarray, np.ndarray]:
    """How many of the positive and of the negative class lie at each threshold or beyond it, those that are beyond most first, `[…, thresholds]` each.

    Args:
      inside, outside: `[…, values]`, how many examples in and out of distribution have each uncertainty, ascending. positive: `"out"`, which lies above, or `"in"`.
    """
    if positive == "out":
        return outside[..., ::-1].cumsum(-1), inside[..., ::-1].cumsum(-1)
    return inside.cumsum(-1), outside.cumsum(-1)


def auroc(found: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """`[…]`: the area under the ROC curve; NaN without examples of either class.

    Args:
      found, taken: what `beyond` returned.
    """
    pairs = found[..., -1] * taken[..., -1]
    twice = _steps(taken, found[..., 1:] + found[..., :-1], found[..., 0])  # whole numbers: nothing is rounded
    return np.where(pairs > 0, twice / np.maximum(2 * pairs, 1), np.nan)


def average_precision(found: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """`[…]`: `Σ_t (R_t − R_{t−1}) P_t`, of the recall R and the precision P. Args as of `auroc`."""
    precision = found / np.maximum(found + taken, 1)
    return _steps(found, precision[..., 1:], precision[..., 0]) / found[..., -1]


def fpr95(found: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """`[…]`: the share of the negative class at the first threshold that finds ⌈.95 n⌉ of the positive one, in whole numbers. Args as of `auroc`."""
    first = (found < -(-19 * found[..., -1:] // 20)).sum(-1, keepdims=True)
    return np.take_along_axis(taken, first, -1)[..., 0] / taken[..., -1]


def _steps(count: np.ndarray, rest: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The sum over thresholds of what comes to a count there, times the first and the rest of the weights."""
    return ((count[..., 1:] - count[..., :-1]) * rest).sum(-1) + count[..., 0] * first


class Kept(NamedTuple):
    """What is answered, each `[…, points]`: nothing, with the first risk, and then up to each value of the uncertainty."""

    coverage: np.ndarray
    risk: np.ndarray
    """The mean loss of the answered."""
    total: np.ndarray
    """Their loss over all n."""

    @property
    def aurc(self) -> np.ndarray:
        """`[…]`: the trapezoid area under the risk."""
        return np.trapezoid(self.risk, self.coverage)

    @property
    def augrc(self) -> np.ndarray:
        """`[…]`: that under the loss over all n."""
        return np.trapezoid(self.total, self.coverage)


def kept(size: np.ndarray, loss: np.ndarray) -> Kept:
    """What is answered by `size` examples of together this `loss` at each value of the uncertainty, ascending, `[…, values]`."""
    covered, lost = size.cumsum(-1), loss.cumsum(-1)
    n = covered[..., -1:]
    risk = lost / np.maximum(covered, 1)
    first = np.take_along_axis(risk, (covered == 0).sum(-1, keepdims=True), -1)
    with_first = lambda start, rest: np.concatenate([start, rest], -1)
    return Kept(with_first(0 * first, covered / n), with_first(first, np.where(covered == 0, first, risk)), with_first(0 * first, lost / n))


def least_aurc(loss: np.ndarray) -> np.ndarray:
    """`[…]`: the AURC of losses `[…, n]`, ascending, answered in this order one by one: no order has less."""
    count = np.arange(loss.shape[-1] + 1)
    risk = loss.cumsum(-1) / count[1:]
    return np.trapezoid(np.concatenate([risk[..., :1], risk], -1), count / count[-1])
