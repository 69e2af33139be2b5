"""Keras 3 on its JAX backend."""

from __future__ import annotations

import collections
import dataclasses
import importlib
from typing import Any

import jax
import numpy as np

from jxai.adapters.recognition import Call, Native, exactly
from jxai.adapters.wrappers import told
from jxai.typing import Array, PyTree

BACKEND = "set os.environ['KERAS_BACKEND'] = 'jax' before keras is imported first, and build or load the model there"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Keras:
    """A Keras model in inference, of the values of its variables: `x [B, …] -> out`; neither the model nor its variables are changed.

    Attributes:
      model: the Keras model or layer (static; equal to itself alone).
      values: its variables' values as they were when it was adapted, by path; one that several variables have is numbered.
    """

    model: Any = dataclasses.field(metadata={"static": True})
    values: dict[str, Array]

    def __call__(self, *inputs: PyTree, **named: Any) -> Any:
        scope = importlib.import_module("keras").StatelessScope
        variables = _variables(self.model)
        if variables.keys() != self.values.keys():
            raise ValueError(f"model={self.model.name} has other variables than when it was adapted: adapt it again")
        with scope(state_mapping=[(variable, self.values[path]) for path, variable in variables.items()]):
            return self.model(*inputs, **{"training": False, **named})

    def __described__(self) -> dict[str, Any]:
        try:
            made_of = self.model.to_json().encode()
        except Exception:  # a subclassed model's class alone says what it is
            made_of = None
        return {"model": type(self.model), "made_of": made_of, "values": self.values}


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """A model or layer that has its weights: it wants a batch, with the channels where Keras' configuration says.

    Raises:
      ValueError: Keras runs on another backend, or the model has no weights yet.
    """
    keras = importlib.import_module("keras")
    config = getattr(keras, "config", None)
    backend = config.backend() if hasattr(config, "backend") else "tensorflow"  # Keras 2 has that one
    if backend != "jax":
        raise ValueError(f"model={model.name} is a Keras model on the backend {backend!r}, and only 'jax' can be traced: {BACKEND}")
    exactly(weights, "a Keras model holds its weights, adapt(model)", 0)
    call.refuse("a Keras model", "rngs", "mutable")
    if not model.built:
        raise ValueError(f"model={model.name} is a Keras model that is not built: call it once on a batch, or model.build((None, …)), so that it has weights")
    channels = "first" if config.image_data_format() == "channels_first" else "last"
    # A copy: Keras' training gives the memory of old values away.
    values = {path: jax.device_put(np.array(variable.value), variable.value.sharding) for path, variable in _variables(model).items()}
    adapted = Keras(model, values)
    return Native(told(adapted, call.options(None)), batched=True, channels=channels)


def _variables(model: Any) -> dict[str, Any]:
    """A model's variables by path: its weights and statistics, without the seeds of what is drawn in training."""
    counts: collections.Counter[str] = collections.Counter()
    found = {}
    for variable in model.weights:
        counts[variable.path] += 1
        found[variable.path if counts[variable.path] == 1 else f"{variable.path}#{counts[variable.path]}"] = variable
    return found
