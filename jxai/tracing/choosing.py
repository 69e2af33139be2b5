"""Which intermediate value is meant: all of them listed, one by its name or number, and the last one with positions."""

from __future__ import annotations

import difflib
import functools
import numbers
import re
from typing import Any, NamedTuple

import jax.numpy as jnp

from jxai.scores import check_example
from jxai.tracing import axes, demand, interpret
from jxai.typing import Array


class Layer(NamedTuple):
    """An intermediate value that depends on x.

    Attributes:
      index: its number in `layers(f, x)`, in order of execution.
      name: the name scope it was traced in (linen) and the key paths of the weights it uses, for example
        `"CNN/conv1 params.conv1.kernel"` or `"blocks[3].conv.kernel"`.
      primitive: what computed it; of an activation the function's name, `"relu"`.
      shape, dtype: its own. place: which positions of x its entries stand for (see `jxai.tracing.axes`). grid: the map that it holds,
        None where it has no spatial extent. path, output: where the program computes it.
      seen: of a layer that was asked for, from where to where along each position axis of x it reads: less than all where the model crops.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of this name
    name: str
    primitive: str
    shape: tuple[int, ...]
    dtype: Any
    place: axes.Place
    grid: axes.Grid | None
    path: interpret.Path
    output: int
    seen: tuple[tuple[int, int], ...] = ()

    @property
    def spatial(self) -> bool:
        """Whether it holds a map over the positions of x."""
        return self.grid is not None

    def __str__(self) -> str:
        return f"{self.index} {self.name or '·'} {self.primitive} {list(self.shape)}"

    def __repr__(self) -> str:
        return f"<Layer {self}>"  # places and grids are pages of numbers


def listed(traced: interpret.Traced) -> tuple[interpret.Program, dict[int, axes.Place], list[Layer]]:
    """A traced function's program, the place of every value, and its layers."""
    program = interpret.flatten(traced, interpret.everywhere)
    places = axes.places(program)
    names = {r: {name} for r, name in zip(program.inputs, traced.names)}
    found: list[Layer] = []
    for step in program.steps:
        used = set().union(*(names.get(r, ()) for r in step.inputs))
        if places.keys().isdisjoint(step.outputs):
            names.update((r, used) for r in step.outputs)
            continue
        for n, r in enumerate(step.outputs):
            aval = program.avals[r]
            if jnp.issubdtype(aval.dtype, jnp.floating):
                name = " ".join(part for part in (step.scope, *sorted(used)) if part)
                found.append(Layer(len(found), name, step.primitive, aval.shape, aval.dtype, places[r], axes.grid(places[r], aval.shape), step.path, n))
    return program, places, found


def find_in(traced: interpret.Traced, x: Array, layer: int | str | None) -> Layer:
    """The layer that an option names (see `jxai.taps.find`)."""
    check_example(x)
    program, places, found = listed(traced)
    chosen = _last_spatial(program, places, found, x) if layer is None else _named(found, layer, x.ndim - 1)
    value = next(step.outputs[chosen.output] for step in program.steps if step.path == chosen.path)
    return chosen._replace(seen=demand.read_of(program, places, value))


def _named(found: list[Layer], layer: int | str, positions: int) -> Layer:
    name, stated = _stated(layer)
    if isinstance(name, str):
        whole = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        matches = [item for item in found if whole.search(item.name)] or [item for item in found if name in item.name]
        if not name or not matches:
            known = sorted({word for item in found for word in item.name.split()})
            near = difflib.get_close_matches(name, known, 5, 0.3) or known[:5]
            raise ValueError(f"{layer=} is part of no layer's name; the nearest are {', '.join(near) or 'none: use an index'}")
        chosen = ([item for item in matches if item.spatial] or matches)[-1]
    elif isinstance(name, bool) or not isinstance(name, numbers.Integral) or not 0 <= name < len(found):
        raise ValueError(f"{layer=} must be None, part of a name, or an index below {len(found)} of taps.layers(f, x)")
    else:
        chosen = found[name]
    if stated is None:
        return chosen
    try:
        return chosen._replace(grid=axes.stated(chosen.shape, *stated, positions=positions))
    except ValueError as error:
        raise ValueError(f"{layer=}: {error}") from error


def _stated(layer: int | str) -> tuple[int | str, tuple[tuple[int, ...], tuple[int, ...]] | None]:
    """A layer's name, and the axes and the map that follow an `@` in it."""
    said = re.fullmatch(r"(.*)@(\d+(?:,\d+)*)(?::(\d+(?:x\d+)*))?", layer) if isinstance(layer, str) else None
    if said is None:
        return layer, None
    name, along, sizes = said.groups()
    split = lambda text, by: tuple(int(part) for part in text.split(by)) if text else ()
    return int(name) if name.isdecimal() else name, (split(along, ","), split(sizes, "x"))


def _last_spatial(program: interpret.Program, places: dict[int, axes.Place], found: list[Layer], x: Array) -> Layer:
    """The last value from which the output is reached through positions.

    That is a value with a map, more than one of whose positions reach the output, that no other such value follows: not x itself, moved or
    scaled, and not an output's own map (that of one class of a segmentation, say), which would explain itself by itself.
    """
    references = {(step.path, n): r for step in program.steps for n, r in enumerate(step.outputs)}
    reach = demand.reaches(program, places)
    above = _ancestors(program)
    spatial = [(references[item.path, item.output], item) for item in found if item.spatial and not item.place.raw]
    spatial = [(r, item) for r, item in spatial if r in reach and axes.positions_reached(item.place, reach[r].asked) > 1]
    # No weights follow, and some of it is picked: the output's own.
    own = functools.reduce(lambda bits, r: bits | 1 << r, (r for r, _ in spatial if reach[r].picked and not reach[r].weighed), 0)
    candidates = [(r, item) for r, item in spatial if not (above[r] | 1 << r) & own]
    last = _ends(candidates, above)
    if len(last) > 1 and (one := _shared(program, places, candidates, last, above)):
        last = [one]
    ends = functools.reduce(lambda bits, one: bits | 1 << one[0], last, 0)
    hidden = [(step, r) for step in program.steps for r in step.outputs if r in reach and _hides(step, r, places) and (above[r] & ends or not ends)]
    strewn = [item for item in found if _strewn(item, reach.get(references[item.path, item.output])) and above[references[item.path, item.output]] & ends]
    if len(last) == 1 and not hidden and not strewn:
        return last[0][1]
    many, after = [item for item in found if len(item.shape) > 1], f" after layer {last[0][1]}" if len(last) == 1 else ""
    if hidden:
        step, r = hidden[0]
        what = f"positions cannot be followed through {step.primitive!r}{after}"
        shown = [item for item in many if references[item.path, item.output] == r or above[references[item.path, item.output]] >> r & 1][-6:]
        shown = shown or [item for _, item in last]
    elif strewn:
        what, shown = f"the positions of the values{after} are no grid", strewn[-6:]
    elif last:
        what, shown = "several values with spatial extent end apart", [item for _, item in last]
    else:
        what, shown = f"no value has spatial extent over x of shape {x.shape}", many[-6:]
    say = _with_axes(shown, max(1, x.ndim - 1))
    known = f"name one of: {'; '.join(map(str, shown))}{say}" if shown else "f is no network over positions, which its gradients and removals explain"
    raise ValueError(f"layer=None: {what}; {known}")


def _with_axes(shown: list[Layer], count: int) -> str:
    """How to say which axes are positions, of one that has as many axes of more than one place; nothing where positions are known."""
    if not shown or shown[0].spatial:
        return ""
    for item in shown:
        long = [axis for axis, size in enumerate(item.shape[:-1]) if size > 1][:count]
        if len(long) == count:
            return f" (and say which axes are positions, as in layer='{item.index}@{','.join(map(str, long))}')"
    return ""


def _strewn(item: Layer, reach: demand.Reach | None) -> bool:
    """Whether positions of a value, several of which reach the output, fill no grid."""
    known = len(item.place.fields) == 1 and all(c is not None for c in item.place.fields[0].coordinates)
    return known and not item.spatial and reach is not None and axes.positions_reached(item.place, reach.asked) > 1


def _ancestors(program: interpret.Program) -> list[int]:
    """Of each value what it is computed from: bit r of the v-th number is set where v follows from r."""
    above = [0] * len(program.avals)
    for step in program.steps:
        bits = functools.reduce(lambda bits, r: bits | above[r] | 1 << r, step.inputs, 0)
        for r in step.outputs:
            above[r] = bits
    return above


def _ends(candidates: list[tuple[int, Layer]], above: list[int]) -> list[tuple[int, Layer]]:
    """Those that no other follows."""
    followed = functools.reduce(lambda bits, candidate: bits | above[candidate[0]], candidates, 0)
    return [(r, item) for r, item in candidates if not followed >> r & 1]


def _shared(program, places, candidates, last, above) -> tuple[int, Layer] | None:
    """What keys and values were made from, where the last values meet in a product over their positions, as those of one attention layer do."""
    for step in program.steps:
        if step.primitive != "dot_general" or not all(r in places for r in step.inputs):
            continue
        contracted = step.param("dimension_numbers")[0]
        over = [any(field.axes & set(contracted[n]) for field in places[r].fields) for n, r in enumerate(step.inputs)]
        joined = functools.reduce(lambda bits, r: bits | above[r] | 1 << r, step.inputs, 0)
        if all(over) and all(joined >> r & 1 for r, _ in last):
            common = functools.reduce(lambda bits, candidate: bits & above[candidate[0]], last, -1)
            made = [(r, item) for r, item in candidates if common >> r & 1]
            return made[-1] if made else None
    return None


def _hides(step: interpret.Step, r: int, places: dict[int, axes.Place]) -> bool:
    """Whether a step is where positions were lost."""
    return r in places and bool(places[r].lost) and any(n in places and places[n].fields for n in step.inputs)
