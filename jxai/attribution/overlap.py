"""The adversarial overlap of a model on a ball, and on the ball with one group of features held: what EVA is the difference of.

The overlap is `AO(B) = max_{v ∈ B, j ≠ c} f_j(v) − f_c(v)`: above 0, some point of the ball is taken for another class than c. Bounds of f on
the ball bound it from above.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from jxai import loops
from jxai.bounds import METHODS, Box, Interval, Region, ball, linear_bounds, margins
from jxai.bounds import bound as bound_of
from jxai.bounds.projection import random_point
from jxai.bounds.region import magnitude
from jxai.bounds.rounding import slack
from jxai.loops import scan
from jxai.removal.masks import Features, position_shape
from jxai.scores import check_example, check_target, check_values, need_key, num_classes, one_of, positive, wide
from jxai.tracing import taps
from jxai.typing import Array, Model

OBJECTIVES = ("overlap", "margin")
LINEAR = ("forward", "crown_ibp", "crown")
"""Bounds that are linear functions of x, so that one pass serves every part of a region."""

Part = Callable[[Array], Region]
"""`i -> region`: the ball with group i held; with none for i = the number of groups."""


def overlaps(
    f: Model,
    x: Array,
    target: int | Array,
    key: Array | None,
    groups: Features,
    *,
    radius: float | Array,
    p: float,
    clip: tuple[float, float] | None,
    objective: str,
    bound: str,
    per_group: bool,
    adversary: int | Array | None,
    rounding: str,
    layer: int | str | None = None,
    num_samples: int = 1,
    chunk: int | None = None,
) -> Array:
    """`[num + 1]`: upper bounds of the overlap with each of the groups held, and last with none; options as in `eva`."""
    one_of("objective", objective, OBJECTIVES)
    one_of("bound", bound, METHODS)
    if not per_group and bound not in LINEAR:
        raise ValueError(f"{bound=} has no linear functions of x to share: {per_group=} takes one of {', '.join(map(repr, LINEAR))}")
    classes = rivals(f, x, target, adversary)
    positive(num_samples=num_samples)
    region, model, num = parts(x, groups, radius, p, clip), f, groups.num
    once = max(1, loops.at_once(x, chunk) // (1 if chunk or not per_group or bound == "interval" else 16))  # bounds hold more than passes
    if layer is not None:
        model, region = _sampled(f, x, layer, region, need_key(key, f"{layer=}"), num_samples, chunk)
        once = 1 if per_group else once
    if per_group:
        differences = functools.partial(_apart, model, target, objective, bound, rounding)
    else:
        whole = region(jnp.int32(num))
        if layer is not None:
            # Sampled boxes need not lie within one another: the functions hold on what contains them all.
            boxes = loops.stack(region, num + 1, 1)
            whole, region = Box(boxes.lower.min(0), boxes.upper.max(0)), lambda i: jax.tree.map(lambda v: v[i], boxes)
        differences = _together(model, target, objective, bound, rounding, whole, classes)
    found = loops.stack(lambda i: worst(differences(region(i)), target, adversary), num + 1, once)
    return jnp.where(_is_class(target, classes), found, jnp.nan)


def parts(x: Array, groups: Features, radius: float | Array, p: float, clip: tuple[float, float] | None) -> Part:
    """The ball with one group held.

    Raises:
      ValueError: as `ball`.
    """
    ball(x, radius, p, clip)  # says what is wrong with it: within the loop over groups nothing is concrete
    radius = jnp.asarray(radius, wide(x).dtype)

    def part(i: Array) -> Region:
        # Number `num` holds nothing; a label may equal it, though, where positions belong to no group.
        moves = (groups.labels != i) | (i == groups.num)
        return ball(x, radius * moves.reshape(position_shape(x)), p, clip)

    return part


def rivals(f: Model, x: Array, target: int | Array, adversary: int | Array | None) -> int:
    """The number of classes.

    Raises:
      ValueError: bad x, target or adversary, f(x) that is no vector, a model without a second class.
    """
    check_example(x)
    if target is None:
        raise ValueError("target=None must be a class: an overlap is between classes")
    check_values(f, x)
    classes = num_classes(f, x)
    check_target(target, classes)
    if isinstance(adversary, numbers.Integral) and not isinstance(adversary, bool):
        if not 0 <= adversary < classes or (isinstance(target, numbers.Integral) and adversary == target):
            raise ValueError(f"{adversary=} must be a class in [0, {classes}) other than {target=}")
    elif adversary is not None and not (hasattr(adversary, "dtype") and jnp.issubdtype(adversary.dtype, jnp.integer) and adversary.shape == ()):
        raise ValueError(f"{adversary=} must be one integer class in [0, {classes}) or None")
    return classes


def worst(differences: Array, target: int | Array, adversary: int | Array | None) -> Array:
    """`[]`: of `f_j − f_target` (or bounds of it) the greatest over j ≠ target, or that of the adversary; NaN for one that is no rival."""
    j = jnp.arange(differences.shape[0])
    if adversary is None:
        return jnp.where(j == target, -jnp.inf, differences).max()
    chosen = jnp.where(j == adversary, differences, 0).sum()
    return jnp.where(_is_class(adversary, j.size) & (jnp.asarray(adversary) != target), chosen, jnp.nan)


def _apart(f: Model, target: int | Array, objective: str, bound: str, rounding: str, region: Region) -> Array:
    """`[K]`: upper bounds of `f_j − f_target` on a region, by bounds of its own."""
    if objective == "margin":
        return -margins(f, region, target, method=bound, rounding=rounding)
    lower, upper = bound_of(f, region, method=bound, rounding=rounding)
    return _up(upper - lower[target], rounding)


def _together(f: Model, target: int | Array, objective: str, bound: str, rounding: str, region: Region, classes: int) -> Callable[[Region], Array]:
    """The same on any part of a region, by the linear functions that hold on all of it."""
    if objective == "margin":
        rows = jax.nn.one_hot(target, classes) - jnp.eye(classes)
        lines = linear_bounds(lambda v: jnp.matmul(rows, f(v), precision="highest"), method=bound, rounding=rounding)(region)
        return lambda part: -_least(part, lines.lower_A, lines.lower_b, rounding)
    lines = linear_bounds(f, method=bound, rounding=rounding)(region)
    own = lines.lower_A[target], lines.lower_b[target]
    return lambda part: _up(-_least(part, -lines.upper_A, -lines.upper_b, rounding) - _least(part, *own, rounding), rounding)


def _least(region: Region, a: Array, b: Array, rounding: str) -> Array:
    """The least value of `⟨a, v⟩ + b` over a region, for coefficients `[…, *shape of v]`."""

    def reduce(products: Array, how: str) -> Array:
        flat = products.reshape(*products.shape[: products.ndim - region.lower.ndim], -1)
        return flat.max(-1) if how == "max" else flat.sum(-1)

    least = region.least(a, reduce) + b
    if rounding == "outward":
        mass = reduce(jnp.abs(a) * magnitude(Interval(region.lower, region.upper)), "sum") + jnp.abs(b)
        least = least - slack(2 * mass, region.lower.size + 16)
    return least


def _up(value: Array, rounding: str) -> Array:
    """A difference of bounds; outward, the next number above it, since the subtraction was rounded too."""
    return jnp.nextafter(value, jnp.inf) if rounding == "outward" else value


def _sampled(f: Model, x: Array, layer: int | str, region: Part, key: Array, num_samples: int, chunk: int | None) -> tuple[Model, Part]:
    """What follows a layer, and `i -> the box of the layer's values at points drawn from region(i)` (and at x)."""
    x = wide(x)
    cut = taps.split(f, x, layer)
    if _passed_by(f, x, cut):
        raise ValueError(f"{layer=} ({cut.layer}) is passed by: what follows it also depends on x in other ways, which a box there does not hold")
    chunk = loops.at_once(x, chunk)
    blocks = -(-num_samples // chunk)
    size = -(-num_samples // blocks)

    def box(i: Array) -> Box:
        part = region(i)

        def value(n: Array) -> Array:
            # The same draws for every group: two boxes differ by what is held, not by luck.
            return wide(taps.read(f, random_point(part, jax.random.fold_in(key, n)), cut.layer.index))

        @jax.checkpoint
        def block(b: Array) -> tuple[Array, Array]:
            values = jax.vmap(value)(jnp.minimum(b * size + jnp.arange(size), num_samples - 1))
            return values.min(0), values.max(0)

        def step(ends: tuple[Array, Array], b: Array) -> tuple[tuple[Array, Array], None]:
            low, high = block(b)
            return (jnp.minimum(ends[0], low), jnp.maximum(ends[1], high)), None

        start = wide(cut.value)
        return Box(*scan(step, (start, start), jnp.arange(blocks))[0])

    return cut.head, box


def _passed_by(f: Model, x: Array, cut: taps.Split) -> bool:
    """Whether the rest of a function depends on x in other ways than by the value at the cut, as around a cut within a residual block."""
    program = jax.make_jaxpr(lambda x, value: taps.split(f, x, cut.layer.index).head(value))(x, cut.value).jaxpr
    follows = {program.invars[0]}
    for eqn in program.eqns:
        if any(isinstance(v, jex.Var) and v in follows for v in eqn.invars):
            follows.update(eqn.outvars)
    return any(isinstance(v, jex.Var) and v in follows for v in program.outvars)


def _is_class(label: int | Array, classes: int) -> Array:
    return (jnp.asarray(label) >= 0) & (jnp.asarray(label) < classes)
