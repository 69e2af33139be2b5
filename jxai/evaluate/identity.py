"""What tells one run from another: data, model, methods, metrics, seed and versions, as JSON."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import is_array
from jxai.typing import Model


def versions() -> dict[str, str]:
    """The versions of what computes, and the kind of device."""
    from jxai import __version__

    found = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return {"jxai": __version__, **found, "python": platform.python_version(), "device": jax.devices()[0].device_kind}


def weights_digest(f: Model, shape: tuple[int, ...]) -> str:
    """A digest of all arrays that `f` computes with: its leaves, and what a plain function has closed over."""
    closed = jax.make_jaxpr(lambda v: f(v))(jax.ShapeDtypeStruct(shape, jnp.float32))
    digest = hashlib.sha256()
    for leaf in [leaf for leaf in jax.tree.leaves(f) if is_array(leaf)] or closed.consts:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


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
