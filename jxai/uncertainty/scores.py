"""The scores of a model, one for each formula: `score(f, x, key=None, *, fitted=None, options) -> scalar`, higher where f is less certain."""

from __future__ import annotations

from jxai.uncertainty import formulas
from jxai.uncertainty.scoring import of_formula

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

# Of the logits alone.
entropy = of_formula(formulas.entropy)
gini = of_formula(formulas.gini)
max_softmax = of_formula(formulas.max_softmax)
probability_margin = of_formula(formulas.probability_margin)

# Of what was fitted.
fdbd = of_formula(formulas.fdbd, features=True, fitted=True)
gaussian_density = of_formula(formulas.gaussian_density, features=True, fitted=True)
kl_matching = of_formula(formulas.kl_matching, fitted=True)
knn = of_formula(formulas.knn, features=True, fitted=True)
mahalanobis = of_formula(formulas.mahalanobis, features=True, fitted=True)
nci = of_formula(formulas.nci, features=True, fitted=True)
nn_guide = of_formula(formulas.nn_guide, features=True, fitted=True)
relation = of_formula(formulas.relation, features=True, fitted=True)
relative_mahalanobis = of_formula(formulas.relative_mahalanobis, features=True, fitted=True)
she = of_formula(formulas.she, features=True, fitted=True)
vim = of_formula(formulas.vim, features=True, fitted=True)
