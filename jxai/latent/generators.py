"""What methods ask of a generator: `decode(z) -> x` and `encode(x) -> z` of one example, as methods of a pytree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.scores import check_example, wide
from jxai.typing import Array, Generator, PyTree


def encoded(generator: Generator, x: Array) -> PyTree:
    """`encode(x)`, float32 or wider.

    Raises:
      ValueError: bad x, no generator, or one whose examples have another shape than x.
    """
    check_generator(generator, x)
    return jax.tree.map(wide, generator.encode(wide(x)))


def check_generator(generator: Generator, x: Array) -> PyTree:
    """What `jax.eval_shape` says of a code; ValueError unless the generator encodes x, and decodes that to x's shape."""
    check_example(x)
    for name in ("encode", "decode"):
        if not callable(getattr(generator, name, None)):
            raise ValueError(f"generator={type(generator).__name__} must have a method {name}: decode(z) -> x and encode(x) -> z")
    kind, example = type(generator).__name__, jax.ShapeDtypeStruct(x.shape, jnp.float32)
    try:
        code = jax.eval_shape(lambda v: generator.encode(v), example)
        out = jax.eval_shape(lambda z: generator.decode(z), code)
    except (TypeError, ValueError) as error:
        raise ValueError(f"generator={kind} does not take x of shape {x.shape}: {error}") from None
    if getattr(out, "shape", None) != x.shape:
        raise ValueError(f"generator={kind} makes examples of shape {getattr(out, 'shape', None)}, but x has {x.shape}")
    return code


def check_code(code: Any, expected: PyTree, name: str) -> PyTree:
    """The code as arrays, float32 or wider; ValueError unless it has the structure and shapes of `expected`, as `check_generator` returns it."""
    given, wanted = jax.tree.flatten(code), jax.tree.flatten(expected)
    if given[1:] != wanted[1:] or [*map(jnp.shape, given[0])] != [*map(jnp.shape, wanted[0])]:
        shapes = lambda tree: jax.tree.map(jnp.shape, tree)
        raise ValueError(f"{name} must be a code of the generator, of shape {shapes(expected)}, got {shapes(code)}: generator.encode makes one of an example")
    return jax.tree.map(lambda v: wide(jnp.asarray(v)), code)


def encodings(generator: Generator, examples: Array) -> Array:
    """`[n, *shape of z]`: the codes of examples `[n, *shape]`, 256 at once; compiled anew for each call."""
    return jax.jit(lambda v: jax.tree.map(wide, loops.map(generator.encode, wide(v), batch_size=256)))(jnp.asarray(examples))
