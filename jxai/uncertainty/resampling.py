"""How far a number over n examples can be trusted: its percentile bootstrap interval."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jxai.scores import generator, positive
from jxai.typing import Array
from jxai.uncertainty.checks import check_host, check_level

__all__ = ["Estimate", "bootstrap"]

_SAMPLES = {"uncertainty_in", "uncertainty_out"}
"""Names of arguments that are two samples rather than two numbers of each example."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Estimate:
    """Made by `bootstrap`.

    Attributes:
      value: of the examples as they are. low, high: the interval.
    """

    value: Array
    low: Array
    high: Array


def bootstrap(
    metric: Callable[..., Any],
    *arrays: Array,
    key: Array | None = None,
    level: float = 0.95,
    num_samples: int = 1000,
    paired: bool | None = None,
    **options: Any,
) -> Estimate:
    """A number with its percentile bootstrap interval: the metric of examples drawn again, with replacement, `num_samples` times.

    Args:
      metric: `metric(*arrays, **options) -> number`, as `jxai.uncertainty.detection.auroc`, `jxai.uncertainty.selective.aurc` or a calibration error. arrays: each `[n, …]`.
      key: for the draws. level: of the interval, in (0, 1). num_samples: how often examples are drawn. options: of the metric.
      paired: whether the arrays hold the same examples, which are then drawn together (uncertainty and loss), or are samples by themselves (in and out of distribution).
        None: of jxai's own metrics it is known, and arrays of unequal lengths are samples by themselves; for others it has to be said.

    Returns:
      `Estimate(value, low, high)`, float64. Draws in which the metric is NaN (no error among them, say) are left out; all of them: NaN.

    Raises:
      ValueError: no key, arrays that are traced, empty or of unequal lengths though paired; a metric that returns no single number; `paired=None` where it is not known.

    Cost: `num_samples + 1` calls of the metric.
    Reference: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13.
    """
    check_level(level=level)
    positive(num_samples=num_samples)
    check_host("bootstrap", arrays=arrays)
    rng = generator(key, "bootstrap")
    given = [np.asarray(a) for a in arrays]
    if not given or any(a.ndim == 0 or not len(a) for a in given):
        raise ValueError(f"arrays must have an axis of examples, and some along it, got shapes {[a.shape for a in given]}")
    lengths = [len(a) for a in given]
    together = _together(metric, lengths) if paired is None else paired
    if together and len(set(lengths)) > 1:
        raise ValueError(f"arrays must be of the same examples where {paired=}, got lengths {lengths}")

    def draw() -> list[np.ndarray]:
        if together:
            at = rng.integers(0, lengths[0], lengths[0])
            return [a[at] for a in given]
        return [a[rng.integers(0, n, n)] for a, n in zip(given, lengths)]

    value = _number(metric(*given, **options))
    drawn = np.asarray([_number(metric(*draw(), **options)) for _ in range(num_samples)])
    return Estimate(*map(np.float64, (value, *percentiles(drawn, level))))


def percentiles(drawn: np.ndarray, level: float) -> tuple[float, float]:
    """Between which this share of numbers lies, an equal share beyond either end; NaN is left out, and of nothing else it is NaN."""
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _together(metric: Callable[..., Any], lengths: list[int]) -> bool:
    """Whether examples are drawn together."""
    if len(lengths) == 1:
        return True
    whole = metric
    while isinstance(whole, functools.partial):
        whole = whole.func
    try:
        names = set(inspect.signature(whole).parameters)
    except (TypeError, ValueError):
        names = set()
    if names >= _SAMPLES or len(set(lengths)) > 1:
        return False
    if (getattr(whole, "__module__", None) or "").startswith("jxai."):
        return True
    raise ValueError(
        "paired=None: of a metric that is not jxai's it has to be said whether the arrays are of the same examples (paired=True: uncertainty and loss) "
        "or samples by themselves (paired=False: in and out of distribution)"
    )


def _number(value: Any) -> float:
    if isinstance(value, (tuple, list, dict)) or np.ndim(value):
        raise ValueError(
            f"metric must return one number, got {type(value).__name__}{'' if isinstance(value, (tuple, list, dict)) else f' of shape {np.shape(value)}'}"
        )
    return float(value)
