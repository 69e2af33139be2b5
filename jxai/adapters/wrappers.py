"""Adapters of one thing each: a batch axis, channels first, another range of pixels, several inputs, several outputs, probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import HELD, Adapter, Static, partition
from jxai.typing import Array, PyTree

INTEGERS = ("uint8", "uint16", "int32")


def _static(**options: Any) -> Any:
    return dataclasses.field(metadata={"static": True}, **options)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batched(Adapter):
    """A model that wants a batch, `f([B, …]) -> [B, K]`, as a model of one example; of several inputs each gets the axis.

    Raises, when called:
      ValueError: of a batch of 1 the model returns another number of rows: it is one of single examples.
    """

    f: Any

    def __call__(self, x: PyTree) -> Array:
        out = self.f(jax.tree.map(lambda v: jnp.asarray(v)[None], x))
        if jnp.shape(out)[:1] != (1,):
            raise ValueError(f"f, of a batch, must return a row for each example, but of 1 it returns shape {jnp.shape(out)}")
        return out[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ChannelsFirst(Adapter):
    """A model that wants its channels first, `f([C, …])`, as one of `[…, C]`."""

    f: Any

    def __call__(self, x: Array) -> Array:
        return self.f(jnp.moveaxis(x, -1, 0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pixels(Adapter):
    """A model whose pixels are others as one of pixels in [0, 1]: `f((low + (high − low) · x − mean) / std)`, and whole numbers if it wants these.

    Attributes:
      range: what 0 and 1 become. mean, std: a number or one for each channel, in the units of `range`.
      dtype: None leaves x's; an integer one rounds, which has no derivative: it raises ValueError where one is asked for.

    Raises, when called:
      ValueError: there are as many means as x has no channels, or x is of whole numbers, which are no pixels in [0, 1].
    """

    f: Any
    range: tuple[float, float] = _static(default=(0.0, 1.0))
    mean: tuple[float, ...] = _static(default=(0.0,))
    std: tuple[float, ...] = _static(default=(1.0,))
    dtype: str | None = _static(default=None)

    def __call__(self, x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"x must be of floating-point numbers, pixels in [0, 1], got {x.dtype}: divide pixels of bytes by 255")
        if not x.ndim:
            raise ValueError("x must have an axis of channels, got a number")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, x.shape[-1]):
                raise ValueError(f"{name}={values} must be one number or one for each of the {x.shape[-1]} channels of x {list(x.shape)}")
        (low, high), as_x = self.range, lambda v: np.asarray(v, x.dtype)
        x = x if (low, high) == (0, 1) else as_x(low) + as_x(high - low) * x
        if (self.mean, self.std) != ((0.0,), (1.0,)):
            x = (x - as_x(self.mean)) / as_x(self.std)
        if self.dtype is None:
            return self.f(x)
        return self.f(_rounded(x, self.dtype) if self.dtype in INTEGERS else x.astype(self.dtype))


def _rounded(x: Array, dtype: str) -> Array:
    kind = np.iinfo(dtype)

    @jax.custom_jvp
    def whole(x: Array) -> Array:
        return jnp.clip(jnp.round(x), kind.min, kind.max).astype(dtype)

    @whole.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        raise ValueError(
            f"{dtype=}: rounded pixels have no derivative: explain by black-box methods, or leave dtype out if the model takes floats in its range"
        )

    return whole(x)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spread(Adapter):
    """A model that takes its inputs one by one, `f(a, b)` or `f(image=a, age=b)`, as one of a tuple or a dictionary of them."""

    f: Any

    def __call__(self, x: tuple | dict[str, Array]) -> Any:
        return self.f(**x) if isinstance(x, dict) else self.f(*x)


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Told(Adapter):
    """A model that takes more than its inputs: `f(*inputs, **arrays, **options)`.

    Attributes:
      arrays: what of the arguments is arrays: leaves, but no weights. rest: what else they are (static).
    """

    f: Any
    arrays: list[Array]
    rest: Static

    def __call__(self, *inputs: PyTree, **named: PyTree) -> Any:
        return self.f(*inputs, **self.rest.combine(self.arrays), **named)

    def tree_flatten_with_keys(self) -> Any:
        key = jax.tree_util.GetAttrKey
        return [(key("f"), self.f), (key(HELD), self.arrays)], self.rest

    @classmethod
    def tree_unflatten(cls, rest: Static, children: Any) -> Told:
        return cls(children[0], children[1], rest)

    def __described__(self) -> dict[str, Any]:
        return {"f": self.f, "arguments": self.rest.combine(self.arrays)}


def told(f: Any, arguments: Mapping[str, Any]) -> Any:
    """f with these arguments at every call: arrays in them are traced, the rest is static."""
    return Told(f, *partition(dict(arguments))) if arguments else f


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Holding(Adapter):
    """A model of several inputs as one of the input `at`, while the others are held: they are leaves, but no weights.

    Attributes:
      held: the others, by name or place. at: the name, or the place, of the one that x becomes.
    """

    f: Any
    held: dict[Any, PyTree]
    at: str | int

    def __call__(self, x: Array) -> Any:
        inputs = {**self.held, self.at: x}
        return self.f(inputs if isinstance(self.at, str) else tuple(inputs[i] for i in range(len(inputs))))

    def tree_flatten_with_keys(self) -> Any:
        key = jax.tree_util.GetAttrKey
        return [(key("f"), self.f), (key(HELD), self.held)], self.at

    @classmethod
    def tree_unflatten(cls, at: str | int, children: Any) -> Holding:
        return cls(f=children[0], held=children[1], at=at)


class NoOutput(ValueError):
    """Of what a model returns it was not said which array is meant, or it is not there."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Output(Adapter):
    """A model that returns several arrays as one that returns the one at `path`: keys, attributes or places, one after another.

    Raises, when called:
      ValueError: there is nothing at the path, or it is empty and there are several arrays; the message lists them.
    """

    f: Any
    path: tuple[str | int, ...] = _static(default=())

    def __call__(self, x: PyTree) -> Array:
        out = self.f(x)
        found = parts(out)
        if not self.path and len(found) == 1:
            return next(iter(found.values()))
        if not self.path or self.path not in found:
            what = "the model returns several arrays" if not self.path else f"output={_said(self.path)!r} is nothing that the model returns"
            listed = ", ".join(f"output={_said(path)!r} {list(jnp.shape(leaf))}" for path, leaf in found.items())
            raise NoOutput(f"{what}: pass one of {listed}" if found else f"the model returns no array but {type(out).__name__}: {out!r:.80}")
        return found[self.path]


def parts(out: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Array]:
    """The arrays in what a model returned, by their paths: in dictionaries, tuples, lists and dataclasses, registered or not."""
    if isinstance(out, Mapping):
        held = out.items()
    elif hasattr(out, "_fields"):
        held = zip(out._fields, out)
    elif isinstance(out, (tuple, list)):
        held = enumerate(out)
    elif dataclasses.is_dataclass(out) and not isinstance(out, type) and not hasattr(out, "shape"):
        held = ((field.name, getattr(out, field.name)) for field in dataclasses.fields(out))
    else:
        return {path: out} if hasattr(out, "shape") and hasattr(out, "dtype") else {}
    return {at: leaf for name, value in held for at, leaf in parts(value, (*path, name)).items()}


def _said(path: tuple[str | int, ...]) -> Any:
    return path[0] if len(path) == 1 else path


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogProbabilities(Adapter):
    """A model that returns probabilities, `f(x) -> p [K]`, as one of logits: `log p`, whose softmax is p again.

    The logarithm of less than the least normal number (1e-38 in float32) is that number's, and has no derivative.
    """

    f: Any

    def __call__(self, x: PyTree) -> Array:
        p = _floating(self.f(x))  # or votes
        return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LogOdds(Adapter):
    """A model that returns a probability for each of K labels, of which several may hold, as one of logits: `log p − log(1 − p)`, whose sigmoid is p again.

    It is cut where p or 1 − p is less than the numbers' own precision at 1 (6e-8 in float32, ±16.6), and has no derivative there.
    """

    f: Any

    def __call__(self, x: PyTree) -> Array:
        p = _floating(self.f(x))
        least = np.asarray(jnp.finfo(p.dtype).epsneg, p.dtype)
        p = jnp.clip(p, least, 1 - least)
        return jnp.log(p) - jnp.log1p(-p)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Logits(Adapter):
    """A model that returns one logit as a number, as one of a vector of one."""

    f: Any

    def __call__(self, x: PyTree) -> Array:
        return jnp.atleast_1d(self.f(x))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Value(Adapter):
    """A model that returns one number, in whatever shape, as one of a scalar, which `target=None` explains.

    Raises, when called:
      ValueError: it returns more than one.
    """

    f: Any

    def __call__(self, x: PyTree) -> Array:
        out = self.f(x)
        if jnp.size(out) != 1:
            raise ValueError(f"returns='value' is of a model of one number, but this one's has shape {jnp.shape(out)}")
        return jnp.reshape(out, ())


def _floating(p: Any) -> Array:
    p = jnp.asarray(p)
    return p if jnp.issubdtype(p.dtype, jnp.floating) else p.astype(jnp.float32)
