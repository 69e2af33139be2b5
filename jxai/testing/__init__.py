"""Testing: the contracts of jxai as functions, for a routine of your own in a file of your own, and for every routine here.

    from jxai.testing import check_method
    check_method(my_method, options={"num_samples": 4}, shapes=("image",))

- `check_method`, `check_metric`, `check_comparison`, `check_search` and `check_score` raise an AssertionError that says which clause is broken. Each has
  a table of its clauses (`METHOD_CLAUSES` …), of which `clauses=` takes some. They need neither pytest nor chex.
- `examples`: small models, inputs, maps and masks for a vector, an image and a video; `trial`: what the checks share.

What may be touched: a new clause is a function and a line in the table of its contract, and is tested by a routine that breaks it alone.
"""

from jxai.testing.comparisons import COMPARISON_CLAUSES, check_comparison
from jxai.testing.examples import CLASSES, SHAPES, attentive, attribution_map, example, mask, network, pointwise, segments
from jxai.testing.methods import METHOD_CLAUSES, check_method
from jxai.testing.metrics import METRIC_CLAUSES, check_metric
from jxai.testing.scores import SCORE_CLAUSES, check_score
from jxai.testing.searches import SEARCH_CLAUSES, check_search

__all__ = [
    "CLASSES",
    "COMPARISON_CLAUSES",
    "METHOD_CLAUSES",
    "METRIC_CLAUSES",
    "SCORE_CLAUSES",
    "SEARCH_CLAUSES",
    "SHAPES",
    "attentive",
    "attribution_map",
    "check_comparison",
    "check_method",
    "check_metric",
    "check_score",
    "check_search",
    "example",
    "mask",
    "network",
    "pointwise",
    "segments",
]
