"""How a model is called: a batch or one example, where its channels are, its pixels, its inputs one by one. What is not said, an example shows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import outputs
from jxai.adapters.recognition import Native
from jxai.adapters.wrappers import INTEGERS, Batched, ChannelsFirst, Holding, NoOutput, Output, Pixels, Spread
from jxai.callables import compiled, fresh, is_array
from jxai.scores import one_of
from jxai.typing import PyTree

TOLERANCE = 1e-4
"""By which two ways of calling a model may differ, relative to its largest output, and be one."""


@dataclasses.dataclass(frozen=True)
class Convention:
    """What was said of a model's convention; None is what was not."""

    batched: bool | None = None
    channels: str | None = None
    pixels: dict[str, Any] | None = None
    path: tuple[str | int, ...] = ()
    explain: str | int | None = None

    def __post_init__(self) -> None:
        if self.channels is not None:
            one_of("channels", self.channels, ("last", "first"))
        if self.batched not in (None, True, False):
            raise ValueError(f"batched={self.batched!r} must be True, False or None")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way of calling a model."""

    batched: bool
    channels: str
    spread: bool

    def wrapped(self, native: Native, asked: Convention, example: PyTree) -> Any:
        """The model called this way, as one of one example."""
        f = Output(Spread(native.call) if self.spread else native.call, asked.path)
        f = Batched(f) if self.batched else f
        if asked.explain is not None:
            f = Holding(f, {name: example[name] for name in named(example) if name != asked.explain}, asked.explain)
        f = ChannelsFirst(f) if self.channels == "first" else f
        return Pixels(f, **asked.pixels) if asked.pixels else f

    def __str__(self) -> str:
        return f"batched={self.batched}, channels={self.channels!r}" + (", its inputs one by one" if self.spread else "")


def named(example: PyTree) -> list[Any] | None:
    """The names or places of several inputs; None of one.

    Raises:
      ValueError: an input is no array, or a name no string.
    """
    if not isinstance(example, (tuple, list, dict)):
        if example is not None and not is_array(example):
            raise ValueError(f"example must be an array, or a tuple or a dictionary of arrays, got {type(example).__name__}")
        return None
    names = list(example) if isinstance(example, dict) else list(range(len(example)))
    for name in names:
        if not is_array(example[name]):
            raise ValueError(f"example[{name!r}] must be an array, got {type(example[name]).__name__}")
    if not names:
        raise ValueError(f"{example=} must hold an input")
    if isinstance(example, dict) and not all(isinstance(name, str) for name in names):
        raise ValueError(f"example must name its inputs by strings, got {names}; inputs by their places are a tuple")
    return names


def explained(example: PyTree, explain: str | int | None) -> PyTree:
    """What of an example is explained: itself, or the input of that name or place."""
    return example if explain is None else example[explain]


def pixels_of(pixels: tuple[float, float] | None, mean: Any, std: Any, dtype: str | None) -> dict[str, Any] | None:
    """The options of `Pixels`, None where nothing is asked.

    Raises:
      ValueError: they are no numbers, or there is no range between them, or the type is unknown.
    """
    if pixels is None and mean is None and std is None and dtype is None:
        return None
    try:
        dtype = None if dtype is None else jnp.dtype(dtype).name
    except TypeError as error:
        raise ValueError(f"{dtype=} must be the name of a type, such as 'uint8' or 'bfloat16'") from error
    ends = _numbers("pixels", ((0, 255) if dtype in INTEGERS else (0, 1)) if pixels is None else pixels)
    centre, unit = _numbers("mean", 0 if mean is None else mean), _numbers("std", 1 if std is None else std)
    if len(ends) != 2 or ends[0] == ends[1]:
        raise ValueError(f"{pixels=} must be what 0 and 1 become, (low, high)")
    if min(unit) <= 0:
        raise ValueError(f"{std=} must be positive")
    if dtype is not None and dtype not in INTEGERS and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{dtype=} must be a floating-point type, or one of {', '.join(INTEGERS)}, to which pixels are rounded")
    if dtype in INTEGERS and (mean is not None or std is not None):
        raise ValueError(f"{dtype=} are whole numbers, which {mean=} and {std=} would not leave whole: a model of such pixels normalises them itself")
    return dict(range=ends, mean=centre, std=unit, dtype=dtype)


def _numbers(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={value!r} must be numbers") from error
    if numbers.ndim > 1 or not numbers.size or not np.isfinite(numbers).all():
        raise ValueError(f"{name}={value!r} must be a finite number, or one for each channel")
    return tuple(map(float, numbers.reshape(-1)))


def settled(native: Native, asked: Convention, example: PyTree | None) -> Any:
    """The model as one of one example, called in the way that was said or that the example shows.

    Raises:
      ValueError: no way works on the example, or several do and give different numbers.
    """
    batched, channels = _first(asked.batched, native.batched), _first(asked.channels, native.channels)
    if example is None:
        if native.reference is not None:
            raise ValueError(
                "example=None: this model is translated, and its answer to an example shows that the numbers are its own framework's: pass example=x"
            )
        return Way(bool(batched), channels or "last", False).wrapped(native, asked, None)
    names = named(example)
    x = explained(example, asked.explain)
    placed = is_array(x) and x.ndim > 1  # whether there are channels at all
    if not placed:
        channels = "last"
    elif asked.channels is None and native.channels == "first" and x.ndim == 2:
        channels = None  # of a series either is common
    spread = (False,) if names is None else (False, True)
    usual = _ways(_both(batched, False, True), _both(channels, "last", "first"), spread)
    open_ways = _ways(_both(asked.batched, False, True), _both(asked.channels if placed else "last", "last", "first"), spread)
    tried: dict[Way, str | None] = {}
    for ways in (usual, open_ways):  # what is usual for the kind of model goes before what an example merely shows
        tried |= {way: _tried(way.wrapped(native, asked, example), x) for way in ways if way not in tried}
        fits = [way for way, said in tried.items() if said is None]
        if fits:
            _agree(fits, native, asked, example, x)
            if native.reference is not None:
                _translated(fits[0], native, asked, example, x)
            return fits[0].wrapped(native, asked, example)
    raise ValueError(_nothing_works(native, asked, example, x, tried))


def _ways(*each: tuple[Any, ...]) -> list[Way]:
    return [Way(*way) for way in itertools.product(*each)]


def _first(said: Any, usual: Any) -> Any:
    return usual if said is None else said


def _both(said: Any, *known: Any) -> tuple[Any, ...]:
    return known if said is None else (said,)


def _tried(f: Any, x: PyTree) -> str | None:
    """None where f takes x and returns a vector or a number; else what it says."""
    try:
        out = jax.eval_shape(fresh(f), x)
    except NoOutput:  # whichever way it is called
        raise
    except Exception as error:  # whatever a stranger's model raises
        return f"{error}".strip() or type(error).__name__
    shape = getattr(out, "shape", None)
    if shape is None or len(shape) > 1 or 0 in shape:
        return f"it returns {shape}, not logits [K]"
    return f"it returns complex numbers, {out.dtype}, not logits" if jnp.issubdtype(out.dtype, jnp.complexfloating) else None


def _nothing_works(native: Native, asked: Convention, example: PyTree, x: PyTree, tried: dict[Way, str | None]) -> str:
    said = {}
    for way, error in tried.items():
        said.setdefault(_short(error), []).append(way)
    if len(said) == 1 and len(tried) > 1:
        words = next(iter(said))
    else:
        words = "; ".join(f"with {' or '.join(map(str, ways))}: {error}" for error, ways in said.items())
    every = _ways((False, True), ("last", "first"), tuple({way.spread for way in tried}))
    others = [way for way in every if way not in tried and _tried(way.wrapped(native, asked, example), x) is None]
    hint = f". It works with {' or '.join(map(str, others))}" if others else ""
    return f"the model does not give logits of example {_shape(x)}: {words}{hint}{native.hint and f' ({native.hint})'}"


def _short(error: str, most: int = 400) -> str:
    words = " ".join(error.split())
    return words if len(words) <= most else words[: most - 1] + "…"


def _shape(x: PyTree) -> Any:
    return jax.tree.map(lambda v: str(list(v.shape)), x) if isinstance(x, (tuple, list, dict)) else list(x.shape)


def _agree(fits: list[Way], native: Native, asked: Convention, example: PyTree, x: PyTree) -> None:
    """Raises ValueError unless all of these ways give the same numbers of the example."""
    if len(fits) < 2:
        return
    said = ", or ".join(map(str, fits))
    fs = [way.wrapped(native, asked, example) for way in fits]
    if not all(outputs.concrete(f, v) for f in fs for v in jax.tree.leaves(x)):
        raise ValueError(f"the model can be called in several ways, and while it is traced nothing shows which: pass {said}")
    for at in (x, _uneven(x)):
        first, *others = (np.asarray(compiled(f, at), np.float64).reshape(-1) for f in fs)
        for other in others:
            if not _same(other, first, TOLERANCE):
                raise ValueError(f"the model can be called in several ways, which give different numbers: pass {said}")


def _same(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Whether numbers are the same but for a tolerance, relative to the largest finite one."""
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0)
    return found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=tolerance * largest, equal_nan=True)


def _uneven(x: PyTree) -> PyTree:
    """x with other entries everywhere: what is all zeros, or the same along an axis, shows neither which axis is which nor what weights do."""

    def one(v: Any) -> Any:
        if not jnp.issubdtype(v.dtype, jnp.floating):
            return v
        places = np.random.default_rng(0).uniform(0.1, 0.9, np.shape(v))
        return jnp.asarray(0.5 * np.asarray(v, np.float32) + places, v.dtype)

    return jax.tree.map(one, x)


def _translated(way: Way, native: Native, asked: Convention, example: PyTree, x: PyTree) -> None:
    """Raises ValueError unless a translation gives the numbers that the model's own framework gives."""
    f, own = way.wrapped(native, asked, example), way.wrapped(native._replace(call=native.reference), asked, example)
    if not all(outputs.concrete(f, v) for v in jax.tree.leaves(x)):
        raise ValueError("a translated model is compared with its own framework, which no trace knows: adapt it outside of jit")
    for at in (x, _uneven(x)):
        try:
            expected = own(at)
        except Exception as error:  # whatever a stranger's framework raises
            raise ValueError(f"the model's own framework does not take example {_shape(x)}: {_short(str(error) or type(error).__name__)}") from error
        found = compiled(f, at)
        kinds = {leaf.dtype for leaf in (*jax.tree.leaves(native.call), found) if is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)}
        most = max([TOLERANCE, *(16 * float(jnp.finfo(kind).eps) for kind in kinds)])
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        if not _same(found, expected, most):
            said = f"by {np.abs(found - expected).max():.3g}" if found.shape == expected.shape else f"{found.shape} against {expected.shape}"
            raise ValueError(
                f"the translation to JAX gives other numbers of the example than the model's own framework ({said}): "
                "an operation is translated wrongly, or the model draws random numbers"
            )
