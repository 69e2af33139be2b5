"""Figures of what judges uncertainties: what is drawn is what was given."""

import numpy as np
import pytest

from jxai import plot
from jxai.typing import Curve
from jxai.uncertainty import detection, selective

RNG = np.random.default_rng(0)
IN, OUT, LOSS = RNG.normal(size=30), RNG.normal(1, 1, 20), RNG.integers(0, 2, 30)


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_roc_curves_have_their_areas():
    curve = detection.roc(IN, OUT)
    axes = plot.roc({"energy": curve, "own_score": detection.roc(-IN, -OUT)}, "title").axes[0]
    assert np.array_equal(axes.lines[2].get_xydata(), np.stack(curve[:2], 1)) and axes.get_title() == "title"
    assert legend(axes)[0].endswith(f" {detection.auroc(IN, OUT):.3f}") and legend(axes)[1].endswith(f" {1 - detection.auroc(IN, OUT):.3f}")
    assert axes.get_ylabel() == "true positive rate (out of distribution)"
    axes = plot.roc({"energy": detection.roc(IN, OUT, positive="in")}, positive="in").axes[0]
    assert axes.get_ylabel() == "true positive rate (in distribution)"


def test_risk_coverage_curves_have_their_areas():
    curve, best = selective.risk_coverage(IN, LOSS), selective.risk_coverage(LOSS + np.linspace(0, 0.1, 30), LOSS)
    axes = plot.risk_coverage({"own_score": curve}, best=best).axes[0]
    assert np.array_equal(axes.lines[0].get_xydata(), np.stack(curve[:2], 1)) and np.array_equal(axes.lines[1].get_xydata(), np.stack(best[:2], 1))
    assert legend(axes)[0].endswith(f" {selective.aurc(IN, LOSS):.3g}") and legend(axes)[1].startswith("best order ")
    assert axes.get_ylim()[0] <= 0


def test_names_that_would_be_alike_stay_and_ones_own_best_order_is_drawn():
    curve, other = selective.risk_coverage(IN, LOSS), selective.risk_coverage(-IN, LOSS)
    axes = plot.risk_coverage({"energy": curve, "Energy": other, "best order": other}, best=curve).axes[0]
    assert [text.rsplit(" ", 1)[0] for text in legend(axes)] == ["energy", "Energy", "best order", "best order"]
    assert [line.get_color() for line in axes.lines] == ["C0", "C1", "C2", "0.6"]
    assert [text.rsplit(" ", 1)[0] for text in legend(plot.roc({"energy": detection.roc(IN, OUT)}).axes[0])] == ["Energy"]


WRONG = [
    (lambda: plot.roc({"a": detection.roc(IN, OUT)}, positive="ood"), "positive='ood' must be one of 'out', 'in'"),
    (lambda: plot.risk_coverage({"a": selective.risk_coverage(IN, LOSS)}, best=Curve(np.asarray([0, 0.5]), np.zeros(2), 0)), "best must be a curve over"),
    (lambda: plot.roc({}), "at least one curve"),
    (lambda: plot.roc({"a": selective.risk_coverage(IN, LOSS)}), r"lines\['a'\] must be a ROC curve, from \(0, 0\)"),
    (lambda: plot.risk_coverage({"a": Curve(np.asarray([0.1, 1]), np.zeros(2), 0)}), "over coverage from 0 to 1, but goes from 0.1"),
    (lambda: plot.roc({"a": Curve(np.asarray([0, 1, 0.5]), np.zeros(3), 0)}), "ascending"),
    (lambda: plot.roc({"a": np.zeros(3)}), "must be a Curve, got ndarray"),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_what_is_wrong_is_said(n):
    call, message = WRONG[n]
    with pytest.raises(ValueError, match=message):
        call()
