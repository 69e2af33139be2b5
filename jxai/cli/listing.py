"""`jxai methods`, `jxai metrics`, `jxai scores` and `jxai models`: what there is, read from the library's docstrings and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from jxai.cli import options
from jxai.cli.errors import known
from jxai.metrics.documented import line


def methods(name: str | None) -> None:
    """Prints every method by family with its cost and reference, or one method with its options."""
    _routines("method", name, options.methods(), ("Cost", "Reference"))


def metrics(name: str | None) -> None:
    """Prints every metric by family with its direction, range, cost and reference, or one metric with its options."""
    _routines("metric", name, options.judges(), ("Direction", "Range", "Cost", "Reference"))


def scores(name: str | None) -> None:
    """Prints every score of uncertainty with its range, cost and reference, or one score with its options and those of its fit."""
    from jxai.evaluate.uncertain.plan import every, with_fit

    if name is None:
        _routines("score", None, every(), ("Range", "Cost", "Reference"))
    else:
        _one(name, with_fit(every()[known("score", name, every())]))


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


def _routines(kind: str, name: str | None, every: Mapping[str, Callable], words: tuple[str, ...]) -> None:
    if name is not None:
        _one(name, every[known(kind, name, every)])
        return
    families: dict[str, list[str]] = {}
    for known_name, routine in every.items():
        families.setdefault(routine.__module__.rsplit(".", 1)[-1], []).append(known_name)
    width = max(map(len, every))
    for family, names in families.items():
        print(family)
        for each in names:
            told = ["; ".join(line(every[each], word) for word in words[:-1]), line(every[each], words[-1])]
            print(f"  {each:<{width}}  {told[0]}")
            print(f"  {'':<{width}}  {told[1]}")
    print(f"\n{len(every)} {kind}s; `jxai {kind}s NAME` shows a {kind}'s options.")


def _one(name: str, routine: Callable) -> None:
    print(inspect.getdoc(routine))
    rows = [(option, options.show(p.default), options.describe(options.kinds(routine, option))) for option, p in options.schema(routine).items()]
    print(f"\n{'Option':<32}{'Default':<16}Takes")
    for option, default, takes in rows:
        print(f"--{name}.{option:<{30 - len(name)}} {default:<15} {takes}")
