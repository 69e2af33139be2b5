"""What a function computes, by its trace: whatever it is made of, another program or other constants are another function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core as jex

from jxai.identity.values import digest

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{8,}")
"""Where a function lies in memory is no part of it."""


def program(fn: Callable, *args: Any) -> tuple[str, str]:
    """Digests of what `fn(*args)` computes, and of the constants it computes with (but for the arguments, of which only shapes count).

    Args:
      fn: traceable. args: arrays or `jax.ShapeDtypeStruct`s.
    """
    closed = jax.make_jaxpr(fn)(*args)
    text = _ADDRESS.sub("", str(closed.jaxpr))
    held = [c for c in constants(closed) if not isinstance(c, jax.core.Tracer)]
    return hashlib.sha256(text.encode()).hexdigest()[:16], digest(*held)[:16]


def constants(closed: jex.ClosedJaxpr) -> Iterator[Any]:
    """The constants of a program, those of what it calls included."""
    yield from closed.consts
    for eqn in closed.jaxpr.eqns:
        yield from _inside(eqn)


def _inside(eqn: jex.JaxprEqn) -> Iterator[Any]:
    for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda v: isinstance(v, (jex.ClosedJaxpr, jex.Jaxpr))):
        if isinstance(value, jex.ClosedJaxpr):
            yield from constants(value)
        elif isinstance(value, jex.Jaxpr):
            for inner in value.eqns:
                yield from _inside(inner)
