"""Tables that the library's own listing makes, so that they cannot go stale: `{methods}`, `{metrics}` and `{models}` in fences of their own.

```{methods}
```
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from jxai import attribution, metrics
from jxai.metrics.documented import line

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FENCE = re.compile(r"^```\{(methods|metrics|models)\}\n```$", re.MULTILINE)

KINDS = {
    "gradient": "local",
    "backward": "local",
    "path": "path",
    "adaptive_path": "path",
    "uncertain": "path",
    "regions": "path",
    "activation": "layer",
    "masking": "layer",
    "attention": "layer",
    "relevance": "relevance",
    "deep_lift": "relevance",
    "occlusion": "removal",
    "rise": "removal",
    "sensitivity": "removal",
    "surrogate": "removal",
    "shapley": "removal",
    "meaningful": "optimised",
    "extremal": "optimised",
    "verified": "verified",
}
"""What a method's file is a family of, in the order of the table."""


def kind(method: Callable) -> str:
    """The kind of a method: a new file of methods needs a line in `KINDS`."""
    return KINDS[method.__module__.rsplit(".", 1)[-1]]


def needs(method: Callable) -> list[str]:
    """What a method asks of the model and of you."""
    options = inspect.signature(method).parameters
    if kind(method) == "verified":
        return ["bounds of every step", "a region"]
    found = ["gradients"] * ("backward" in line(method, "Cost") or kind(method) in ("local", "path", "optimised"))
    found += ["layers of attention"] * method.__module__.endswith(".attention")
    found += ["a layer"] * ("layer" in options) + ["a fill"] * ("fill" in options)
    return found + ["a baseline"] * bool({"baseline", "baselines"} & set(options))


def methods() -> str:
    """A table for each kind of methods: what each needs, whether it has a sign, what it costs, and its paper."""
    text = ""
    for of in dict.fromkeys(KINDS.values()):
        text += f"### {of.capitalize()}\n\n| method | needs | signed | cost | paper |\n|---|---|---|---|---|\n"
        for name in sorted(attribution.__all__):
            method = getattr(attribution, name)
            if kind(method) == of:
                told = [", ".join(needs(method)), "yes" if attribution.is_signed(method) else "no", line(method, "Cost"), _paper(method)]
                text += f"| {_link('jxai.attribution', name)} | {' | '.join(told)} |\n"
        text += "\n"
    return text


def judges() -> str:
    """Metrics by question: which way is better, in what range, at what cost, and the paper."""
    files: dict[str, list[str]] = {}
    for name in sorted(metrics.__all__):
        files.setdefault(getattr(metrics, name).__module__.rsplit(".", 1)[-1], []).append(name)
    text = ""
    for file, names in files.items():
        text += f"### {file.capitalize()}\n\n| metric | better | range | cost | paper |\n|---|---|---|---|---|\n"
        for name in names:
            metric = getattr(metrics, name)
            told = [line(metric, "Direction").replace(" is better", ""), line(metric, "Range"), line(metric, "Cost"), _paper(metric)]
            text += f"| {_link('jxai.metrics', name)} | {' | '.join(said.replace('|', '&#124;') for said in told)} |\n"
        text += "\n"
    return text


def trained() -> str:
    """Trained models by name."""
    from jxai.models import available

    rows = ["| model | what | example | classes | licence of the weights | where from |", "|---|---|---|---|---|---|"]
    for name, info in available().items():
        rows.append(f"| `{name}` | {info.description} | {'×'.join(map(str, info.input_shape))} | {info.num_classes} | {info.licence} | `{info.requires}` |")
    return "\n".join(rows)


TABLES = {"methods": methods, "metrics": judges, "models": trained}


def _paper(routine: Callable) -> str:
    """Authors and year; the reference has the title."""
    found = re.match(r".*?\d{4}", line(routine, "Reference"))
    return found[0] if found else line(routine, "Reference")


def _link(family: str, name: str) -> str:
    return f"{{py:obj}}`{name} <{family}.{name}>`"


def setup(app: Sphinx) -> dict[str, bool]:
    """Expands the fences before a page is parsed."""

    def expand(app: Sphinx, page: str, source: list[str]) -> None:
        source[0] = FENCE.sub(lambda fence: TABLES[fence[1]](), source[0])

    app.connect("source-read", expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
