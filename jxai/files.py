"""Files that are either whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

DAMAGE = (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged `.npz` may raise."""


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, with its suffix; it takes the place of `path` when the block succeeds.

    Whatever ends the block early (an exception, Ctrl-C) leaves an older `path` as it was and nothing else; a killed process leaves the
    temporary file, `.{stem}.*{suffix}`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")  # no other process, on no other machine, takes that one
    try:
        yield part
        with open(part, "rb+") as written:
            os.fsync(written.fileno())  # else a power cut could leave an empty file of the final name
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def find(name: str, folder: str, path: str | os.PathLike | None = None) -> Path:
    """A file of material that is fetched by hand: in `$JXAI_DATA/{folder}`, or where that is not set in `../shared/{folder}` of the current folder and of the
    repository; or at a path given, that file or a folder that holds it.

    Raises:
      FileNotFoundError: it is in none of the places, which the message lists.
    """
    if path is not None:
        path = Path(path)
        candidates = [path / name if path.is_dir() else path]
    elif place := os.environ.get("JXAI_DATA"):
        candidates = [Path(place) / folder / name]
    else:
        candidates = [root / ".." / "shared" / folder / name for root in (Path.cwd(), Path(__file__).resolve().parents[1])]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = ", ".join(dict.fromkeys(map(str, candidates)))
    raise FileNotFoundError(f"no {name}: tried {tried}; set JXAI_DATA to the folder whose {folder}/ holds it, or pass its path")


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes; `""` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def save_arrays(path: str | Path, /, **arrays: np.ndarray) -> None:
    """Writes arrays as a compressed `.npz`, atomically; by any names, also `file` and others that `np.savez_compressed` has for itself."""
    with atomic(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)


def file_name(text: str, most: int = 120) -> str:
    """A text as the name of a file: what parts folders or cannot be printed is replaced, and a long one is cut, with a digest that keeps names apart."""
    short = re.sub(r"[/\\:\0]", "_", printable(text)).lstrip(".")[:most]
    return short if short == text else f"{short}.{hashlib.sha256(os.fsencode(text)).hexdigest()[:6]}"


def printable(name: str | os.PathLike) -> str:
    """A file's name as it can be printed, written and drawn anywhere: bytes that are no UTF-8, control characters and newlines as escapes."""
    return "".join(map(_escaped, os.fsdecode(name)))


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # how Python holds such a byte
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode() if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter
