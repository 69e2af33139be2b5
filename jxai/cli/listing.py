"""`jxai methods` and `jxai models`: what there is, read from the library's docstrings and signatures."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

from jxai.cli import options
from jxai.cli.errors import known


def line(method: Callable, word: str) -> str:
    """The docstring's line that begins with `word:`, without it."""
    found = re.search(rf"^\s*{word}:\s*(.+)$", inspect.getdoc(method) or "", re.MULTILINE)
    return found.group(1).strip() if found else ""


def methods(name: str | None) -> None:
    """Prints every method by family with its cost and reference, or one method with its options."""
    every = options.methods()
    if name is not None:
        _one(name, every[known("method", name, every)])
        return
    families: dict[str, list[str]] = {}
    for known_name, method in every.items():
        families.setdefault(method.__module__.rsplit(".", 1)[-1], []).append(known_name)
    width = max(map(len, every))
    for family, names in families.items():
        print(f"{family}")
        for each in names:
            print(f"  {each:<{width}}  {line(every[each], 'Cost')}")
            print(f"  {'':<{width}}  {line(every[each], 'Reference')}")
    print(f"\n{len(every)} methods; `jxai methods NAME` shows a method's options.")


def models(name: str | None) -> None:
    """Prints the trained models, or one of them, with their inputs, licences, references and where the weights come from."""
    from jxai.models import available

    every = available()
    if name is not None:
        every = {name: every[known("model", name, every)]}
    width = max(map(len, every))
    for each, info in every.items():
        print(f"{each:<{width}}  {info.description}: {'×'.join(map(str, info.input_shape))} to {info.num_classes} classes")
        print(f"{'':<{width}}  {info.reference} ({info.licence}); {info.requires}")


def _one(name: str, method: Callable) -> None:
    print(inspect.getdoc(method))
    rows = [(option, options.show(p.default), options.describe(options.kinds(method, option))) for option, p in options.schema(method).items()]
    print(f"\n{'Option':<32}{'Default':<16}Takes")
    for option, default, takes in rows:
        print(f"--{name}.{option:<{30 - len(name)}} {default:<15} {takes}")
