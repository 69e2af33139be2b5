"""Published architectures, adapted: residual networks in Haiku and linen, mobile ones in Haiku and (trained, from pip) nnx, a transformer in Equinox; and the zoo's networks."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo
from published import ResNet18, VisionTransformer

import jxai
from jxai import bounds, each, metrics
from jxai.attribution import grad_cam, guided_backprop, integrated_gradients, occlusion

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]
KEY = jax.random.key(0)
X = np.float32(np.random.default_rng(0).uniform(0.2, 0.8, (32, 32, 3)))


def random_statistics(state):
    """Statistics that are not those of the start, so that a mistaken mode shows."""
    keys = iter(jax.random.split(KEY, 1000))

    def drawn(path, v):
        low, high = (-0.2, 0.2) if "mean" in jax.tree_util.keystr(path) else (0.5, 1.5)
        return jax.random.uniform(next(keys), v.shape, v.dtype, low, high) if v.dtype == jnp.float32 else v

    return jax.tree_util.tree_map_with_path(drawn, state)


def haiku_net(make):
    net = hk.transform_with_state(lambda x, is_training: make()(x, is_training))
    params, state = jax.jit(net.init, static_argnums=2)(KEY, X[None], True)
    state, params = (
        random_statistics(state),
        jax.tree.map(lambda w: w if w.any() else w + 0.05 * jax.random.normal(KEY, w.shape), params),
    )  # the head begins at 0
    own = lambda x: net.apply(params, state, None, x[None], False)[0][0]
    return jxai.adapt(net, params, state, example=X), own, X


def zoo_net(name):
    f, x = zoo.IMAGE[name](0), X[:16, :16]
    inner = f.f if isinstance(f, jxai.Batched) else f
    model = (inner.module, inner.variables) if isinstance(inner, jxai.Linen) else (inner,)
    return jxai.adapt(*model, example=x), f, x


def linen_net():
    net = ResNet18()
    variables = jax.jit(lambda x: net.init(KEY, x, train=False))(X[None])
    variables = {**variables, "batch_stats": random_statistics(variables["batch_stats"])}
    return jxai.adapt(net, variables, example=X), (lambda x: net.apply(variables, x[None], train=False)[0]), X


def equinox_net():
    net = VisionTransformer(32, KEY)
    own = eqx.nn.inference_mode(net)
    return jxai.adapt(net, example=X), (lambda x: own(jnp.moveaxis(x, -1, 0))), X


def nnx_net():
    """EfficientNet-Lite0 with its trained weights, at a quarter of its resolution."""
    net = jxai.models.available()["efficientnet_lite0"].build().model
    x = np.float32(np.random.default_rng(0).uniform(0.2, 0.8, (56, 56, 3)))
    return jxai.adapt(net, example=x), net, x


NETS = {
    "linen ResNet-18": linen_net,
    "Equinox ViT": equinox_net,
    "nnx EfficientNet-Lite0": nnx_net,
    "haiku ResNet-18": lambda: haiku_net(lambda: hk.nets.ResNet18(10)),
    "haiku MobileNet-V1": lambda: haiku_net(lambda: hk.nets.MobileNetV1(num_classes=10)),
    **{
        name: lambda name=name: zoo_net(name)
        for name in ("vit_mean", "vit_class_token", "linen_batched", "equinox_cnn", "nnx_batchnorm", "residual_net", "densenet")
    },
}


@pytest.mark.parametrize("name", NETS)
def test_a_published_architecture_goes_through_everything(name):
    f, own, x = NETS[name]()
    target = 3

    @jax.jit
    def explained(f, x):
        cam = grad_cam(f, x, target)
        return {
            "logits": f(x),
            "cam": cam,
            "guided": guided_backprop(f, x, target),
            "ig": integrated_gradients(f, x, target, steps=16, baseline=x - 0.02),
            "change": f(x)[target] - f(x - 0.02)[target],
            "occlusion": occlusion(f, x, target, window=x.shape[0] // 2, stride=x.shape[0] // 2),
            "deletion": metrics.deletion(f, x, target, cam, KEY, steps=4, fill=0.0).y,
            "bounds": bounds.interval(f)(bounds.ball(x, 1e-4)),
            "near": jax.vmap(f)(x + jax.random.uniform(KEY, (4, *x.shape), minval=-1e-4, maxval=1e-4)),
        }

    found = jax.tree.map(np.asarray, explained(f, x))
    own = jax.jit(lambda x, own=own: own(x))
    expected = np.asarray(own(x))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found["logits"], expected, atol=1e-4 * scale)
    np.testing.assert_allclose(found["deletion"][0], expected[target], atol=1e-4 * scale)  # nothing is deleted yet
    np.testing.assert_allclose(found["ig"].sum(), found["change"], atol=0.05 * np.abs(found["change"]) + 1e-3 * scale)
    lower, upper = found["bounds"]
    slack = 1e-4 * scale
    assert (lower - slack <= found["near"]).all() and (found["near"] <= upper + slack).all() and np.isfinite(upper - lower).all()
    assert found["cam"].shape == (*x.shape[:2], 1) and np.abs(found["guided"]).max() > 0
    lost = (
        expected[target]
        - np.asarray(
            own(np.where(np.arange(x.shape[0])[:, None, None] < x.shape[0] // 2, np.where(np.arange(x.shape[1])[None, :, None] < x.shape[1] // 2, 0, x), x))
        )[target]
    )
    np.testing.assert_allclose(found["occlusion"][0, 0, 0], lost, atol=1e-3 * scale)
    np.testing.assert_allclose(each(grad_cam, f, np.stack([x, x[::-1]]), target)[0], found["cam"], atol=1e-3 * max(1, np.abs(found["cam"]).max()))
