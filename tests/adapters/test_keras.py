"""Keras 3 on JAX: what Keras computes in inference, models as they are usually written, the `keras.applications`, and what is refused."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import SHAPE, X, keras_model

import jxai
from jxai import bounds, metrics, taps
from jxai.attribution import grad_cam, guided_backprop, integrated_gradients, rise
from jxai.identity.values import described

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras")
layers = keras.layers


class Twofold(keras.Model):
    """A subclassed model without an argument that says whether it is trained, in which dropout is; it returns a dictionary."""

    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.head = layers.Conv2D(4, 3, name="conv"), layers.Dropout(0.5), layers.Dense(3)

    def call(self, x):
        h = self.conv(x)
        return {"logits": self.head(self.drop(h.mean((1, 2)))), "features": h}


def twofold():
    model = Twofold()
    model(X[None])
    return model


@pytest.fixture(scope="module")
def model():
    return twofold()


def test_a_subclassed_model_is_evaluated_and_its_output_chosen_by_key(model):
    f = jxai.adapt(model, example=X, output="logits")
    np.testing.assert_allclose(f(X), model(X[None], training=False)["logits"][0], atol=1e-6)
    with pytest.raises(ValueError, match=r"output='logit' is nothing that the model returns: pass one of output='logits' \[1, 3\], output='features'"):
        jxai.adapt(model, example=X, output="logit")


def test_the_same_model_adapted_again_does_not_trace_again_and_is_not_changed(model):
    before = [np.asarray(v.value) for v in model.variables]
    traced = []

    @jax.jit
    def logits(f, x):
        traced.append(0)
        return f(x)

    for _ in range(2):
        logits(jxai.adapt(model, example=X, output="logits"), X)
    assert len(traced) == 1
    for old, new in zip(before, model.variables):
        assert (old == np.asarray(new.value)).all()


def test_training_goes_on_without_what_was_adapted():
    trained, x = keras.Sequential([keras.Input((4,)), layers.Dense(2)]), np.ones(4, np.float32)
    trained.compile("sgd", "mse")
    f, before = jxai.adapt(trained), np.asarray(trained(x[None])[0])
    trained.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    np.testing.assert_allclose(f(x), before, atol=1e-6)
    np.testing.assert_allclose(jxai.adapt(trained)(x), trained(x[None])[0], atol=1e-6)
    assert np.abs(before - np.asarray(trained(x[None])[0])).max() > 1e-3


def test_equal_models_are_told_as_one_and_others_apart():
    net = keras_model()
    twin, other = keras.models.clone_model(net), keras.models.clone_model(net)
    twin.set_weights(net.get_weights())
    told = [described(jxai.adapt(model)) for model in (net, twin, other)]
    assert told[0] == told[1] != told[2] and "ReLU" not in str(told[0])  # not a list of all that Keras keeps


def test_layers_are_found_by_keras_names(model):
    f = jxai.adapt(model, example=X, output="logits")
    assert any("twofold/conv" in layer.name for layer in taps.layers(f, X))
    cam = jax.jit(lambda x: grad_cam(f, x, 0, layer="twofold/conv"))(X)
    assert cam.shape == (*SHAPE[:2], 1)


def test_variables_of_one_path_are_told_apart():
    same = keras.Sequential(
        [keras.Input((4,)), keras.Sequential([layers.Dense(3, name="d")], name="s"), keras.Sequential([layers.Dense(2, name="d")], name="s2")]
    )
    same.layers[1].layers[0].kernel._path = same.layers[0].layers[0].kernel.path
    f, x = jxai.adapt(same), np.float32([1, 2, 3, 4])
    np.testing.assert_allclose(f(x), same(x[None])[0], atol=1e-6)
    assert len(jax.tree.leaves(f)) == 4


def test_a_softmax_is_named_and_its_logarithm_explained():
    model = keras.Sequential([keras_model(), layers.Softmax()])
    with pytest.raises(ValueError, match="say returns='probabilities'"):
        jxai.adapt(model, example=X)
    f = jxai.adapt(model, example=X, returns="probabilities")
    np.testing.assert_allclose(f(X), jax.nn.log_softmax(keras_model()(X[None])[0]), atol=1e-5)


def test_what_cannot_be_adapted_is_said(monkeypatch, model):
    with pytest.raises(ValueError, match="model=twofold.* is a Keras model that is not built: call it once on a batch"):
        jxai.adapt(Twofold(), example=X)
    with pytest.raises(ValueError, match="a Keras model holds its weights"):
        jxai.adapt(model, {})
    grown = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    f = jxai.adapt(grown)
    grown.add(layers.Dense(3))
    with pytest.raises(ValueError, match="has other variables than when it was adapted: adapt it again"):
        f(jnp.zeros(4))
    monkeypatch.setattr(keras.config, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"on the backend 'torch', and only 'jax' can be traced: set os.environ\['KERAS_BACKEND'\] = 'jax' before"):
        jxai.adapt(model, example=X)


@pytest.mark.slow
def test_a_model_of_another_backend_is_named():
    code = "import keras, jxai; jxai.adapt(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "KERAS_BACKEND": "numpy"}, capture_output=True, text=True, check=False)
    assert done.returncode and "on the backend 'numpy', and only 'jax' can be traced" in done.stderr


# The side of the pictures, and the layer of Grad-CAM: NASNet's are shifted against each other, so that its last grid has to be named.
APPLICATIONS = {
    "MobileNetV2": (64, None),
    "ResNet50": (64, None),
    "DenseNet121": (64, None),
    "EfficientNetB0": (64, None),
    "ConvNeXtTiny": (64, None),
    "VGG16": (64, None),
    "Xception": (75, None),
    "InceptionV3": (139, None),
    "NASNetMobile": (64, "normal_concat_12@1,2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_go_through_every_kind_of_method(name, quick_compilation):
    side, layer = APPLICATIONS[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10, classifier_activation=None)
    x = np.random.default_rng(0).random((side, side, 3), np.float32)
    f = jxai.adapt(model, example=x, pixels=(0, 255))  # random weights: large values keep the numbers of deep networks above rounding

    def explained(f, x):
        cam = grad_cam(f, x, 3, layer=layer)
        return {
            "grad_cam": cam,
            "guided_backprop": guided_backprop(f, x, 3),
            "integrated_gradients": integrated_gradients(f, x, 3, steps=2),
            "rise": rise(f, x, 3, jax.random.key(0), num_masks=2, grid=4),
            "deletion": metrics.deletion(f, x, 3, cam, steps=2, fill=0.0).y,
        }

    logits = jax.jit(lambda f, x: f(x))(f, x)
    np.testing.assert_allclose(logits, model(255 * x[None], training=False)[0], atol=1e-4 * np.abs(logits).max())
    for what, found in jax.jit(explained)(f, x).items():
        # Grad-CAM of random weights may be negative everywhere, and cut at 0.
        assert np.isfinite(found).all() and (what == "grad_cam" or np.abs(found).max() > 0), what
    lower, upper = jax.jit(lambda f, x: bounds.interval(f)(bounds.ball(x, 0.0)))(f, x)  # of one point: rounding alone
    np.testing.assert_allclose(lower, logits, atol=1e-3 * np.abs(logits).max())
    np.testing.assert_allclose(upper, logits, atol=1e-3 * np.abs(logits).max())
