"""Verified bounds beside auto_LiRPA, and how tight they are."""
