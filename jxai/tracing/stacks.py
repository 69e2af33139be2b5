"""The layers of attention of a traced function as a stack over the same tokens: which these are, which of them are read out, and where they lie in x.

A layer belongs to the stack if each of its tokens looks at all of them, in one order: as positions of x are followed through the program (`axes`), its queries
lie where its keys do. What pools all tokens by one query is the stack's end.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from jxai.scores import check_example
from jxai.tracing import demand, interpret
from jxai.tracing.attention import Attention, attentions
from jxai.tracing.choosing import Layer, listed
from jxai.tracing.fields import Place
from jxai.tracing.interpret import Path, Program, Traced
from jxai.tracing.rectifiers import depending
from jxai.typing import Array, Model

_POOLS = "one query reads all tokens"


@dataclasses.dataclass(frozen=True)
class Mixing:
    """One attention as matrices over tokens.

    Attributes:
      path: of the step that computes the probabilities. order: their axes, those of heads first, then of queries, then of keys. shape: `(heads, queries, keys)`.
    """

    path: Path
    order: tuple[int, ...]
    shape: tuple[int, int, int]

    def matrices(self, probabilities: Array) -> Array:
        """`[heads, queries, keys]`."""
        return probabilities.transpose(self.order).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class Stack:
    """Self-attentions that follow one another, over the same tokens.

    Attributes:
      traced: the function. layers: in order of execution. pooling: the attention by which one query reads the last one's tokens, if there is one.
      read: which tokens of the last layer reach the output, `[tokens]`, booleans.
      carrier: a layer that holds the tokens as the first attention looks at them; it says where they lie in x. along: its axes of tokens.
    """

    traced: Traced
    layers: tuple[Mixing, ...]
    pooling: Mixing | None
    read: np.ndarray
    carrier: Layer
    along: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        return self.layers[0].shape[2]


def stack(f: Model, x: Array) -> Stack:
    """The self-attentions of `f(x)` over the same tokens.

    Raises:
      ValueError: f has no attention that reaches its output, or one that is not of such a stack: between other tokens, in windows, over channels, beside another
        one; with all that were found. Or tokens that are no grid over the positions of x.
    """
    check_example(x)
    traced = interpret.trace(f, x)
    program, places, layers = listed(traced)
    reach = demand.reaches(program, places)
    found = [one for one in attentions(program) if one.probabilities in reach]
    if not found:
        raise ValueError("f has no attention (a softmax that weighs values of x in a matrix product) that its output depends on; take a method that needs none")
    said = [_Reading(program, places, one) for one in found]
    last = said[-1]
    pooling, own = (last, said[:-1]) if last.kind == "pooling" else (None, said)
    wrong = _wrong(program, own, pooling)
    if wrong:
        shown = "; ".join(f"{n} of {list(one.shape)}{': ' + one.why if one.why else ''}" for n, one in enumerate(said))
        raise ValueError(f"f is no stack of self-attentions over the same tokens: {wrong}; its attentions are {shown}")
    asked = np.broadcast_to(reach[own[-1].found.probabilities].asked, own[-1].shape)
    heads = tuple(a for a in range(asked.ndim) if a not in own[-1].queries)
    first = own[0].found
    place = first.product.inputs.index(first.values)
    along = tuple(d for d in first.product.param("dimension_numbers")[0][place] if program.avals[first.values].shape[d] > 1)
    carrier = _carrier(program, layers, first.values)
    if carrier is None or carrier.grid is None:
        raise ValueError("f's tokens are no grid over the positions of x; explain f from the tokens on: their embeddings as x")
    carrier = carrier._replace(seen=demand.read_of(program, places, first.values))
    return Stack(traced, tuple(one.mixing() for one in own), pooling and pooling.mixing(), asked.any(heads).ravel(), carrier, along)


class _Reading:
    """An attention with where its queries and keys lie in x."""

    def __init__(self, program: Program, places: dict[int, Place], found: Attention) -> None:
        self.found, self.shape = found, program.avals[found.probabilities].shape
        place = places[found.probabilities]
        lines = [c for field in place.fields for c in field.coordinates if c is not None]
        moving = {a for c in lines for a in range(c.ndim) if c.shape[a] > 1}
        self.queries = tuple(a for a in found.queries if a in moving)
        self.windows = tuple(a for a in (*found.heads, *found.queries) if a in moving and a not in self.queries)
        self.at_queries, self.at_keys = (self.coordinates(place, dims) for dims in (self.queries, found.keys))
        self.why = self.told(place)
        self.kind = "self" if not self.why else "pooling" if self.why == _POOLS else "other"

    def coordinates(self, place: Place, dims: tuple[int, ...]) -> np.ndarray | None:
        """Where the tokens along these axes lie, `[positions of x, tokens]`; None where that changes along other axes, or no field is theirs."""
        for field in place.fields:
            if field.axes and field.axes <= set(dims) and all(c is not None for c in field.coordinates):
                sizes = [self.shape[a] if a in dims else 1 for a in range(len(self.shape))]
                return np.stack([np.broadcast_to(c, sizes).ravel() for c in field.coordinates])  # type: ignore[arg-type]
        return None

    def told(self, place: Place) -> str:
        """Why it is no self-attention over tokens of x; empty where it is one."""
        if place.lost:
            return f"positions cannot be followed through {place.lost!r}"
        if self.windows:
            return "in windows, each with tokens of its own"
        if self.at_keys is None:
            return "what is looked at are no positions of x"
        if not self.queries:
            return _POOLS if self.mixing().shape[1] == 1 else "queries that are no tokens read the tokens"
        if self.at_queries is None or not np.array_equal(self.at_queries, self.at_keys, equal_nan=True):
            return "tokens look at other tokens"
        return ""

    def mixing(self) -> Mixing:
        queries = self.queries or self.found.queries  # one that is no token has one place
        rest = tuple(a for a in range(len(self.shape)) if a not in (*queries, *self.found.keys))
        count = lambda dims: math.prod(self.shape[a] for a in dims)
        sizes = count(rest), count(queries), count(self.found.keys)
        return Mixing(self.found.softmax.steps[-1].path, (*rest, *queries, *self.found.keys), sizes)


def _wrong(program: Program, own: list[_Reading], pooling: _Reading | None) -> str:
    """What keeps these from being a stack."""
    if not own:
        return "one query reads all tokens, which do not look at each other before"
    for n, one in enumerate(own):
        if one.kind != "self":
            return f"attention {n} is none"
    for n, one in enumerate([*own, *([pooling] if pooling else [])][1:], 1):
        if not np.array_equal(one.at_keys, own[0].at_keys, equal_nan=True):  # type: ignore[arg-type]
            return f"attention {n} is over other tokens than attention 0"
    values = [one.found for one in own]
    for n, (before, after) in enumerate(zip(values, values[1:]), 1):
        if after.probabilities not in depending(program, {before.mixed}):
            return f"attention {n} is beside attention {n - 1}, not after it"
    return ""


def _carrier(program: Program, layers: list[Layer], values: int) -> Layer | None:
    """The listed layer whose value this is."""
    step = program.makers.get(values)
    return None if step is None else next((one for one in layers if one.path == step.path and step.outputs[one.output] == values), None)
