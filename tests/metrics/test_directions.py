"""What a docstring says of a metric is read, and required."""

import pytest

from jxai import metrics
from jxai.metrics import documented


def test_directions_are_read_and_required():
    def metric():
        """Direction: up."""

    with pytest.raises(ValueError, match="Direction: 'up' must begin with one of 'higher is better'"):
        documented.direction(metric)
    with pytest.raises(ValueError, match="no line 'Cost'"):
        documented.line(metric, "Cost")
    assert documented.direction(metrics.sparseness) == 1 and documented.direction(metrics.entropy) == -1
