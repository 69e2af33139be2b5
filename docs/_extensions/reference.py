"""What a page of the reference means by

    ```{family} jxai.attribution
    ```

every public name of a module, in the order of its files, with what each file says of itself; and links to these names.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

FENCE = re.compile(r"^```\{family\} ([\w.]+)\n```$", re.MULTILINE)
ALIASES = ("Clip", "Model", "Scalar")
"""Names of types that signatures show as they are."""
PAGES = Path(__file__).parents[1] / "reference"


def public(module: ModuleType) -> list[str]:
    """A module's public names that are no modules: its `__all__`, or else what it defines itself, classes first."""
    own = [name for name, value in vars(module).items() if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__]
    own.sort(key=lambda name: not inspect.isclass(getattr(module, name)))
    return [name for name in getattr(module, "__all__", own) if not inspect.ismodule(getattr(module, name))]


def families() -> list[str]:
    """The modules that the pages of the reference name."""
    return [name for page in sorted(PAGES.glob("*.md")) for name in FENCE.findall(page.read_text("utf-8"))]


def markup(name: str) -> str:
    """The Markdown that documents a module: one section for each file that defines public names, unless all stand in one."""
    module = importlib.import_module(name)
    files: dict[str, list[str]] = {}
    for each in public(module):
        files.setdefault(_home(getattr(module, each), module), []).append(each)
    text = ""
    order = _imported(module)
    own = lambda each: names().get(f"{name}.{each}", f"{name}.{each}") == f"{name}.{each}"
    for home, members in sorted(files.items(), key=lambda item: order.get(item[0], len(order))):
        if len(files) > 1:
            said = "" if home == name else inspect.getdoc(importlib.import_module(home)) or ""
            text += f"## {home.rsplit('.', 1)[-1].replace('_', ' ').capitalize()}\n\n{said}\n\n"
        entries = [f".. {_directive(value)}:: {name}.{each}\n{_options(value)}" for each in members for value in [getattr(module, each)] if own(each)]
        text += "```{eval-rst}\n" + "\n".join(entries) + "\n```\n\n" if entries else ""
        text += "".join(f"- `{name}.{each}` is {{py:obj}}`{names()[f'{name}.{each}']}`.\n" for each in members if not own(each)) + "\n"
    return text


def _home(value: Any, module: ModuleType) -> str:
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) and home.startswith("jxai.") else module.__name__


def _imported(module: ModuleType) -> dict[str, int]:
    """The files in the order in which the module's source imports them."""
    found = re.findall(r"^from (jxai[\w.]*) import|^import (jxai[\w.]*)", inspect.getsource(module), re.MULTILINE)
    return {a or b: i for i, (a, b) in enumerate(found)}


def _directive(value: Any) -> str:
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if callable(value) and hasattr(value, "__name__") else "autodata"


def _options(value: Any) -> str:
    if inspect.isclass(value):
        return "   :members:\n" + ("   :special-members: __call__\n" if "__call__" in vars(value) else "")
    return "" if callable(value) else "   :no-value:\n"


@functools.cache
def names() -> dict[str, str]:
    """Every full name under which something public may be meant, to the one under which it is documented: once, in jxai itself or else in the first family that has it."""
    found: dict[str, str] = {}
    for family in sorted(families(), key=lambda family: family != "jxai"):
        module = importlib.import_module(family)
        for name in public(module):
            value = getattr(module, name)
            home = f"{_home(value, module)}.{getattr(value, '__qualname__', name)}"
            full = found.setdefault(home, f"{family}.{name}")
            found |= {f"{family}.{name}": full, f"{module.__name__}.{name}": full}
    return found | {f"jxai.typing.{alias}": f"jxai.typing.{alias}" for alias in ALIASES}


def linker(of: str) -> Callable[[str], str | None]:
    """What a word in the docstring of `of` is documented as: a full name, or a short one of the same family or that only one family has."""
    family = of.rsplit(".", 1)[0]

    def link(word: str) -> str | None:
        found = names()
        if word in found:
            return found[word] if found[word] != of else None
        if not re.fullmatch(r"[A-Za-z_][\w.]*", word):
            return None
        near = found.get(f"{family}.{word}") or found.get(f"jxai.{word}")
        if near or not re.search(r"[A-Z_]", word):
            return near if near != of else None
        ends = {full for full in found.values() if full.endswith(f".{word}")}
        return ends.pop() if len(ends) == 1 and of not in ends else None

    return link


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """A name by the file that defines it is the public one; an alias of types is no class, and is found all the same. What exists and is not public has no link."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    if target in names():
        return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", names()[target], node, content)
    return content if _exists(target) else None


def _exists(name: str) -> bool:
    home, _, last = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(home), last)
    except (ImportError, ValueError):
        return False


class Named:
    """A default that is shown by its name rather than by where it lies in memory."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def name_defaults(app: Sphinx, of: Any, bound: bool) -> None:
    """Shows functions that are defaults by their names."""
    try:
        signature = inspect.signature(of)
    except (TypeError, ValueError):
        return
    old = signature.parameters.values()
    new = [
        p.replace(default=Named(p.default.__name__)) if inspect.isroutine(p.default) or (inspect.isclass(p.default) and p.default is not p.empty) else p
        for p in old
    ]
    if new != list(old):
        of.__signature__ = signature.replace(parameters=new)


def expand(app: Sphinx, page: str, source: list[str]) -> None:
    """Puts the names in the place of the fences."""
    source[0] = FENCE.sub(lambda fence: markup(fence[1]), source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Expands the fences before a page is parsed, names defaults, and finds the way from a defining file to the public name."""
    app.connect("source-read", expand)
    app.connect("autodoc-before-process-signature", name_defaults)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
