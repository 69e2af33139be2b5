"""`jxai doctor`: what is installed, where things are and whether it works; text that can be pasted into an issue.

It reads no data and no weights, changes nothing, and names of the environment only what jxai and JAX ask for. The exit code is 1 where something is broken:
a package that jxai cannot do without, one that is too old, no device, or an answer of the self-test that is wrong. What is merely not there is said.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any, NamedTuple

import jxai
from jxai.cli import cache

ENVIRONMENT = ("JXAI_DATA", "JXAI_CACHE", "JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64", "TFDS_DATA_DIR", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS")
DEVELOPERS = ("bench", "browser", "docs", "experiments", "lint", "test")
"""Extras of those who work on jxai itself."""


class Package(NamedTuple):
    """A distribution that jxai asks for."""

    name: str
    version: str
    """`""` where it is not installed."""
    wrong: str
    """`""`, `missing`, or how old it must at least be."""


def main(as_json: bool = False) -> int:
    """Prints the report; returns the exit code."""
    needed, extras = requirements()
    found: dict[str, Any] = {
        "jxai": {"version": jxai.__version__, "from": _home(Path(jxai.__file__).parent), "python": platform.python_version(), "system": platform.platform()},
        "packages": {p.name: p.version or "missing" for p in needed},
        "extras": {name: _extra(name, packages) for name, packages in extras.items()},
        "environment": {name: _home(os.environ[name]) for name in ENVIRONMENT if name in os.environ},
    }
    broken = [f"{p.name} {p.version} is {p.wrong}: pip install --upgrade {p.name}" for p in needed if p.wrong]
    broken += [f"{p.name} {p.version} is {p.wrong}: pip install --upgrade {p.name}" for group in extras.values() for p in group if p.version and p.wrong]
    try:
        import jax

        cache.keep()
        found["devices"] = {kind: f"{len(same)} × {same[0].device_kind}" for kind, same in _devices(jax).items()}
        found["devices"]["cores"] = str(os.cpu_count())
        found |= {"cache": _cache(), "data": _data(), "models": _models(), "self-test": _tested(broken)}
    except Exception as error:  # a broken installation may raise anything
        broken.append(f"{type(error).__name__}: {error}".splitlines()[0])
    found["broken"] = broken
    print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else text(found))
    return 1 if broken else 0


def text(found: dict[str, Any]) -> str:
    """The report as lines: a heading for each part, and its names and values."""
    lines = []
    for part, values in found.items():
        if part == "broken" or not values:
            continue
        width = max(map(len, values))
        lines += [part, *(f"  {name:<{width}}  {value}" for name, value in values.items())]
    return "\n".join([*lines, *([f"broken: {what}" for what in found["broken"]] or ["everything works"])])


def requirements() -> tuple[list[Package], dict[str, list[Package]]]:
    """What jxai needs, and what each extra adds, as its metadata say; nothing where it runs from a folder without being installed."""
    try:
        stated = importlib.metadata.requires("jxai") or []
    except importlib.metadata.PackageNotFoundError:
        stated = []
    needed, extras = [], {}
    for line in stated:
        requirement, _, marker = line.partition(";")
        parts = re.fullmatch(r"\s*([\w.-]+)(?:\[[^]]*\])?\s*(?:>=\s*([\d.]+))?.*", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        if parts is None or parts[1] == "jxai":
            continue
        if extra is None:
            needed.append(_package(parts[1], parts[2] or "0"))
        elif extra[1] not in DEVELOPERS:
            extras.setdefault(extra[1], []).append(_package(parts[1], parts[2] or "0"))
    return [*needed, *(_package(name, "0") for name in ("jaxlib",))], extras


def _package(name: str, least: str) -> Package:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Package(name, "", "missing")
    number = lambda text: [int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", text)[0])]
    return Package(name, version, "" if number(version) >= number(least) else f"older than {least}")


def _extra(name: str, packages: list[Package]) -> str:
    missing = [p.name for p in packages if not p.version]
    there = ", ".join(f"{p.name} {p.version}" for p in packages if p.version)
    return f"missing {', '.join(missing)}: pip install 'jxai[{name}]'" + (f" (there: {there})" if there else "") if missing else there


def _devices(jax: Any) -> dict[str, list[Any]]:
    kinds: dict[str, list[Any]] = {}
    for device in jax.devices():
        kinds.setdefault(device.platform, []).append(device)
    return kinds


def _cache() -> dict[str, str]:
    """Where compiled programs are kept, and how much is there."""
    place = cache.kept()
    if place is None:
        if cache.folder() is None:
            off = os.environ.get("JXAI_CACHE", "").lower() == "off"
            return {"programs": f"not kept: {'JXAI_CACHE is off' if off else 'the user has no home; JXAI_CACHE may name a folder'}"}
        return {"programs": f"not kept: {_home(cache.folder())} cannot be written"}
    if "://" in place:
        return {"programs": f"kept in {place}"}
    sizes = [entry.stat().st_size for entry in Path(place).glob("*-cache")] if Path(place).is_dir() else []
    return {"programs": f"{len(sizes)} in {_home(place)}, {sum(sizes) / 1e6:.0f} MB"}


def _data() -> dict[str, str]:
    """The folders in which data are looked for, and the prepared data sets in them."""
    from jxai.data.prepared import home, there

    folder, names = home().resolve(), there()
    return {"TFDS": f"{_home(folder)}: {', '.join(names)}" if names else f"nothing prepared in {_home(folder)}"}


def _models() -> dict[str, str]:
    """Of every trained model whether its weights are there."""
    from jxai.models import available

    return {name: f"not found: {missing}" if (missing := info.missing()) else "found" for name, info in available().items()}


def _tested(broken: list[str]) -> dict[str, str]:
    from jxai.cli import selftest

    found = {}
    for check in selftest.checks():
        found[check.name] = f"{check.error or f'off by {check.off:.1e} of the closed form, allowed {check.allowed:g}'}, {check.seconds:.1f} s"
        if not check.holds:
            broken.append(f"self-test {check.name}: {found[check.name]}")
    return found


def _home(path: object) -> str:
    """A path or a text without the name of whose home it is in."""
    home = os.path.expanduser("~")
    return str(path).replace(home, "~") if home not in ("~", os.sep) else str(path)
