"""Labels of examples that something is fitted to, class by class."""

from __future__ import annotations

import numpy as np

from jxai.scores import check_labels
from jxai.typing import Array


def checked(name: str, labels: Array, n: int, num_classes: int) -> np.ndarray:
    """The labels `[n]` as integers of the host.

    Raises:
      ValueError: labels that are no n integers in [0, num_classes), or a class without examples.
    """
    labels = np.asarray(labels)
    check_labels(labels, n, num_classes, name)
    missing = np.setdiff1d(np.arange(num_classes), labels)
    if missing.size:
        raise ValueError(f"{name} has no example of {missing[0]}")
    return labels
