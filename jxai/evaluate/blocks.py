"""The files of a run's blocks: `blocks/NNNNNN.npz` has the columns of some examples, `maps/NNNNNN.npz` their explanations, `pictures/NNNNNN.npz` themselves, to be looked at.
Each is whole or absent.

Columns that come later join their block's file. Explanations that come later get a file of their own, `maps/NNNNNN.1.npz` and so on; which one holds a method's, and that
file's digest, stands among the columns.
"""

from __future__ import annotations

import contextlib
import itertools
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from jxai.files import DAMAGE, digest, save_arrays

MAPS = "_maps/"
"""Before a method's label: the file of its explanations, and its digest."""
PICTURE = "_picture"
"""Among what can be looked at: the example."""


class Block:
    """The files of one block.

    Args:
      path: the run's folder. number: of the block. keeps: whether the run keeps explanations.
    """

    def __init__(self, path: Path, number: int, keeps: bool):
        self.path, self.number, self.keeps = path, number, keeps

    @property
    def scores(self) -> Path:
        """Where its columns are."""
        return self.path / "blocks" / f"{self.number:06d}.npz"

    def explanations(self, part: int = 0) -> Path:
        """Where its explanations are, the first, or those that came later."""
        return self.path / "maps" / f"{self.number:06d}{f'.{part}' if part else ''}.npz"

    @property
    def pictures(self) -> Path:
        """Where its examples are, as they can be looked at (`jxai.evaluate.examples.shown_as`)."""
        return self.path / "pictures" / f"{self.number:06d}.npz"

    def columns(self) -> dict[str, np.ndarray]:
        """Its columns.

        Raises:
          ValueError: the file is missing or damaged.
        """
        return {name: column for name, column in self._load().items() if not name.startswith(MAPS)}

    def names(self) -> set[str]:
        """Its columns' names, and `MAPS` with the label of explanations that are there as they were written; empty where the file is missing or damaged."""
        try:
            with zipfile.ZipFile(self.scores) as archive:
                if archive.testzip() is not None:
                    return set()
            with np.load(self.scores, allow_pickle=False) as archive:
                found, records = set(archive.files), {name: archive[name] for name in archive.files if name.startswith(MAPS)}
        except DAMAGE:
            return set()
        return (found - records.keys()) | {MAPS + method for method in self._whole(records)}

    def is_done(self, columns: Collection[str] = (), methods: Collection[str] | None = None) -> bool:
        """Whether it holds these columns and, in a run that keeps them, these methods' explanations (None: all that were ever written)."""
        names = self.names()
        if not names or not names.issuperset(columns):
            return False
        return not self.keeps or names.issuperset(MAPS + method for method in (self.methods() if methods is None else methods))

    def methods(self) -> list[str]:
        """Whose explanations were written, whole or not."""
        return [name.removeprefix(MAPS) for name in self._load() if name.startswith(MAPS)]

    def map(self, method: str) -> np.ndarray | None:
        """The explanations of a method, `[n, …]`; None where none were written, or they are damaged."""
        found = self._load()
        if MAPS + method not in found or method not in self._whole(found, [method]):
            return None
        with np.load(self._where(found, method)[0], allow_pickle=False) as archive:
            return archive[method]

    def looked_at(self) -> dict[str, np.ndarray]:
        """What can be looked at: explanations by method, and `PICTURE`, the examples; without what was not kept or is damaged."""
        whole = self._whole(found := self._load())
        shown: dict[str, np.ndarray] = {}
        for path in [*{self._where(found, method)[0] for method in whole}, self.pictures]:
            with contextlib.suppress(*DAMAGE), np.load(path, allow_pickle=False) as archive:
                shown |= {name: archive[name] for name in archive.files if name in whole or path == self.pictures}
        return shown

    def write(self, columns: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray], pictures: Mapping[str, np.ndarray] | None = None) -> None:
        """Adds columns and explanations to what is there: pictures and explanations first, so that scores never lack theirs. Clears what a killed process left."""
        for path in (self.pictures, self.explanations(), self.scores):
            for stale in path.parent.glob(f".{path.stem}.*{path.suffix}"):
                stale.unlink(missing_ok=True)
        try:
            there = self._load()
        except ValueError:
            there = {}
        if self.keeps and pictures:
            save_arrays(self.pictures, **pictures)
        if self.keeps and maps:
            taken = {self._where(there, method)[0] for method in self._whole(there) if method not in maps}
            path = next(path for path in map(self.explanations, itertools.count()) if path not in taken)
            save_arrays(path, **maps)
            there |= dict.fromkeys((MAPS + method for method in maps), np.asarray(f"{path.name} {digest(path)}"))
        save_arrays(self.scores, **{**there, **columns})

    def _load(self) -> dict[str, np.ndarray]:
        try:
            with np.load(self.scores, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except DAMAGE as error:
            raise ValueError(f"{self.scores} is damaged ({error}); evaluating again mends it") from None

    def _where(self, found: Mapping[str, np.ndarray], method: str) -> tuple[Path, str]:
        name, _, told = str(found[MAPS + method]).rpartition(" ")
        return self.path / "maps" / name, told

    def _whole(self, found: Mapping[str, np.ndarray], methods: Collection[str] | None = None) -> set[str]:
        """The methods whose explanations are there as they were written."""
        listed = [name.removeprefix(MAPS) for name in found if name.startswith(MAPS)] if methods is None else list(methods)
        places = {method: self._where(found, method) for method in listed}
        digests = {path: digest(path) for path in {path for path, _ in places.values()}}
        return {method for method, (path, told) in places.items() if digests[path] == told}
