"""`labels.csv`: which label each image of a folder has, as people and programs write such tables."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path


def read(table: Path, files: Sequence[Path]) -> list[str]:
    """The word of each file's label, `""` for a file without a row.

    Columns are parted by commas, semicolons or tabs, in UTF-8 with or without a mark; paths are relative to the table's folder or
    absolute, with slashes or backslashes.

    Raises:
      ValueError: another encoding, no header with file and label, a row that is too short or names no image, two rows that disagree.
    """
    known: dict[str, int] = {}
    for n, file in enumerate(files):
        known.setdefault(_plain(str(file.relative_to(table.parent))), n)
    words, said = [""] * len(files), {}
    for line, name, label in _rows(table):
        n = known.get(_relative(name, table.parent))
        if n is None:
            n = known.get(_relative(name.replace("\\", "/"), table.parent))
        if n is None:
            there = (table.parent / name.replace("\\", "/")).is_file()
            raise ValueError(f"{table}, line {line} names {name}, which is {'no image that is read' if there else 'not there'}")
        if said.setdefault(n, label) != label:
            raise ValueError(f"{table}, line {line} labels {name} {label!r}, an earlier line {said[n]!r}")
        words[n] = label
    return words


def _rows(table: Path) -> list[tuple[int, str, str]]:
    try:
        lines = table.read_bytes().decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 (byte {error.object[error.start]:#04x} at {error.start}); save it as UTF-8") from None
    for separator in ",;\t":
        reader = csv.reader(lines, delimiter=separator)
        header = [cell.strip().lower() for cell in next(reader, [])]
        if {"file", "label"} <= set(header):
            break
    else:
        raise ValueError(f"{table} must have a header with file and label, and a row for each image")
    at, rows = (header.index("file"), header.index("label")), []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(at):
            raise ValueError(f"{table}, line {reader.line_num} has {len(row)} cells, the header {len(header)}")
        rows.append((reader.line_num, row[at[0]].strip(), row[at[1]].strip()))
    if not rows:
        raise ValueError(f"{table} must have a header with file and label, and a row for each image")
    return rows


def _relative(name: str, folder: Path) -> str:
    """The path in the folder, without detours; a path as others write it where it lies elsewhere."""
    if not os.path.isabs(name):
        return _plain(os.path.normpath(name))
    inside = os.path.relpath(name, os.path.abspath(folder))
    return _plain(os.path.relpath(os.path.realpath(name), os.path.realpath(folder)) if inside.startswith("..") else inside)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # a Mac parts letters from their accents
