"""What a reliability diagram shows: in each bin the confidence, how often it came true, and how many examples say so."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from jxai import loops
from jxai.callables import plainly
from jxai.typing import Array
from jxai.uncertainty.calibration.binning import binned
from jxai.uncertainty.calibration.outcomes import events
from jxai.uncertainty.checks import check_level

__all__ = ["Reliability", "reliability"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reliability:
    """B bins of predictions, each `[B]`, or `[K, B]` of every class; NaN in those without examples.

    Attributes:
      confidence: the mean confidence. accuracy: how often it came true. low, high: Wilson's interval of the accuracy. count: examples.
    """

    confidence: Array
    accuracy: Array
    low: Array
    high: Array
    count: Array


@plainly
def reliability(probabilities: Array, labels: Array, *, bins: int = 15, binning: str = "width", kind: str = "top_label", level: float = 0.95) -> Reliability:
    """The bins of `expected_calibration_error`, to be looked at: `jxai.plot.reliability` draws them.

    Args:
      probabilities: `[n, K]`. labels: `[n]`. bins, binning, kind: as there; `"classwise"` gives every class's own bins.
      level: of the intervals.

    Returns:
      A `Reliability`.

    Raises:
      ValueError: as `expected_calibration_error`; a level outside of (0, 1).

    Reference: DeGroot, Fienberg 1983, "The Comparison and Evaluation of Forecasters", The Statistician; Wilson 1927, "Probable Inference, the Law of Succession, and
    Statistical Inference", JASA.
    """
    check_level(level=level)
    z = ndtri((1 + level) / 2)

    def one(event: tuple[Array, Array]) -> Reliability:
        found = binned(*event, bins, binning)
        n, p = found.size, found.accuracy
        middle, half = (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * jnp.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        known = lambda value: jnp.where(n > 0, value, jnp.nan)
        return Reliability(known(found.confidence), known(p), known(jnp.maximum(middle - half, 0)), known(jnp.minimum(middle + half, 1)), n)

    found = loops.map(one, events(probabilities, labels, kind))
    return found if kind == "classwise" else jax.tree.map(lambda v: v[0], found)
