"""The same network from every framework gives the same logits, maps, curves and bounds as the one written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import FRAMEWORKS, SHAPE, X, by_hand

from jxai import bounds, each, metrics
from jxai.attribution import grad_cam, guided_backprop, integrated_gradients, occlusion

KEY = jax.random.key(0)
BATCH = np.stack([X, 1 - X])


def explained(f, x):
    """Everything at once, in one program."""
    logits = f(x)
    cam = grad_cam(f, x, 2)
    return {
        "logits": logits - logits.mean(),  # of log-probabilities the same
        "grad_cam": cam,
        "guided_backprop": guided_backprop(f, x, 2),
        "integrated_gradients": integrated_gradients(f, x, 2, steps=4),
        "occlusion": occlusion(f, x, 2, window=5, stride=5),
        "deletion": metrics.deletion(f, x, 2, cam, KEY, steps=4).y,
        "interval": bounds.interval(f)(bounds.ball(x, 0.01)),
    }


def run(f):
    found = jax.jit(explained)(f, X)
    found["each"] = each(grad_cam, f, BATCH, jnp.array([2, 1]))
    return jax.tree.map(np.asarray, found)


@pytest.fixture(scope="module")
def truth():
    return run(by_hand)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_adapted_model_is_explained_as_the_one_by_hand(name, truth):
    f = FRAMEWORKS[name]()
    assert jax.eval_shape(f, X).shape == jax.eval_shape(by_hand, X).shape and X.shape == SHAPE
    found = run(f)
    shifted = name.startswith("probabilities")  # log p is the logits less one number, which has a gradient of its own
    for what, expected in truth.items():
        if not shifted or what == "logits":
            for a, b in zip(jax.tree.leaves(found[what]), jax.tree.leaves(expected)):
                assert np.abs(b).max() > 0
                np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max()), err_msg=what)
    if shifted:
        by_softmax = lambda x: jax.nn.log_softmax(by_hand(x))
        np.testing.assert_allclose(found["integrated_gradients"], integrated_gradients(by_softmax, X, 2, steps=4), atol=2e-5)
        lower, upper = found["interval"]
        assert (lower <= by_softmax(X)).all() and (by_softmax(X) <= upper).all() and (upper - lower).max() < 3
        np.testing.assert_allclose(found["each"][0], grad_cam(by_softmax, X, 2), atol=2e-5)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_weights_are_leaves_and_new_ones_do_not_trace_again(name):
    f = FRAMEWORKS[name]()
    leaves, treedef = jax.tree.flatten(f)
    traced = []

    @jax.jit
    def logits(f, x):
        traced.append(0)
        return f(x)

    first = logits(f, X)
    halved = treedef.unflatten([leaf / 2 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf for leaf in leaves])
    assert np.abs(logits(halved, X) - first).max() > 0.01 and len(traced) == 1
