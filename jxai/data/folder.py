"""Images in a folder, labelled by subfolder or by a table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from jxai.data import classes, table
from jxai.data.medical import SUFFIXES as MEDICAL
from jxai.data.medical import Medical, is_medical
from jxai.data.sources import Example
from jxai.files import digest, printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", *MEDICAL)


def is_image(name: str | Path) -> bool:
    """Whether a file of that name is taken for an image."""
    return str(name).lower().endswith(SUFFIXES)


def read(path: str | Path, channels: int = 3, how: Medical = Medical()) -> np.ndarray:
    """A file's picture: `[H, W, channels]` uint8, of a medical file as `how` says; raises as `load_image` and `Medical.read` do."""
    from jxai.data.images import load_image

    return how.read(path, channels) if is_medical(path) else load_image(path, channels)


def stem(path: Path) -> str:
    """The name of a file without its suffix, which may be `.nii.gz`; with it where only dots would be left, which name another folder."""
    name = path.name[: -len(suffix)] if (suffix := next((s for s in SUFFIXES if path.name.lower().endswith(s)), "")) else path.stem
    return name if name.strip(".") else path.name


def images(folder: Path) -> list[Path]:
    """The images of a folder and of those in it, in the order of their paths; links are followed, and what is hidden (`.…`, `__MACOSX`, `@eaDir`) is none."""
    return [file for file in sorted(_files(folder)) if is_image(file)]


def existing(path: str | Path) -> Path:
    """The path of a folder; ValueError where there is none."""
    if not Path(path).is_dir():
        raise ValueError(f"{path} is no folder of images")
    return Path(path)


class Folder:
    """The images of a folder, in the order of their paths; links are followed, and what is hidden (`.…`, `__MACOSX`, `@eaDir`) is none.

    Labels come from `labels.csv` in the folder (a header with `file` and `label`; a label is a class name or an integer), or else
    from the subfolder an image lies in (`dog/1.png`); images that lie flat or have no row have none, as −1 and an empty cell say.
    A word is the name of a class first: among `class_names`, whose synonyms count, a number is an index only where no name is a number.
    Without `class_names`, integers of a table are indices, and so are subfolders that are all numbers, 0 among them; any other subfolders are the
    classes' names, sorted.

    Args:
      path: the folder.
      class_names: the model's classes, in the order of its logits.
      masks: a folder with a mask for each image at the same relative path (any of the image suffixes); bright pixels are the object, of a medical file
        whatever is not 0.
      channels: of the pixels, whatever a file's: 3, a grey file's channel three times, or 1, a coloured file's luminance.
      medical: how DICOM and NIfTI files (`.dcm`, `.nii`, `.nii.gz`) are read; their pixels keep 16 bits.

    Raises:
      ValueError: no folder, no images in it, a table that cannot be read, names missing files or contradicts itself, unknown classes, classes whose
        order cannot be told, the parent of `train` and `test`, or an image without a mask.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        class_names: Sequence[str] | None = None,
        masks: str | Path | None = None,
        channels: int = 3,
        medical: Medical = Medical(),
    ):
        if channels not in (1, 3):
            raise ValueError(f"{channels=} must be 1 or 3")
        self._path, self._channels, self._medical = existing(path), channels, medical
        seen = sorted(_files(self._path))
        self._files = [file for file in seen if is_image(file)]
        if not self._files:
            raise ValueError(f"{path} holds no images ({', '.join(SUFFIXES)})")
        if medical != Medical() and not any(map(is_medical, self._files)):
            raise ValueError(f"{medical=} says nothing about {path}, which holds no medical files")
        if (self._path / "labels.csv").is_file():
            words = table.read(self._path / "labels.csv", self._files)
            labelled = lambda: classes.of_table(words, class_names)
        else:
            parts = [(*file.relative_to(self._path).parts[:-1], "", "") for file in self._files]
            words = [part[0] for part in parts]
            full = {file.relative_to(self._path).parts[0] for file in seen}
            empty = sorted(entry.name for entry in self._path.iterdir() if entry.is_dir() and not _is_hidden(entry.name) and entry.name not in full)
            labelled = lambda: classes.of_subfolders(words, [part[1] for part in parts], empty, class_names, path)
        try:
            self.class_names, self._labels = labelled()
        except ValueError as error:
            raise ValueError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
        self._masks = None if masks is None else [_mask_of(file.relative_to(self._path), Path(masks)) for file in self._files]
        listing = "\n".join(f"{f.relative_to(self._path)} {f.stat().st_size} {w}" for f, w in zip(self._files, words))
        masked = "" if masks is None else f", masks {printable(Path(masks).name)}"
        digest = hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16]
        self.name = f"folder:{printable(self._path.name)}:{digest}{masked}{', grey' if channels == 1 else ''}{'' if medical == Medical() else f', {medical}'}"

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        pixels = read(self._files[index], self._channels, self._medical)
        mask = None
        if self._masks is not None:
            mask = _drawn(self._masks[index], self._medical)
            if mask.shape != pixels.shape[:-1]:
                raise ValueError(f"{self._masks[index]} has {mask.shape} pixels, its image {pixels.shape[:-1]}")
        return Example(pixels, self._labels[index], mask, printable(self._files[index].relative_to(self._path)))

    def labels(self) -> np.ndarray:
        """Of all examples, `[n]`, without reading an image."""
        return np.asarray(self._labels, np.int64)

    def named(self, index: int) -> tuple[str, int]:
        """The name and the label of an image, which is not read."""
        return printable(self._files[index].relative_to(self._path)), self._labels[index]

    def digest(self, places: Sequence[int]) -> str:
        """Of the files at these places: names, labels, and all bytes of images and masks."""
        total = hashlib.sha256()
        for place in map(int, places):
            masks = [] if self._masks is None else [self._masks[place]]
            total.update(f"{self._files[place].relative_to(self._path)} {self._labels[place]}".encode(errors="surrogateescape"))
            for file in [self._files[place], *masks]:
                total.update(digest(file).encode())  # of one that cannot be read a row of the run will say so
        return total.hexdigest()[:16]


def _drawn(mask: Path, how: Medical) -> np.ndarray:
    """Where the object of a mask is, over the positions of its image."""
    if is_medical(mask):
        return np.asarray(how.of_units().read(mask).any(-1))
    drawn = read(mask).mean(-1)
    if 0 < drawn.max() <= 127.5:
        raise ValueError(f"{mask} is nowhere brighter than {drawn.max():g}; a mask's object is white, 255")
    return np.asarray(drawn > 127.5)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Whatever is not hidden, through links; one that leads back to where it came from ends there."""
    above = (*above, os.path.realpath(folder))
    for entry in folder.iterdir():
        if _is_hidden(entry.name):
            continue
        if entry.is_dir():
            if os.path.realpath(entry) not in above:
                yield from _files(entry, above)
        elif entry.is_file():
            yield entry


def _mask_of(relative: Path, masks: Path) -> Path:
    for name in (relative.name, *(f"{stem(relative)}{suffix}" for suffix in SUFFIXES)):
        if (candidate := masks / relative.with_name(name)).is_file():
            return candidate
    raise ValueError(f"{masks} holds no mask for {relative}")
