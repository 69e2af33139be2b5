"""Images in a folder, labelled by subfolder or by a table."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jxai.data.sources import NO_LABEL, Example

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Folder:
    """The images of a folder, in the order of their paths.

    Labels come from `labels.csv` in the folder (a header with `file` and `label`; a label is an integer or a class name), or else
    from the subfolder an image lies in (`dog/1.png`); images that lie flat have none. A subfolder or label is found among
    `class_names`, or is an integer, or else the sorted names themselves are the classes.

    Args:
      path: the folder.
      class_names: the model's classes, in the order of its logits.
      masks: a folder with a mask for each image at the same relative path (any of the image suffixes); bright pixels are the object.

    Raises:
      ValueError: no folder, no images in it, a table that names missing files or unknown classes, or an image without a mask.
    """

    def __init__(self, path: str | Path, *, class_names: Sequence[str] | None = None, masks: str | Path | None = None):
        self._path = Path(path)
        if not self._path.is_dir():
            raise ValueError(f"{path} is no folder of images")
        self._files = sorted(file for file in self._path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not self._files:
            raise ValueError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        words = self._table() if (self._path / "labels.csv").is_file() else self._subfolders()
        self.class_names, self._labels = _classes(words, class_names, self._path)
        self._masks = None if masks is None else [_mask_of(file.relative_to(self._path), Path(masks)) for file in self._files]
        listing = "\n".join(f"{f.relative_to(self._path)} {f.stat().st_size} {w}" for f, w in zip(self._files, words))
        masked = "" if masks is None else f", masks {Path(masks).name}"
        self.name = f"folder:{self._path.name}:{hashlib.sha256(listing.encode()).hexdigest()[:16]}{masked}"

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        from jxai.data.images import load_image

        pixels = load_image(self._files[index])
        mask = None
        if self._masks is not None:
            mask = load_image(self._masks[index]).mean(-1) > 127.5
            if mask.shape != pixels.shape[:2]:
                raise ValueError(f"{self._masks[index]} has {mask.shape} pixels, its image {pixels.shape[:2]}")
        return Example(pixels, self._labels[index], mask, str(self._files[index].relative_to(self._path)))

    def digest(self, places: Sequence[int]) -> str:
        """Of the files at these places: names, labels, and all bytes of images and masks."""
        total = hashlib.sha256()
        for place in map(int, places):
            masks = [] if self._masks is None else [self._masks[place]]
            total.update(f"{self._files[place].relative_to(self._path)} {self._labels[place]}".encode(errors="surrogateescape"))
            for file in [self._files[place], *masks]:
                total.update(_of_file(file))
        return total.hexdigest()[:16]

    def _subfolders(self) -> list[str]:
        return [file.relative_to(self._path).parts[0] if file.parent != self._path else "" for file in self._files]

    def _table(self) -> list[str]:
        table = self._path / "labels.csv"
        with open(table, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        if not rows or not {"file", "label"} <= set(rows[0]):
            raise ValueError(f"{table} must have a header with file and label, and a row for each image")
        labels = {row["file"]: str(row["label"]).strip() for row in rows}
        missing = [name for name in labels if not (self._path / name).is_file()]
        if missing:
            raise ValueError(f"{table} names {missing[0]}, which is not there")
        return [labels.get(str(file.relative_to(self._path)), "") for file in self._files]


def _classes(words: list[str], class_names: Sequence[str] | None, path: Path) -> tuple[tuple[str, ...] | None, list[int]]:
    """The classes that words stand for: integers, names of the model's classes, or their own sorted names."""
    used = sorted({word for word in words if word})
    names = None if class_names is None else tuple(map(str, class_names))
    if all(word.isdecimal() for word in used):
        index = {word: int(word) for word in used}
        if names is not None and any(i >= len(names) for i in index.values()):
            raise ValueError(f"{path}: label {max(index.values())} is no class in [0, {len(names)})")
    elif names is not None:
        synonyms = {part.strip().lower(): i for i, name in reversed(list(enumerate(names))) for part in (name, *name.split(","))}
        unknown = [word for word in used if word.lower() not in synonyms]
        if unknown:
            raise ValueError(f"{path}: label {unknown[0]!r} is no class of the model")
        index = {word: synonyms[word.lower()] for word in used}
    else:
        names, index = tuple(used), {word: i for i, word in enumerate(used)}
    return names, [index.get(word, NO_LABEL) for word in words]


def _of_file(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:  # a row of the run will say that it cannot be read
        return str(error.errno).encode()


def _mask_of(relative: Path, masks: Path) -> Path:
    for suffix in (relative.suffix, *SUFFIXES):
        if (candidate := masks / relative.with_suffix(suffix)).is_file():
            return candidate
    raise ValueError(f"{masks} holds no mask for {relative}")
