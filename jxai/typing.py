"""The contracts that all of jxai shares, as aliases and protocols.

Everything is said for ONE example; a batch is `jax.vmap` or `jxai.each`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax

Array = jax.Array
PyTree = Any

Model = Callable[[Array], Array]
"""`f(x) -> logits [K]` for one example `x` (`[H, W, C]`, `[D]`, `[T, H, W, C]` …): a pytree whose weights are leaves."""

Scalar = Callable[[Array], Array]
"""`s(x) -> []`: the number that is explained."""


class Method(Protocol):
    """An attribution method: raw signed values with x's rank that broadcast against x."""

    def __call__(self, f: Model, x: Array, target: int | Array | None, key: Array | None = None, **options: Any) -> Array: ...


class Fill(Protocol):
    """What removed positions become; `per_mask` tells whether it depends on the mask or the key, or on x alone."""

    per_mask: bool

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array: ...
