"""Metrics of counterfactuals: are they of the target class, near, sparse, plausible, diverse?

Most are `metric(f, x, counterfactual, target, *, options) -> scalar`, pure, of one example x and its counterfactual of x's shape. `apd`, `dpp`,
`label_coverage` and `squared_cosines` judge a set for one x, `counterfactual [k, *x.shape]`. `fid` and `substitutability` judge whole arrays, on the host.
A counterfactual with NaN scores NaN (`success` 0). Report several: distance alone prefers adversarial examples, which an oracle and neighbours tell apart.

Each docstring states its `Range:`, its `Direction:` and its `Cost:` in a line of its own (`jxai.metrics.documented` reads them).
"""

from jxai.metrics.counterfactual.agreement import oracle_agreement, strict_validity, success, transfer_validity, validity
from jxai.metrics.counterfactual.change import constraint_violations, l0, l1, l2, linf, redundancy, sparsity
from jxai.metrics.counterfactual.change import mad as mad
from jxai.metrics.counterfactual.datasets import fid, substitutability
from jxai.metrics.counterfactual.neighbours import class_density, knn_target_share, nearest_target_distance, prototype_gap, trust_score, ynn
from jxai.metrics.counterfactual.plausibility import anogan_score, bits_per_dim, im1, im2
from jxai.metrics.counterfactual.sets import apd, dpp, label_coverage, squared_cosines

__all__ = [
    "anogan_score",
    "apd",
    "bits_per_dim",
    "class_density",
    "constraint_violations",
    "dpp",
    "fid",
    "im1",
    "im2",
    "knn_target_share",
    "l0",
    "l1",
    "l2",
    "label_coverage",
    "linf",
    "nearest_target_distance",
    "oracle_agreement",
    "prototype_gap",
    "redundancy",
    "sparsity",
    "squared_cosines",
    "strict_validity",
    "substitutability",
    "success",
    "transfer_validity",
    "trust_score",
    "validity",
    "ynn",
]
