"""What the networks of the zoo are built from."""

import jax
import jax.numpy as jnp
from jax import lax

K = 5
SHAPES = {"IMAGE": (16, 16, 3), "VECTOR": (8,), "VIDEO": (4, 12, 12, 3)}


def weights(key, *shapes):
    """He-scaled kernels with small biases: `[(w, b), …]`, fan-in all but the last axis."""
    out = []
    for k, shape in zip(jax.random.split(key, len(shapes)), shapes):
        kw, kb = jax.random.split(k)
        fan_in = 1
        for n in shape[:-1]:
            fan_in *= n
        out.append((jax.random.normal(kw, shape) * (2 / fan_in) ** 0.5, 0.1 * jax.random.normal(kb, shape[-1:])))
    return out


def shaken(tree, key):
    """Adds noise to every float leaf, so that the biases and statistics that a framework starts at 0 or 1 are not trivial."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([leaf + 0.1 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape) for i, leaf in enumerate(leaves)])


def conv(x, wb, stride=1, padding="SAME"):
    """One convolution of `[H, W, C]`, or of `[T, H, W, C]` for a kernel of rank 5."""
    w, b = wb
    n = w.ndim - 2
    names = ("NHWC", "HWIO", "NHWC") if n == 2 else ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(x[None], w, (stride,) * n, padding, dimension_numbers=names)[0] + b


def dense(x, wb):
    return x @ wb[0] + wb[1]


def max_pool(x, size=2):
    return lax.reduce_window(x, -jnp.inf, lax.max, (size, size, 1), (size, size, 1), "VALID")


def avg_pool(x, size=2):
    return lax.reduce_window(x, 0.0, lax.add, (size, size, 1), (size, size, 1), "VALID") / size**2
