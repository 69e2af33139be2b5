"""Linear maps of a program as `apply(w, x) + bias`, with the shifts and scales around them folded in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jxai.relevance.chains import Values
from jxai.scores import wide
from jxai.tracing.interpret import Step
from jxai.typing import Array


class Applied:
    """`apply(w, x)` of a rule.

    Attributes:
      run: the map. output: what it gives with its bias, where the forward pass has computed it. scale: of each input, as folded into w, where a rule asks for W
        alone (x is already scaled); None where nothing is folded in before.
    """

    def __init__(self, run: Callable[[Any, Any], Array], output: Array | None = None, scale: Array | None = None) -> None:
        self.run, self.output, self.scale = run, output, scale

    def __call__(self, w: Any, x: Any) -> Array:
        return self.run(w, x)


class Folded(NamedTuple):
    """A linear part at its values: `apply(w, x) + bias`, and how relevance of x becomes that of the part's input (`back`)."""

    step: Step
    apply: Applied
    w: Array
    bias: Array | None
    x: Array
    shift: Array | None
    """What was taken off the map's input to make x: it is in the bias."""
    back: Callable[[Array], Array]
    reached: Array | None
    """Where x has entries of the input; elsewhere it has constants, such as padding, or is 0 times it. None where nothing is folded in before."""


def bilinear(step: Step, place: int) -> Callable[[Array, Array], Array]:
    """A product of matrices or a convolution as `apply(w, x)`, in float32 or wider; x is its operand of this place, w the other."""
    params = {name: (None if name == "preferred_element_type" else value) for name, value in step.params.items()}

    def apply(w: Array, x: Array) -> Array:
        operands = [x, w] if place == 0 else [w, x]
        return step.rebound(operands, params)[0]

    return apply


BIJECTIVE = frozenset(("expand_dims", "reshape", "rev", "squeeze", "transpose"))
"""Moves that keep every entry once."""


def foldable(step: Step, data: int, chain: Sequence[Step], values: Values) -> bool:
    """Whether a chain after a linear map scales its output by numbers of the axes of its weights alone: they can be folded into these."""
    own = set(weight_axes(step, data, values)[0])
    for one in chain:
        if one.primitive in BIJECTIVE:
            own = _axes_moved(one, own, values)
            continue
        scaled = values.scaled(one.outputs[0])
        assert scaled is not None
        by = scaled.factor if scaled.factor is not None else scaled.divisor
        if by is not None and not values.varies(by) <= own:
            return False
    return True


def _axes_moved(step: Step, axes: set[int], values: Values) -> set[int]:
    """Where axes are after a move; none where they are merged or split."""
    before, after = values.shape(step.inputs[0]), values.shape(step.outputs[0])
    if step.primitive == "transpose":
        return {new for new, old in enumerate(step.param("permutation")) if old in axes}
    if step.primitive == "rev":
        return set() if axes & set(step.param("dimensions")) else axes
    kept, now = ([d for d, size in enumerate(shape) if size > 1] for shape in (before, after))
    if [before[d] for d in kept] != [after[d] for d in now]:
        return set()
    return {new for old, new in zip(kept, now) if old in axes}


def weight_axes(step: Step, data: int, values: Values) -> tuple[dict[int, int], int]:
    """Which axis of a bilinear step's weights each of these axes of its output is; and the rank of the weights."""
    place = step.inputs.index(data)
    rank, weights = len(values.shape(step.outputs[0])), len(values.shape(step.inputs[1 - place]))
    if step.primitive == "dot_general":
        contracted, batch = step.param("dimension_numbers")
        free = [[d for d in range(len(values.shape(r))) if d not in (*contracted[n], *batch[n])] for n, r in enumerate(step.inputs)]
        found = {n: int(d) for n, d in enumerate(batch[1 - place])}
        start = len(batch[0]) + (len(free[0]) if place == 0 else 0)
        return {**found, **{start + n: d for n, d in enumerate(free[1 - place])}}, weights
    if place == 0 and step.primitive == "conv_general_dilated" and step.param("batch_group_count") == 1:
        numbers = step.param("dimension_numbers")
        return {int(numbers.out_spec[1]): int(numbers.rhs_spec[0])}, weights
    if place == 0 and step.primitive == "conv2d":
        return {rank - 1: weights - 1}, weights
    return {}, weights


def folded(part: Any, values: Values, known: dict[int, Array], bias: str) -> Folded:
    """A linear part with what surrounds it, of the values of a forward pass."""
    step = part.step if not part.after and not part.before else next(one for one in part.steps if one not in part.before and one not in part.after)
    (data,) = values.data(step)
    w = wide(known[next(r for r in step.inputs if r != data)])
    run = bilinear(step, step.inputs.index(data))
    x, shift, scale, back, reached = _before(part, values, known, data)
    factor, added = _after(part, values, known, step)
    moves = [one for one in part.after if one.primitive in BIJECTIVE]
    plain, shape = run, values.shape(step.outputs[0])
    if moves:
        run = lambda w, v: _moved(moves, plain(w, v))
    if factor is not None:
        axes, rank = weight_axes(step, data, values)
        if moves:
            like = jax.ShapeDtypeStruct(shape, factor.dtype)
            factor = jax.linear_transpose(lambda v: _moved(moves, v), like)(jnp.broadcast_to(factor, values.shape(part.outputs[0])))[0]
        kept = tuple(slice(None) if d in axes else slice(0, 1) for d in range(factor.ndim))
        w = w * _along(factor[kept], axes, rank)
    if shift is not None:
        from_before = run(w, shift)
        added = from_before if added is None else from_before + added
    out = wide(known[part.outputs[0]])
    if bias == "ignore" and added is not None:
        out, added = out - added, None
    return Folded(step, Applied(run, out, scale), w, added, x, shift, back, reached)


def _moved(moves: Sequence[Step], v: Array) -> Array:
    for one in moves:
        (v,) = one.run([v])
    return v


def _along(factor: Array, axes: dict[int, int], rank: int) -> Array:
    """A factor of the output, laid along the axes of the weights."""
    if not factor.ndim:
        return factor
    order = sorted(axes, key=lambda d: axes[d])
    moved = jnp.transpose(factor, [*order, *(d for d in range(factor.ndim) if d not in axes)]).reshape([factor.shape[d] for d in order])
    shape = [1] * rank
    for d in order:
        shape[axes[d]] = factor.shape[d]
    return moved.reshape(shape)


def _after(part: Any, values: Values, known: dict[int, Array], step: Step) -> tuple[Array | None, Array | None]:
    """Factor and shift of the chain after a linear map; None where there is none."""
    factor: Array | None = None
    added: Array | None = None
    for one in part.after:
        if one.primitive in BIJECTIVE:
            shape = values.shape(one.inputs[0])
            factor, added = (None if v is None else one.run([jnp.broadcast_to(v, shape)])[0] for v in (factor, added))
            continue
        scaled = values.scaled(one.outputs[0])
        assert scaled is not None
        by = None
        if scaled.factor is not None:
            by = wide(known[scaled.factor])
        elif scaled.divisor is not None:
            by = 1 / wide(known[scaled.divisor])
        if scaled.sign < 0:
            by = -jnp.ones(()) if by is None else -by
        if by is not None:
            factor = by if factor is None else factor * by
            added = None if added is None else added * by
        if scaled.shift is not None:
            plus = scaled.shift_sign * wide(known[scaled.shift])
            added = plus if added is None else added + plus
    return factor, added


def _before(part: Any, values: Values, known: dict[int, Array], data: int) -> tuple[Array, Array | None, Array | None, Callable, Array | None]:
    """Of what is folded in before a linear map: its input without shifts, these, the scale of each input, the way back, and where it leads to the input."""
    if not part.before:
        return wide(known[data]), None, None, lambda relevance: relevance, None
    source = part.inputs[0]

    def run(v: Array) -> Array:
        at = {source: v}
        for one in part.before:
            at.update(zip(one.outputs, one.run([at[r] if r in at else known[r] for r in one.inputs])))
        return wide(at[part.before[-1].outputs[0]])

    def moved(v: Array) -> Array:
        """Moves alone: shifts are left out, and scales but for where they are 0."""
        at = {source: v}
        for one in part.before:
            (r,), out = (r for r in one.inputs if r in at), one.outputs[0]
            scaled = values.scaled(out)
            if scaled is None:
                at[out] = one.run([at[i] if i in at else _zeros_like(known[i]) for i in one.inputs])[0]
            else:
                kept = 1 if scaled.factor is None else known[scaled.factor] != 0
                at[out] = jnp.broadcast_to(at[r], values.shape(out)) * kept
        return at[part.before[-1].outputs[0]]

    like = jax.ShapeDtypeStruct(values.shape(source), known[source].dtype)
    nothing = run(jnp.zeros(like.shape, like.dtype))
    scale = run(jnp.ones(like.shape, like.dtype)) - nothing

    def back(relevance: Array) -> Array:
        wider = jax.ShapeDtypeStruct(like.shape, relevance.dtype)
        return jax.linear_transpose(moved, wider)(relevance)[0]

    reached = moved(jnp.ones(like.shape, like.dtype)) != 0
    return wide(known[data]) - nothing, nothing, scale, back, reached


def _zeros_like(v: Array) -> Array:
    return jnp.zeros_like(v) if jnp.issubdtype(v.dtype, jnp.floating) else v
