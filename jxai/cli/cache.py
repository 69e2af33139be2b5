"""Compiled programs, kept in the user's cache folder so that the same command starts fast the next time, and notes on which these are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any


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
    """`$JXAI_CACHE/xla`, else `jxai/xla` in the user's cache folder; None where `JXAI_CACHE` is `off`, or nobody knows where the user's folders are."""
    named = os.environ.get("JXAI_CACHE", "")
    if named.lower() == "off":
        return None
    try:
        return (Path(named).expanduser() if named else _user_caches() / "jxai") / "xla"
    except RuntimeError:  # a user without a home, as in many containers
        return None


def kept() -> str | None:
    """Where JAX keeps programs in this process; None where it keeps none."""
    import jax

    return jax.config.jax_compilation_cache_dir or None


def identity(traced: Any, how: str) -> str:
    """What tells a traced program from others: its equations, what compiles it and how."""
    import jax

    text = re.sub(r"0x[0-9a-f]+", "", str(traced.jaxpr))  # where a function lies in memory
    return hashlib.sha256(f"{jax.__version__} {jax.default_backend()} {os.environ.get('XLA_FLAGS', '')} {how} {text}".encode()).hexdigest()[:24]


def note(identity: str, seconds: float) -> None:
    """Notes that a program was compiled in so many seconds, where JAX keeps what takes so long."""
    import jax

    from jxai.files import atomic

    place = _note(identity)
    if place is None or seconds < jax.config.jax_persistent_cache_min_compile_time_secs or noted(identity) is not None:
        return
    with contextlib.suppress(OSError), atomic(place) as part:
        part.write_text(json.dumps({"seconds": round(seconds, 3)}))


def noted(identity: str) -> float | None:
    """The seconds in which a kept program was compiled; None where none is kept, or that is not known."""
    place = _note(identity)
    try:
        return None if place is None else float(json.loads(place.read_text())["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note(identity: str) -> Path | None:
    """The file of a note, beside the programs; None where these are kept nowhere, or not in a folder (JAX takes buckets of a cloud, too)."""
    place = kept()
    return None if place is None or "://" in place else Path(place) / "jxai" / f"{identity}.json"


def _user_caches() -> Path:
    """`$XDG_CACHE_HOME`, or where the platform keeps caches."""
    if told := os.environ.get("XDG_CACHE_HOME"):
        return Path(told)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local)
    return Path.home() / ".cache"
