"""Descriptions tell apart whatever computes something else, and nothing that does not."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from derivatives import scaled_gradient
from flax import nnx

import jxai
from jxai.identity.code import digest
from jxai.identity.compare import differences
from jxai.identity.programs import program
from jxai.identity.values import described, summed
from jxai.removal import fills


def scale(x, by=2.0):
    return by * x


class Net(nnx.Module):
    def __init__(self, act=nnx.relu, seed=0):
        self.inner = nnx.List([nnx.Linear(3, 2, rngs=nnx.Rngs(seed))])
        self.act = act

    @functools.cached_property
    def told(self):
        return np.random.default_rng().normal()

    def __call__(self, x):
        return self.act(self.inner[0](x))


class Slotted:
    __slots__ = ("number",)

    def __init__(self, number):
        self.number = number


def closed(value):
    return lambda x: x + value


def itself(number):
    ring = {"number": number}
    ring["ring"] = [ring]
    return ring


PAIRS = {
    "type of a number": (lambda: 1, lambda: 1.0),
    "truth": (lambda: 1, lambda: True),
    "array": (lambda: np.zeros(3), lambda: np.array([0, 0, 1.0])),
    "type of an array": (lambda: np.zeros(3), lambda: np.zeros(3, np.float32)),
    "key": (lambda: jax.random.key(0), lambda: jax.random.key(1)),
    "code": (lambda: lambda x: x, lambda: lambda x: -x),
    "a constant within": (lambda: lambda x: x + 1, lambda: lambda x: x + 1.0),
    "code within code": (lambda: lambda x: [2 * y for y in x], lambda: lambda x: [-y for y in x]),
    "default": (lambda: lambda x, by=1: x, lambda: lambda x, by=2: x),
    "keyword default": (lambda: lambda x, *, by=1: x, lambda: lambda x, *, by=2: x),
    "closure": (lambda: closed(1), lambda: closed(2)),
    "array in a closure": (lambda: closed(jnp.zeros(2)), lambda: closed(jnp.ones(2))),
    "closure of a closure": (lambda: closed(closed(1)), lambda: closed(closed(2))),
    "partial": (lambda: functools.partial(scale, by=1.0), lambda: functools.partial(scale, by=3.0)),
    "pytree partial": (lambda: jax.tree_util.Partial(scale, by=jnp.ones(1)), lambda: jax.tree_util.Partial(scale, by=jnp.zeros(1))),
    "jitted": (lambda: jax.jit(closed(1)), lambda: jax.jit(closed(2))),
    "mapped": (lambda: jax.vmap(closed(1)), lambda: jax.vmap(closed(2))),
    "a derivative of one's own": (lambda: scaled_gradient(1.0), lambda: scaled_gradient(2.0)),
    "library's function": (lambda: nnx.relu, lambda: nnx.gelu),
    "static attribute": (lambda: Net(nnx.relu), lambda: Net(nnx.tanh)),
    "weights": (lambda: Net(seed=0), lambda: Net(seed=1)),
    "slots": (lambda: Slotted(1), lambda: Slotted(2)),
    "bound method": (lambda: Slotted(1).__init__, lambda: Slotted(2).__init__),
    "fill": (lambda: fills.Blur(2.0), lambda: fills.Blur(3.0)),
    "optimiser": (lambda: optax.adam(1e-3), lambda: optax.adam(1e-2)),
    "schedule": (lambda: optax.sgd(optax.linear_schedule(0.1, 0, 10)), lambda: optax.sgd(optax.linear_schedule(0.1, 0, 20))),
    "generator of random numbers": (lambda: np.random.default_rng(0), lambda: np.random.default_rng(1)),
    "set": (lambda: {"a", "b"}, lambda: {"a", "c"}),
    "ring": (lambda: itself(1), lambda: itself(2)),
    "names": (lambda: {"a": 1}, lambda: {"b": 1}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_that_differ_are_told_apart_and_equal_ones_are_not(name):
    one, other = PAIRS[name]
    same = described(one()), described(one())
    assert json.loads(json.dumps(same[0])) == same[0] and not differences(*same)
    assert differences(same[0], described(other()))
    assert summed(one()) == summed(one()) and differences(summed(one()), summed(other()))


def test_an_edit_that_computes_the_same_is_none():
    def code(text):
        held = {}
        exec(text, held)
        return digest(held["f"].__code__, held["f"].__doc__)

    plain = code("def f(x, k=1):\n    y = x + k\n    return y")
    assert plain == code("# why\ndef f(x, k=1):\n\n    total = x + k  # so\n    return total")
    assert code("def f(x):\n    'Adds.'\n    return x + 1") == code("def f(x):\n    'Adds one.'\n    return x + 1")
    for other in ("def f(x, k=1):\n    y = x - k\n    return y", "def f(x, j=1):\n    y = x + j\n    return y", "def f(x, *k):\n    y = x + k\n    return y"):
        assert code(other) != plain


def test_what_is_computed_once_of_the_rest_is_no_part():
    net = Net()
    before = described(net)
    assert net.told is not None and described(net) == before


def test_a_schedule_that_has_run_is_the_same():
    """optax's own makes a float of its count of steps when it first runs; a count of other steps is another schedule."""
    made = lambda steps: optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    optimizer = made(7)
    before, state = described(optimizer), optimizer.init(jnp.ones(2))
    optimizer.update(jnp.ones(2), state)
    assert not differences(before, described(optimizer)) and not differences(before, described(made(7)))
    assert differences(before, described(made(8)))
    assert differences(described(closed(1)), described(closed(1.0)))  # of what no call binds anew the type matters


def test_a_program_is_told_by_what_it_computes():
    x = jax.ShapeDtypeStruct((3,), jnp.float32)
    of = lambda f: program(f, x)
    assert of(lambda v: jnp.sin(v) * 2) == of(lambda v: jnp.sin(v) * 2)
    assert of(lambda v: jnp.sin(v) * 2)[0] != of(lambda v: jnp.sin(v) * 3)[0] and of(jnp.sin)[0] != of(jnp.cos)[0]
    weights = [jax.jit(lambda v, w=np.full(3, n, np.float32): w * v) for n in (1, 2)]
    assert of(weights[0])[0] == of(weights[1])[0] and of(weights[0])[1] != of(weights[1])[1]


def test_another_process_says_the_same():
    """Whatever the seed of Python's hashes: names of sets and addresses are not in it."""
    text = (
        "import json, jax, jax.numpy as jnp, optax; from flax import nnx; from jxai.identity.values import described; from jxai.identity.programs import program;"
        "g = {'b', 'a', 'c'}; f = lambda x: jax.nn.gelu(x) * len(g);"
        "print(json.dumps([described(v) for v in (f, optax.adamw(1e-3), nnx.Linear(2, 2, rngs=nnx.Rngs(0)), {1, 2, 'a'})]), program(f, jnp.ones(2)))"
    )
    run = lambda seed: (
        subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(jxai.__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert run("1") == run("2")


def test_options_of_adapters_are_told_by_name_and_value_however_deep_they_lie():
    model, x = (lambda x: {"p": jax.nn.softmax(x)}), np.float32([0.2, 0.9, 0.4])
    told = lambda mean: summed(jxai.adapt(model, example=x, returns="probabilities", output="p", batched=False, mean=mean))
    assert differences(told(0.5), told([0.5])) == []
    assert differences(told(0.5), told(0.4)) == ["made_of.f.f.mean[0]: 0.5 there, 0.4 here"]
