"""Haiku: a transformed function with its parameters, and its state if it has one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jxai.adapters.recognition import Call, Native, exactly, signature
from jxai.adapters.wrappers import told
from jxai.typing import Array, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Haiku:
    """A Haiku function with what its init gave: `x -> apply(params, [state,] [rng,] x)`; what a call makes of the state is dropped.

    Attributes:
      apply: `net.apply` (static). params: the parameters. state: None of a function that has none.
      rng: a key for a function that draws when it is evaluated. keyed: whether `apply` takes a key (static).
    """

    apply: Callable[..., Any] = dataclasses.field(metadata={"static": True})
    params: PyTree
    state: PyTree = None
    rng: Array | None = None
    keyed: bool = dataclasses.field(default=True, metadata={"static": True})

    def __call__(self, *inputs: PyTree, **options: Any) -> Any:
        held = (self.params, *(() if self.state is None else (self.state,)), *((self.rng,) if self.keyed else ()))
        out = self.apply(*held, *inputs, **options)
        return out if self.state is None else out[0]


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """A function that `haiku.transform` or `transform_with_state` made, with or without random numbers."""
    stateful = type(model).__name__ == "TransformedWithState"
    what = "params, state = net.init(key, x): adapt(net, params, state)" if stateful else "params = net.init(key, x): adapt(net, params)"
    exactly(weights, f"a Haiku function needs what its init gives, {what}", 1 + stateful)
    call.refuse("a Haiku function", "mutable")
    own = signature(model.apply)
    keyed = own is None or "rng" in own.parameters
    if not keyed:
        call.refuse("a Haiku function without random numbers (without_apply_rng)", "rngs")
    params, state = weights if stateful else (weights[0], None)
    hint = "rngs=key gives one to a function that draws when it is evaluated, arguments={…} are the call's own"
    return Native(told(Haiku(model.apply, params, state, call.rngs, keyed), call.options(own)), hint=hint)
