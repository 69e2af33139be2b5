"""What a training does on the device: one update at a time, on the weights of any pytree."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jxai.callables import Static, is_array, partition
from jxai.typing import Array

Loss = Callable[[Any, Array, Array | None, Array], tuple[Array, dict[str, Array]]]
"""`(model, x [B, …], y [B] or None, key) -> (what is minimised, numbers to record)`.

One that has a function `check(model, x, y)` as an attribute is asked about the whole data before a training."""


class Part(NamedTuple):
    """What one of several alternating optimisers does, as in adversarial training."""

    loss: Loss
    optimizer: optax.GradientTransformation
    trains: tuple[str, ...] = ()
    """Attributes (keys, paths such as "generator.layers") of the model that it changes; all for none. Each part sees what the parts before it have changed."""
    steps: int = 1
    """Updates in each step of the whole, on a batch each."""
    name: str = ""
    """Its numbers are recorded as `name/loss` …"""
    again: bool = False
    """Whether its updates see the last batches of the parts before once more, rather than new ones."""


class Form(NamedTuple):
    """What of a model is static, and which of its arrays are trained: by name, None for one that is not."""

    rest: Static
    names: tuple[str | None, ...]
    streams: tuple[bool, ...] = ()
    """Which of its other arrays are keys of an nnx module's random numbers, as dropout draws them."""

    def model(self, weights: dict[str, Array], fixed: list[Array]) -> Any:
        fixed = iter(fixed)
        return self.rest.combine([next(fixed) if name is None else weights[name] for name in self.names])

    def drawn(self, fixed: list[Array], key: Array) -> list[Array]:
        """The other arrays with streams of their own for a key: else every update would draw the same numbers, a training one mask."""
        bits = jax.random.bits(key, dtype=jnp.uint32)
        return [jax.random.fold_in(leaf, bits) if stream else leaf for leaf, stream in zip(fixed, self.streams, strict=True)]


def formed(model: Any, parts: Sequence[Part]) -> tuple[Form, dict[str, Array], list[Array]]:
    """A model as its form, the weights that the parts train, and its other arrays.

    Raises:
      ValueError: a part that trains nothing.
    """
    _, rest = partition(model)
    names, weights, fixed, streams, floating = [], {}, [], [], set()
    nodes, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=lambda node: isinstance(node, nnx.Variable))
    for path, node in nodes:
        leaves = jax.tree_util.tree_leaves_with_path(node)
        for inner, leaf in leaves:
            if not is_array(leaf):
                continue
            name = _named(path if len(leaves) == 1 else (*path, *inner))
            trainable = jnp.issubdtype(leaf.dtype, jnp.floating) and (isinstance(node, nnx.Param) or not isinstance(node, nnx.Variable))
            floating |= {name} if trainable else set()
            if trainable and any(_owns(part, name) for part in parts):
                names.append(name)
                weights[name] = jnp.asarray(leaf, leaf.dtype)  # without its weak type, which an update would end
            else:
                names.append(None)
                fixed.append(jnp.asarray(leaf))
                streams.append(isinstance(node, nnx.RngKey) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))
    for n, part in enumerate(parts):
        if not trained_by(part, weights):
            known = ", ".join(sorted({name.split(".")[0] for name in floating})) or "none"
            raise ValueError(f"parts[{n}].trains={part.trains} names no weights of the model, which has {known}")
    return Form(rest, tuple(names), tuple(streams)), weights, fixed


def _named(path: tuple) -> str:
    return ".".join(str(getattr(entry, "name", getattr(entry, "key", getattr(entry, "idx", entry)))) for entry in path)


def _owns(part: Part, name: str) -> bool:
    return not part.trains or any(name == one or name.startswith(one + ".") for one in part.trains)


def batches(parts: Sequence[Part]) -> int:
    """How many batches a step of the whole takes."""
    return sum(part.steps for part in parts if not part.again)


def trained_by(part: Part, weights: dict[str, Array]) -> dict[str, Array]:
    """The weights that a part trains, by name."""
    return {name: w for name, w in weights.items() if _owns(part, name)}


@functools.partial(jax.jit, static_argnames=("form", "part", "seeds"))
def update(weights, optimizer, fixed, x, y, rows, key, number, *, form: Form, part: Part, seeds: bool):
    """One update of a part on rows `[B]` of the data: all weights, the part's optimiser, and the numbers to record.

    A program of its own, not the body of a loop: XLA's CPU backend runs convolutions in loops three times slower (measured on a flow: 0.37 s of
    processor time against 0.12), and what calling it costs, a fraction of a millisecond, overlaps with the one before.
    """

    def one(weights, optimizer, fixed, rows, key):
        noise = jax.random.fold_in(key, number)
        here = form.drawn(fixed, noise)

        def objective(own):
            value, more = _called(part.loss, form.model({**weights, **own}, here), x[rows], None if y is None else y[rows], noise)
            return value, {"loss": value, **more}

        own = trained_by(part, weights)
        gradient, values = jax.grad(objective, has_aux=True)(own)
        change, optimizer = part.optimizer.update(gradient, optimizer, own)
        return {**weights, **optax.apply_updates(own, change)}, optimizer, {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}

    return (jax.vmap(one) if seeds else one)(weights, optimizer, fixed, rows, key)


@functools.partial(jax.jit, static_argnames="seeds")
def finite(weights: dict[str, Array], *, seeds: bool) -> Array:
    """Whether all weights are finite, `[]` or `[S]`."""
    one = lambda weights: jnp.stack([jnp.isfinite(leaf).all() for leaf in weights.values()]).all()
    return (jax.vmap(one) if seeds else one)(weights)


@functools.partial(jax.jit, static_argnames=("form", "part", "seeds"))
def loss(weights, fixed, x, y, key, start, *, form: Form, part: Part, seeds: bool) -> Array:
    """A part's loss of one batch."""

    def one(weights, fixed, key):
        noise = jax.random.fold_in(key, start)
        return _called(part.loss, form.model(weights, form.drawn(fixed, noise)), x, y, noise)[0]

    return (jax.vmap(one) if seeds else one)(weights, fixed, key)


@functools.partial(jax.jit, static_argnames=("size", "seeds"))
def permutation(key: Array, epoch: int, *, size: int, seeds: bool) -> Array:
    """`[size]` or `[S, size]`: the order of the data in an epoch."""
    one = lambda key: jax.random.permutation(jax.random.fold_in(key, epoch), size)
    return (jax.vmap(one) if seeds else one)(key)


def _called(loss: Loss, model: Any, x: Array, y: Array | None, key: Array) -> tuple[Array, dict[str, Array]]:
    """The loss of a batch, uint8 pixels of which become x in [0, 1]."""
    found = loss(model, x.astype(jnp.float32) / 255 if x.dtype == jnp.uint8 else x, y, key)
    if not isinstance(found, tuple) or len(found) != 2 or jnp.shape(found[0]) != () or not isinstance(found[1], dict):
        raise ValueError(f"loss must return (scalar, {{name: scalar}}), got {jax.tree.map(jnp.shape, found)}")
    return found
