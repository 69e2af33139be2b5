"""Selective prediction: what a model errs where it answers only its most certain examples. Functions of numbers over n examples, on the host, in float64.

Examples of equal uncertainty come together or not at all: a plateau is one point of a curve, and no result depends on the order of examples.
Coverage is the share that is answered, the selective risk `r` the mean loss of these, and `c · r(c)` the generalised risk.
"""

from __future__ import annotations

import numpy as np

from jxai.scores import one_of, within
from jxai.typing import Array, Curve
from jxai.uncertainty import counting
from jxai.uncertainty.checks import check_finite, host_numbers, same_length
from jxai.uncertainty.resampling import Estimate, bootstrap

__all__ = [
    "Estimate",
    "achievable_aurc",
    "augrc",
    "aurc",
    "aurra",
    "bootstrap",
    "coverage_at_risk",
    "excess_aurc",
    "raulc",
    "risk_at_coverage",
    "risk_coverage",
]

CONVENTIONS = ("fd-shifts", "torch-uncertainty")
OPTIMA = ("sorted", "formula")
_NEAR = 1e-12
"""By which sums of float64 may miss what they are compared with."""


def risk_coverage(uncertainty: Array, loss: Array) -> Curve:
    """The selective risk by coverage: `r(c)`, the mean loss of the share c of examples that are least uncertain.

    A point for each value of the uncertainty: `c = #{uᵢ ≤ t} / n`, `r = Σ_{uᵢ ≤ t} lossᵢ / #{uᵢ ≤ t}`; before them coverage 0 with the first risk.

    Args:
      uncertainty: `[n]`, higher is less certain; may be infinite. loss: `[n]`, finite: 1 of an error and 0 of a right answer, or any other loss.

    Returns:
      `Curve`: x the coverage, ascending from 0 to 1; y the selective risk; auc the trapezoid area, which is `aurc`.

    Raises:
      ValueError: traced, empty or no numbers `[n]`, NaN, unequal lengths.

    Reference: Geifman & El-Yaniv 2017, "Selective Classification for Deep Neural Networks", NeurIPS; the points are those of fd-shifts (Traub et al. 2024).
    """
    kept = _kept(uncertainty, loss, "risk_coverage")
    return Curve(kept.coverage, kept.risk, kept.aurc)


def aurc(uncertainty: Array, loss: Array, *, convention: str = "fd-shifts") -> float:
    """The area under the risk-coverage curve; lower is better, the mean loss is that of uncertainties that say nothing.

    Args:
      uncertainty, loss: as for `risk_coverage`.
      convention: `"fd-shifts"`: the trapezoid area of `risk_coverage`, from coverage 0 to 1. `"torch-uncertainty"`: a point for each example, ties in the order in which
        they are given (so that there the result depends on it), the trapezoid area from coverage 1/n to 1 over its width 1 − 1/n; NaN of one example.

    Range: [0, 1] for losses in [0, 1].
    Reference: Geifman, Uziel & El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR.
    """
    if one_of("convention", convention, CONVENTIONS) == "fd-shifts":
        return float(_kept(uncertainty, loss, "aurc").aurc)
    u, loss = _paired(uncertainty, loss, "aurc")
    count = np.arange(1, len(u) + 1)
    risk = loss[np.argsort(u, kind="stable")].cumsum() / count
    return float(np.trapezoid(risk, count / len(u)) / (1 - 1 / len(u))) if len(u) > 1 else float("nan")


def excess_aurc(uncertainty: Array, loss: Array, *, optimum: str = "sorted") -> float:
    """The AURC less the least one that an order of the same losses can have: what the uncertainty lacks, whatever the model's own error.

    Args:
      uncertainty, loss: as for `risk_coverage`.
      optimum: `"sorted"`: the AURC of the losses sorted, one point an example. `"formula"`: its limit of many examples `e + (1 − e) ln(1 − e)`, for losses 0 and 1 with
        mean e; fd-shifts' for these, which may be more than the AURC of few examples.

    Range: (−∞, ∞); 0 is the best where no uncertainties are equal. A plateau is a straight line where its examples one by one are a curve, so that a few of them may come out below 0.
    Raises:
      ValueError: as `risk_coverage`; `optimum="formula"` of losses other than 0 and 1.
    Reference: Geifman, Uziel & El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR.
    """
    one_of("optimum", optimum, OPTIMA)
    u, loss = _paired(uncertainty, loss, "excess_aurc")
    area = aurc(u, loss)
    if optimum == "sorted":
        return area - float(counting.least_aurc(np.sort(loss)))
    if not np.isin(loss, (0, 1)).all():
        raise ValueError(f"{optimum=} is of losses 0 and 1, but loss has others: use optimum='sorted'")
    error = loss.mean()
    return area - float(error + (1 - error) * np.log1p(-error) if error < 1 else 1.0)


def augrc(uncertainty: Array, loss: Array) -> float:
    """The area under the generalised risk `c · r(c)`, the loss of the answered examples over all n: the chance that an error is answered before another example.

    The trapezoid area between the points of `risk_coverage`, from (0, 0); what an order of 0/1 losses with mean e can have at the least is `½e²`, and half of the mean loss is that of
    uncertainties that say nothing. (fd-shifts shows it times 1000.)

    Args:
      uncertainty, loss: as for `risk_coverage`.

    Range: [0, ½] for losses in [0, 1].
    Reference: Traub et al. 2024, "Overcoming Common Flaws in the Evaluation of Selective Classification Systems", NeurIPS.
    """
    return float(_kept(uncertainty, loss, "augrc").augrc)


def achievable_aurc(uncertainty: Array, loss: Array) -> float:
    """The area under the lowest risk that thresholds of this uncertainty achieve, where each coverage may be reached by a draw between two thresholds.

    The generalised risk of such a draw lies on the line between theirs, so the least is the lower convex hull `g` of the points (coverage, generalised risk) with (0, 0), and the area is
    `∫₀¹ g(c)/c dc`, exact on each segment (the selective risk between two points is no straight line). Of 0/1 losses it is fd-shifts' `aurc_achievable`, which leaves other losses as they are.

    Args:
      uncertainty, loss: as for `risk_coverage`.

    Range: [0, 1] for losses in [0, 1]; at most the mean loss.
    Reference: Traub et al. 2024, "Overcoming Common Flaws in the Evaluation of Selective Classification Systems", NeurIPS.
    """
    kept = _kept(uncertainty, loss, "achievable_aurc")
    hull: list[tuple[float, float]] = []
    for c, g in zip(kept.coverage, kept.total):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (c - hull[-2][0]) >= (g - hull[-2][1]) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((float(c), float(g)))
    c, g = np.asarray(hull).T
    area = g[1]  # from (0, 0) the risk is constant
    slope = np.diff(g[1:]) / np.diff(c[1:])
    return float(area + (slope * np.diff(c[1:]) + (g[1:-1] - slope * c[1:-1]) * np.log(c[2:] / c[1:-1])).sum())


def aurra(uncertainty: Array, correct: Array) -> float:
    """The area under the response-rate accuracy: the mean over i of the accuracy of the i most certain examples.

    Within a plateau, whose examples have no order, it is the mean over all orders; without ties the value of `natural-adv-examples`.

    Args:
      uncertainty: `[n]`, higher is less certain. correct: `[n]`, boolean, or in [0, 1].

    Range: [0, 1], higher is better.
    Raises:
      ValueError: as `risk_coverage`; `correct` outside of [0, 1].
    Reference: Hendrycks et al. 2021, "Natural Adversarial Examples", CVPR.
    """
    return float(_running(*_right(uncertainty, correct, "aurra")).mean())


def raulc(uncertainty: Array, correct: Array) -> float:
    """The area under the lift curve, relative to that of the best order: 1 where every right answer is more certain than every wrong one, 0 where the uncertainty says nothing.

    `AULC(u) = −1 + (1/n) Σᵢ accuracy of the i most certain / accuracy`; `rAULC = AULC(u) / AULC(1 − correct)`. Ties as for `aurra`.

    Args:
      uncertainty: `[n]`, higher is less certain. correct: `[n]`, boolean, or in [0, 1].

    Returns:
      The share; NaN where all examples are equally right (accuracy 0 or 1), where there is no order to be found.

    Range: at most 1; below 0 where wrong answers are the more certain.
    Raises:
      ValueError: as `aurra`.
    Reference: Postels et al. 2022, "On the Practicality of Deterministic Epistemic Uncertainty", ICML.
    """
    u, correct = _right(uncertainty, correct, "raulc")
    if (correct == correct[0]).all():
        return float("nan")
    accuracy = correct.mean()
    own, best = (_running(v, correct).mean() / accuracy - 1 for v in (u, 1 - correct))
    return float(own / best)


def risk_at_coverage(uncertainty: Array, loss: Array, coverage: float) -> float:
    """The selective risk at the first reachable coverage that is at least this one: never between the points of `risk_coverage`.

    Args:
      uncertainty, loss: as for `risk_coverage`. coverage: in [0, 1].

    Raises:
      ValueError: as `risk_coverage`; a coverage outside of [0, 1].
    """
    check_finite(coverage=coverage)
    within(0, 1, coverage=coverage)
    kept = _kept(uncertainty, loss, "risk_at_coverage")
    return float(kept.risk[np.argmax(kept.coverage >= coverage - _NEAR)])


def coverage_at_risk(uncertainty: Array, loss: Array, risk: float) -> float:
    """The largest reachable coverage whose selective risk is at most this one: never between the points of `risk_coverage`; 0, which answers nothing, where there is none.

    Args:
      uncertainty, loss: as for `risk_coverage`. risk: a finite number.

    Raises:
      ValueError: as `risk_coverage`; a risk that is no finite number.
    """
    check_finite(risk=risk)
    kept = _kept(uncertainty, loss, "coverage_at_risk")
    fit = kept.risk <= risk + _NEAR * max(1.0, abs(risk))
    return float(kept.coverage[fit][-1]) if fit.any() else 0.0


def _kept(uncertainty: Array, loss: Array, what: str) -> counting.Kept:
    u, loss = _paired(uncertainty, loss, what)
    _, at, size = np.unique(u, return_inverse=True, return_counts=True)
    return counting.kept(size, np.bincount(at, weights=loss))


def _running(u: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """`[n]`: the accuracy of the i most certain examples, the mean over the orders of those that are equally certain."""
    _, plateau, sizes = np.unique(u, return_inverse=True, return_counts=True)
    mean = np.bincount(plateau, weights=correct) / sizes
    return np.repeat(mean, sizes).cumsum() / np.arange(1, len(u) + 1)


def _paired(uncertainty: Array, loss: Array, what: str) -> tuple[np.ndarray, np.ndarray]:
    (u,), (loss,) = host_numbers(what, finite=False, uncertainty=uncertainty), host_numbers(what, loss=loss)
    same_length(uncertainty=u, loss=loss)
    return u, loss


def _right(uncertainty: Array, correct: Array, what: str) -> tuple[np.ndarray, np.ndarray]:
    (u,), (correct,) = host_numbers(what, finite=False, uncertainty=uncertainty), host_numbers(what, correct=correct)
    same_length(uncertainty=u, correct=correct)
    if correct.min() < 0 or correct.max() > 1:
        raise ValueError(f"correct must be booleans, or in [0, 1], but goes from {correct.min():g} to {correct.max():g}")
    return u, correct
