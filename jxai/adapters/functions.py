"""Functions, and whatever else can be called."""

from __future__ import annotations

from typing import Any

import jax
from jax.tree_util import Partial

from jxai.adapters.recognition import Call, Native, signature
from jxai.adapters.wrappers import told
from jxai.typing import PyTree


def native(model: Any, weights: tuple[PyTree, ...], call: Call) -> Native:
    """`x -> model(*weights, x)`; a function that is no pytree has no leaves, so that `jax.jit` takes it as it is."""
    call.refuse("a function", "rngs", "mutable")
    plain = jax.tree_util.all_leaves([model])
    return Native(told(Partial(model, *weights) if weights or plain else model, call.options(signature(model))))
