"""The scores that any classifier has once it is trained, and what each is fitted by."""

from __future__ import annotations

from typing import Any

import numpy as np

from jxai import uncertainty

OF_LOGITS = ("max_softmax", "max_logit", "energy", "entropy", "probability_margin", "gini", "gen")
OF_FEATURES = ("grad_norm", "react", "vra", "ash", "scale", "dice", "mahalanobis", "relative_mahalanobis", "gaussian_density", "mdsa")
OF_FEATURES += ("vim", "kl_matching", "she", "fdbd", "nci")
BANKS = ("knn", "nn_guide", "relation", "lsa", "dsa")
"""These look at all examples that they are fitted to."""
AGAIN = ("odin", "rank_feat")
"""These ask the model again: no formulas of one answer. ODIN takes a gradient."""
POST_HOC = (*OF_LOGITS, *OF_FEATURES, *BANKS, *AGAIN)


def fitted(name: str, features: np.ndarray, logits: np.ndarray, labels: np.ndarray, head: uncertainty.Head) -> Any:
    """What a score is fitted by; None of one that is not.

    Raises:
      ValueError: it cannot be fitted to these.
    """
    if name in ("ash", "scale"):
        return head
    make = getattr(uncertainty, f"fit_{name}", None)
    return make(features, logits, labels, head) if make else None
