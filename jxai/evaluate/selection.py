"""Which examples a run is about, where that depends on the model."""

from __future__ import annotations

import zipfile
from collections.abc import Callable

import numpy as np

from jxai.evaluate.store import Run
from jxai.files import save_arrays


def select(record: Run, chosen: np.ndarray, keep: Callable[[np.ndarray], np.ndarray], block: int) -> np.ndarray:
    """Those of the `chosen` indices that `keep` keeps; kept in the run's folder, since it takes a forward pass of each.

    Raises:
      ValueError: none is left.
    """
    path = record.path / "selection.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            selected = archive["index"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        parts = [chosen[start : start + block] for start in range(0, len(chosen), block)]
        selected = np.concatenate([part[keep(part)] for part in parts])
        save_arrays(path, index=selected)
    if not len(selected):
        raise ValueError(f"none of the {len(chosen)} examples is classified right")
    return selected
