"""What tells one run from another: data, model, methods, metrics, seed and versions, as JSON."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import jax


def versions() -> dict[str, str]:
    """The versions of what computes, and the kind of device."""
    from jxai import __version__

    found = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return {"jxai": __version__, **found, "python": platform.python_version(), "device": jax.devices()[0].device_kind}


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
