"""Sufficiency: parts of an example that settle what the model says, or bring it to its confidence, whatever stands in place of the rest.

- which features suffice: `sis` (exact), `gradient_sis`, `ranked` (by an attribution, or at random), `minimal` (proved by bounds).
- one guess or two: `disambiguate`, `exhaustive`, on `contest` and `pairs`.
- claims: `subset` and `pairs` are certificates, which `jxai.certificates` saves, loads and verifies. `asked` checks every question's inputs.

What may be touched: a new search returns one of these certificates, or brings a class with `check(f, x) -> Verdict` and a line in `jxai.certificates`.
"""

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
