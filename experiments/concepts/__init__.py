"""Experiments on concepts: whether what relevance finds in channels is what decisions rest on."""
