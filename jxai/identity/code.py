"""What a function is: its code without comments and places, its defaults, what it closes over, and what it uses of its own files."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jxai

_HASHED = 16


@functools.cache
def _libraries() -> tuple[str, ...]:
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(str(Path(place)) for place in dict.fromkeys([*places, str(Path(jxai.__file__).parent)]) if place)


def is_own(file: str | None) -> bool:
    """Whether code in a file is a person's own: neither Python's nor of an installed package, nor jxai's."""
    if not file or file.startswith("<frozen"):
        return False
    return not file.startswith(_libraries()) and "site-packages" not in file and "dist-packages" not in file


def is_own_module(module: types.ModuleType | None) -> bool:
    """Whether a module is a person's own; `__main__` without a file (a notebook, standard input) is."""
    return module is not None and (module.__name__ == "__main__" or is_own(getattr(module, "__file__", None)))


def named(value: Any) -> str:
    """Module and name, and the version of an installed package other than jxai, jax and numpy, which the record names itself."""
    module = getattr(value, "__module__", None) or ""
    name = f"{module}.{getattr(value, '__qualname__', getattr(value, '__name__', type(value).__qualname__))}".removeprefix(".")
    top = sys.modules.get(module.split(".")[0])
    version = getattr(top, "__version__", None)
    known = top is None or module.split(".")[0] in ("jxai", "jax", "jaxlib", "numpy", "builtins", "__main__") or not isinstance(version, str)
    return name if known else f"{name} of {version}"


def is_known(value: Any) -> bool:
    """Whether it is what a library holds under its name, for which that and the version say all."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return not is_own_module(module) and getattr(module, getattr(value, "__qualname__", None) or "", None) is value


def function(fn: types.FunctionType, described: Callable[[Any], Any]) -> Any:
    """A function's description; a library's is a name, with what it closes over."""
    own = is_own(fn.__code__.co_filename)
    parts: dict[str, Any] = {"code": digest(fn.__code__, fn.__doc__)} if own else {}
    if own:
        defaults = {p.name: p.default for p in _parameters(fn) if p.default is not p.empty}
        parts["defaults"] = {name: described(value) for name, value in defaults.items()}
    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or ()))
    rebound = _rebound(fn.__code__) if cells else frozenset()
    parts["closure"] = {name: _cell(cell, described, name in rebound) for name, cell in cells.items()}
    if own:
        parts["uses"] = {name: described(value) for name, value in sorted(_used(fn).items())}
    parts = {name: part for name, part in parts.items() if part}
    return {"function": named(fn), **parts} if parts else named(fn)


def owned_class(kind: type, described: Callable[[Any], Any]) -> dict[str, Any]:
    """The code of a person's own class and of those of its bases that are: methods, and values that instances share."""
    found = {}
    for base in reversed(kind.__mro__):
        if not is_own_module(sys.modules.get(base.__module__)):
            continue
        for name, value in vars(base).items():
            value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value.fget if isinstance(value, property) else value
            if isinstance(value, functools.cached_property):
                value = value.func
            generated = (isinstance(value, types.FunctionType) and not is_own(value.__code__.co_filename)) or getattr(value, "__module__", "") is None
            if isinstance(value, types.FunctionType) and not generated:
                found[name] = described(value)
            elif not name.startswith("_") and isinstance(value, (bool, int, float, str, tuple, list, dict)):
                found[name] = described(value)
    return found


def digest(code: types.CodeType, doc: str | None = None) -> str:
    """Of compiled code: equal for equal instructions, names and constants, whatever the comments, lines and names of local variables."""
    return hashlib.sha256(repr(_told(code, doc)).encode()).hexdigest()[:_HASHED]


def _told(code: types.CodeType, doc: str | None = None) -> tuple:
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    flags = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE)
    constants = tuple(_constant(None if n == 0 and c == doc else c) for n, c in enumerate(code.co_consts))
    return code.co_code, constants, code.co_names, code.co_freevars, arguments, code.co_posonlyargcount, flags, code.co_exceptiontable


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _told(value)
    if isinstance(value, frozenset):
        return "frozenset", tuple(sorted(map(repr, value)))
    return type(value).__name__, repr(value)


def _parameters(fn: Callable) -> list[inspect.Parameter]:
    return list(inspect.signature(fn, follow_wrapped=False).parameters.values())


def _rebound(code: types.CodeType) -> frozenset[str]:
    """What a function closes over and binds anew when it is called, by `nonlocal`."""
    return frozenset(step.argval for step in dis.get_instructions(code) if step.opname == "STORE_DEREF") & frozenset(code.co_freevars)


def _cell(cell: types.CellType, described: Callable[[Any], Any], rebound: bool) -> Any:
    """What a function closes over. Of a number that a call binds anew the type is none of it: optax's schedules make floats of their counts when they first run."""
    try:
        value = cell.cell_contents
        return described(float(value) if rebound and type(value) is int else value)
    except ValueError as error:
        if "empty" in str(error):
            return "not set"
        raise


def _used(fn: types.FunctionType) -> dict[str, Any]:
    """The globals that a function names; of its own modules the attributes that it names."""
    names, held = _names(fn.__code__), {}
    for name in names:
        if name not in fn.__globals__:
            continue
        value = fn.__globals__[name]
        held[name] = value
        if isinstance(value, types.ModuleType) and is_own_module(value):
            held |= {f"{name}.{inner}": getattr(value, inner) for inner in names if inner != name and hasattr(value, inner)}
    # What it imports itself.
    modules = [sys.modules[name] for name in names if name not in fn.__globals__ and name in sys.modules and is_own_module(sys.modules[name])]
    for module in modules:
        held |= {f"{module.__name__}.{inner}": getattr(module, inner) for inner in names if hasattr(module, inner) and not inner.startswith("__")}
    return {name: value for name, value in held.items() if not name.startswith("__")}


def _names(code: types.CodeType) -> set[str]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*(_names(c) for c in inner))
