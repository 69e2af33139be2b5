"""A checkpoint goes on with the training that it belongs to, and with no other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jxai.identity import versions
from jxai.train import Part, train

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = (X.sum(1) > 0).astype(np.int32)


class Net(nnx.Module):
    def __init__(self, seed=0, act=nnx.relu, dropout=0.0):
        rngs = nnx.Rngs(seed)
        self.a, self.d, self.b, self.act = nnx.Linear(3, 4, rngs=rngs), nnx.Dropout(dropout, rngs=rngs), nnx.Linear(4, 2, rngs=rngs), act

    def __call__(self, x):
        return self.b(self.d(self.act(self.a(x))))


def entropy(model, x, y, key):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean(), {}


def flipped(model, x, y, key):
    return entropy(model, x, 1 - y, key)


def weighted(weight):
    return lambda model, x, y, key: (weight * entropy(model, x, y, key)[0], {})


OPTIONS = {"key": jax.random.key(0), "steps": 4, "batch_size": 8, "every": 2, "optimizer": optax.adam(1e-2)}


def go(folder, model=None, loss=entropy, data=(X, Y), **more):
    return train(model or Net(), loss, data, checkpoint=folder, **{**OPTIONS, **more})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    go(folder)
    return folder


CHANGES = {
    "initialisation": dict(model=lambda: Net(1)),
    "model": dict(model=lambda: Net(act=nnx.tanh)),
    "model, by a rate": dict(model=lambda: Net(dropout=0.5)),
    "loss": dict(loss=flipped),
    "loss, a number in its closure": dict(loss=weighted(2.0)),
    "optimizer": dict(optimizer=optax.adam(1e-3)),
    "optimizer, by its schedule": dict(optimizer=optax.adam(optax.linear_schedule(1e-2, 0, 10))),
    "data": dict(data=(X + 1, Y)),
    "data, labels": dict(data=(X, 1 - Y)),
    "key": dict(key=jax.random.key(1)),
    "batch_size": dict(batch_size=4),
    "validation": dict(validation=(X, Y)),
    "parts": dict(loss=[Part(entropy, optax.adam(1e-2), ("a",))], optimizer=None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_training_is_refused_and_named(begun, name):
    change = {k: v() if k == "model" else v for k, v in CHANGES[name].items()}
    word = name.split(", ")[0]
    with pytest.raises(ValueError, match=rf"belongs to a training with other (.*\b)?{word}\b.*name another folder or remove it"):
        go(begun, **change)


def test_other_versions_are_refused(begun, monkeypatch):
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(ValueError, match=r"other versions \(versions\.jax: .* there, '9\.9' here\)"):
        go(begun)


def test_the_same_goes_on_whatever_the_looks_at_it(begun):
    def untouched(progress):
        pytest.fail("nothing was left to do")

    assert go(begun, block=1, on_progress=untouched).steps == 4


def test_dropout_draws_a_mask_for_every_update_and_the_same_ones_again():
    def loss(model, x, y, key):
        kept = model.d(jnp.ones((len(x), 4))).ravel()[:20] > 0
        return entropy(model, x, y, key)[0], {"mask": kept @ 2.0 ** jnp.arange(20)}

    made = lambda key: train(Net(dropout=0.5), loss, (X, Y), **{**OPTIONS, "steps": 6, "key": jax.random.key(key)}).history["mask"]
    first = made(0)
    assert len(set(first.tolist())) == 6 and (made(0) == first).all() and not set(made(1).tolist()) & set(first.tolist())
