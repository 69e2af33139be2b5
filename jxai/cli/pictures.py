"""Which images a command was given, where the results of each go, and what became of it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from jxai.cli import inputs
from jxai.cli.errors import UserError
from jxai.data.folder import images, stem
from jxai.files import atomic, printable

INDEX = "index.csv"
_COLUMNS = ("image", "folder", "target", "class", "score", "error")


class Named(NamedTuple):
    """An image and the folder of its results."""

    path: Path
    folder: Path


def listed(given: list[str], out: Path) -> list[Named]:
    """The images that paths name, folders among them; the photograph of a cup of coffee for none.

    One file's results go into `out` itself, those of each of several into a folder in it: named after the file (`photo`, and `photo-2` for another of that name), a
    folder's by their paths in it, below the folder's own name where it is not alone.

    Raises:
      UserError: a path that is not there, a folder without images, or an `out` that is a file.
    """
    existing = next(parent for parent in (out, *out.parents) if parent.exists() or parent == parent.parent)
    if not existing.is_dir():
        raise UserError(f"--out {out}: {existing} is not a folder")
    found: list[tuple[Path, Path]] = []
    for path in [Path(text) for text in given] or [inputs.photograph()]:
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if not path.is_dir():
            found.append((path, Path(stem(path))))
            continue
        within = [file for file in images(path) if not file.resolve().is_relative_to(out.resolve())]
        if not within:
            raise UserError(f"{path} holds no images")
        above = Path(path.resolve().name) if len(given) > 1 else Path()
        found += [(file, above / file.relative_to(path).with_name(stem(file))) for file in within]
    if len(found) == 1 and not (given and Path(given[0]).is_dir()):
        return [Named(found[0][0], out)]
    names: dict[Path, Path] = {}
    for path, name in found:
        count, free = 1, name
        while free in names:
            count += 1
            free = name.with_name(f"{name.name}-{count}")
        names[free] = path
    return [Named(path, out / name) for name, path in names.items()]


class Index:
    """What became of every image of several, in `out/index.csv`; a row for each class that is explained, and for what could not be."""

    def __init__(self, out: Path):
        self.path = out / INDEX
        self.rows: list[tuple[str, ...]] = []
        self.explained = self.failed = 0

    def add(self, named: Named, classes: list[tuple[int, str, float]]) -> None:
        """Classes that were explained: index, name, score."""
        self.explained += 1
        where = printable(named.path), printable(named.folder.relative_to(self.path.parent))
        self.rows += [(*where, str(index), name, f"{score:.6g}", "") for index, name, score in classes]

    def fail(self, named: Named, error: str) -> None:
        """An image that could not be explained, and why."""
        self.failed += 1
        self.rows.append((printable(named.path), "", "", "", "", error))

    def write(self) -> None:
        """Writes what is known so far."""
        with atomic(self.path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *self.rows])
