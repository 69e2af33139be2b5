"""The scores of a model, one for each formula: `score(f, x, key=None, *, fitted=None, options) -> scalar`, higher where f is less certain."""

from __future__ import annotations

from jxai.uncertainty import formulas
from jxai.uncertainty.scoring import of_formula

__all__ = ["entropy", "gini", "max_softmax", "probability_margin"]

# Of the logits alone.
entropy = of_formula(formulas.entropy)
gini = of_formula(formulas.gini)
max_softmax = of_formula(formulas.max_softmax)
probability_margin = of_formula(formulas.probability_margin)
