"""Sufficiency: parts of an example that settle what the model says, or bring it to its confidence, whatever stands in place of the rest."""

from jxai.sufficiency.contest import Disambiguation
from jxai.sufficiency.disambiguate import disambiguate, disambiguate_pairs, extreme_baselines
from jxai.sufficiency.exhaustive import disambiguate_exactly
from jxai.sufficiency.gradient_sis import batched_gradient_sis
from jxai.sufficiency.minimal import MinimalExplanation, minimal_explanation
from jxai.sufficiency.pairs import DisjointPair, OverlappingPair
from jxai.sufficiency.ranked import random_subset, ranked_subset
from jxai.sufficiency.sis import sis, sis_collection
from jxai.sufficiency.subset import SufficientSubset

__all__ = [
    "Disambiguation",
    "DisjointPair",
    "MinimalExplanation",
    "OverlappingPair",
    "SufficientSubset",
    "batched_gradient_sis",
    "disambiguate",
    "disambiguate_exactly",
    "disambiguate_pairs",
    "extreme_baselines",
    "minimal_explanation",
    "random_subset",
    "ranked_subset",
    "sis",
    "sis_collection",
]
