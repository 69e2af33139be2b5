"""alpha-CROWN: the lines that a backward pass chooses among, optimised by gradient ascent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jxai.bounds.graph import Node
from jxai.bounds.interval import Ranges, final, start
from jxai.bounds.linear import check_options, crown_ranges, in_blocks, open_entries, rows_at_once, specification, tighten, tightened
from jxai.bounds.region import Interval, Region
from jxai.bounds.rules.operations import Unary
from jxai.callables import plainly
from jxai.loops import scan
from jxai.scores import positive
from jxai.typing import Array, Model

__all__ = ["alpha_crown"]


def alpha_crown(
    f: Model, *, steps: int = 20, learning_rate: float = 0.1, intermediate: bool = False, rounding: str = "nearest", chunk: int | None = None
) -> Callable[[Region], Interval]:
    """alpha-CROWN: CROWN whose free choices, the lower slopes of ReLUs and where tangents touch, are optimised for each output and side.

    Any choice in [0, 1] gives a sound bound, so that Adam may stop anywhere: the best of all steps is kept, the first of which is CROWN.

    Args:
      f: a model `x -> y`. steps: of Adam, each a forward and backward pass through the bound. learning_rate: of the choices; it falls to a tenth.
      intermediate: optimise the ends that lines rest on as well, one layer after the other, those of every neuron whose curve bends with choices
        of its own: much tighter, and about `3 · steps` times the cost of CROWN. Without it they stay CROWN's.
      rounding: "nearest" or "outward", as in `interval`. chunk: neurons that go back at once, as in `crown`.

    Returns:
      `(region) -> Interval`, as `interval` says; nowhere wider than CROWN's. Its gradient takes the choices as given.

    Raises:
      ValueError: `steps` or `learning_rate` that are not positive; (of the returned function) a bad region, a primitive without a rule.

    Cost: CROWN, and `steps` times three backward passes for every output and side.
    Reference: Xu et al. 2021, "Fast and Complete: Enabling Complete Verification with Rapid and Massively Parallel Incomplete Verifiers", ICLR.
    """
    check_options(rounding, chunk)
    check(steps, learning_rate)

    @plainly
    def bound(region: Region) -> Interval:
        if intermediate:
            found = optimised_ranges(f, region, rounding, chunk, steps, learning_rate)
            plain = crown_ranges(f, region, rounding, chunk, True)
        else:
            found = plain = crown_ranges(f, region, rounding, chunk, True)
        if found.graph.constant is None:
            out = found.graph.output
            found.tighten(out, plain.known[out])
            found.tighten(out, optimised_neurons(found, out, chunk, steps, learning_rate))
        return final(found)

    return bound


def check(steps: int, learning_rate: float) -> None:
    """Raises ValueError unless both are positive."""
    positive(steps=steps)
    if not learning_rate > 0:
        raise ValueError(f"{learning_rate=} must be positive")


def optimised_ranges(f: Model, region: Region, rounding: str, chunk: int | None, steps: int, learning_rate: float) -> Ranges:
    """The intervals of every value, those that lines rest on optimised one layer after the other, each entry with choices of its own."""
    found = start(f, region, rounding)

    def improve(reference: int, needed: Array | None) -> None:
        tighten(found, reference, chunk, needed)
        found.tighten(reference, optimised_neurons(found, reference, chunk, steps, learning_rate, open_entries(found, reference)))

    tightened(found, improve)
    return found


def optimised_neurons(found: Ranges, reference: int, chunk: int | None, steps: int, learning_rate: float, needed: Array | None = None) -> Interval:
    """Bounds of every entry of a value, with choices of lines for each and either side."""
    known = found.known[reference]

    def block(rows: Array) -> Interval:
        seeds = jax.nn.one_hot(rows, known.lower.size, dtype=known.lower.dtype).reshape(-1, *known.lower.shape)
        lower, turned = jnp.split(optimised(found, reference, jnp.concatenate([seeds, -seeds]), steps, learning_rate), 2)
        return Interval(lower, -turned)

    # The choices, their gradients and Adam's two moments are kept for every layer.
    return in_blocks(block, known, max(1, rows_at_once(found, chunk) // 8), needed)


class _State(NamedTuple):
    choices: Any
    optimiser: Any
    values: Array
    """`[n]`: the best lower bounds so far."""
    kept: Any
    """The choices that gave them."""


def optimised(found: Ranges, reference: int, rows: Array, steps: int, learning_rate: float) -> Array:
    """`[n]`: lower bounds of `⟨rows[i], v⟩` of a value v, `rows [n, *shape of v]`, with the best choices that were met for each row."""
    before = _before(found, reference)
    curved = [n for n in found.graph.nodes if n.output in before and isinstance(n.operation, Unary) and n.operation.curve.lines is not None]
    choices = {n.output: jnp.broadcast_to(_start(found, n), (2, rows.shape[0], *n.shape)) for n in curved}

    def loss(choices: Any) -> tuple[Array, Array]:
        values = specification(found, reference, rows, t=choices)
        return -jnp.where(jnp.isfinite(values), values, 0).sum(), values

    adam = optax.adam(optax.exponential_decay(learning_rate, steps, 0.1))

    def step(state: _State, _: None) -> tuple[_State, None]:
        (_, values), slope = jax.value_and_grad(loss, has_aux=True)(state.choices)
        better = values > state.values
        kept = jax.tree.map(lambda new, old: jnp.where(better.reshape((1, -1) + (1,) * (new.ndim - 2)), new, old), state.choices, state.kept)
        slope = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), slope)
        update, optimiser = adam.update(slope, state.optimiser)
        moved = jax.tree.map(lambda c, u: jnp.clip(c + u, 0, 1), state.choices, update)
        return _State(moved, optimiser, jnp.maximum(values, state.values), kept), None

    nothing = jnp.full(rows.shape[0], -jnp.inf, jax.eval_shape(loss, choices)[1].dtype)
    last = lax.stop_gradient(scan(step, _State(choices, adam.init(choices), nothing, choices), None, length=steps)[0])
    # Evaluated once more, so that a gradient passes through the bound as it is, not through its optimisation.
    values = specification(found, reference, rows, t=last.kept)
    return values + lax.stop_gradient(jnp.maximum(last.values, values) - values)


def _start(found: Ranges, node: Node) -> Array:
    """CROWN's choice: the slope 0 or 1 for a ReLU, the middle for tangents."""
    l, u = found.known[node.inputs[0]]
    if node.operation.curve.name == "relu":
        return lax.stop_gradient((u > -l).astype(l.dtype))
    return jnp.full(node.shape, 0.5, l.dtype)


def _before(found: Ranges, target: int) -> set[int]:
    """The values that a value depends on, and itself."""
    needed = {target}
    for node in reversed(found.graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
    return needed
