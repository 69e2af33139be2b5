"""A model as a graph of operations on bounds: what of it depends on x, with everything else computed."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.recognised.layouts import Reader
from jxai.bounds.recognised.patterns import match
from jxai.bounds.recognised.softmaxes import Match
from jxai.bounds.region import Region
from jxai.bounds.rounding import Precision, precision, reduced_precision
from jxai.bounds.rules.curves import PARTIAL
from jxai.bounds.rules.operations import Operation, Unary
from jxai.bounds.rules.primitives import operation
from jxai.bounds.rules.use import Perturbed, Use
from jxai.scores import logits_shape, wide
from jxai.tracing import interpret
from jxai.typing import Array, Model


@dataclasses.dataclass(frozen=True)
class Node:
    """A value that depends on x.

    Attributes:
      operation: how it comes about. inputs: references of what it comes from. output: its reference.
      shape: of the value. precision: of what the model computes it in. name: of its primitive and scope, for messages.
    """

    operation: Operation
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...]
    precision: Precision
    name: str


@dataclasses.dataclass(frozen=True)
class Graph:
    """The nodes that the output needs, in order of execution.

    Attributes:
      input: the reference of x. output: of f(x); shape: its shape.
      constant: f(x) where it does not depend on x at all, else None.
    """

    nodes: tuple[Node, ...]
    input: int
    input_shape: tuple[int, ...]
    output: int
    shape: tuple[int, ...]
    constant: Array | None = None


def graph(f: Model, region: Region, *, exact: bool = False) -> Graph:
    """Traces f at the region's shape, computes what does not depend on x, and gives every other step its operation.

    exact: whether changes to a type that holds less are steps of f; else f is a function of real numbers.

    Raises:
      ValueError: f(x) is no single array, or a primitive has no rule.
    """
    aval = jax.ShapeDtypeStruct(region.lower.shape, region.lower.dtype)
    traced = interpret.trace(f, aval)
    if not jax.tree_util.treedef_is_leaf(traced.out_tree):
        out = jax.tree.unflatten(traced.out_tree, range(traced.out_tree.num_leaves))
        logits_shape(out, "f(x) must be one array")
    program = interpret.flatten(traced, lambda eqn, path: True)
    return _Builder(program, traced.weights, exact).build()


class _Builder:
    def __init__(self, program: interpret.Program, weights: list[Array], exact: bool):
        self.program = program
        # A literal is a Python number, which jax_enable_x64 would take for one of 64 bits.
        literals = {r: np.asarray(c, program.avals[r].dtype) if isinstance(c, (bool, int, float)) else c for r, c in program.constants.items()}
        self.known: dict[int, Any] = {**literals, **dict(zip(program.inputs, weights))}
        self.input = program.inputs[-1]
        self.perturbed = {self.input}
        self.read = Reader(program, self.known, self.perturbed, exact)
        self.nodes: list[Node] = []
        self.partial: set[int] = set()
        self.next = len(program.avals)

    def build(self) -> Graph:
        program = self.program
        self._fold()
        out = program.outputs[0]
        aval, shape = program.avals[out], program.avals[self.input].shape
        if out not in self.perturbed:
            return Graph((), self.input, shape, out, aval.shape, wide(jnp.asarray(self.known[out])))
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            raise ValueError(f"f(x) must be floating point, got {aval.dtype}")
        for step, reference, found in reversed(list(self._needed(out))):
            self._node(step, reference, found)
        return Graph(self._live(out), self.input, shape, out, aval.shape)

    def _fold(self) -> None:
        """Computes what does not depend on x; at once where it is concrete, so that patterns can see the numbers."""
        for step in self.program.steps:
            if not self.perturbed.isdisjoint(step.inputs):
                for reference in step.outputs:
                    aval = self.program.avals[reference]
                    if math.prod(aval.shape):
                        self.perturbed.add(reference)
                    else:  # nothing depends on x
                        self.known[reference] = np.zeros(aval.shape, aval.dtype)
                continue
            values = [self.known[r] for r in step.inputs]
            if any(isinstance(v, jax.core.Tracer) for v in values):
                self.known.update(zip(step.outputs, step.run(values)))
            else:
                with jax.ensure_compile_time_eval():
                    self.known.update(zip(step.outputs, step.run(values)))

    def _needed(self, output: int) -> Iterator[tuple[interpret.Step, int, Match | None]]:
        """The values that the output depends on, last first, with the step that makes each and what it was recognised as."""
        needed = {output}
        for step in reversed(self.program.steps):
            for reference in needed.intersection(step.outputs) & self.perturbed:
                found = match(self.read, step)
                needed.update(step.inputs if found is None else found.roots)
                yield step, reference, found

    def _node(self, step: interpret.Step, reference: int, found: Match | None) -> None:
        aval = self.program.avals[reference]
        precise = self._precision(step, reference, found)
        name = f"{step.primitive} {step.scope}".strip()

        def add(op: Operation, inputs: tuple[int, ...], shape: tuple[int, ...]) -> Perturbed:
            self._append(Node(op, inputs, self.next, tuple(shape), precise, name))
            self.next += 1
            return Perturbed(self.next - 1, tuple(shape), partial=self.next - 1 in self.partial)

        if found is not None:
            op, inputs = found.build(add)
        else:
            use = Use(step, [self._operand(r) for r in step.inputs], aval.shape, aval.dtype, step.outputs.index(reference), add)
            op, inputs = operation(use)
        self._append(Node(op, inputs, reference, aval.shape, precise, name))

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        if not self.partial.isdisjoint(node.inputs) or (isinstance(node.operation, Unary) and node.operation.curve in PARTIAL):
            self.partial.add(node.output)

    def _precision(self, step: interpret.Step, reference: int, found: Match | None) -> Precision:
        """That of the value, and of all that lies between it and what it was recognised as a function of."""
        if step.primitive == "reduce_precision":
            bits = reduced_precision(step.param("exponent_bits"), step.param("mantissa_bits"))
            return bits.and_(precision(self.program.avals[reference].dtype))
        types = [self.program.avals[reference].dtype] if found is None else self.read.between(reference, found.roots)
        return functools.reduce(Precision.and_, map(precision, types))

    def _operand(self, reference: int) -> Any:
        aval = self.program.avals[reference]
        if reference in self.perturbed:
            return Perturbed(reference, aval.shape, aval.dtype, reference in self.partial)
        value = self.known[reference]
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            return value
        if isinstance(value, jax.core.Tracer):
            return wide(value)
        with jax.ensure_compile_time_eval():  # so that a rule can see the numbers
            return wide(jnp.asarray(value))

    def _live(self, output: int) -> tuple[Node, ...]:
        """The nodes that the output needs; those that only pass a number on are left out."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        return tuple(reversed(kept))
