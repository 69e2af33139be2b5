"""Conformal sets: classes enough that the right one is among them with probability 1 − α, whatever the model, of data exchangeable with those of a calibration.

    u, v = jax.random.uniform(key, (n,)), jax.random.uniform(other_key, (m,))
    threshold = conformal.threshold(conformal.scores(probabilities, labels, method="aps", u=u), alpha)
    sets = conformal.sets(new_probabilities, threshold, method="aps", u=v)      # [m, K] boolean

Marginal coverage over calibrations is Beta(k, n + 1 − k), k = ⌈(n + 1)(1 − α)⌉: it holds on average over calibrations and classes, not for each, and not under shift.

- `nonconformity`: how little a class conforms. `thresholds`: which score is too much, sets and p-values. `tuning`: constants of RAPS and SAPS. `judging`: coverage, size and their gaps.
"""

from jxai.uncertainty.conformal.judging import class_coverage, class_gap, coverage, size, size_gap, worst_slab
from jxai.uncertainty.conformal.nonconformity import class_scores, draws, scores
from jxai.uncertainty.conformal.thresholds import p_values, rank, sets, threshold
from jxai.uncertainty.conformal.tuning import Constants, tune

__all__ = [
    "Constants",
    "class_coverage",
    "class_gap",
    "class_scores",
    "coverage",
    "draws",
    "p_values",
    "rank",
    "scores",
    "sets",
    "size",
    "size_gap",
    "threshold",
    "tune",
    "worst_slab",
]
