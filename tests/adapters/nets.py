"""One small network with the same weights in every framework: convolution, batch normalisation, ReLU, convolution, ReLU, dropout, mean, dense.

`WEIGHTS` are NumPy arrays in jxai's own layouts, `by_hand` is the network as a plain function, and `FRAMEWORKS` maps a name to `make() -> f`,
the adapted model, or skips where the framework is not installed.
"""

import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jxai

SHAPE, K = (10, 8, 3), 4
_rng = np.random.default_rng(7)
_normal = lambda *shape, scale=1.0: np.float32(scale * _rng.normal(size=shape))
WEIGHTS = {
    "conv1": _normal(3, 3, 3, 5, scale=0.3),
    "bias1": _normal(5, scale=0.1),
    "scale": np.float32(_rng.uniform(0.5, 1.5, 5)),
    "offset": _normal(5, scale=0.2),
    "mean": _normal(5, scale=0.2),
    "var": np.float32(_rng.uniform(0.5, 2, 5)),
    "conv2": _normal(3, 3, 5, 6, scale=0.3),
    "bias2": _normal(6, scale=0.1),
    "dense": _normal(6, K),
    "bias3": _normal(K),
}
EPSILON = 1e-3
X = np.float32(_rng.uniform(0.1, 0.9, SHAPE))


def conv(x, w):
    return lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


def apply(w, x):
    h = conv(x, w["conv1"]) + w["bias1"]
    h = jax.nn.relu((h - w["mean"]) * lax.rsqrt(w["var"] + EPSILON) * w["scale"] + w["offset"])
    h = jax.nn.relu(conv(h, w["conv2"]) + w["bias2"])
    return h.mean((0, 1)) @ w["dense"] + w["bias3"]


by_hand = jax.tree_util.Partial(apply, jax.tree.map(jnp.asarray, WEIGHTS))


def nnx_module():
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv1, self.conv2 = nnx.Conv(3, 5, (3, 3), rngs=rngs), nnx.Conv(5, 6, (3, 3), rngs=rngs)
            self.norm, self.drop, self.dense = nnx.BatchNorm(5, epsilon=EPSILON, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), nnx.Linear(6, K, rngs=rngs)

        def __call__(self, x):  # [B, H, W, C]
            h = nnx.relu(self.norm(self.conv1(x)))
            return self.dense(self.drop(nnx.relu(self.conv2(h))).mean((1, 2)))

    net, w = Net(nnx.Rngs(0)), WEIGHTS
    for variable, value in (
        (net.conv1.kernel, "conv1"), (net.conv1.bias, "bias1"), (net.norm.scale, "scale"), (net.norm.bias, "offset"), (net.norm.mean, "mean"), (net.norm.var, "var"),
        (net.conv2.kernel, "conv2"), (net.conv2.bias, "bias2"), (net.dense.kernel, "dense"), (net.dense.bias, "bias3"),
    ):  # fmt: skip
        variable[...] = jnp.asarray(w[value])
    return net


def linen_module():
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            h = nn.relu(nn.BatchNorm(use_running_average=not train, epsilon=EPSILON, name="norm")(nn.Conv(5, (3, 3), name="conv1")(x)))
            h = nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Conv(6, (3, 3), name="conv2")(h)))
            return nn.Dense(K, name="dense")(h.mean((1, 2)))

    w = jax.tree.map(jnp.asarray, WEIGHTS)
    pair = lambda kernel, bias: {"kernel": w[kernel], "bias": w[bias]}
    params = {
        "conv1": pair("conv1", "bias1"),
        "norm": {"scale": w["scale"], "bias": w["offset"]},
        "conv2": pair("conv2", "bias2"),
        "dense": pair("dense", "bias3"),
    }
    return Net(), {"params": params, "batch_stats": {"norm": {"mean": w["mean"], "var": w["var"]}}}


def equinox_module():
    """The module and its state; channels first, one example."""
    import equinox as eqx

    class Net(eqx.Module):
        conv1: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm
        conv2: eqx.nn.Conv2d
        drop: eqx.nn.Dropout
        dense: eqx.nn.Linear

        def __init__(self):
            key = jax.random.key(0)
            self.conv1, self.conv2 = eqx.nn.Conv2d(3, 5, 3, padding=1, key=key), eqx.nn.Conv2d(5, 6, 3, padding=1, key=key)
            self.norm, self.drop = eqx.nn.BatchNorm(5, "batch", eps=EPSILON, mode="ema"), eqx.nn.Dropout(0.5)
            self.dense = eqx.nn.Linear(6, K, key=key)

        def __call__(self, x, state, *, key):
            h, state = self.norm(self.conv1(x), state)
            h = self.drop(jax.nn.relu(self.conv2(jax.nn.relu(h))), key=key)
            return self.dense(h.mean((1, 2))), state

    w = jax.tree.map(jnp.asarray, WEIGHTS)
    kernel = lambda name: w[name].transpose(3, 2, 0, 1)
    net, state = eqx.nn.make_with_state(Net)()
    where = lambda n: (n.conv1.weight, n.conv1.bias, n.norm.weight, n.norm.bias, n.conv2.weight, n.conv2.bias, n.dense.weight, n.dense.bias)
    values = (kernel("conv1"), w["bias1"][:, None, None], w["scale"], w["offset"], kernel("conv2"), w["bias2"][:, None, None], w["dense"].T, w["bias3"])
    net = eqx.tree_at(where, net, values)
    return net, state.set(net.norm.ema_state_index, (w["mean"], w["var"])).set(net.norm.ema_first_time_index, jnp.array(False))


def haiku_function():
    import haiku as hk

    def forward(x, is_training):
        norm = hk.BatchNorm(True, True, 0.9, eps=EPSILON, name="norm")
        h = jax.nn.relu(norm(hk.Conv2D(5, 3, name="conv1")(x), is_training))
        h = jax.nn.relu(hk.Conv2D(6, 3, name="conv2")(h))
        h = hk.dropout(hk.next_rng_key(), 0.5, h) if is_training else h
        return hk.Linear(K, name="dense")(h.mean((1, 2)))

    w = jax.tree.map(jnp.asarray, WEIGHTS)
    pair = lambda kernel, bias: {"w": w[kernel], "b": w[bias]}
    wide = lambda v: v[None, None, None]
    norm = {"scale": wide(w["scale"]), "offset": wide(w["offset"])}
    average = lambda v: {"hidden": wide(v), "average": wide(v), "counter": jnp.int32(1)}
    params = {"conv1": pair("conv1", "bias1"), "norm": norm, "conv2": pair("conv2", "bias2"), "dense": pair("dense", "bias3")}
    state = {"norm/~/mean_ema": average(w["mean"]), "norm/~/var_ema": average(w["var"])}
    return hk.transform_with_state(forward), params, state


def keras_model():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    layers, w = keras.layers, WEIGHTS
    net = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(5, 3, padding="same"),
            layers.BatchNormalization(epsilon=EPSILON),
            layers.ReLU(),
            layers.Conv2D(6, 3, padding="same", activation="relu"),
            layers.Dropout(0.5),
            layers.GlobalAveragePooling2D(),
            layers.Dense(K),
        ]
    )
    net.set_weights([w[name] for name in ("conv1", "bias1", "scale", "offset", "mean", "var", "conv2", "bias2", "dense", "bias3")])
    return net


def torch_module():
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec("torchax") is None:
        pytest.skip("torchax is not installed")
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.norm, self.conv2 = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5, eps=EPSILON), nn.Conv2d(5, 6, 3, padding=1)
            self.relu, self.drop, self.dense = nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(6, K)

        def forward(self, x):
            h = self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))
            return self.dense(self.drop(h).mean((2, 3)))

    w = {name: torch.tensor(value) for name, value in WEIGHTS.items()}
    kernel = lambda name: w[name].permute(3, 2, 0, 1)
    net, own = Net(), {"norm.weight": "scale", "norm.bias": "offset", "norm.running_mean": "mean", "norm.running_var": "var"}
    state = {name: w[key] for name, key in {"conv1.bias": "bias1", "conv2.bias": "bias2", "dense.bias": "bias3", **own}.items()}
    state |= {"conv1.weight": kernel("conv1"), "conv2.weight": kernel("conv2"), "dense.weight": w["dense"].T}
    net.load_state_dict({**net.state_dict(), **state})
    return net.eval()


def channels_first(f, x):
    """Takes `[C, H, W]`, in 0…255, and returns a dictionary."""
    h = jnp.moveaxis(x, 0, -1) / 255
    return {"logits": f(h), "embedding": h.mean((0, 1))}


def probabilities(f, images):
    return jax.nn.softmax(jax.vmap(f)(images))


FRAMEWORKS = {
    "nnx": lambda: jxai.adapt(nnx_module(), example=X),
    "linen": lambda: jxai.adapt(*linen_module(), example=X),
    "equinox": lambda: jxai.adapt(*equinox_module(), example=X),
    "haiku": lambda: jxai.adapt(*haiku_function(), example=X),
    "keras": lambda: jxai.adapt(keras_model(), example=X),
    "torch": lambda: jxai.adapt(torch_module(), example=X),
    "function": lambda: jxai.adapt(apply, jax.tree.map(jnp.asarray, WEIGHTS), example=X),
    "channels first, bytes, dictionary": lambda: jxai.adapt(channels_first, by_hand, example=X, pixels=(0, 255), output="logits"),
    "probabilities of a batch": lambda: jxai.adapt(probabilities, by_hand, example=X, returns="probabilities"),
}
