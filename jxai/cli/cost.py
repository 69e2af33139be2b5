"""What an explanation costs, said before it is paid: the arithmetic of the traced programs, and which of them must be compiled first."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from jxai.cli import cache
from jxai.cli.calls import Calls, Prepared
from jxai.tracing.arithmetic import Work, work

_MOST = 3
"""Methods whose part is named."""


def say(calls: Calls, prediction: Prepared, methods: Mapping[str, Prepared]) -> None:
    """A line or two on the error stream, where there is a program that this command has not compiled.

    Passes are counted in what was traced: its multiplications over those of a prediction, so that a backward pass is about one more.
    """
    new = [method for method in methods.values() if calls.is_new(method)]
    if not new:
        return
    one = work(prediction.traced.jaxpr.jaxpr).multiplications
    made = {name: work(method.traced.jaxpr.jaxpr) for name, method in methods.items()}
    what = f"{len(methods)} methods" if len(methods) > 1 else next(iter(methods))
    print(f"{what}: {_passes(made, one)}{' for each image' if calls.runs > 1 else ''}; {line(calls, *new)}", file=sys.stderr, flush=True)


def line(calls: Calls, *new: Prepared) -> str:
    """Which of the programs must be compiled, and where they are kept."""
    known, place = [calls.noted(method) for method in new], cache.kept()
    kept = [seconds for seconds in known if seconds is not None]
    if fresh := len(known) - len(kept):
        more = f", and takes {len(kept)} that an earlier run kept there" if kept else ""
        return f"compiles {_programs(fresh)} first, {f'kept in {place} for the next time' if place else 'at every start (no cache folder is in use)'}{more}"
    return f"takes {_programs(len(kept))} kept in {place}, compiled in {sum(kept):.1f} s by an earlier run"


def _passes(made: Mapping[str, Work], one: float) -> str:
    """The passes of all methods and the dearest ones', as in `about 4,200 forward passes (sobol 2,080, lime 1,000, hsic 500)`."""
    total = sum(w.multiplications for w in made.values())
    if not one:
        return "a model without products of matrices, whose passes cannot be counted"
    least = "" if all(w.bounded for w in made.values()) else "at least "
    first = sorted(made, key=lambda name: -made[name].multiplications)[:_MOST]
    parts = ", ".join(f"{name} {_number(made[name].multiplications / one)}" for name in first) if len(made) > 1 else ""
    return f"the arithmetic of {least}about {_number(total / one)} forward passes" + (f" ({parts}{', …' if len(made) > _MOST else ''})" if parts else "")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.5 else f"{value:.1g}"


def _programs(count: int) -> str:
    return f"{count} program{'s' * (count > 1)}"
