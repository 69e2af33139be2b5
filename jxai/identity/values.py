"""Any value as JSON that tells it from another: numbers as they are, arrays by digest, functions by code, objects by their class and state."""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import json
import math
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.identity import code

_MOST = 20_000
"""Objects within one value; what is larger is told by the names of the rest's types."""
_HASHED = 16
_ADAPTERS, _AROUND = "jxai.adapters.", "f"
"""Whose options are told one by one however deep they lie, and the name of what each is around."""
_KEPT = ("_pytree__", "_object__")
"""What flax keeps in a module about the module."""


def described(value: Any) -> Any:
    """A value as JSON can hold it. Two that a result could tell apart differ in it; equal ones are equal in every process.

    Of a function its code, defaults, closure, and what it uses of its own files; of an object its class's code and its attributes, or what its class
    returns as `__described__()`: adapters tell another framework's model by what of it decides, since the framework keeps much else in it.
    """
    return _Told(hashlib.sha256()).of(value)


def summed(value: Any, depth: int = 2) -> dict[str, Any]:
    """A large value, a model say, in short: `made_of`, its description, of which what lies deeper is told by a digest (adapters around a model add no depth), and `arrays`, one digest of them all."""
    told = _Told(hashlib.sha256(), shapes=True)
    found = told.of(value)
    return {"made_of": _short(found, depth), "arrays": told.arrays.hexdigest()[:_HASHED]}


def _short(value: Any, depth: int) -> Any:
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        return f"sha256 {hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_HASHED]}"
    if not isinstance(value, dict):
        return [_short(v, depth - 1) for v in value]
    around = _AROUND if str(value.get("type", "")).startswith(_ADAPTERS) else ""
    return {k: _short(v, depth if k == around else depth - 1) for k, v in value.items()}


def digest(*arrays: Any) -> str:
    """SHA-256 of arrays' types, shapes and bytes; of typed keys their data."""
    total = hashlib.sha256()
    for array in arrays:
        if jnp.issubdtype(getattr(array, "dtype", np.float32), jax.dtypes.prng_key):
            total.update(str(jax.random.key_impl(array)).encode())
            array = jax.random.key_data(array)
        array = np.asarray(array)
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


class _Told:
    def __init__(self, arrays: Any, shapes: bool = False):
        self.arrays, self.shapes, self.seen = arrays, shapes, {}  # the values by their ids, kept so that no id is another's

    def of(self, value: Any) -> Any:
        if value is None or value is Ellipsis or isinstance(value, (bool, str)):
            return str(value) if value is Ellipsis else value
        if isinstance(value, enum.Enum):
            return f"{code.named(type(value))}.{value.name}"
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, bytes):
            return f"bytes[{len(value)}] {hashlib.sha256(value).hexdigest()[:16]}"
        if isinstance(value, (complex, np.dtype, range, slice, pathlib.PurePath)):
            return repr(value)
        if isinstance(value, jax.core.Tracer):
            return f"traced {value.aval}"
        if isinstance(value, (jax.Array, np.ndarray, np.generic)):
            return self._array(value)
        if type(value) is tuple:  # equal ones may be one, or not
            return [self.of(v) for v in value]
        if isinstance(value, frozenset):
            return sorted((self.of(v) for v in value), key=repr)
        if id(value) in self.seen:
            return f"again {code.named(type(value))}"
        if len(self.seen) > _MOST:
            return f"… {code.named(type(value))}"
        self.seen[id(value)] = value
        return self._kind(value)

    def _kind(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(k): self.of(v) for k, v in sorted(value.items(), key=lambda item: str(item[0]))}
        if isinstance(value, Sequence):
            parts = [self.of(v) for v in value]
            return parts if type(value) is list else {"type": code.named(type(value)), "parts": parts}
        if isinstance(value, set):
            return sorted((self.of(v) for v in value), key=repr)
        if isinstance(value, functools.partial):
            return {"partial": self.of(value.func), "arguments": self.of(value.args), "keywords": self.of(value.keywords)}
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        if callable(value) and code.is_known(value):
            return code.named(value)
        if isinstance(value, type):
            own = code.owned_class(value, self.of)
            return {"class": code.named(value), **own} if own else code.named(value)
        if isinstance(value, types.FunctionType):
            return code.function(value, self.of)
        if isinstance(value, types.MethodType):
            return {"method": self.of(value.__func__), "of": self.of(value.__self__)}
        return self._object(value)

    def _array(self, value: Any) -> str:
        found = digest(value)
        self.arrays.update(found.encode())
        text = f"{value.dtype}{list(value.shape)}"
        return text if self.shapes else f"{text} sha256 {found[:_HASHED]}"

    def _object(self, value: Any) -> Any:
        if tells := getattr(type(value), "__described__", None):
            return {"type": code.named(type(value)), **self.of(tells(value))}
        if isinstance(value, np.random.Generator):
            return {"type": code.named(type(value)), "state": self.of(value.bit_generator.state)}
        if isinstance(value, np.random.RandomState):
            return {"type": code.named(type(value)), "state": self.of(value.get_state())}
        if hasattr(value, "__jax_array__"):
            return {"type": code.named(type(value)), "array": self.of(value.__jax_array__())}
        if hasattr(value, "__array__") and not callable(value):
            return {"type": code.named(type(value)), "array": self.of(np.asarray(value))}
        if not code.is_own_module(sys.modules.get(type(value).__module__)) and callable(wrapped := getattr(value, "__wrapped__", None)):
            rules = {name: v for name, v in vars(value).items() if callable(v) and v is not wrapped and name != "_fun"}  # derivatives of one's own
            return {
                "type": code.named(type(value)),
                "of": self.of(wrapped),
                **{name: self.of(v) for name, v in sorted(rules.items()) if not name.startswith("_")},
            }
        state = self._state(value)
        own = code.owned_class(type(value), self.of)
        if not state and not own:
            return code.named(value) if callable(value) else code.named(type(value))
        return {"type": code.named(type(value)), **state, **({"code": own} if own else {})}

    def _state(self, value: Any) -> dict[str, Any]:
        """The attributes of an object, but for what flax keeps of a module and what is computed from the others."""
        if type(value).__module__.split(".")[0] in sys.stdlib_module_names:
            return {}
        if dataclasses.is_dataclass(value):
            held = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        else:
            slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
            held = {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **getattr(value, "__dict__", {})}
        cached = {name for kind in type(value).__mro__ for name, v in vars(kind).items() if isinstance(v, functools.cached_property)}
        ignored = cached | {"__wrapped__", "__doc__", "__module__", "__name__", "__qualname__", "__annotations__", "__type_params__", "__weakref__", "__dict__"}
        return {name: self.of(v) for name, v in sorted(held.items()) if name not in ignored and not name.startswith(_KEPT)}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
