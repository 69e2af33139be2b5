"""Models written as a stranger would write them, through every layer-based and rule-based method, against `jax.vjp`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jxai import attribution as A
from jxai import each, taps
from jxai.masks import upsample
from jxai.tracing.rectifiers import with_rule

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
LAYER_METHODS = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "xgrad_cam", "hires_cam", "eigen_cam", "ablation_cam", "score_cam", "sidu"]
SPATIAL = [("IMAGE", name) for name in zoo.IMAGE] + [("VIDEO", name) for name in zoo.VIDEO]
EVERY = SPATIAL + [("VECTOR", name) for name in zoo.VECTOR]


def slow(of, *prefixes):
    """The models, those with such names for the slow tests."""
    return [pytest.param(kind, name, marks=pytest.mark.slow if name.startswith(prefixes) else ()) for kind, name in of]


def model(kind, name):
    return getattr(zoo, kind)[name](KEY), jax.random.uniform(jax.random.key(5), zoo.SHAPES[kind])


@pytest.mark.parametrize(("kind", "name"), slow(SPATIAL, "vit"))
def test_the_default_layer_has_the_gradient_that_vjp_gives(kind, name):
    """The value read is f's own, the head completes it, and its gradient is what moves f when the value is moved."""
    f, x = model(kind, name)
    layer, value, head = taps.split(f, x)
    assert layer.spatial
    assert np.allclose(head(value), f(x), atol=1e-4)
    _, pull = jax.vjp(head, value)
    logits = f(x)
    one_hot = jnp.zeros_like(logits).at[2].set(1)
    g = pull(one_hot)[0]
    # The same cotangent by an independent way: perturb the tapped value inside the whole traced function.
    added = jax.grad(lambda d: taps.replace(f, x, None, lambda v: v + d)[2])(jnp.zeros_like(value))
    assert np.allclose(g, added, atol=1e-5) and jnp.abs(g).max() > 0
    through = jax.grad(lambda x: taps.replace(f, x, None, lambda v: v)[2])(x)
    assert np.allclose(through, jax.grad(lambda x: f(x)[2])(x), atol=1e-4)
    a, g = taps.to_map(value, layer), taps.to_map(g, layer)
    weights = g.reshape(-1, g.shape[-1]).mean(0)
    cam = jax.nn.relu((a * weights).sum(-1))
    assert np.allclose(A.grad_cam(f, x, 2)[..., 0], upsample(cam, x.shape[:-1]), atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), slow(SPATIAL, "vit_mean"))
def test_every_layer_method_runs_on_every_model(kind, name):
    f, x = model(kind, name)
    for method in LAYER_METHODS:
        cam = jax.jit(lambda x, method=method: getattr(A, method)(f, x, 2))(x)
        assert cam.shape == x.shape[:-1] + (1,) and jnp.isfinite(cam).all(), method


@pytest.mark.parametrize(("kind", "name"), slow(EVERY, "vit_class_token"))
def test_backward_rules_reduce_to_vjp_and_differ_from_it(kind, name):
    """With the rule "as it was", the rewritten function has the gradient of f; guided and deconvolution rules change it."""
    f, x = model(kind, name)
    plain = jax.grad(lambda x: f(x)[2])(x)
    try:
        same = with_rule(f, x, lambda phi, v, g: jax.vjp(phi, v)[1](g)[0])
    except ValueError as error:
        assert "no ReLU or other rectifier" in str(error)
        assert name in ("gated_mlp",), "a rectifier was overlooked"
        return
    assert np.allclose(same(x), f(x), atol=1e-4)
    assert np.allclose(jax.grad(lambda x: same(x)[2])(x), plain, atol=1e-4)
    guided, reversed_ = jax.jit(lambda x: (A.guided_backprop(f, x, 2), A.deconvnet(f, x, 2)))(x)
    assert jnp.isfinite(guided).all() and jnp.isfinite(reversed_).all()
    assert not np.allclose(guided, plain, atol=1e-6) and not np.allclose(guided, reversed_, atol=1e-6)


@pytest.mark.parametrize(("kind", "name"), SPATIAL)
def test_under_jit_and_vmap_with_weights_as_arguments(kind, name):
    f, x = model(kind, name)
    driven = each(A.grad_cam, f, jnp.stack([x, 1 - x]), np.array([1, 2]))
    assert np.allclose(driven[0], A.grad_cam(f, x, 1), atol=1e-4)
