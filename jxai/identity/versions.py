"""The versions of what computes, and the commit of the code."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
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
