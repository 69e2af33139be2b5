"""Uncertainty scores as formulas on one example's arrays: `NAME(logits, features=None, fitted=None, *, options) -> scalar`.

Higher is more uncertain: a score that was published as higher within the distribution is its negative here, and nothing else. `jxai.uncertainty.NAME` is the same of a
model. What a formula needs fitted is made by `jxai.uncertainty.fit_NAME(features [n, D], logits [n, K], labels [n], head)`.
Options named `convention` give the values of other libraries where these differ, with the sign that is used here.
"""

from jxai.uncertainty.formulas.directions import fdbd, nci
from jxai.uncertainty.formulas.gaussians import gaussian_density, mahalanobis, relative_mahalanobis
from jxai.uncertainty.formulas.neighbours import knn, nn_guide
from jxai.uncertainty.formulas.relations import relation
from jxai.uncertainty.formulas.residual import vim
from jxai.uncertainty.formulas.softmax import entropy, gini, max_softmax, probability_margin
from jxai.uncertainty.formulas.templates import kl_matching, she

__all__ = [
    "entropy",
    "fdbd",
    "gaussian_density",
    "gini",
    "kl_matching",
    "knn",
    "mahalanobis",
    "max_softmax",
    "nci",
    "nn_guide",
    "probability_margin",
    "relation",
    "relative_mahalanobis",
    "she",
    "vim",
]
