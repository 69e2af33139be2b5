"""Finds the rectifiers of a traced function, however they are spelled: as one call, as `maximum(x, 0)`, `x * (x > 0)`, or written out in arithmetic.

A rectifier (`jxai.tracing.probes` says which functions are) begins at the nearest value of which the steps are a function, entry by entry; where several
steps that would do come together again, `relu(v) − a · relu(−v)`, it is the whole. What guards a root, a logarithm or a power against rounding is none, nor
is a clip of x itself to its range, nor a gate: a clamp that is a shifted sigmoid of what it is made of.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jxai.tracing.interpret import Program, Step
from jxai.tracing.probes import Chain

KNOWN = {"relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "swish", "mish", "softplus", "hard_silu", "hard_swish"}
_GUARDED = {"sqrt", "rsqrt", "log", "pow"}
_AFFINE = {"add", "sub", "neg", "copy", "convert_element_type", "reduce_precision"}
_MOVED = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "convert_element_type"}
_REDUCED = {"reduce_sum", "reduce_max", "reduce_min", "cumsum"}
_TINY = 1e-3
_FARTHEST, _LONGEST = 24, 64


@dataclasses.dataclass(frozen=True)
class Rectifier:
    """The steps that compute it, from one value to another; references are those of the program it was found in."""

    steps: tuple[Step, ...]
    argument: int
    value: int


def depending(program: Program, start: set[int]) -> set[int]:
    """The values that depend on these."""
    depends = set(start)
    for step in program.steps:
        if not depends.isdisjoint(step.inputs):
            depends.update(step.outputs)
    return depends


def rectifiers(program: Program, start: set[int] | None = None) -> list[Rectifier]:
    """The rectifiers of a program (one laid open `everywhere`), in order; of what depends on `start`, by default on x."""
    return _Finder(program, {program.inputs[-1]} if start is None else start).found()


class _Finder:
    """What is known of a program's values while its steps are read."""

    def __init__(self, program: Program, start: set[int]) -> None:
        self.program, self.depends = program, depending(program, start)
        self.place = {id(step): n for n, step in enumerate(program.steps)}
        self.users: dict[int, list[Step]] = {}
        for step in program.steps:
            for r in step.inputs:
                self.users.setdefault(r, []).append(step)
        self.given = set(start)
        """x, and what is x entry by entry."""
        self.before: dict[int, list[int]] = {}
        """Of each value the values of which it is a function, entry by entry; the nearest first."""
        self.kept: dict[int, Rectifier] = {}
        self.known: dict[tuple, tuple[bool, bool]] = {}

    def found(self) -> list[Rectifier]:
        for step in self.program.steps:
            varying = self.varying(step)
            if not varying or not step.outputs:
                continue
            if varying <= self.given and (step.unit or step.primitive in _MOVED):
                self.given.update(step.outputs)
            if step.unit:
                self.read(step, varying)
        return [self.kept[r] for r in sorted(self.kept, key=lambda r: self.place[id(self.program.makers[r])])]

    def varying(self, step: Step) -> set[int]:
        return {r for r in step.inputs if r in self.depends}

    def read(self, step: Step, varying: set[int]) -> None:
        value = step.outputs[0]
        shape = self.program.avals[value].shape
        chains = [[r, *self.before.get(r, ())] for r in sorted(varying)]
        common = [r for r in chains[0] if all(r in chain for chain in chains) and self.program.avals[r].shape == shape]
        self.before[value] = common[:_FARTHEST]
        for argument in self.before[value]:
            if argument in self.kept:
                return
            chain = Chain(self.program, self.between(argument, value), argument, value)
            if len(chain.steps) <= _LONGEST and not all(map(self.is_affine, chain.steps)) and self.rectifies(chain)[0]:
                self.keep(chain)
                return

    def between(self, argument: int, value: int) -> tuple[Step, ...]:
        """The steps by which the value is made of the argument, in order."""
        steps: dict[int, Step] = {}
        ask = [value]
        while ask:
            r = ask.pop()
            step = self.program.makers.get(r)
            if r == argument or r not in self.depends or step is None or self.place[id(step)] in steps:
                continue
            steps[self.place[id(step)]] = step
            ask.extend(step.inputs)
        return tuple(steps[n] for n in sorted(steps))

    def is_affine(self, step: Step) -> bool:
        return step.primitive in _AFFINE or (step.primitive in ("mul", "div") and len(self.varying(step)) == 1 and step.inputs[0] != step.inputs[-1])

    def rectifies(self, chain: Chain) -> tuple[bool, bool]:
        """Whether the chain is a rectifier, and a bounded one; equal chains are run once."""
        signature = chain.signature()
        if signature not in self.known:
            rectifies = chain.rectifies()
            self.known[signature] = rectifies, rectifies and chain.is_bounded()
        return self.known[signature]

    def keep(self, chain: Chain) -> None:
        if self.is_gate(chain):
            return
        if self.guards(chain) or (chain.argument in self.given and self.rectifies(chain)[1]):
            self.before[chain.value] = []  # nothing begins before it
            return
        inside = {id(step) for step in chain.steps}
        for r in [r for r in self.kept if id(self.program.makers[r]) in inside]:
            if r in self.program.outputs or any(id(user) not in inside for user in self.users.get(r, ())):
                return
            del self.kept[r]
        self.kept[chain.value] = Rectifier(tuple(chain.steps), chain.argument, chain.value)

    def is_gate(self, chain: Chain) -> bool:
        """Whether it is bounded, and no rectifier of the value of which, by numbers that are written down, its argument is made: `clip(v + 3, 0, 6)`."""
        if not self.rectifies(chain)[1]:
            return False
        r = chain.argument
        while r in self.program.makers and self.program.makers[r].unit and len(self.varying(self.program.makers[r])) == 1:
            step = self.program.makers[r]
            (below,) = self.varying(step)
            fixed = [self.program.constants.get(i) for i in step.inputs if i != below]
            if any(c is None or np.ndim(c) for c in fixed) or below in self.kept:
                return False
            if not self.rectifies(Chain(self.program, self.between(below, chain.value), below, chain.value))[0]:
                return True
            r = below
        return False

    def guards(self, chain: Chain) -> bool:
        """Whether it keeps a root, a logarithm or a power from what it cannot take: a clamp at a tiny number, or of a statistic that is not negative anyway."""
        step = chain.steps[-1]
        if step.primitive in KNOWN or not self.leads_to_guarded(chain.value):
            return False
        return 0 < chain.lowest() <= _TINY or self.is_statistic(chain.argument)

    def leads_to_guarded(self, value: int) -> bool:
        """Whether the value goes, by elementwise steps with what does not depend on x, into a root, a logarithm or a power."""
        follows = {value}
        for step in self.program.steps[self.place[id(self.program.makers[value])] + 1 :]:
            if follows.isdisjoint(step.inputs):
                continue
            if step.primitive in _GUARDED:
                return True
            if (step.unit or step.primitive in _MOVED) and self.varying(step) <= follows:
                follows.update(step.outputs)
        return False

    def is_statistic(self, value: int) -> bool:
        """Whether it is made of sums and maxima alone, as a variance is."""
        ask, seen, reduced = [value], set(), False
        while ask:
            r = ask.pop()
            step = self.program.makers.get(r)
            if r in seen or r not in self.depends:
                continue
            seen.add(r)
            if step is None:
                return False
            if step.primitive in _REDUCED:
                reduced = True
            elif step.unit or step.primitive in _MOVED:
                ask.extend(step.inputs)
            else:
                return False
        return reduced
