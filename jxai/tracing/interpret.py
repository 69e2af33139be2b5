"""One interpreter, many meanings: a traced function as a flat list of steps that can be read, edited and re-run.

`trace` makes the jaxpr of a model with its weights as named inputs. `flatten` lays it out as a `Program`: one `Step` for
each equation, calls opened only where somebody asks for their inside, so that an unopened call keeps its custom
derivative. A step is named by the scope it was traced in and the weights it uses; its `path` (its position in the nest
of calls) stays the same however much is opened.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.callables import Adapter, fresh, is_array, partition
from jxai.loops import staged
from jxai.tracing import equations
from jxai.typing import Array, Model

Path = tuple[int | tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """One equation of a flat program.

    Attributes:
      run: computes the outputs from the inputs, lists of arrays.
      inputs, outputs: references, integers into the environment.
      primitive: the primitive's name; of a call that is kept whole, the called function's (`relu`, `silu`).
      params: the equation's parameters. scope: the name scope it was traced in. path: where it stands.
      unit: whether it is a whole call of elementwise operations, or an elementwise primitive. eqn: the equation; None of a scan's slices and stacks.
    """

    run: Callable[[list[Array]], list[Array]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    primitive: str
    params: dict[str, Any]
    scope: str
    path: Path
    unit: bool
    eqn: jex.JaxprEqn | None = None

    def rebound(self, values: list[Array], params: dict[str, Any]) -> list[Array]:
        """What the step's equation makes of these values with other parameters."""
        assert self.eqn is not None
        return equations.bind(self.eqn.replace(params=params), values)

    @property
    def called(self) -> bool:
        """Whether it is a whole call: `primitive` is the name of a function then, which may be that of a primitive."""
        return bool(self.unit and any(True for _ in jex.jaxprs_in_params(self.params)))

    def param(self, name: str) -> Any:
        """A parameter that `equations.PARAMETERS` lists."""
        return equations.param(self, name)

    @property
    def turn(self) -> int:
        """Which turn of a scan a `scan_slice` is read in."""
        return self.path[-2][1]  # type: ignore[index]


@dataclasses.dataclass
class Program:
    """A flat program: `inputs` (weights, then x), `constants`, `steps` in order, `outputs`; `avals` by reference."""

    inputs: list[int] = dataclasses.field(default_factory=list)
    outputs: list[int] = dataclasses.field(default_factory=list)
    steps: list[Step] = dataclasses.field(default_factory=list)
    constants: dict[int, Any] = dataclasses.field(default_factory=dict)
    avals: list[Any] = dataclasses.field(default_factory=list)
    makers: dict[int, Step] = dataclasses.field(default_factory=dict)
    """The step that computes a value, by reference."""
    known: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)
    """Values that follow from constants alone, as far as they were asked for."""

    def reference(self, aval: Any) -> int:
        """A new reference to a value of this shape and dtype."""
        self.avals.append(aval)
        return len(self.avals) - 1

    def add(self, step: Step) -> None:
        """Appends a step."""
        self.steps.append(step)
        self.makers.update((r, step) for r in step.outputs)

    def folded(self, reference: int) -> np.ndarray | None:
        """A value that follows from constants alone; None of any other, and under a trace of a traced constant."""
        if reference not in self.known:
            found = self._behind(reference)
            if found is None:
                return None
            held, needed = found
            steps = [step for step in self.steps if step.path in needed]
            self.known[reference] = _computed(steps, held, reference) if steps else held[reference]
        return self.known[reference]

    def rests_on_arrays(self, reference: int) -> bool:
        """Whether a value that follows from constants follows from arrays that the model holds, not only from numbers in its code."""
        found = self._behind(reference)
        return found is not None and any(np.ndim(value) for value in found[0].values())

    def _behind(self, reference: int) -> tuple[dict[int, np.ndarray], set[Path]] | None:
        """The constants and the steps that a value follows from; None where it follows from an input."""
        held, needed, waiting = {}, set(), [reference]
        while waiting:
            r = waiting.pop()
            if r in self.constants:
                if isinstance(self.constants[r], jax.core.Tracer) or jnp.issubdtype(self.avals[r].dtype, jax.dtypes.extended):
                    return None  # not a number, or no number yet
                held[r] = np.asarray(self.constants[r], self.avals[r].dtype)
            elif r not in self.makers:
                return None
            elif self.makers[r].path not in needed:
                needed.add(self.makers[r].path)
                waiting.extend(self.makers[r].inputs)
        return held, needed


@dataclasses.dataclass(frozen=True)
class Traced:
    """A model as `closed(*weights, x)`: the jaxpr, the weights, their key paths, and the tree of the output."""

    closed: jex.ClosedJaxpr
    weights: list[Array]
    names: list[str]
    out_tree: Any


def trace(f: Model, x: Array) -> Traced:
    """Traces `f(x)` with every array leaf of f as an input, so that equations can be named by the weights they use."""
    weights, static = partition(f)
    paths, _ = jax.tree_util.tree_flatten_with_path(f)
    names = [_clean(jax.tree_util.keystr(path).removeprefix(".f" * _adapters(f))) for path, leaf in paths if is_array(leaf)]
    closed, out = jax.make_jaxpr(lambda weights, x: fresh(static.combine(weights))(x), return_shape=True)(weights, x)
    return Traced(closed, weights, names, jax.tree.structure(out))


def flatten(traced: Traced, opened: Callable[[jex.JaxprEqn, Path], bool]) -> Program:
    """The flat program of a traced model; a call or a `scan` is laid open where `opened(equation, path)` is true."""
    program = Program()
    jaxpr = traced.closed.jaxpr
    program.inputs = [program.reference(v.aval) for v in jaxpr.invars]
    program.outputs = _lay(program, jaxpr, traced.closed.consts, program.inputs, (), "", opened)
    return program


def laid_open(closed: jex.ClosedJaxpr) -> Program:
    """The flat program of a jaxpr, everything laid open."""
    program = Program()
    program.inputs = [program.reference(v.aval) for v in closed.jaxpr.invars]
    program.outputs = _lay(program, closed.jaxpr, closed.consts, program.inputs, (), "", everywhere)
    return program


def run(program: Program, values: dict[int, Array], steps: Iterable[Step] | None = None, edit: Callable | None = None) -> dict[int, Array]:
    """Runs steps in order on an environment, in place.

    Args:
      values: reference to array; holds at least the inputs that the steps need. steps: all of the program's by default.
      edit: `(step, outputs, values) -> outputs`, called after every step.
    """
    values.update((r, c) for r, c in program.constants.items() if r not in values)
    for step in program.steps if steps is None else steps:
        outputs = step.run([values[r] for r in step.inputs])
        if edit is not None:
            outputs = edit(step, outputs, values)
        values.update(zip(step.outputs, outputs))
    return values


def start(program: Program, traced: Traced, x: Array) -> dict[int, Array]:
    """The environment in which the program begins: the weights and x."""
    return dict(zip(program.inputs, [*traced.weights, x]))


def everywhere(eqn: jex.JaxprEqn, path: Path) -> bool:
    """Opens every call and scan, but for activations: calls made of elementwise operations stay one step."""
    return not equations.is_elementwise(eqn)


def around(*targets: Path) -> Callable[[jex.JaxprEqn, Path], bool]:
    """Opens just the calls and scans that these paths lie in."""
    prefixes = {_plain(target[:depth]) for target in targets for depth in range(1, len(target))}
    return lambda eqn, path: _plain(path) in prefixes


def _computed(steps: list[Step], held: dict[int, np.ndarray], reference: int) -> np.ndarray:
    """A value from constants, by these steps: a number under an outer trace, too."""

    def compute(constants: list[Array]) -> Array:
        values = dict(zip(held, constants))
        for step in steps:
            values.update(zip(step.outputs, step.run([values[r] for r in step.inputs])))
        return values[reference]

    with jax.ensure_compile_time_eval():
        return np.asarray(staged(compute, list(held.values())))


def _plain(path: Path) -> Path:
    """The path with the last element's iteration dropped: a scan is opened whole for any of its iterations."""
    return path[:-1] + (path[-1][0],) if path and isinstance(path[-1], tuple) else path


def _lay(program, jaxpr, consts, arguments, path, scope, opened) -> list[int]:
    """Appends a jaxpr's equations to the program; returns the references of its results."""
    environment: dict[Any, int] = {}

    def constant(value: Any, aval: Any) -> int:
        reference = program.reference(aval)
        program.constants[reference] = value
        return reference

    def read(v: Any) -> int:
        return constant(v.val, v.aval) if isinstance(v, jex.Literal) else environment[v]

    environment.update((v, constant(c, v.aval)) for v, c in zip(jaxpr.constvars, consts))
    environment.update(zip(jaxpr.invars, arguments))
    for position, eqn in enumerate(jaxpr.eqns):
        here, inner = path + (position,), equations.body(eqn)
        inside = "/".join(part for part in (scope, str(eqn.source_info.name_stack)) if part)
        inputs = [read(v) for v in eqn.invars]
        if eqn.primitive.name == "pvary":  # a constant as each device's own, in a `shard_map`: steps see to it themselves
            outputs = inputs
        elif inner is not None and opened(eqn, here):
            outputs = _lay(program, inner.jaxpr, inner.consts, inputs, here, inside, opened)
        elif eqn.primitive.name == "scan" and opened(eqn, here):
            outputs = _unroll(program, eqn, inputs, path, position, inside, opened)
        elif eqn.primitive.name == "cond" and (chosen := program.folded(inputs[0])) is not None:
            # A flag that is known when the model is traced: no choice at all.
            branches = equations.param(eqn, "branches")
            branch = branches[min(max(int(chosen), 0), len(branches) - 1)]
            outputs = _lay(program, branch.jaxpr, branch.consts, inputs[1:], here, inside, opened)
        else:
            outputs = [program.reference(v.aval) for v in eqn.outvars]
            name, unit = equations.called(eqn), equations.is_elementwise(eqn)
            program.add(Step(partial(equations.bind, eqn), tuple(inputs), tuple(outputs), name, eqn.params, inside, here, unit, eqn))
        environment.update(zip(eqn.outvars, outputs))
    return [read(v) for v in jaxpr.outvars]


def _unroll(program, eqn, inputs, path, position, scope, opened) -> list[int]:
    """Lays a scan open, one copy of its body for each iteration."""
    closed, length, order, consts, carry = equations.scan(eqn)
    fixed, state, stacked = inputs[:consts], inputs[consts : consts + carry], inputs[consts + carry :]
    collected: dict[int, list[int]] = {}

    def synthetic(name: str, fn: Callable, ins: list[int], aval: Any, at: Path, **params: Any) -> int:
        out = program.reference(aval)
        program.add(Step(lambda values: [fn(values)], tuple(ins), (out,), name, params, scope, at, False))
        return out

    for i in order:
        here = path + ((position, i),)
        slices = []
        for n, reference in enumerate(stacked):
            aval = program.avals[reference]
            aval = jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)
            slices.append(synthetic("scan_slice", lambda v, i=i: lax.index_in_dim(v[0], i, 0, False), [reference], aval, here + (-1 - n,), index=i))
        outputs = _lay(program, closed.jaxpr, closed.consts, fixed + state + slices, here, f"{scope}[{i}]", opened)
        state = outputs[:carry]
        collected[i] = outputs[carry:]
    stacks = []
    for n, v in enumerate(eqn.outvars[carry:]):
        ins = [collected[i][n] for i in range(length)]
        stacks.append(synthetic("scan_stack", jnp.stack, ins, v.aval, path + ((position, length), -1 - n)))
    return state + stacks


def _adapters(f: Model) -> int:
    """How many of jxai's own adapters hold the model: the weights' paths begin inside."""
    return 1 + _adapters(f.f) if isinstance(f, Adapter) else 0


def _clean(name: str) -> str:
    """A key path as a person writes it: `blocks[3].conv.kernel`, `params.first.kernel`."""
    name = re.sub(r"^\[<flat index \d+>\]\[\d+\]", "", name)  # the wrapping of a `jax.tree_util.Partial`
    name = re.sub(r"\['([^']*)'\]", r".\1", name)
    return re.sub(r"(\.raw_value|\.value)$", "", name).removeprefix(".")  # nnx ends it with the variable's own attribute
