"""A program as parts, each of a kind that a composite has a rule for: what a step *is*, read off the graph.

A part may be one equation or several that belong together: a linear map with its bias and a batch norm, an activation however it is spelled, a softmax, the
factor of a normalisation, a value less its own mean. Parts are looked for from the output backwards, so that what carries no relevance needs no rule.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jxai.relevance.chains import MOVES, ROUNDED, Scaled, Values, is_single
from jxai.relevance.factors import Factors
from jxai.relevance.linear import BIJECTIVE, foldable
from jxai.tracing import interpret, linear
from jxai.tracing.interpret import Program, Step

CONVOLUTIONS = linear.PRODUCTS - {"mul", "dot_general"}
BILINEAR = linear.PRODUCTS - {"mul"}
SUMS = frozenset(("reduce_sum", "reduce_window_sum", "cumsum", "add_any", "scatter-add"))
_MAXIMA = frozenset(("max", "min", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min"))
_NEAR = frozenset(("clamp", "clip()", "min", "log", "log1p", "sqrt", "rsqrt", "pow", "integer_pow", "square", "exp", "exp2", "relu6()", "div"))
"""Functions that a number added before them belongs to: `clip(v + 3, 0, 6)`, `log(v + eps)`."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Steps that relevance passes in one go.

    Attributes:
      kind: `"convolution"`, `"dense"`, `"sum"`, `"average_pooling"`, `"activation"`, `"max_pooling"`, `"normalisation"`, `"product"`, `"matrix_product"`,
        `"softmax"` (a composite has a rule for each), `"move"`, `"scale"`, `"shift"`, `"kept"` or `"choice"` (which have one way).
      inputs: what relevance goes to, references. outputs: what it comes from. step: the one that gives the outputs; of a linear map the map itself.
      before, after: of a linear map the constant shifts and scales that are folded into it. why: in words.
      gate: of a product the operand that takes none. axes: of a softmax. first: whether it is a linear map that nothing but moves and constants come before.
      steps: all of them. branches: of a choice the parts of each branch.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    step: Step
    why: str
    steps: tuple[Step, ...] = ()
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    gate: int | None = None
    axes: tuple[int, ...] = ()
    first: bool = False
    branches: tuple[Parts, ...] = ()

    @property
    def name(self) -> str:
        """Primitive, name scope and shape, for messages."""
        return f"{self.step.primitive} {self.step.scope}".strip()


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts that relevance passes, in order of execution.

    Attributes:
      program: laid open. values: what is known of its values. list: the parts. owner: of a value inside a part the part's own value.
    """

    program: Program
    values: Values
    list: tuple[Part, ...]
    owner: dict[int, int]


def laid_open(traced: interpret.Traced) -> Program:
    """The program with every call open but for activations of one value, which are named as calls (`relu()`): a function may be called as a primitive is."""
    program = interpret.flatten(traced, lambda eqn, path: not is_single(eqn))
    program.steps = [dataclasses.replace(step, primitive=f"{step.primitive}()") if step.called else step for step in program.steps]
    program.makers = {r: step for step in program.steps for r in step.outputs}
    return program


def parts(program: Program, batch_norm: str = "fold", output: int | None = None) -> Parts:
    """Reads a program, from its first output (or the value `output`) backwards.

    Raises:
      ValueError: an equation that no rule can be given to, with its place.
    """
    reader, end = _Reader(program, batch_norm, Values(program)), program.outputs[0] if output is None else output
    if end in reader.values.depends and not reader.values.carries(end):
        raise reader.held(end)
    return reader.read([end])


class _Reader:
    def __init__(self, program: Program, batch_norm: str, values: Values) -> None:
        self.program, self.batch_norm, self.values = program, batch_norm, values
        self.factors = Factors(program, self.values)

    def read(self, outputs: list[int]) -> Parts:
        found: dict[int, Part] = {}  # by place
        needed = {r for r in outputs if self.values.carries(r)}
        waiting = sorted(needed, key=self._at)
        while waiting:
            r = waiting.pop()
            if r not in self.program.makers:
                continue
            part = self.part(r)
            found[self._at(r)] = part
            for i in part.inputs:
                if i not in needed:
                    needed.add(i)
                    waiting.append(i)
            waiting.sort(key=self._at)
        ordered = tuple(found[n] for n in sorted(found))
        owner = {r: part.outputs[0] for part in ordered for step in part.steps for r in step.outputs if r not in needed}
        return Parts(self.program, self.values, ordered, owner)

    def _at(self, r: int) -> int:
        return self.values.place.get(r, -1)

    def part(self, r: int) -> Part:
        """What makes a value."""
        step = self.program.makers[r]
        values = self.values
        if not values.is_float(r):
            raise self.unsupported(step, "relevance does not pass through whole numbers")
        if found := self.factors.softmax(r):
            return Part("softmax", (found.argument,), (r,), step, f"softmax along {found.axes}, proved by its values", found.steps, axes=found.axes)
        if joined := values.joined(r):
            source, steps = joined
            return Part("activation", (source,), (r,), step, f"{len(steps)} steps are one function of one value, entry by entry", steps)
        if mapped := self.linear(r):
            return mapped
        data = values.data(step)
        if not data:
            raise self.held(r)
        return self.alone(step, r, data)

    def linear(self, r: int) -> Part | None:
        """A linear map, with what is folded into it, that ends in a value."""
        chain: list[Step] = []
        at = r
        while (step := self.program.makers.get(at)) is not None and step.primitive not in BILINEAR:
            scaled = self.values.scaled(at)
            if (scaled is None and step.primitive not in BIJECTIVE) or len(chain) > 16 or at not in self.values.depends or self._is_held(scaled):
                return None
            chain.insert(0, step)
            at = self._argument(step) if scaled is None else scaled.argument
        if step is None or at not in self.values.depends or len(data := self.values.data(step)) != 1:
            return None
        if chain and chain[-1].primitive in BIJECTIVE:
            return None  # the map ends before the move
        plain = BIJECTIVE | ROUNDED | {"add"}
        own = next((n for n, one in enumerate(chain) if one.primitive not in plain), len(chain))
        bias, rest = chain[:own], chain[own:]
        while rest and bias and bias[-1].primitive in BIJECTIVE:
            rest.insert(0, bias.pop())
        if rest and self.batch_norm == "pass":
            return Part("kept", (self._argument(rest[-1]),), (r,), rest[-1], "batch_norm='pass'", (rest[-1],))
        if rest and (self.batch_norm == "epsilon" or not foldable(step, data[0], chain, self.values)):
            return None
        kind = "convolution" if step.primitive in CONVOLUTIONS else "dense"
        before = self._before(data[0])
        source = self._argument(before[0]) if before else data[0]
        first = self.values.raw(data[0])
        folded = [what for what, has in (("bias", bias), ("what follows", rest), ("what comes before", before)) if has]
        why = f"linear in {'x' if first else 'one value'}" + (f"; folded in: {', '.join(folded)}" if folded else "")
        return Part(kind, (source,), (r,), step, why, (*before, step, *chain), tuple(before), tuple(chain), first=first)

    def _argument(self, step: Step) -> int:
        return self.values.data(step)[0]

    def _before(self, r: int) -> list[Step]:
        """The moves, shifts and scales before a linear map that are folded into it: from the first shift on."""
        chain: list[Step] = []
        while (step := self.program.makers.get(r)) is not None:
            moves = step.primitive in MOVES and r in self.values.depends and len(self.values.data(step)) == 1 and step.primitive not in ("sort", "top_k")
            scaled = self.values.scaled(r)
            if not (moves or scaled) or self._is_held(scaled) or self.linear_ends(r):
                break
            chain.insert(0, step)
            r = self._argument(step)
        if self.batch_norm != "fold" and not self.values.raw(r):
            return []
        changes = [n for n, one in enumerate(chain) if one.primitive not in MOVES | ROUNDED]
        return chain[changes[0] :] if changes else []

    def linear_ends(self, r: int) -> bool:
        """Whether a value is what leaves a linear map."""
        while (step := self.program.makers.get(r)) is not None and step.primitive not in BILINEAR:
            scaled = self.values.scaled(r)
            if (scaled is None and step.primitive not in BIJECTIVE) or r not in self.values.depends:
                return False
            r = self._argument(step) if scaled is None else scaled.argument
        return step is not None and r in self.values.depends

    def alone(self, step: Step, r: int, data: list[int]) -> Part:
        """The part of a step that belongs to no other."""
        name, both = step.primitive, tuple(dict.fromkeys(data))
        make = lambda kind, why, inputs=both, **more: Part(kind, tuple(inputs), (r,), step, why, (*more.pop("steps", ()), step), **more)
        if name in MOVES:
            outputs = tuple(o for o in step.outputs if self.values.is_float(o))
            return dataclasses.replace(make("move", "moves entries and changes none"), outputs=outputs)
        if name == "cond":
            outputs = tuple(o for o in step.outputs if self.values.is_float(o))
            return dataclasses.replace(make("choice", "one of several branches"), outputs=outputs, branches=self.branches(step))
        if name in SUMS:
            several = sum(map(self.values.is_float, step.inputs)) > 1
            return make("sum" if several else "average_pooling", "adds values, a constant perhaps" if several else "adds entries up")
        if name in BILINEAR:
            if len(data) == 2:
                return make("matrix_product", "a product of two values, summed", data, gate=self._gate(data))
            return make("convolution" if name in CONVOLUTIONS else "dense", "linear in one value", first=self.values.raw(data[0]))
        if name in _MAXIMA and (len(both) > 1 or name not in ("max", "min") or not self.values.held.isdisjoint(step.inputs)):
            return make("max_pooling", "the greatest of several")
        if len(both) == 1 and (scaled := self.values.scaled(r)) is not None:
            return self.affine(step, r, scaled, make)
        if step.unit and len(both) == 1 and len(data) <= 2:
            return self.activation(step, both[0], make)
        if name in ("add", "sub") and len(data) == 2:
            if centred := self.factors.centred(r):
                return make("sum", "a value less its own mean", (centred.argument,), steps=centred.steps)
            return make("sum", "the sum of two values", data)
        if name in ("mul", "div") and len(data) == 2:
            if (factor := self.factors.normalises(step)) is not None:
                return make("normalisation", "a value times a factor that undoes its own scale", data, gate=factor)
            return make("product", "a product of two values", data, gate=self._gate(data))
        raise self.unsupported(step)

    def branches(self, step: Step) -> tuple[Parts, ...]:
        """The parts of the branches of a conditional."""
        read = []
        for closed in step.param("branches"):
            program = laid_open(interpret.Traced(closed, [], [], None))
            start = {inner for inner, r in zip(program.inputs, step.inputs[1:]) if self.values.carries(r)}
            read.append(_Reader(program, self.batch_norm, Values(program, start)).read(program.outputs))
        return tuple(read)

    def affine(self, step: Step, r: int, scaled: Any, make: Any) -> Part:
        if self._is_held(scaled):
            return make("kept", "what the code holds constant takes none")
        if scaled.shift is None:
            return make("scale", "scaled by a constant" if step.primitive not in ROUNDED else "kept, or rounded")
        source = self.program.makers.get(scaled.argument)
        after = source is not None and ((source.unit and self.values.scaled(scaled.argument) is None) or self.values.is_gate(scaled.argument))
        if after and self.values.written(scaled.shift) is not None:
            return make("activation", "a number added to an activation belongs to it")
        if self.batch_norm == "pass" and self.in_batch_norm(r):
            return make("kept", "batch_norm='pass'")
        return make("shift", "a constant is added")

    def activation(self, step: Step, source: int, make: Any) -> Part:
        """A function of one value; what is added before it in the code, as in `clip(v + 3, 0, 6)`, belongs to it."""
        steps: list[Step] = []
        at = source
        while step.primitive in _NEAR and (scaled := self.values.scaled(at)) is not None and self._is_written(scaled):
            steps.insert(0, self.program.makers[at])
            at = scaled.argument
        if any(one.primitive in ("add", "sub") for one in steps):
            return make("activation", "a function of one value, entry by entry, with the numbers added before it", (at,), steps=tuple(steps))
        return make("activation", "a function of one value, entry by entry", (source,))

    def _is_written(self, scaled: Scaled) -> bool:
        return all(c is None or self.values.written(c) is not None for c in (scaled.factor, scaled.divisor, scaled.shift))

    def _is_held(self, scaled: Scaled | None) -> bool:
        return scaled is not None and not self.values.depends.isdisjoint((scaled.shift, scaled.factor, scaled.divisor))

    def in_batch_norm(self, r: int) -> bool:
        """Whether an affine step stands among others that scale by what the model holds, after anything but a normalisation by statistics of x."""
        chain, at = [], r
        while (scaled := self.values.scaled(at)) is not None:
            chain.append(scaled)
            at = scaled.argument
        start = self.program.makers.get(at)
        if start is not None and start.primitive in ("mul", "div") and len(self.values.data(start)) == 2:
            return False
        at = r
        while len(users := self.values.users(at)) == 1 and (scaled := self.values.scaled(users[0].outputs[0])) is not None:
            chain.append(scaled)
            at = users[0].outputs[0]
        return any(by is not None and self.values.written(by) is None for one in chain for by in (one.factor, one.divisor))

    def _gate(self, data: list[int]) -> int | None:
        """Which of two operands is a gate (a sigmoid, a hard sigmoid, a softmax); None where neither or both are."""
        gates = [self.values.is_gate(r) or self.factors.is_softmax(r) for r in data]
        return gates.index(True) if gates.count(True) == 1 else None

    def held(self, r: int) -> ValueError:
        """What to say of a value that carries no relevance: where it is lost."""
        while held := [i for i in self.program.makers[r].inputs if i in self.values.held and i in self.program.makers]:
            r = held[-1]
        why = "from here on x is reached only through what carries no relevance: whole or complex numbers, choices, what is held constant"
        return self.unsupported(self.program.makers[r], why)

    def unsupported(self, step: Step, why: str = "") -> ValueError:
        shapes = ", ".join(str(list(self.values.shape(r))) for r in step.inputs)
        where = f"step {self._at(step.outputs[0])} of the trace" + (f", in {step.scope!r}" if step.scope else "")
        said = why or "it has no rule for relevance"
        return ValueError(f"{step.primitive!r} of {shapes} ({where}): {said}; write it with operations that jxai.relevance lists, or explain f up to there")
