"""Modules that change while they are called: a training mode is an error that says what to do, a count of random numbers that nothing draws is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jxai
from jxai import attribution, metrics

X = np.float32(np.random.default_rng(0).normal(size=(6, 1)))


class Series(nnx.Module):
    """A recurrent network, whose first state is made by a stream of random numbers that it does not look at."""

    def __init__(self, rngs):
        self.rnn, self.out = nnx.RNN(nnx.GRUCell(1, 4, rngs=rngs)), nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(self.rnn(x[None])[0].mean(0))


class Layer(nnx.Module):
    def __init__(self, layer, rngs):
        self.layer, self.out = layer, nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(self.layer(x).reshape(-1))


RNGS = nnx.Rngs(0)
DROPOUT, NORM = Layer(nnx.Dropout(0.5, rngs=RNGS), RNGS), Layer(nnx.BatchNorm(1, rngs=RNGS), RNGS)
WORDS = {DROPOUT: "f draws random numbers when it is called, as dropout", NORM: "f changes f.layer.mean.* when it is called"}
FLAGS = {DROPOUT: "deterministic", NORM: "use_running_average"}


def test_a_recurrent_network_is_explained_as_by_hand():
    f = Series(RNGS)
    leaves, treedef = jax.tree.flatten(f)
    both = jax.jit(lambda f, x: (attribution.gradient(f, x, 1), jax.grad(lambda v: treedef.unflatten(leaves)(v)[1])(x)))
    found, by_hand = map(np.asarray, both(f, X))
    assert np.abs(by_hand).max() > 0
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    with pytest.raises(ValueError, match="hand on the module itself, no function around it"):
        attribution.gradient(lambda x: f(x), X, 1)


@pytest.mark.parametrize("f", [DROPOUT, NORM], ids=["dropout", "batch norm"])
def test_training_mode_is_an_error_and_its_remedy_works(f):
    says = rf".*nnx\.view\(model, {FLAGS[f]}=True\)"
    for call in (attribution.gradient, jax.jit(attribution.gradient, static_argnums=2), lambda f, x, t: jxai.each(attribution.gradient, f, x[None], t)):
        with pytest.raises(ValueError, match=WORDS[f] + says):
            call(f, X, 1)
    with pytest.raises(ValueError, match="changes a module's state while it is traced" + says):
        attribution.gradient(lambda x: f(x), X, 1)
    with pytest.raises(ValueError, match=WORDS[f] + says):
        metrics.robustness_sr(f, X, 1, X)
    view = nnx.view(f, **{FLAGS[f]: True})
    scale = 1 if f is DROPOUT else 1 / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(attribution.gradient(view, X, 1)[:, 0], scale * view.out.kernel[...][:, 1], rtol=1e-5)


def test_several_inputs_are_an_error_that_says_how_one_is_explained():
    f = lambda pair: pair[0].sum() + pair[1].sum()
    with pytest.raises(ValueError, match=r"x must be one array, got a tuple of 2: .* lambda v: model\(\(v, other\)\)"):
        attribution.gradient(f, (X, X), None)
    assert (np.asarray(attribution.gradient(lambda v: f((v, X)), jnp.asarray(X), None)) == 1).all()
