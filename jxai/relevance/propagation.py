"""Relevance from a class, or from a layer, back to x: one forward pass, and one walk back over the parts of the traced function."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import Adapter, plainly
from jxai.relevance import places, rules
from jxai.relevance.composites import Composite, named
from jxai.relevance.parts import Parts, laid_open, parts
from jxai.relevance.passing import Setting, rule_of, walk
from jxai.relevance.places import Place
from jxai.scores import check_example, objective, one_of, scored, wide, within
from jxai.tracing import interpret
from jxai.typing import Array, Model

INITS = ("logit", "one", "absolute", "contrastive")
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


class Assignment(NamedTuple):
    """A part of a model and the rule that it gets.

    Attributes:
      name: primitive and name scope. shape: of its value. kind: the composite's field, or what has only one way. rule: its name and options. why: in words.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    rule: str
    why: str


@plainly
def propagate(
    f: Model,
    x: Array,
    target: int | Array | None,
    *,
    composite: str | Composite = "epsilon_plus_flat",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    bias: str = "absorb",
    batch_norm: str = "fold",
    init: str = "logit",
    score: str = "logit",
    at: Sequence[int | str] = (),
    conditions: Mapping[Any, Any] | None = None,
    exclude_parallel: bool = True,
) -> Relevance:
    """Layer-wise relevance propagation: the score, shared out step by step among what made it.

    `map.sum() + absorbed = start` (the score for `init="logit"`) for every rule that conserves: ε, norm, z⁺, αβ, γ, z-box, w², flat, identity, winner-takes-all, products by
    half and to the signal, a constant σ. The softmax rule of AttnLRP, `slope` and anything behind them do not conserve. γ does so entry by entry, but
    shares of mixed signs may be many times the whole.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None where f returns a scalar.
      composite: a name of `jxai.relevance.COMPOSITES`, or a `Composite` of one's own.
      epsilon: ε of every ε-type rule that sets none of its own, > 0. gamma: γ, ≥ 0. low, high: the range of x for the z-box, numbers or what broadcasts against x.
      bias: `"absorb"` (a bias takes its share) or `"ignore"` (it is left out of denominators: all goes to the inputs).
      batch_norm: `"fold"` (into the linear map before or after it), `"pass"` (it passes relevance on unchanged, the map keeps its own z) or `"epsilon"`
        (its shifts and scales are steps of their own).
      init: where the walk starts: the score itself, 1, its magnitude, or `"contrastive"`: the class's logit less the mean of the others', each keeping its own part.
      score: `"logit"` (the literature's), `"probability"` or `"sigmoid"`.
      at: layers (see `jxai.taps.find`) whose relevance is returned, too.
      conditions: by layer, which channels pass: numbers, or a mask that broadcasts against the layer's value. Masks of several layers multiply.
      exclude_parallel: whether only paths through all the layers of the conditions, in their order, are kept.

    Returns:
      The map, what was absorbed, and relevance at the layers asked for.

    Raises:
      ValueError: a composite that is not known, an option out of range, an equation without a rule (with its place), a layer that the score does not pass, a channel
        out of range, a z-box that does not hold x; see also `jxai.scores.objective`.

    Cost: 1 forward pass, and backward about as much as a gradient (ε), up to twice (z⁺, flat) or four times (γ and αβ of inputs of both signs) that.
    """
    one_of("init", init, INITS)
    if init == "contrastive" and target is None:
        raise ValueError("init='contrastive' needs a target among several classes, and target=None explains a scalar")
    objective(f, x, target, score)  # bad arguments fail before f is walked
    model = f if score == "logit" else _Scored(f, score)
    plan = _Plan.make(model, x, composite, bias, batch_norm, at, conditions, exclude_parallel, epsilon, gamma, low, high)

    def begin(out: Array, target: Any) -> Array:
        return _start(wide(out), target, init)

    return plan.run(x, plan.parts.program.outputs[0], begin, target)


@plainly
def propagate_from(
    f: Model,
    x: Array,
    layer: int | str,
    relevance: Array | None,
    *,
    composite: str | Composite = "epsilon_plus_flat",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    bias: str = "absorb",
    batch_norm: str = "fold",
    at: Sequence[int | str] = (),
    conditions: Mapping[Any, Any] | None = None,
    exclude_parallel: bool = True,
) -> Relevance:
    """As `propagate`, from relevance given at a layer instead of from a class.

    Args:
      layer: where it starts (see `jxai.taps.find`). relevance: what broadcasts against that layer's value; None starts from the value itself, of which conditions at the
        layer leave what is to be explained: a channel, a neuron.
      f, x, composite, epsilon, gamma, low, high, bias, batch_norm, at, conditions, exclude_parallel: as for `propagate`.

    Raises:
      ValueError: as `propagate`; relevance that does not broadcast against the layer's value.
    """
    check_example(x)
    plan = _Plan.make(f, x, composite, bias, batch_norm, at, conditions, exclude_parallel, epsilon, gamma, low, high, layer)
    shape = plan.parts.values.shape(plan.begins)
    if relevance is None:
        return plan.run(x, plan.begins, lambda out, _: wide(out), None)
    try:
        np.broadcast_shapes(jnp.shape(relevance), shape)
    except ValueError:
        raise ValueError(f"relevance of shape {jnp.shape(relevance)} must broadcast against {layer=}, {shape}") from None
    return plan.run(x, plan.begins, lambda out, given: jnp.broadcast_to(wide(given), shape), relevance)


@plainly
def assignments(f: Model, x: Array, composite: str | Composite = "epsilon_plus_flat", *, batch_norm: str = "fold") -> list[Assignment]:
    """Which rule each part of f gets, and why, in order of execution.

    Args:
      f: a model of x. x: one example. composite: a name, or a `Composite`. batch_norm: as for `propagate`.

    Raises:
      ValueError: an equation without a rule, with its place.
    """
    check_example(x)
    table = named(composite)
    read = parts(laid_open(interpret.trace(f, x)), one_of("batch_norm", batch_norm, BATCH_NORMS))
    return [Assignment(p.name, read.values.shape(p.outputs[0]), p.kind, _told(rule_of(p, table)), p.why) for p in read.list]


def _told(rule: Any) -> str:
    if rule is None:
        return "as it is"
    if isinstance(rule, functools.partial):
        given = ", ".join(f"{name}={value}" for name, value in rule.keywords.items())
        return f"{_told(rule.func)}({given})"
    return getattr(rule, "__name__", repr(rule))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Scored(Adapter):
    """A model whose outputs are scores."""

    f: Any
    score: str = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        return scored(wide(self.f(x)), self.score)


def _start(out: Array, target: Any, init: str) -> Array:
    """Relevance of the output."""
    if target is None:
        return {"logit": out, "one": jnp.ones_like(out), "absolute": jnp.abs(out)}[init]
    own = jnp.arange(out.shape[0]) == target
    inside = jnp.where((jnp.asarray(target) >= 0) & (jnp.asarray(target) < out.shape[0]), 1, jnp.nan)
    if init == "contrastive":
        if out.shape[0] < 2:
            raise ValueError("init='contrastive' compares a class with the mean of the others, but f has one")
        return inside * out * jnp.where(own, 1, -1 / (out.shape[0] - 1))
    value = {"logit": out, "one": jnp.ones_like(out), "absolute": jnp.abs(out)}[init]
    return inside * jnp.where(own, value, 0)


@dataclasses.dataclass(frozen=True)
class _Plan:
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
    def make(cls, f, x, composite, bias, batch_norm, at, conditions, exclude_parallel, epsilon, gamma, low, high, start=None) -> _Plan:
        table = named(composite)
        one_of("bias", bias, BIASES)
        one_of("batch_norm", batch_norm, BATCH_NORMS)
        within(0, np.inf, epsilon=epsilon, gamma=gamma)
        traced = interpret.trace(f, x)
        program = laid_open(traced)
        begins = program.outputs[0] if start is None else places.reference(program, traced, x, start)
        read = parts(program, batch_norm, begins)
        if start is not None:
            begins = read.owner.get(begins, begins)
        found = {name: places.find(read, traced, x, name) for name in at}
        masked = {name: places.find(read, traced, x, name) for name in conditions or {}}
        masks = {name: places.mask(place, name, (conditions or {})[name]) for name, place in masked.items()}
        if exclude_parallel:
            places.check_path(read, masked, begins)
        boxed = any(_is_box(rule_of(p, table)) for p in read.list if p.first)
        box = places.box(x, low, high) if boxed else None
        options = {"epsilon": epsilon, "gamma": gamma, "low": low, "high": high}
        return cls(traced, read, begins, table, options, bias, box, found, masked, masks, exclude_parallel)

    def run(self, x: Array, begins: int, begin: Any, given: Any) -> Relevance:
        """The walk, as one program where nothing is traced; a target that is a Python number is part of it."""
        fixed = given is None or isinstance(given, numbers.Integral)
        names = list(self.masks)

        def walked(weights: list[Array], x: Array, given_: Any, masks: list[Array], box: Any) -> tuple[Array, Array, list[Array]]:
            out = self._walk(weights, x, begins, lambda v: begin(v, given if fixed else given_), dict(zip(names, masks)), box)
            return out.map, out.absorbed, list(out.at.values())

        arrays = self.traced.weights, x, None if fixed else given, [self.masks[name] for name in names], self.box
        found, absorbed, read = loops.staged(walked, *arrays)
        return Relevance(found, absorbed, dict(zip(self.at, read)))

    def _walk(self, weights: list[Array], x: Array, begins: int, begin: Any, masks: dict, box: Any) -> Relevance:
        program, values = self.parts.program, self.parts.values
        inputs = dict(zip(program.inputs, weights))
        known = interpret.run(program, {**inputs, program.inputs[-1]: x})
        sides = None
        if box is not None:
            raw = [step for step in program.steps if all(map(values.raw, step.outputs)) or values.depends.isdisjoint(step.outputs)]
            sides = tuple(interpret.run(program, {**inputs, program.inputs[-1]: side.astype(x.dtype)}, raw) for side in box)
        setting = Setting(self.composite, self.options, self.bias, values, sides)
        named_by = {place.value: name for name, place in self.conditions.items()}
        read: dict[Hashable, Array] = {}

        def meet(r: int, pending: dict[int, Array]) -> dict[int, Array]:
            if r in named_by and r in pending:
                masked = pending[r] * masks[named_by[r]]
                pending = {r: masked} if self.exclusive else {**pending, r: masked}
            read.update((name, pending.get(r, jnp.zeros(values.shape(r)))) for name, place in self.at.items() if place.value == r)
            return pending

        found, absorbed = walk(self.parts, setting, known, {begins: begin(known[begins])}, meet)
        return Relevance(found.get(program.inputs[-1], jnp.zeros_like(wide(x))), absorbed, {name: read[name] for name in self.at})


def _is_box(rule: Any) -> bool:
    inner = rule.func if isinstance(rule, functools.partial) else rule
    return inner is rules.z_box
