"""Experiments on relevance: whether what it says of parts is what decisions rest on."""
