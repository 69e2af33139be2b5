"""Relevance from a class, or from a layer, back to x: one forward pass, and one walk back over the parts of the traced function."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import Adapter, plainly
from jxai.relevance.composites import Composite, named
from jxai.relevance.parts import laid_open, parts
from jxai.relevance.passing import rule_of
from jxai.relevance.plan import BATCH_NORMS, Plan, Relevance
from jxai.scores import check_example, objective, one_of, scored, wide
from jxai.tracing import interpret, taps
from jxai.typing import Array, Model

INITS = ("logit", "one", "absolute", "contrastive")


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

    Cost: 1 forward pass, and backward about as much as a gradient (ε), up to twice (z⁺, flat) or three times (γ, and αβ of inputs of both signs) that.
    """
    options = {"epsilon": epsilon, "gamma": gamma, "low": low, "high": high, "bias": bias, "batch_norm": batch_norm, "exclude_parallel": exclude_parallel}
    plan = _plan(f, x, target, init, score, composite=composite, at=at, conditions=conditions, **options)
    return plan.run(x, functools.partial(_start, init=init), target)


@plainly
def propagate_each(
    f: Model,
    x: Array,
    target: int | Array | None,
    layer: int | str,
    masks: Array,
    *,
    chunk: int | None = None,
    init: str = "logit",
    score: str = "logit",
    **options: Any,
) -> Array:
    """The map of relevance through each of many masks of one layer; what is above the layer is done once.

    Args:
      layer: which (see `jxai.taps.find`). masks: `[n, …]`, each of which broadcasts against the layer's value. chunk: masks at once (None: `jxai.loops.at_once`); memory is
        bounded by it, and by the result.
      f, x, target, init, score: as for `propagate`; options: its others (`composite`, `epsilon`, …, `exclude_parallel`), but for `at` and `conditions`.

    Returns:
      `[n, *x.shape]`.

    Raises:
      ValueError: as `propagate`; masks that do not fit the layer.

    Cost: 1 forward pass, and one walk back from the layer for each mask.
    """
    defaults = {name: p.default for name, p in inspect.signature(propagate).parameters.items() if p.kind is p.KEYWORD_ONLY and name not in ("init", "score")}
    own = [name for name in defaults if name not in ("at", "conditions")]
    if wrong := [name for name in options if name not in own]:
        raise ValueError(
            f"{wrong[0]}={options[wrong[0]]!r} is no option of propagate_each, which has masks of one layer and returns maps alone; known are {', '.join(own)}"
        )
    size = loops.at_once(x, chunk)
    plan = _plan(f, x, target, init, score, **{**defaults, **options, "conditions": {layer: True}})
    shape = plan.conditions[layer].layer.shape
    try:
        fits = np.broadcast_shapes(jnp.shape(masks)[1:], shape) == shape and jnp.ndim(masks) > 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"masks of shape {jnp.shape(masks)} must be n, each of which broadcasts against {layer=}, {shape}")
    return plan.run_many(x, functools.partial(_start, init=init), target, wide(jnp.asarray(masks, jnp.float32)), size)


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
    options = {"epsilon": epsilon, "gamma": gamma, "low": low, "high": high, "bias": bias, "batch_norm": batch_norm, "exclude_parallel": exclude_parallel}
    plan = Plan.make(f, x, composite=composite, at=at, conditions=conditions, start=layer, **options)
    if relevance is None:
        return plan.run(x, lambda out, _: wide(out), None)
    shape = taps.find(f, x, layer).shape
    try:
        fits = np.broadcast_shapes(jnp.shape(relevance), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"relevance of shape {jnp.shape(relevance)} must broadcast against {layer=}, {shape}")
    return plan.run(x, lambda out, given: jnp.broadcast_to(wide(given), shape).reshape(out.shape), relevance)


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


def _plan(f: Model, x: Array, target: Any, init: str, score: str, **options: Any) -> Plan:
    one_of("init", init, INITS)
    if init == "contrastive" and target is None:
        raise ValueError("init='contrastive' needs a target among several classes, and target=None explains a scalar")
    objective(f, x, target, score)  # bad arguments fail before f is walked
    return Plan.make(f if score == "logit" else _Scored(f, score), x, **options)


def _start(out: Array, target: Any, init: str) -> Array:
    """Relevance of the output."""
    out = wide(out)
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
