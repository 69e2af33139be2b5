"""A layer of a model is one for randomisation however its weights are held, and the weights' paths are their own inside of adapters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jxai import Batched, Linen
from jxai.metrics import parameters
from jxai.tracing.interpret import trace

X, KEY = np.linspace(0.1, 0.9, 7, dtype=np.float32), jax.random.key(0)


def names(f, x):
    all_names = trace(f, x).names
    return [[all_names[n] for n in group] for group in parameters.layers(f, x)]


ONE, TWO, THREE, BIAS = np.ones((6, 6)), np.ones((6, 6)), np.ones((6, 3)), np.ones(6)
HELD = {
    "a list": ([ONE, TWO, THREE], 3),
    "a list in a tuple": (([ONE, TWO, THREE],), 3),
    "kernels and biases in a flat list": ([ONE, BIAS, TWO, BIAS, THREE], 3),
    "pairs in a list in a tuple": (([(ONE, BIAS), (TWO, BIAS), (THREE,)],), 3),
    "slashes": ({"a/kernel": ONE, "a/bias": BIAS, "b/kernel": TWO, "c/kernel": THREE}, 3),
    "slashes in a tuple": (({"a/kernel": ONE, "a/bias": BIAS, "b/kernel": TWO, "c/kernel": THREE},), 3),
    "dots in a tuple": (({"net.a.weight": ONE, "net.a.bias": BIAS, "net.b.weight": TWO, "net.c.weight": THREE},), 3),
    "numbers in a tuple": (({"w1": ONE, "b1": BIAS, "w2": TWO, "w3": THREE},), 3),
    "underscores in a dictionary": ({"params": {"a_w": ONE, "a_b": BIAS, "b_w": TWO, "out_w": THREE}}, 3),
    "words in a tuple": (({"first": ONE, "second": TWO, "third": THREE},), 3),
    "one layer": ({"dense": {"kernel": ONE, "bias": BIAS}}, 1),
    "a recurrent cell beside a layer": ({"cell": {"weight_ih": ONE, "weight_hh": TWO, "bias": BIAS}, "out": {"kernel": THREE}}, 2),
}


@pytest.mark.parametrize("name", HELD)
def test_a_layer_is_one_however_weights_are_held(name):
    weights, count = HELD[name]
    in_order = lambda p: sorted(jax.tree.leaves(p), key=lambda w: w.shape[-1] == 3 and w.ndim == 2)

    def net(p, x):
        for w in in_order(p):
            x = jnp.tanh(x @ w) if w.ndim == 2 else x + w
        return x

    f = jax.tree_util.Partial(net, jax.tree.map(np.float32, weights))
    for g in (f, Batched(jax.tree_util.Partial(lambda p, x: net(p, x[0])[None], *f.args))):
        found = names(g, np.ones(6, np.float32))
        assert len(found) == count and sum(map(len, found)) == len(jax.tree.leaves(weights)), found
    assert names(g, np.ones(6, np.float32)) == names(f, np.ones(6, np.float32))


def test_layers_of_nnx_linen_and_a_list():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.head = nnx.Linear(5, 3, rngs=rngs)
            self.norm = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)
            self.body = nnx.List([nnx.Linear(7, 5, rngs=rngs)])

        def __call__(self, x):
            return self.head(nnx.relu(self.norm(self.body[0](x))))

    found = names(Net(nnx.Rngs(0)), X)
    assert [sorted(group) for group in found] == [
        ["body[0].bias", "body[0].kernel"],
        ["norm.bias", "norm.mean", "norm.scale", "norm.var"],
        ["head.bias", "head.kernel"],
    ]

    class Small(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3, name="a")(linen.relu(linen.Dense(5, name="b")(x)))

    model = Linen(Small(), Small().init(KEY, X))
    assert [group[0].rsplit(".", 1)[0][-1] for group in names(model, X)] == ["b", "a"]
    pair = jax.tree_util.Partial(lambda w, x: jnp.tanh(x @ w[1]) @ w[0], [jnp.ones((5, 3)), jnp.ones((7, 5))])
    assert names(pair, X) == [["[1]"], ["[0]"]]
