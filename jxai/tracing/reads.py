"""Which inputs of a program its outputs depend on: what is computed and then not used reads nothing."""

from __future__ import annotations

from collections.abc import Iterable

import jax.extend.core as jex

from jxai.tracing.equations import body, param


def read(jaxpr: jex.Jaxpr, outputs: Iterable[int] | None = None) -> set[int]:
    """The numbers of the inputs that these outputs (all by default) may depend on.

    Calls, scans and branches are followed into; of a scan all outputs count, and any other equation reads all that it is given.
    """
    wanted = range(len(jaxpr.outvars)) if outputs is None else outputs
    live = {id(jaxpr.outvars[n]) for n in wanted}
    for eqn in reversed(jaxpr.eqns):
        used = [n for n, v in enumerate(eqn.outvars) if id(v) in live]
        if used:
            live |= {id(eqn.invars[n]) for n in _of(eqn, used)}
    return {n for n, v in enumerate(jaxpr.invars) if id(v) in live}


def _of(eqn: jex.JaxprEqn, used: list[int]) -> set[int]:
    if (inner := body(eqn)) is not None:
        return read(inner.jaxpr, used)
    if eqn.primitive.name == "scan":
        return read(param(eqn, "jaxpr").jaxpr)
    if eqn.primitive.name == "cond":
        return {0} | {n + 1 for branch in param(eqn, "branches") for n in read(branch.jaxpr, used)}
    return set(range(len(eqn.invars)))
