"""Models written as a stranger would write them, through every layer-based and rule-based method, against `jax.vjp`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jxai import attribution as A
from jxai import each, taps
from jxai.callables import partition
from jxai.masks import upsample
from jxai.metrics import parameters
from jxai.tracing import interpret
from jxai.tracing.rectifiers import rectifiers
from jxai.tracing.ruled import with_rule

pytestmark = pytest.mark.usefixtures("quick_compilation")

LAYER_METHODS = ["grad_cam", "grad_cam_plus_plus", "layer_cam", "xgrad_cam", "hires_cam", "eigen_cam", "ablation_cam", "score_cam", "sidu"]
SPATIAL = [(kind, name) for kind in ("IMAGE", "MOVING", "SERIES", "VIDEO") for name in getattr(zoo, kind)]
EVERY = SPATIAL + [("VECTOR", name) for name in zoo.VECTOR] + [("RECTIFIED", name) for name in zoo.RECTIFIED]


LIKE_OTHERS = ("flattened_cnn", "residual_net", "densenet")  # made of what the U-net has, too


def slow(of, *names):
    """The models, those with such names for the slow tests."""
    return [pytest.param(kind, name, marks=pytest.mark.slow if name in names else ()) for kind, name in of]


def quick(of, *names):
    """The models, those without such names for the slow tests."""
    return slow(of, *(name for _, name in of if name not in names))


@functools.cache
def model(kind, name):
    return getattr(zoo, kind)[name](0), np.random.default_rng(5).uniform(size=zoo.SHAPES[kind]).astype(np.float32)


def run(kind, name, function):
    """`function(f, x)` in one program, the weights of the model among its arguments."""
    f, x = model(kind, name)
    weights, static = partition(f)
    return jax.tree.map(np.asarray, jax.jit(lambda weights, x: function(static.combine(weights), x))(weights, x))


def at_the_default_layer(f, x):
    layer, value, head = taps.split(f, x)
    assert layer.spatial
    value_of, gradient = jax.value_and_grad(lambda x: f(x)[2])(x)
    output, pull = jax.vjp(head, value)
    (g,) = pull(jnp.zeros_like(output).at[2].set(1))
    # The same cotangent by an independent way: perturb the tapped value inside the whole traced function.
    through = lambda x, d: taps.replace(f, x, None, lambda v: v + d)[2]
    score, (moved, added) = jax.value_and_grad(through, (0, 1))(x, jnp.zeros_like(value))
    a, of_map = taps.to_map(value, layer), taps.to_map(g, layer)
    cam = jax.nn.relu((a * of_map.reshape(-1, of_map.shape[-1]).mean(0)).sum(-1))
    return {
        "logits": (f(x), output), "score": (value_of, score), "gradient": (gradient, moved), "at the layer": (g, added),
        "cam": (upsample(cam, x.shape[:-1]), A.grad_cam(f, x, 2)[..., 0]),
    }  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), slow(SPATIAL, "vit_class_token", "vit_mean", "shifted_windows", "pyramid", *LIKE_OTHERS))
def test_the_default_layer_has_the_gradient_that_vjp_gives(kind, name):
    """The value read is f's own, the head completes it, and its gradient is what moves f when the value is moved."""
    found = run(kind, name, at_the_default_layer)
    assert np.allclose(*found["logits"], atol=1e-4) and np.allclose(*found["score"], atol=1e-4)
    assert np.allclose(*found["gradient"], atol=1e-4)
    assert np.allclose(*found["at the layer"], atol=1e-5) and np.abs(found["at the layer"][0]).max() > 0
    assert np.allclose(*found["cam"], atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), quick(SPATIAL, "scanned_layers"))
def test_every_layer_method_runs_on_every_model(kind, name):
    cams = run(kind, name, lambda f, x: {method: getattr(A, method)(f, x, 2) for method in LAYER_METHODS})
    for method, cam in cams.items():
        assert cam.shape == (*zoo.SHAPES[kind][:-1], 1) and np.isfinite(cam).all(), method


def by_rules(f, x):
    same = with_rule(f, x, lambda phi, v, g: jax.vjp(phi, v)[1](g)[0])
    plain, as_it_was = ((f(x), jax.grad(lambda x, f=f: f(x)[2])(x)) for f in (f, same))
    return plain, as_it_was, A.guided_backprop(f, x, 2), A.deconvnet(f, x, 2)


@pytest.mark.parametrize(
    ("kind", "name"), slow([one for one in EVERY if one[1] != "gated_mlp"], "vit_class_token", "vit_mean", *zoo.MOVING, *zoo.SERIES, *LIKE_OTHERS)
)
def test_backward_rules_reduce_to_vjp_and_differ_from_it(kind, name):
    """With the rule "as it was", the rewritten function has the gradient of f; guided and deconvolution rules change it."""
    (logits, plain), (same_logits, same), guided, reversed_ = run(kind, name, by_rules)
    assert np.allclose(same_logits, logits, atol=1e-4) and np.allclose(same, plain, atol=1e-4)
    assert np.isfinite(guided).all() and np.isfinite(reversed_).all()
    assert not np.allclose(guided, plain, atol=1e-6) and not np.allclose(guided, reversed_, atol=1e-6)


@pytest.mark.parametrize(("name", "layers"), [("learnt_slopes", 4), ("pooled_by_powers", 4), ("chosen_activations", 3)])
def test_rectifiers_that_are_written_out_are_found_and_layers_told_apart(name, layers):
    """Each rectifier once, none that guards a power or clips the input; a step of randomisation for each layer."""
    f, x = model("RECTIFIED", name)
    found = rectifiers(interpret.flatten(interpret.trace(f, x), interpret.everywhere))
    assert len(found) == (1 if name == "chosen_activations" else 2)
    groups = parameters.layers(f, x)
    assert len([g for g in groups if any(jax.tree.leaves(f)[n].ndim > 1 for n in g)]) == 3 and len(groups) == layers


def test_a_model_without_rectifiers_has_no_backward_rule():
    with pytest.raises(ValueError, match="no ReLU or other rectifier"):
        with_rule(*model("VECTOR", "gated_mlp"), lambda phi, v, g: g)


UNLIKE_UNDER_VMAP = (
    "scanned_layers",
    "rematerialised",
    "jitted_blocks",
    "custom_derivatives",
    "nnx_batchnorm",
    "linen_batched",
    "equinox_cnn",
    "framewise_cnn",
)


@pytest.mark.parametrize(("kind", "name"), quick(SPATIAL, "vit_class_token", *UNLIKE_UNDER_VMAP))
def test_under_jit_and_vmap_with_weights_as_arguments(kind, name):
    f, x = model(kind, name)
    driven = each(A.grad_cam, f, np.stack([x, 1 - x]), np.array([1, 2]))
    alone = run(kind, name, lambda f, x: A.grad_cam(f, x, 1))
    assert np.allclose(driven[0], alone, atol=1e-4)
