"""What a person did wrong, told in one line."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """Ends the program with `jxai: error: …` on one line and exit code 2."""


def first_line(error: BaseException) -> str:
    """An exception's message up to its first line break, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(":") if lines else type(error).__name__


_PICTURES = {"matplotlib": "matplotlib", "PIL": "pillow"}
NEEDED = {
    "explain": {**_PICTURES, "rich": "rich", "skimage": "scikit-image"},
    "suffice": _PICTURES,
    "disambiguate": _PICTURES,
    "counterfactual": _PICTURES,
    "concepts": _PICTURES,
    "spray": {**_PICTURES, "sklearn": "scikit-learn"},
    "report": {**_PICTURES, "jinja2": "jinja2"},
    "completion": {"shtab": "shtab"},
    "--html": {**_PICTURES, "jinja2": "jinja2"},
}
"""By command, the modules of the extra `demo` that it cannot do without, and what installs each."""


def need(command: str) -> None:
    """`UserError` where a command's packages are not installed, before it does any work."""
    if missing := [package for module, package in NEEDED.get(command, {}).items() if importlib.util.find_spec(module) is None]:
        raise UserError(f"{command if command.startswith('-') else f'jxai {command}'} needs {', '.join(missing)}: pip install 'jxai[demo]'")


@contextlib.contextmanager
def told(before: str = "", *more: type[Exception]) -> Iterator[None]:
    """Within it, what a person did wrong in calling a library becomes a `UserError` of one line, after `before`; `more`: kinds of errors, beside the usual ones."""
    try:
        yield
    except (ValueError, ImportError, NotImplementedError, *more) as error:
        raise UserError(before + first_line(error)) from error


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """Returns the name if it is known; else a `UserError` that gives the nearest ones."""
    names = list(names)
    if name in names:
        return name
    raise UserError(f"unknown {kind} {name!r}; {nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean …?`, or what there is when nothing is near."""
    names = list(dict.fromkeys(names))

    def likeness(other: str) -> tuple[float, float]:
        within = 0.6 if len(name) > 2 and name.lower() in other.lower() else 0.0
        return max(_ratio(name.lower(), other.lower()), within), _ratio(name, other)

    close = sorted((n for n in names if likeness(n)[0] >= 0.55), key=likeness, reverse=True)[:3]
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
