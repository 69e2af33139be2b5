"""Where two descriptions differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_SHOWN = 80


def differences(there: Any, here: Any, path: str = "", but: Collection[str] = ()) -> list[str]:
    """Where two configurations differ, as `path: value there, value here`; `but`: paths that may."""
    if path in but:
        return []
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        names = [*there, *(name for name in here if name not in there)]
        missing = object()
        found = []
        for name in names:
            a, b = there.get(name, missing), here.get(name, missing)
            where = f"{path}.{name}" if path else str(name)
            if where in but:
                continue
            if a is missing or b is missing:
                found.append(f"{where} is only {'here' if a is missing else 'there'}")
            else:
                found += differences(a, b, where, but)
        return found
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        return [one for n, (a, b) in enumerate(zip(there, here)) for one in differences(a, b, f"{path}[{n}]", but)]
    return [] if there == here and type(there) is type(here) else [f"{path}: {_short(there)} there, {_short(here)} here"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
