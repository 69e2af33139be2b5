"""A model as a graph of operations on bounds: what of it depends on x, with everything else computed."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jxai.bounds.operations import Linear, Operation
from jxai.bounds.patterns import LogSoftmax, Matcher
from jxai.bounds.primitives import operation
from jxai.bounds.reductions import LogSumExp
from jxai.bounds.region import Region
from jxai.bounds.use import Perturbed, Use
from jxai.scores import wide
from jxai.tracing import interpret
from jxai.typing import Array, Model


@dataclasses.dataclass(frozen=True)
class Node:
    """A value that depends on x.

    Attributes:
      operation: how it comes about. inputs: references of what it comes from. output: its reference.
      shape: of the value. unit: of rounding, of the type that the model computes it in. name: of its primitive and scope, for messages.
    """

    operation: Operation
    inputs: tuple[int, ...]
    output: int
    shape: tuple[int, ...]
    unit: float
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


def graph(f: Model, region: Region) -> Graph:
    """Traces f at the region's shape, computes what does not depend on x, and gives every other step its operation.

    Raises:
      ValueError: f(x) is no single array, or a primitive has no rule.
    """
    aval = jax.ShapeDtypeStruct(region.lower.shape, region.lower.dtype)
    traced = interpret.trace(f, aval)
    if not jax.tree_util.treedef_is_leaf(traced.out_tree):
        raise ValueError(f"f(x) must be one array, got {traced.out_tree}")
    program = interpret.flatten(traced, lambda eqn, path: True)
    return _Builder(program, traced.weights).build()


class _Builder:
    def __init__(self, program: interpret.Program, weights: list[Array]):
        self.program = program
        self.known: dict[int, Any] = {**program.constants, **dict(zip(program.inputs, weights))}
        self.input = program.inputs[-1]
        self.perturbed = {self.input}
        self.nodes: list[Node] = []
        self.next = len(program.avals)

    def build(self) -> Graph:
        program = self.program
        self._fold()
        matcher = Matcher(program, self.known, self.perturbed)
        for step in program.steps:
            if self.perturbed.isdisjoint(step.inputs):
                continue
            for n, reference in enumerate(step.outputs):
                self._node(step, n, reference, matcher)
        out = program.outputs[0]
        aval = program.avals[out]
        if out not in self.perturbed:
            return Graph((), self.input, program.avals[self.input].shape, out, aval.shape, wide(jnp.asarray(self.known[out])))
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            raise ValueError(f"f(x) must be floating point, got {aval.dtype}")
        return Graph(self._live(out), self.input, program.avals[self.input].shape, out, aval.shape)

    def _fold(self) -> None:
        """Computes what does not depend on x; at once where it is concrete, so that patterns can see the numbers."""
        for step in self.program.steps:
            if not self.perturbed.isdisjoint(step.inputs):
                self.perturbed.update(step.outputs)
                continue
            values = [self.known[r] for r in step.inputs]
            if any(isinstance(v, jax.core.Tracer) for v in values):
                self.known.update(zip(step.outputs, step.run(values)))
            else:
                with jax.ensure_compile_time_eval():
                    self.known.update(zip(step.outputs, step.run(values)))

    def _node(self, step: interpret.Step, n: int, reference: int, matcher: Matcher) -> None:
        aval = self.program.avals[reference]
        unit = _unit(aval.dtype)
        name = f"{step.primitive} {step.scope}".strip()

        def add(op: Operation, inputs: tuple[int, ...], shape: tuple[int, ...]) -> Perturbed:
            self.nodes.append(Node(op, inputs, self.next, tuple(shape), unit, name))
            self.next += 1
            return Perturbed(self.next - 1, tuple(shape))

        found = matcher.match(step) if len(step.outputs) == 1 else None
        if found is not None:
            op, root = found
            shape = self.program.avals[root].shape
            if isinstance(op, LogSoftmax):
                total = add(LogSumExp(op.axes), (root,), tuple(s for a, s in enumerate(shape) if a not in op.axes))
                axes = op.axes
                op = Linear(lambda x, s: x - jnp.expand_dims(s, axes), None, (1, -1), local=None)
                self.nodes.append(Node(op, (root, total.reference), reference, aval.shape, unit, name))
            else:
                self.nodes.append(Node(op, (root,), reference, aval.shape, unit, name))
            return
        operands = [self._operand(r) for r in step.inputs]
        op, inputs = operation(Use(step, operands, aval.shape, n, add))
        self.nodes.append(Node(op, inputs, reference, aval.shape, unit, name))

    def _operand(self, reference: int) -> Any:
        aval = self.program.avals[reference]
        if reference in self.perturbed:
            return Perturbed(reference, aval.shape, jnp.issubdtype(aval.dtype, jnp.floating))
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


def _unit(dtype: Any) -> float:
    """The unit of rounding u: half the gap from 1 to the next number."""
    return float(jnp.finfo(dtype).eps) / 2 if jnp.issubdtype(dtype, jnp.floating) else 0.0
