"""flax nnx: the module's evaluation view."""

from __future__ import annotations

import inspect
from typing import Any

from flax import nnx

from jxai.adapters.recognition import Call, Native, exactly, signature
from jxai.adapters.wrappers import told
from jxai.typing import PyTree

FLAGS = {"deterministic": True, "use_running_average": True}
"""What a view says to the modules in it: dropout's flag and batch normalisation's."""


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """The evaluation view of a module, whichever of dropout and batch normalisation it has; the module itself stays as it is."""
    exactly(weights, "an nnx module holds its weights, adapt(module)", 0)
    call.refuse("an nnx module", "rngs", "mutable")
    known = set()
    for _, module in nnx.iter_modules(model):
        known |= set(inspect.signature(module.set_view).parameters) if hasattr(module, "set_view") else set()
    flags = {name: value for name, value in FLAGS.items() if name in known}
    view = nnx.view(model, **flags) if flags else model
    return Native(told(view, call.options(signature(type(model).__call__))))
