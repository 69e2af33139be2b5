"""Which way a metric of one's own is judged: as its docstring says."""

import functools

import pytest
from jax.tree_util import Partial

from jxai import metrics
from jxai.attribution import gradient
from jxai.evaluate import tasks


def peak(f, x, target, attribution, key=None):
    """The largest entry.

    Direction: lower is better.
    """
    return attribution.max()


class Peak:
    """Direction: higher is better."""

    def __call__(self, f, x, target, attribution, key=None):
        return attribution.max()


@pytest.mark.parametrize(
    ("metric", "way"),
    [
        (peak, -1),
        (Partial(peak), -1),
        (Peak(), 1),
        (lambda f, x, target, attribution, key=None: attribution.max(), 0),
        (metrics.deletion, -1),
        (functools.partial(metrics.deletion, order="least"), 1),
        ((metrics.deletion, {"order": "least"}), 1),
        ((functools.partial(metrics.deletion, order="least"), {"order": "most"}), -1),
    ],
)
def test_the_record_says_which_way_is_better(metric, way):
    explainers = [tasks.Task("gradient", gradient, {}, {}, gradient)]
    judged = tasks.judges({"mine": metric}, explainers, (8, 8, 1), 0)["mine"]
    assert tasks.judged_by(judged)["direction"] == way
