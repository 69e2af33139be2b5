"""Uncertainty scores as formulas on one example's arrays: `NAME(logits, features=None, fitted=None, *, options) -> scalar`.

Higher is more uncertain: a score that was published as higher within the distribution is its negative here, and nothing else. `jxai.uncertainty.NAME` is the same of a
model. What a formula needs fitted is made by `jxai.uncertainty.fit_NAME(features [n, D], logits [n, K], labels [n], head)`.
Options named `convention` give the values of other libraries where these differ, with the sign that is used here.
"""

from jxai.uncertainty.formulas.softmax import entropy, gini, max_softmax, probability_margin

__all__ = ["entropy", "gini", "max_softmax", "probability_margin"]
