"""A small net over digits whose channels can be computed by hand, and runs of it."""

import jax
import jax.numpy as jnp
import numpy as np

from jxai import concepts, data

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(size=(3, 3, 1, 6)).astype(np.float32)
DENSE = RANDOM.normal(size=(6, 10)).astype(np.float32)
LIMIT, COUNT = 30, 7


def net(weights, x):
    kernel, dense = weights
    h = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    return jax.nn.relu(h).sum((0, 1)) @ dense


def model():
    return jax.tree_util.Partial(net, [jnp.asarray(KERNEL), jnp.asarray(DENSE)])


def collected(out, source=None, **options):
    return concepts.collect(model(), source or data.Digits(), None, out, **{"by": "activation", "limit": LIMIT, "block": 8, "batch_size": 2, **options})


def hidden(x):
    """`[8, 8, 6]`: the layer of a digit, by NumPy."""
    padded = np.pad(np.asarray(x, np.float64)[..., 0], 1)
    return np.maximum(sum(padded[i : i + 8, j : j + 8, None] * KERNEL[i, j, 0] for i in range(3) for j in range(3)), 0)


def expected(run, of, reduction="sum"):
    """Shares and places `[n, C]` of what `of(x, target) -> [8, 8, 6]` says of the run's examples."""
    shares, places, table = [], [], run.table()
    for index, target in zip(table["index"], table["target"]):
        value = of(np.float32(data.Digits()[int(index)].pixels) / 255, int(target)).reshape(64, 6)
        total = value.sum(0) if reduction == "sum" else value.max(0)
        shares.append(total / np.abs(total).sum())
        places.append(value.argmax(0))
    return np.asarray(shares), np.asarray(places)


def bytes_of(run):
    """All files of a run but its locks, by name."""
    return {str(path.relative_to(run.path)): path.read_bytes() for path in sorted(run.path.rglob("*")) if path.is_file() and path.name != "lock"}
