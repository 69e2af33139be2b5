"""CROWN: linear bounds by a backward pass, and the intervals that its lines rest on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.bounds import windows
from jxai.bounds.backward import Pair, Sums, concretised, pull, total
from jxai.bounds.graph import Node
from jxai.bounds.interval import ROUNDINGS, Ranges, final, ranges
from jxai.bounds.receptive import Colouring, colouring
from jxai.bounds.region import Ball, Interval, Region
from jxai.bounds.rules.operations import Linear, Unary
from jxai.callables import plainly
from jxai.loops import cond
from jxai.scores import one_of, positive
from jxai.typing import Array, Model

__all__ = ["crown", "crown_ibp"]

_LITTLE = 2**22
"""Coefficients of backward passes, on their largest layer."""

Choices = Mapping[int, Array]
"""By reference of a node, its choices of lines for each row, below and above: `[2, n, *shape]` (`Curve.lines`)."""


def crown_ibp(f: Model, *, rounding: str = "nearest", chunk: int | None = None) -> Callable[[Region], Interval]:
    """CROWN-IBP: a backward pass of linear bounds from the output, its lines drawn on the intervals of IBP; cut to those of IBP.

    Args:
      f: a model `x -> y`. rounding: "nearest" or "outward", as in `interval`.
      chunk: outputs that go back at once; None takes what fits the memory of a CPU's caches.

    Returns:
      `(region) -> Interval`, as `interval` says; nowhere wider than it.

    Raises:
      ValueError: (of the returned function) a bad region; a primitive of f without a rule, by name.

    Cost: two forward passes, and one backward pass for each output and side.
    Reference: Zhang et al. 2020, "Towards Stable and Efficient Training of Verifiably Robust Neural Networks", ICLR.
    """
    check_options(rounding, chunk)

    @plainly
    def bound(region: Region) -> Interval:
        found = ranges(f, region, rounding)
        tighten(found, found.graph.output, chunk)
        return final(found)

    return bound


def crown(f: Model, *, rounding: str = "nearest", chunk: int | None = None) -> Callable[[Region], Interval]:
    """CROWN: a backward pass of linear bounds from the output, and one before it for every value that a curve needs the ends of.

    Neurons whose curve does not bend between the ends that are known already get no pass; neurons of a convolution share passes where
    their receptive fields do not meet (see `jxai.bounds.receptive`).

    Args:
      f: a model `x -> y`. rounding: "nearest" or "outward", as in `interval`.
      chunk: neurons that go back at once; None takes what fits the memory of a CPU's caches.

    Returns:
      `(region) -> Interval`, as `interval` says; cut to IBP's and CROWN-IBP's, so nowhere wider than theirs.

    Raises:
      ValueError: (of the returned function) a bad region; a primitive of f without a rule, by name.

    Cost: a backward pass from each neuron of every layer to the input (times the colours over the neurons of a convolution).
    Reference: Zhang et al. 2018, "Efficient Neural Network Robustness Certification with General Activation Functions", NeurIPS.
    """
    check_options(rounding, chunk)

    @plainly
    def bound(region: Region) -> Interval:
        return final(crown_ranges(f, region, rounding, chunk, True))

    return bound


def crown_ranges(f: Model, region: Region, rounding: str, chunk: int | None, output: bool = False) -> Ranges:
    """The intervals of every value that lines are drawn on, tightened by backward passes; of the output too, where asked."""
    loose = ranges(f, region, rounding)
    if output and loose.graph.constant is None:
        tighten(loose, loose.graph.output, chunk)  # CROWN-IBP: lines on looser ends may lie better for some output
    found = Ranges(loose.graph, loose.region, rounding, {loose.graph.input: loose.known[loose.graph.input]})
    settled = tightened(found, lambda reference, needed: tighten(found, reference, chunk, needed))
    if output and found.graph.constant is None:
        if not settled.ends[found.graph.output]:
            tighten(found, found.graph.output, chunk)
        found.tighten(found.graph.output, loose.known[found.graph.output])
    return found


def tightened(found: Ranges, improve: Callable[[int, Array | None], None], after: Callable[[int], None] = lambda reference: None) -> Settled:
    """Steps through the graph; before a node draws lines on a value, `improve(reference, needed entries)` bounds that value better.

    after: called with every value that is new, before anything draws on it.
    """
    settled, done = Settled(found), {found.graph.input}
    for node in found.graph.nodes:
        for reference in node.inputs:
            if node.operation.needs_ends and reference not in done and not settled.ends[reference]:
                done.add(reference)
                needed = open_entries(found, reference)
                improve(reference, needed)
                settled.ends[reference] = needed is None
        found.step(node)
        after(node.output)
        settled.step(node)
    return settled


class Settled:
    """Which values have ends that a backward pass would not improve: the first layer on a box, or one entry by entry from such a value."""

    def __init__(self, found: Ranges):
        self.ends = {found.graph.input: True}
        self.apart = {found.graph.input: not isinstance(found.region, Ball)}

    def step(self, node: Node) -> None:
        op, alone = node.operation, len(node.inputs) == 1
        single = alone and (isinstance(op, Unary) or (isinstance(op, Linear) and op.apart))  # each entry from one entry
        self.ends[node.output] = alone and op.exact_ends and (self.apart[node.inputs[0]] or (single and self.ends[node.inputs[0]]))
        self.apart[node.output] = single and self.apart[node.inputs[0]]


def open_entries(found: Ranges, reference: int) -> Array | None:
    """The entries of a value that some curve bends within; None, for all, where something else draws lines on it, or where that saves little.

    (Tighter ends of the others still serve the intervals of what follows. What is little must not depend on `chunk`: nor may bounds.)
    """
    ends = found.known[reference]
    if ends.lower.size * _largest(found) <= _LITTLE:
        return None
    users = [(node.operation, n) for node in found.graph.nodes for n, r in enumerate(node.inputs) if r == reference and node.operation.needs_ends]
    masks = [op.open_at(position, ends) for op, position in users]
    return None if any(mask is None for mask in masks) else jnp.stack(masks).any(0)


def tighten(found: Ranges, reference: int, chunk: int | None, needed: Array | None = None) -> None:
    """Cuts what is known of a value to what backward passes find."""
    if found.graph.constant is None and found.known[reference].lower.dtype != bool:
        found.tighten(reference, neurons(found, reference, chunk, needed))


def neurons(found: Ranges, reference: int, chunk: int | None, needed: Array | None = None) -> Interval:
    """Bounds of every entry of a value by backward passes, many entries in one where their receptive fields stay apart.

    needed: booleans of the value's shape; the entries where it is False may be left as they are known. None: all are needed.
    """
    known = found.known[reference]
    if (fields := windows.plan(found.graph, reference, known.lower.shape)) is not None:
        return _within(found, reference, fields, chunk)
    plan = starts(found, reference)

    def block(rows: Array) -> Interval:
        seeds = plan.seeds(rows).astype(known.lower.dtype)

        def reduce(values: Array, at: int, how: str) -> Array:
            return plan.sums(values, at, rows) if plan.coloured else total(values, at, how)

        sums = Sums(reduce, found.rounding == "outward")
        return concretised(found, pull(found, reference, Pair(seeds, seeds), sums), sums)

    size = rows_at_once(found, chunk)
    if not plan.coloured:
        return in_blocks(block, known, size, needed)
    count = plan.starts
    if count <= size:
        return Interval(*map(plan.place, block(jnp.arange(count))))
    rows = _even(jnp.arange(count), size)
    ends = loops.map(jax.checkpoint(block), rows)
    return Interval(*(plan.place(end.reshape(-1, *end.shape[2:])[:count]) for end in ends))


def _within(found: Ranges, reference: int, fields: windows.Plan, chunk: int | None) -> Interval:
    """Bounds of every entry of a value by backward passes within receptive fields."""

    def block(rows: Array) -> Interval:
        view = windows.View(fields, rows)
        seeds = view.seeds(found.known[reference].lower.dtype)
        sums = Sums(view.reduce, found.rounding == "outward")
        left = pull(found, reference, Pair(seeds, seeds), sums, view=view)
        # Where nothing depends on the position, one row stands for all.
        shape = (rows.shape[0], seeds.shape[1])
        return Interval(*(jnp.broadcast_to(end, shape) for end in concretised(found, left, sums, view)))

    count = math.prod(fields.positions)
    size = max(1, coefficients(chunk, found) // fields.largest)
    if count <= size:
        return Interval(*map(fields.place, block(jnp.arange(count))))
    ends = loops.map(jax.checkpoint(block), _even(jnp.arange(count), size))
    return Interval(*(fields.place(end.reshape(-1, end.shape[-1])[:count]) for end in ends))


def in_blocks(block: Callable[[Array], Interval], known: Interval, size: int, needed: Array | None = None) -> Interval:
    """The bounds of all entries by `block(numbers of entries [n]) -> [n]`, at most `size` of them at once.

    Where only some are needed, these come first, and the others keep what is known, whatever the size.
    """
    shape, count = known.lower.shape, known.lower.size
    if needed is None:
        if count <= size:
            return Interval(*(end.reshape(shape) for end in block(jnp.arange(count))))
        ends = loops.map(jax.checkpoint(block), _even(jnp.arange(count), size))
        return Interval(*(end.reshape(-1)[:count].reshape(shape) for end in ends))
    wanted = needed.ravel()
    order = jnp.argsort(~wanted, stable=True)
    flat = Interval(known.lower.ravel(), known.upper.ravel())

    def kept(rows: Array) -> Interval:
        return Interval(flat.lower[rows], flat.upper[rows])

    def bounded(rows: Array) -> Interval:
        return Interval(*(jnp.where(wanted[rows], new, old) for new, old in zip(block(rows), kept(rows))))

    def guarded(rows: Array) -> Interval:
        return cond(wanted[rows].any(), bounded, kept, rows)

    if count <= size:
        return Interval(*(end.reshape(shape) for end in bounded(jnp.arange(count))))
    ends = loops.map(jax.checkpoint(guarded), _even(order, size))
    return Interval(*(jnp.zeros_like(flat.lower).at[order].set(end.reshape(-1)[:count]).reshape(shape) for end in ends))


def _even(rows: Array, size: int) -> Array:
    """The rows in blocks of equal length, at most `size`; the last row fills up."""
    blocks = -(-rows.shape[0] // size)
    each = -(-rows.shape[0] // blocks)
    return jnp.concatenate([rows, jnp.broadcast_to(rows[-1:], (blocks * each - rows.shape[0],))]).reshape(blocks, each)


def starts(found: Ranges, reference: int) -> Colouring:
    """How backward passes for all entries of a value begin: coloured where that saves a third of them, else one each."""
    shape = found.known[reference].lower.shape
    plain = Colouring(shape, shape, (), {})
    if isinstance(found.region, Ball) and found.region.p == 1:
        return plain  # its bound is a greatest entry, not a sum
    plan = colouring(found.graph, reference, shape)
    return plan if plan.starts <= 0.7 * math.prod(shape) else plain


def specification(
    found: Ranges, reference: int, rows: Array, chunk: int | None = None, *, stop: Callable[[Node], bool] = lambda node: False, t: Choices | None = None
) -> Array:
    """`[n]`: lower bounds of `⟨rows[i], v⟩` of a value v, for rows `[n, *shape of v]`.

    stop: nodes whose intervals are taken rather than their lines. t: choices of lines for each row; all rows go back at once then.
    """

    def block(rows: Array) -> Array:
        sums = Sums(total, found.rounding == "outward")
        return concretised(found, pull(found, reference, Pair(rows, None), sums, stop=stop, t=t), sums).lower

    size = rows_at_once(found, chunk)
    if rows.shape[0] <= size or t is not None:
        return block(rows)
    size = -(-rows.shape[0] // -(-rows.shape[0] // size))  # blocks of equal length
    return loops.map(lambda row: block(row[None])[0], rows, batch_size=size)


def rows_at_once(found: Ranges, chunk: int | None) -> int:
    """Rows at once: what is asked for, else what keeps one layer's coefficients within 16 MiB on a CPU, 1 GiB elsewhere."""
    return chunk if chunk is not None else max(1, coefficients(None, found) // _largest(found))


def coefficients(chunk: int | None, found: Ranges) -> int:
    """How many coefficients on one layer there may be at once."""
    if chunk is not None:
        return chunk * _largest(found)
    return 2**22 if jax.default_backend() == "cpu" else 2**28


def _largest(found: Ranges) -> int:
    return max([math.prod(found.graph.input_shape), *(math.prod(node.shape) for node in found.graph.nodes)])


def check_options(rounding: str, chunk: int | None) -> None:
    """Raises ValueError for an unknown rounding, or a chunk that is no positive integer."""
    one_of("rounding", rounding, ROUNDINGS)
    if chunk is not None:
        positive(chunk=chunk)
