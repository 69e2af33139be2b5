"""What tells one run from another: data, model, methods, metrics, seed and versions, as JSON."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax


def versions(*more: str) -> dict[str, str]:
    """The versions of what computes, and of more packages, and the kind of device."""
    from jxai import __version__

    found = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy", *more)}
    return {"jxai": __version__, **found, "python": platform.python_version(), "device": jax.devices()[0].device_kind}


@functools.cache
def checkout(file: str) -> dict[str, Any]:
    """`commit` of the git checkout that holds a file, and whether anything in it is not committed (`dirty`); both None outside of one."""

    def git(*command: str) -> str | None:
        try:
            done = subprocess.run(["git", *command], cwd=Path(file).resolve().parent, capture_output=True, text=True)
        except OSError:  # no git, or no such folder
            return None
        return done.stdout if done.returncode == 0 else None

    # An environment within a checkout is no part of it.
    if (commit := git("rev-parse", "HEAD")) is None or git("check-ignore", "--quiet", str(Path(file).resolve())) is not None:
        return {"commit": None, "dirty": None}
    return {"commit": commit.strip(), "dirty": bool((git("status", "--porcelain") or "").strip())}


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """Where two configurations differ, as `path: value there, value here`."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names = [*there, *(name for name in here if name not in there)]
        missing = object()
        found = []
        for name in names:
            a, b = there.get(name, missing), here.get(name, missing)
            where = f"{path}.{name}" if path else str(name)
            if a is missing or b is missing:
                found.append(f"{where} is only {'here' if a is missing else 'there'}")
            else:
                found += differences(a, b, where)
        return found
    return [] if there == here else [f"{path}: {there!r} there, {here!r} here"]
