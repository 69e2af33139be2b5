"""Checkpoints that are either whole or skipped: a pytree with Orbax, a digest of every array beside it, the last two kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jxai.scores import positive
from jxai.typing import PyTree

__all__ = ["Checkpoint", "restore", "save", "steps"]

_MANIFEST = "manifest.json"


class Checkpoint(NamedTuple):
    """What was restored."""

    step: int
    tree: PyTree
    """Of the structure that was asked for; NumPy arrays and typed keys as leaves."""
    extra: Any
    """The JSON value that was saved beside it."""


def save(folder: str | os.PathLike, step: int, tree: PyTree, *, extra: Any = None, keep: int = 2) -> Path:
    """Writes `folder/step` and removes all but the last `keep` checkpoints.

    The checkpoint takes its name when it is complete and on the disk; a process that is killed before leaves a hidden folder, which the next `save`
    into the same folder removes. One process writes into a folder.

    Args:
      folder: made where it is missing. step: >= 0; a checkpoint of the same step is replaced.
      tree: arrays, Python numbers and typed PRNG keys. extra: what JSON can hold. keep: >= 1.

    Raises:
      ValueError: a negative step, keep below 1, a leaf that is no array.
    """
    if step < 0:
        raise ValueError(f"{step=} must be >= 0")
    positive(keep=keep)
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".checkpoint.*"):
        shutil.rmtree(left, ignore_errors=True)
    part, final = folder / f".checkpoint.{uuid.uuid4().hex}", folder / _name(step)
    arrays = {name: _stored(name, leaf) for name, leaf in _leaves(tree)}
    manifest = {"step": step, "extra": extra, "leaves": {name: _entry(a) for name, a in arrays.items()}}
    try:
        part.mkdir()
        # Orbax refuses arrays without entries, and trees without arrays; the manifest says all about those.
        if full := {name: a for name, a in arrays.items() if a.size}:
            ocp.save(part / "arrays", full)
        with open(part / _MANIFEST, "w", encoding="utf-8") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        if final.exists():
            os.replace(final, folder / f".checkpoint.{uuid.uuid4().hex}")
        os.replace(part, final)
    finally:
        for left in folder.glob(".checkpoint.*"):
            shutil.rmtree(left, ignore_errors=True)
    for old in steps(folder)[:-keep]:
        shutil.rmtree(folder / _name(old), ignore_errors=True)
    return final


def restore(folder: str | os.PathLike, like: PyTree | Callable[[int, Any], PyTree]) -> Checkpoint | None:
    """The last whole checkpoint; None where there is none. One that is damaged is skipped, with a warning.

    Args:
      folder: of `save`. like: a pytree of the structure, shapes and types that are expected (`jax.ShapeDtypeStruct`s will do), or a
        function `(step, extra) -> pytree`.

    Raises:
      ValueError: a whole checkpoint of another structure, shape or type: it belongs to something else.
    """
    for step in reversed(steps(folder)):
        path = Path(folder).absolute() / _name(step)
        try:
            manifest, arrays = _read(path)
        except Exception as error:  # what a damaged file makes of its reader is anyone's guess
            warnings.warn(f"checkpoint {path} is damaged and skipped: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", stacklevel=2)
            continue
        return Checkpoint(step, _filled(like(step, manifest["extra"]) if callable(like) else like, arrays, path), manifest["extra"])
    return None


def steps(folder: str | os.PathLike) -> list[int]:
    """The steps of the checkpoints in a folder, ascending."""
    folder = Path(folder)
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The manifest and the arrays of a checkpoint, each compared with its digest."""
    manifest = json.loads((path / _MANIFEST).read_text("utf-8"))
    entries = manifest["leaves"]
    full = [name for name, entry in entries.items() if 0 not in entry["shape"]]
    arrays = dict(ocp.load(path / "arrays")) if full else {}
    for name, entry in entries.items():
        if name not in full:
            arrays[name] = np.zeros(entry["shape"], entry["dtype"])
        arrays[name] = np.asarray(arrays[name])
        if _entry(arrays[name]) != entry:
            raise ValueError(f"{name} differs from what was saved")
    return manifest, arrays


def _filled(like: PyTree, arrays: dict[str, np.ndarray], path: Path) -> PyTree:
    """`like` with the arrays in the places of its leaves."""
    wanted = dict(_leaves(like))
    if wanted.keys() != arrays.keys():
        only = sorted(wanted.keys() ^ arrays.keys())
        raise ValueError(f"checkpoint {path} is of another structure: {', '.join(only[:3])}{' …' if len(only) > 3 else ''} on one side alone")
    found = []
    for name, leaf in wanted.items():
        a = arrays[name]
        expected = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if a.shape != np.shape(expected) or a.dtype != np.dtype(jax.numpy.result_type(expected)):
            raise ValueError(
                f"checkpoint {path} is of something else: {name} is {a.dtype} {a.shape}, not {jax.numpy.result_type(expected)} {np.shape(expected)}"
            )
        found.append(jax.random.wrap_key_data(a, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else a)
    return jax.tree.unflatten(jax.tree.structure(like), found)


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """Each leaf by a name: its number (which makes it unique) and its path."""
    return [(f"{n:05d}{_plain(jax.tree_util.keystr(path))}", leaf) for n, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(tree))]


def _plain(path: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else "_" for c in path)


def _stored(name: str, leaf: Any) -> np.ndarray:
    a = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if a.dtype == object or not (np.issubdtype(a.dtype, np.number) or a.dtype == bool or jax.numpy.issubdtype(a.dtype, jax.numpy.floating)):
        raise ValueError(f"leaf {name} must be an array, got {type(leaf).__name__}")
    # As JAX would hold it, so that a Python number fits what is asked for when it is restored.
    return a.astype(jax.numpy.result_type(leaf)) if isinstance(leaf, (bool, int, float)) else a


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _entry(a: np.ndarray) -> dict[str, Any]:
    return {"shape": list(a.shape), "dtype": a.dtype.name, "sha256": hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()}


def _name(step: int) -> str:
    return f"{step:010d}"
