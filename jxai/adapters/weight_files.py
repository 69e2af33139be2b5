"""Reads files of weights: `.npz`, `.safetensors` and what PyTorch saves, none of which may run anything while it is read."""

from __future__ import annotations

import importlib
import os
import pathlib
import zipfile
from types import ModuleType

import numpy as np

from jxai.adapters import torch_pickle

__all__ = ["read", "safetensors"]

KINDS = ".npz, .safetensors, or a state dictionary that torch.save wrote"


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file by name. What kind of file it is, its first bytes tell, not its name.

    Raises:
      ValueError: the file is of no kind that is known, damaged, or holds objects that are no arrays.
      FileNotFoundError: there is no such file. ImportError: it is a .safetensors file, and that package is missing.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, no file of weights ({KINDS}): of a checkpoint in a folder, as Orbax writes it, hand on its arrays by name")
    with open(path, "rb") as file:
        start = file.read(9)
    if start[:2] == b"PK":
        return _archive(path)
    if start[8:] == b"{":
        return safetensors(path, str(path))
    if start[:1] == b"\x80":
        return torch_pickle.load(path)
    raise ValueError(f"{path} is damaged or no file of weights that is known: {KINDS}")


def _archive(path: pathlib.Path) -> dict[str, np.ndarray]:
    """An `.npz`, or what `torch.save` has written since PyTorch 1.6."""
    try:
        with zipfile.ZipFile(path) as archive:
            of_torch = any(name.endswith("/data.pkl") for name in archive.namelist())
        if of_torch:
            return torch_pickle.load(path)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path} is damaged or no .npz of plain arrays ({error})") from None


def safetensors(source: pathlib.Path | bytes, name: str) -> dict[str, np.ndarray]:
    """The arrays of a .safetensors file, or of its bytes, by name.

    Raises:
      ValueError: `name` is damaged or no such file. ImportError: the package safetensors is missing.
    """
    package = _package()
    try:
        return package.load(source) if isinstance(source, bytes) else package.load_file(source)
    except Exception as error:  # the package's own, of no common class
        raise ValueError(f"{name} is damaged or no .safetensors file ({error})") from None


def _package() -> ModuleType:
    try:
        return importlib.import_module("safetensors.numpy")
    except ImportError as error:
        raise ImportError('.safetensors files are read by the package safetensors: pip install "jxai[safetensors]"') from error
