"""Sufficiency: parts of an example that settle what the model says, whatever the rest of it does."""

from jxai.sufficiency.minimal import MinimalExplanation, minimal_explanation

__all__ = ["MinimalExplanation", "minimal_explanation"]
