"""Equinox: a module in inference mode, with its state if it has one."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import equinox
import jax

from jxai.adapters.recognition import Call, Native, exactly, signature
from jxai.adapters.wrappers import told
from jxai.callables import Adapter, Static, is_array, partition
from jxai.typing import PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Equinox(Adapter):
    """An Equinox module whose arrays are the leaves, and whose functions, sizes and flags are static, so that `jax.jit` takes it as it is.

    Attributes:
      f: the module with its arrays alone. rest: what else is in it (static). state: an `equinox.nn.State`, or None.
    """

    f: Any
    rest: Static = dataclasses.field(metadata={"static": True})
    state: PyTree = None

    def __call__(self, *inputs: PyTree, **options: Any) -> Any:
        module = self.rest.combine(jax.tree.leaves(self.f))
        return module(*inputs, **options) if self.state is None else module(*inputs, self.state, **options)[0]


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """A module in inference mode (`equinox.nn.inference_mode`); with a state, of which its answers' new one is dropped.

    It is one of one example, and its convolutions have their channels first: where an image's are is found by an example.
    """
    exactly(weights, "an Equinox module holds its weights, adapt(module), or adapt(module, state) of one that has a state", 0, 1)
    call.refuse("an Equinox module", "rngs", "mutable")
    if not callable(model):
        raise ValueError(f"model={type(model).__name__} is an Equinox module without __call__: pass a function of it, adapt(lambda x: …)")
    model, own = equinox.nn.inference_mode(model), signature(type(model).__call__)
    options = call.options(own)
    key = own.parameters.get("key") if own else None
    if key is not None and key.default is inspect.Parameter.empty:
        options.setdefault("key", None)  # nothing is drawn in inference mode
    adapted = Equinox(equinox.filter(model, is_array), partition(model)[1], *weights)
    return Native(told(adapted, options), channels=None)
