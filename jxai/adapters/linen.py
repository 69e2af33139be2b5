"""flax linen: a module and its variables."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from jxai.adapters.recognition import Call, Native, exactly, signature
from jxai.adapters.wrappers import told
from jxai.typing import Array, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linen:
    """A `flax.linen` module bound to its variables: `x -> module.apply(variables, x)`; the variables are the leaves.

    Attributes:
      module: the linen module (static). It is called on one example, without a batch axis unless wrapped in `Batched`.
      variables: what `module.init` returned.
      options: keyword arguments of the call as sorted pairs, for example `(("train", False),)` (static).
      rngs: keys by name, for a module that draws random numbers when it is evaluated: the same ones at every call.
      mutable: collections that a call changes; what it makes of them is dropped (static).
    """

    module: Any = dataclasses.field(metadata={"static": True})
    variables: PyTree
    options: tuple[tuple[str, Any], ...] = dataclasses.field(default=(), metadata={"static": True})
    rngs: dict[str, Array] | None = None
    mutable: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    def __call__(self, *inputs: PyTree, **named: Any) -> Any:
        held = {**dict(self.options), **named}
        if not self.mutable:
            return self.module.apply(self.variables, *inputs, rngs=self.rngs, **held)
        return self.module.apply(self.variables, *inputs, rngs=self.rngs, mutable=list(self.mutable), **held)[0]


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """A module with its variables, or one that is bound to them."""
    if model.scope is not None and not weights:
        model, variables = model.unbind()
    else:
        exactly(weights, "a linen module needs its variables: adapt(module, variables), variables = module.init(key, x) or {'params': …, 'batch_stats': …}", 1)
        (variables,) = weights
        if not hasattr(variables, "keys") or "params" not in variables:
            known = list(variables) if hasattr(variables, "keys") else type(variables).__name__
            raise ValueError(f"variables={known} must be a dictionary of collections with 'params': of parameters alone, {{'params': params}}")
    bound = Linen(model, variables, (), call.rngs, call.mutable or ())
    hint = "rngs={name: key} gives keys to a module that draws, mutable=[name] lets a call change a collection, arguments={…} are the call's own"
    return Native(told(bound, call.options(signature(type(model).__call__))), hint=hint)
