"""The contracts that all of jxai shares, as aliases and protocols.

Everything is said for ONE example; a batch is `jax.vmap` or `jxai.each`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
PyTree = Any

Model = Callable[[Array], Array]
"""`f(x) -> logits [K]` for one example `x` (`[H, W, C]`, `[D]`, `[T, H, W, C]` …): a pytree whose weights are leaves."""

Clip = tuple[float | Array, float | Array]
"""`(low, high)`: the valid range of entries, numbers or arrays that broadcast against x."""

Scalar = Callable[[Array], Array]
"""`s(x) -> []`: the number that is explained."""


class Generator(Protocol):
    """What makes examples of codes: a pytree with these methods, each of one example; a code is an array or a pytree of them."""

    def decode(self, z: Any, /) -> Array: ...

    def encode(self, x: Array, /) -> Any: ...


class Method(Protocol):
    """An attribution method: raw signed values with x's rank that broadcast against x, float32 or wider. After the key come options, by keyword only.

    (For a type checker, `*args` and `**kwargs` of any type stand for whatever options a method has.)
    """

    def __call__(self, f: Model, x: Array, target: int | Array | None, key: Array | None = None, *args: Any, **kwargs: Any) -> Array: ...


class Curve(NamedTuple):
    """What a metric measured along the way."""

    x: Array
    """`[n]`: where it was measured, ascending; mostly the share of features that are removed or kept."""
    y: Array
    """`[n]`: what was measured there."""
    auc: Array
    """`[]`: the trapezoid area under y over the width of x, so that it lies in the range of y whatever n is."""


class Metric(Protocol):
    """A number, or a `Curve`, that judges the attribution of one example."""

    def __call__(
        self, f: Model, x: Array, target: int | Array | None, attribution: Array, key: Array | None = None, *args: Any, **kwargs: Any
    ) -> Array | Curve: ...


class Fill(Protocol):
    """What removed positions become; `per_mask` tells whether it depends on the mask or the key, or on x alone."""

    per_mask: bool

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array: ...
