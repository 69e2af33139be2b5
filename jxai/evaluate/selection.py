"""Which examples a run is about, where that depends on the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from jxai.evaluate.store import Run
from jxai.files import DAMAGE, save_arrays


def select(record: Run, parts: Sequence[np.ndarray], keep: Callable[[np.ndarray], np.ndarray], block: int) -> list[np.ndarray]:
    """Those places of each part that `keep` keeps; told once for each and kept in the run's folder, since it takes a forward pass.

    Raises:
      ValueError: none is left.
    """
    path = record.path / "selection.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            index, kept = archive["index"], archive["kept"]
    except DAMAGE:
        index, kept = np.zeros(0, int), np.zeros(0, bool)
    asked = np.concatenate(parts)
    new = asked[~np.isin(asked, index)]
    if len(new):
        told = [keep(new[start : start + block]) for start in range(0, len(new), block)]
        index, kept = np.concatenate([index, new]), np.concatenate([kept, *told])
        save_arrays(path, index=index, kept=kept)
    selected = [part[np.isin(part, index[kept])] for part in parts]
    if not any(map(len, selected)):
        raise ValueError(f"none of the {len(asked)} examples is classified right")
    return selected
