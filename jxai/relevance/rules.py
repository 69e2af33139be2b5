"""How a step hands relevance on to its inputs: each rule is `rule(apply, w, bias, x, relevance, *, options) -> relevance of x`.

`apply(w, x)` is bilinear: a dense layer, a convolution, or with `w = 1` a sum; `bias` is added to it, or None. x is an array or a tuple of arrays (the
terms of a sum). Throughout `z = apply(w, x) + bias`, `a⁺ = max(a, 0)`, `a⁻ = min(a, 0)`, `st(z) = z + ε sign(z)` with `sign(0) = 1`, and
`Wᵀs` is the transpose of `apply(w, ·)`.

What a rule does not hand on, it has *absorbed*: the share of the bias and of the stabiliser. `shares(rule)` gives both, the absorbed part from its own formula.

Sources: Bach et al. 2015 (ε, αβ), Montavon et al. 2017 (z⁺, z-box, w²), Lapuschkin et al. 2019 (flat), Montavon et al. 2019 (γ); where those leave it open, zennit's conventions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import transpose
from jxai.typing import Array, PyTree

__all__ = ["alpha_beta", "epsilon", "flat", "gamma", "identity", "norm", "slope", "w_square", "winner_takes_all", "z_box", "z_plus"]

Apply = Callable[[PyTree, PyTree], Array]
Rule = Callable[..., PyTree]


class Shares(NamedTuple):
    """What a step's relevance becomes: that of its inputs, and what was absorbed, `[]`."""

    inputs: PyTree
    absorbed: Array


def public(parts: Callable[..., Shares]) -> Rule:
    """The rule of a function that gives its shares: what the inputs get."""

    @functools.wraps(parts)
    def rule(*args: Any, **options: Any) -> PyTree:
        return parts(*args, **options).inputs

    rule.parts = parts  # type: ignore[attr-defined]
    rule.__annotations__ = {**parts.__annotations__, "return": PyTree}
    return rule


def shares(rule: Rule) -> Callable[..., Shares]:
    """The rule with what it absorbed; of a rule of one's own, which says nothing of that, the difference of the sums.

    Relevance is the last of a rule's arguments that are given by place.
    """
    if isinstance(rule, functools.partial):
        return functools.partial(shares(rule.func), *rule.args, **rule.keywords)
    if hasattr(rule, "parts"):
        return rule.parts

    def parts(*args: Any, **options: Any) -> Shares:
        inputs = rule(*args, **options)
        return Shares(inputs, args[-1].sum() - sum(leaf.sum() for leaf in jax.tree.leaves(inputs)))

    return parts


@public
def epsilon(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, epsilon: float = 1e-6) -> Shares:
    """ε rule: `x ⊙ Wᵀ(R / st(z))`; the bias absorbs its share. `epsilon`: ε > 0, in units of z."""
    z = _output(apply, w, bias, x)
    s = relevance / stabilize(z, epsilon)
    return Shares(_times(x, _back(apply, w, x, s)), (s * (_or_zero(bias) + epsilon * _sign(z))).sum())


@public
def norm(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, epsilon: float = 1e-6) -> Shares:
    """ε rule of the linear map alone, `x ⊙ Wᵀ(R / st(Wx))`: a pool or a sum shares in proportion, and a bias gets nothing."""
    return globals()["epsilon"].parts(apply, w, None, x, relevance, epsilon=epsilon)


@public
def z_plus(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, stabilizer: float = 1e-6, nonnegative: bool = False) -> Shares:
    """z⁺ rule: positive contributions alone, `x⁺ ⊙ W⁺ᵀs + x⁻ ⊙ W⁻ᵀs`, `s = R / st(W⁺x⁺ + W⁻x⁻ + b⁺)`.

    `stabilizer`: ε. `nonnegative`: x is known to have no negative entry, which saves half of the work.
    """
    return _one_sided(apply, w, bias, x, relevance, stabilizer, nonnegative, +1)


@public
def alpha_beta(
    apply: Apply,
    w: PyTree,
    bias: Array | None,
    x: PyTree,
    relevance: Array,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    stabilizer: float = 1e-6,
    nonnegative: bool = False,
) -> Shares:
    """αβ rule: α times the share of positive contributions less β times that of negative ones, which has `s = R / st(W⁻x⁺ + W⁺x⁻ + b⁻)`.

    `alpha`, `beta`: not negative, α − β = 1. `stabilizer`, `nonnegative`: as for `z_plus`.
    """
    if not math.isclose(alpha - beta, 1, abs_tol=1e-6) or beta < 0:
        raise ValueError(f"{alpha=} and {beta=} must not be negative, and alpha − beta must be 1")
    up = _one_sided(apply, w, bias, x, relevance, stabilizer, nonnegative, +1)
    if beta == 0:
        return up
    down = _one_sided(apply, w, bias, x, relevance, stabilizer, nonnegative, -1)
    return Shares(jax.tree.map(lambda a, b: alpha * a - beta * b, up.inputs, down.inputs), alpha * up.absorbed - beta * down.absorbed)


@public
def gamma(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, gamma: float = 0.25, stabilizer: float = 1e-6) -> Shares:
    """γ rule: contributions of the output's own sign count `1 + γ` times.

    Where z > 0 it is the ε rule of `(W + γW⁺)x⁺ + (W + γW⁻)x⁻ + b + γb⁺`, where z < 0 of `(W + γW⁻)x⁺ + (W + γW⁺)x⁻ + b + γb⁻`; z = 0 passes nothing on.
    The sign is that of the unmodified output, bias included. `gamma`: γ ≥ 0. `stabilizer`: ε.
    """
    z, b = _output(apply, w, bias, x), _or_zero(bias)
    heavy, size = jax.tree.map(jnp.abs, w), jax.tree.map(jnp.abs, x)
    # W⁺x⁺ + W⁻x⁻ = (Wx + |W||x|)/2 and W⁻x⁺ + W⁺x⁻ = (Wx − |W||x|)/2: one product with |W| instead of four with the parts of W.
    sign, magnitude = jnp.where(z > 0, 1, -1), apply(heavy, size)
    added = b + gamma * jnp.where(z > 0, _positive(b), _negative(b))
    own = sign * _positive((sign * (z - b) + magnitude) / 2)
    total = z - b + gamma * own + added
    s = jnp.where(z == 0, 0, relevance / stabilize(total, stabilizer))
    plain, same = _times(x, _back(apply, w, x, s)), _times(size, _back(apply, heavy, x, sign * s))
    absorbed = jnp.where(z == 0, relevance, s * (added + stabilizer * _sign(total))).sum()
    return Shares(jax.tree.map(lambda p, q: (1 + gamma / 2) * p + gamma / 2 * q, plain, same), absorbed)


@public
def z_box(
    apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, low: float | Array = 0.0, high: float | Array = 1.0, stabilizer: float = 1e-6
) -> Shares:
    """z-box rule: `x ⊙ Wᵀs − l ⊙ W⁺ᵀs − h ⊙ W⁻ᵀs`, `s = R / st(Wx − W⁺l − W⁻h)`; the bias cancels.

    `low`, `high`: l ≤ x ≤ h, numbers or what broadcasts against x. `stabilizer`: ε.
    """
    l, h = (jax.tree.map(lambda v, bound=bound: jnp.broadcast_to(jnp.asarray(bound, v.dtype), v.shape), x) for bound in (low, high))
    up, down = jax.tree.map(_positive, w), jax.tree.map(_negative, w)
    z = apply(w, x) - apply(up, l) - apply(down, h)
    s = relevance / stabilize(z, stabilizer)
    terms = _times(x, _back(apply, w, x, s)), _times(l, _back(apply, up, x, s)), _times(h, _back(apply, down, x, s))
    return Shares(jax.tree.map(lambda a, b, c: a - b - c, *terms), (s * stabilizer * _sign(z)).sum())


@public
def w_square(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, stabilizer: float = 1e-6) -> Shares:
    """w² rule: `(W²)ᵀ(R / st(Σ W² + b²))`, whatever x is; the bias absorbs its share. `stabilizer`: ε."""
    square = jax.tree.map(jnp.square, w)
    known = getattr(apply, "scale", None)
    scale = jax.tree.map(jnp.square, jax.tree.map(jnp.ones_like, x) if known is None else known)
    b = jnp.square(_or_zero(bias))
    s = relevance / stabilize(apply(square, scale) + b, stabilizer)
    return Shares(_times(scale, _back(apply, square, x, s)), (s * (b + stabilizer)).sum())


@public
def flat(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, *, stabilizer: float = 1e-6) -> Shares:
    """Flat rule: the same for every input of the window, `Wᵀ(R / st(Σ W))` with W = 1. `stabilizer`: ε."""
    ones = jax.tree.map(jnp.ones_like, w)
    s = relevance / stabilize(apply(ones, jax.tree.map(jnp.ones_like, x)), stabilizer)
    return Shares(_back(apply, ones, x, s), (s * stabilizer).sum())


@public
def identity(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array) -> Shares:
    """Passes relevance on unchanged, entry by entry: of activations.

    Raises:
      ValueError: x is not of the shape of what the step returns.
    """
    if getattr(x, "shape", None) != relevance.shape:
        raise ValueError(f"rules.identity passes relevance on entry by entry, but the step maps {jax.tree.map(jnp.shape, x)} to {relevance.shape}")
    return Shares(relevance, jnp.zeros(()))


@public
def slope(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array) -> Shares:
    """The plain derivative, `∂apply/∂xᵀ R`: an activation left to its gradient. It does not conserve."""
    return Shares(jax.vjp(lambda v: apply(w, v), x)[1](relevance)[0], jnp.zeros(()))


@public
def winner_takes_all(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array) -> Shares:
    """The greatest input of each window gets all; of several equal ones the first. `apply(1, x)` is the pooling."""
    return Shares(jax.vjp(lambda v: apply(w, v), x)[1](relevance)[0], jnp.zeros(()))


def first_extreme(v: Array, axes: tuple[int, ...], sign: int) -> Array:
    """The greatest (least) entry along axes, by its first place."""
    kept = [d for d in range(v.ndim) if d not in axes]
    flat = jnp.transpose(v, [*kept, *axes]).reshape(*(v.shape[d] for d in kept), math.prod(v.shape[d] for d in axes))
    place = jnp.argmax(sign * lax.stop_gradient(flat), -1)
    return jnp.take_along_axis(flat, place[..., None], -1)[..., 0]


def greater(a: Array, b: Array, sign: int) -> Array:
    """The greater (lesser) of two, entry by entry, the first of equal ones.

    It is taken from one array, to which relevance goes back by place: of `where(a >= b, a, b)`, a compiler may work out the comparison again for each
    share, round it otherwise, and hand on all of it twice or not at all.
    """
    return first_extreme(jnp.stack([a, b]), (0,), sign)


def stabilize(z: Array, epsilon: float) -> Array:
    """`z + ε sign(z)`, `sign(0) = 1`."""
    return z + epsilon * _sign(z)


def _one_sided(apply: Apply, w: PyTree, bias: Array | None, x: PyTree, relevance: Array, stabilizer: float, nonnegative: bool, sign: int) -> Shares:
    """The share of the contributions of one sign."""
    parts = (_positive, _negative) if sign > 0 else (_negative, _positive)
    pairs = _pairs(x, jax.tree.map(parts[0], w), jax.tree.map(parts[1], w), nonnegative)
    b = parts[0](_or_zero(bias))
    z = sum(apply(v, u) for v, u in pairs) + b
    sides = sign * jnp.ones(())  # a side without contributions is a zero of its own sign
    s = relevance / (z + sides * stabilizer)
    return Shares(_added([_times(u, _back(apply, v, u, s)) for v, u in pairs]), (s * (b + sides * stabilizer)).sum())


def _pairs(x: PyTree, with_positive: PyTree, with_negative: PyTree, nonnegative: bool) -> list[tuple[PyTree, PyTree]]:
    if nonnegative:
        return [(with_positive, x)]
    return [(with_positive, jax.tree.map(_positive, x)), (with_negative, jax.tree.map(_negative, x))]


def _output(apply: Apply, w: PyTree, bias: Array | None, x: PyTree) -> Array:
    """z; `apply.output` where it is known from the forward pass."""
    known = getattr(apply, "output", None)
    return apply(w, x) + _or_zero(bias) if known is None else known


def _back(apply: Apply, w: PyTree, x: PyTree, s: Array) -> PyTree:
    """`Wᵀs`."""
    like = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), x)
    return transpose(lambda v: apply(w, v), like, s)


def _times(x: PyTree, c: PyTree) -> PyTree:
    return jax.tree.map(jnp.multiply, x, c)


def _added(found: list[PyTree]) -> PyTree:
    return functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), found)


def _or_zero(bias: Array | None) -> Array:
    return jnp.zeros(()) if bias is None else bias


def _positive(a: Array) -> Array:
    return jnp.maximum(a, 0)


def _negative(a: Array) -> Array:
    return jnp.minimum(a, 0)


def _sign(z: Array) -> Array:
    return jnp.where(z < 0, -1, 1)
