"""Bounds, searches among them and sufficient subsets as functions of one example `[6]`."""

from __future__ import annotations

import jax
import numpy as np

from jxai import bounds, sufficiency
from jxai.testing import network

F = network((6,))
BOUNDS = {
    **{f"{name} of the logits": lambda x, name=name: bounds.bound(F, bounds.ball(x, 0.05), method=name) for name in bounds.METHODS},
    **{f"{name} of margins": lambda x, name=name: bounds.margins(F, bounds.ball(x, 0.05), 1, method=name) for name in bounds.METHODS},
    "attack": lambda x: bounds.attack(F, bounds.ball(x, 0.1), 1, jax.random.key(0), steps=4, restarts=2),
    "certified_radius": lambda x: bounds.certified_radius(F, x, rounds=3),
    "sis": lambda x: sufficiency.sis(F, x, 1, threshold=0.2),
    "batched_gradient_sis": lambda x: sufficiency.batched_gradient_sis(F, x, 1, threshold=0.2),
    "random_subset": lambda x: sufficiency.random_subset(F, x, 1, jax.random.key(0), threshold=0.2),
    "disambiguate": lambda x: sufficiency.disambiguate(F, x, (0, 1), jax.random.key(0), segments=np.arange(6)),
    "minimal_explanation": lambda x: sufficiency.minimal_explanation(F, x, radius=0.01),
}
