"""What of a call does not depend on numbers, found once; and the two halves of its run, forward and back."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.relevance import places, rules
from jxai.relevance.composites import Composite, named
from jxai.relevance.evaluating import evaluated
from jxai.relevance.parts import Parts, laid_open, parts
from jxai.relevance.passing import Setting, rule_of, walk
from jxai.relevance.places import Place
from jxai.scores import one_of, wide, within
from jxai.tracing import interpret
from jxai.typing import Array, Model

BIASES = ("absorb", "ignore")
BATCH_NORMS = ("fold", "pass", "epsilon")


class Relevance(NamedTuple):
    """Where the score came from.

    Attributes:
      map: x's shape, signed, in units of the score. absorbed: `[]`, what biases and stabilisers took, added up equation by equation.
      at: relevance at the layers that were asked for, each of its value's shape, after the masks of conditions.
    """

    map: Array
    absorbed: Array
    at: dict[Any, Array]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What of a call does not depend on numbers, and its options that may."""

    traced: interpret.Traced
    parts: Parts
    begins: int
    composite: Composite
    options: dict[str, Any]
    bias: str
    box: tuple[Any, Any] | None
    at: dict[Hashable, Place]
    conditions: dict[Hashable, Place]
    masks: dict[Hashable, Array]
    exclusive: bool

    @classmethod
    def make(
        cls,
        f: Model,
        x: Array,
        *,
        composite: str | Composite,
        epsilon: float,
        gamma: float,
        low: float | Array,
        high: float | Array,
        bias: str,
        batch_norm: str,
        at: Sequence[int | str],
        conditions: Mapping[Any, Any] | None,
        exclude_parallel: bool,
        start: int | str | None = None,
    ) -> Plan:
        """Reads f at x's shape; options as of `jxai.relevance.propagate`, `start`: the layer where relevance is given, None for the output."""
        table = named(composite)
        one_of("bias", bias, BIASES)
        one_of("batch_norm", batch_norm, BATCH_NORMS)
        within(0, np.finfo(np.float32).max, gamma=gamma)
        if isinstance(epsilon, numbers.Real) and not 0 < epsilon < np.inf:
            raise ValueError(f"{epsilon=} must be a number above 0: sums of 0 are divided by it")
        if isinstance(at, str) or not isinstance(at, Sequence):
            raise ValueError(f"{at=} must be a sequence of layers, as at=({at!r},)")
        if conditions is not None and not isinstance(conditions, Mapping):
            raise ValueError(f"{conditions=} must map each layer to its channels, as {{layer: [0, 1]}}")
        traced = interpret.trace(f, x)
        program = laid_open(traced)
        begins = program.outputs[0] if start is None else places.reference(program, traced, x, start, batch_norm)
        read = parts(program, batch_norm, begins)
        found = {name: places.find(read, traced, x, name) for name in at}
        masked = {name: places.find(read, traced, x, name) for name in conditions or {}}
        masks = {name: places.mask(place, name, (conditions or {})[name]) for name, place in masked.items()}
        if exclude_parallel:
            places.check_path(read, masked, begins)
        boxed = any(_is_box(rule_of(p, table)) for p in read.list if p.first)
        box = places.box(x, low, high) if boxed else None
        options = {"epsilon": epsilon, "gamma": gamma, "low": low, "high": high}
        return cls(traced, read, begins, table, options, bias, box, found, masked, masks, exclude_parallel)

    def run(self, x: Array, begin: Callable[[Array, Any], Array], given: Any) -> Relevance:
        """The walk from `begin(value, given)`, as one program where nothing is traced; what is given as a Python number is part of it."""
        fixed = given is None or isinstance(given, numbers.Integral)
        names = list(self.masks)

        def walked(weights: list[Array], x: Array, given_: Any, masks: list[Array], box: Any) -> tuple[Array, Array, list[Array]]:
            known, setting = self.forward(weights, x, box)
            out = self.back(known, setting, begin(known[self.begins], given if fixed else given_), dict(zip(names, masks)))
            return out.map, out.absorbed, list(out.at.values())

        arrays = self.traced.weights, x, None if fixed else given, [self.masks[name] for name in names], self.box
        found, absorbed, read = loops.staged(walked, *arrays)
        return Relevance(found, absorbed, dict(zip(self.at, read)))

    def run_many(self, x: Array, begin: Callable[[Array, Any], Array], given: Any, masks: Array, chunk: int) -> Array:
        """`[n, *x.shape]`: the map for each of n masks of the one layer of the conditions, `[n, …]`; forward, and back down to that layer, once."""
        fixed = given is None or isinstance(given, numbers.Integral)
        ((name, place),) = self.conditions.items()
        after, before = self.cut(place.value)
        masks = place.laid(masks, 1)

        def walked(weights: list[Array], x: Array, given_: Any, masks: Array, box: Any) -> Array:
            known, setting = self.forward(weights, x, box)
            pending, _ = walk(after, setting, known, {self.begins: begin(known[self.begins], given if fixed else given_)})
            arrived = pending.pop(place.value)
            beside = {} if self.exclusive else pending
            own = lambda i: walk(before, setting, known, {**beside, place.value: arrived * masks[i]})[0].get(
                self.parts.program.inputs[-1], jnp.zeros_like(wide(x))
            )
            return loops.stack(own, masks.shape[0], chunk)

        return loops.staged(walked, self.traced.weights, x, None if fixed else given, masks, self.box)

    def cut(self, value: int) -> tuple[Parts, Parts]:
        """The parts after a value, and those that make it and what comes before."""
        place = next(n for n, part in enumerate(self.parts.list) if value in part.outputs) + 1
        return dataclasses.replace(self.parts, list=self.parts.list[place:]), dataclasses.replace(self.parts, list=self.parts.list[:place])

    def forward(self, weights: list[Array], x: Array, box: Any) -> tuple[dict[int, Array], Setting]:
        """Every value at x, and of a z-box what x's bounds make of what is x moved, scaled and shifted."""
        program, values = self.parts.program, self.parts.values
        inputs = dict(zip(program.inputs, weights))
        known = evaluated(program, {**inputs, program.inputs[-1]: x})
        sides = None
        if box is not None:
            raw = [step for step in program.steps if all(map(values.raw, step.outputs)) or values.depends.isdisjoint(step.outputs)]
            low, high = (evaluated(program, {**inputs, program.inputs[-1]: side.astype(x.dtype)}, raw) for side in box)
            sides = low, high
        return known, Setting(self.composite, self.options, self.bias, values, sides)

    def back(self, known: dict[int, Array], setting: Setting, start: Array, masks: dict[Hashable, Array]) -> Relevance:
        """Relevance from what it is at the start, through the masks."""
        values, at_x = setting.values, self.parts.program.inputs[-1]
        masked: dict[int, list[Array]] = {}
        for name, place in self.conditions.items():
            masked.setdefault(place.value, []).append(masks[name])
        read: dict[Hashable, Array] = {}

        def meet(r: int, pending: dict[int, Array]) -> dict[int, Array]:
            if r in masked and r in pending:
                kept = functools.reduce(jnp.multiply, masked[r], pending[r])
                pending = {r: kept} if self.exclusive else {**pending, r: kept}
            here = pending.get(r, jnp.zeros(values.shape(r)))
            read.update((name, here.reshape(place.layer.shape)) for name, place in self.at.items() if place.value == r)
            return pending

        found, absorbed = walk(self.parts, setting, known, {self.begins: start}, meet)
        return Relevance(found.get(at_x, jnp.zeros(values.shape(at_x))), absorbed, {name: read[name] for name in self.at})


def _is_box(rule: Any) -> bool:
    inner = rule.func if isinstance(rule, functools.partial) else rule
    return inner is rules.z_box
