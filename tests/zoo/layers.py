"""What the networks of the zoo are built from."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

K = 5
SHAPES = {"IMAGE": (16, 16, 3), "MOVING": (16, 16, 3), "RECTIFIED": (16, 16, 3), "SERIES": (12, 4), "VECTOR": (8,), "VIDEO": (4, 12, 12, 3)}


def weights(seed, *shapes):
    """He-scaled kernels with small biases: `[(w, b), …]`, fan-in all but the last axis."""
    rng = np.random.default_rng(seed)
    return [(_drawn(rng, shape, (2 / np.prod(shape[:-1])) ** 0.5), _drawn(rng, shape[-1:], 0.1)) for shape in shapes]


def filled(model, seed, fan=slice(None, -1)):
    """A framework's model of shapes, as `eval_shape` of its initialisation gives it, with random weights: drawn by NumPy, nothing is compiled.

    Kernels are scaled by their fan-in, the axes `fan`; scales and variances are in [0.5, 1.5]; biases and means are not 0 either.
    """
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if not jnp.issubdtype(leaf.dtype, jnp.floating):  # the state of a dropout layer
            return jax.random.key(seed) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros(leaf.shape, leaf.dtype)
        name = jax.tree_util.keystr(path)
        if "scale" in name or "var" in name:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        return _drawn(rng, leaf.shape, 0.2 if "bias" in name or "mean" in name else (2 / np.prod(leaf.shape[fan])) ** 0.5)

    return jax.tree_util.tree_map_with_path(fill, model)


def _drawn(rng, shape, scale):
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)


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
