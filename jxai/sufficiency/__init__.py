"""Sufficiency: parts of an example that settle what the model says, or bring it to its confidence, whatever stands in place of the rest."""

from jxai.sufficiency.gradient_sis import batched_gradient_sis
from jxai.sufficiency.minimal import MinimalExplanation, minimal_explanation
from jxai.sufficiency.ranked import random_subset, ranked_subset
from jxai.sufficiency.sis import sis, sis_collection
from jxai.sufficiency.subset import SufficientSubset

__all__ = [
    "MinimalExplanation",
    "SufficientSubset",
    "batched_gradient_sis",
    "minimal_explanation",
    "random_subset",
    "ranked_subset",
    "sis",
    "sis_collection",
]
