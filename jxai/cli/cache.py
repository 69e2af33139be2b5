"""Compiled programs, kept in the user's cache folder so that the same command starts fast the next time."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def keep() -> None:
    """Has JAX keep every program that it compiles, however small, in `folder()`.

    A folder that JAX was told of (`JAX_COMPILATION_CACHE_DIR`) stays, with the limits that belong to it. Where nothing can be
    written, nothing is kept: a cache is a convenience.
    """
    place = folder()
    if place is None:
        return
    import jax

    if jax.config.jax_compilation_cache_dir is not None:
        return
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(place, os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def folder() -> Path | None:
    """`$JXAI_CACHE/xla`, else `jxai/xla` in the user's cache folder; None where `JXAI_CACHE` is `off`."""
    named = os.environ.get("JXAI_CACHE", "")
    if named.lower() == "off":
        return None
    return (Path(named).expanduser() if named else _user_caches() / "jxai") / "xla"


def _user_caches() -> Path:
    """`$XDG_CACHE_HOME`, or where the platform keeps caches."""
    if told := os.environ.get("XDG_CACHE_HOME"):
        return Path(told)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    return Path.home() / ".cache"
