"""`adapt` says what a model is, or asks: frameworks, evaluation mode, outputs, pixels, probabilities."""

import dataclasses
import types

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from nets import WEIGHTS, X, apply, by_hand, linen_module, nnx_module

import jxai
from jxai.attribution import gradient, occlusion
from jxai.metrics.parameters import layers

LOGITS = np.asarray(by_hand(X))
KEY = jax.random.key(0)


class Layers(nnx.Module):
    """A vector through layers and a dense one."""

    def __init__(self, *layers):
        self.layers, self.out = nnx.List(layers), nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


@pytest.mark.parametrize("has", [(), ("dropout",), ("norm",), ("dropout", "norm")], ids=" and ".join)
def test_the_evaluation_view_is_of_what_a_module_has(has):
    layers = {"dropout": nnx.Dropout(0.5, rngs=nnx.Rngs(1)), "norm": nnx.BatchNorm(3, rngs=nnx.Rngs(1))}
    module, x = Layers(*(layers[name] for name in has)), np.float32([0.5, 1, 0.2])
    f = jxai.adapt(module, example=x)
    scale = 1 / np.sqrt(1 + 1e-5) if "norm" in has else 1
    np.testing.assert_allclose(jax.jit(gradient, static_argnums=2)(f, x, 1), scale * module.out.kernel[...][:, 1], rtol=1e-5)
    assert not getattr(layers["dropout"], "deterministic", False) and not layers["norm"].use_running_average  # the module stays as it was


class Flagged(nnx.Module):
    """Says by an argument whether it is trained, which it is unless told otherwise."""

    def __init__(self, name):
        self.drop, self.name = nnx.Dropout(0.5, rngs=nnx.Rngs(0)), name

    def __call__(self, x, train=True):
        return self.drop(x, deterministic=not train)


class Unflagged(nnx.Module):
    """Draws, whatever it is told."""

    def __init__(self):
        self.rngs = nnx.Rngs(0)

    def __call__(self, x):
        return x * jax.random.bernoulli(self.rngs.dropout(), shape=x.shape)


def test_training_mode_is_left_or_named():
    x = jnp.ones(4)
    assert (jxai.adapt(Flagged("a"), example=x)(x) == 1).all()
    with pytest.raises(
        ValueError, match=r"does not give logits of example \[4\]: .* training mode: explain an evaluation view, nnx.view\(model, deterministic=True\)"
    ):
        jxai.adapt(Flagged("a"), example=x, arguments={"train": True})
    with pytest.raises(ValueError, match="f draws random numbers when it is called, as dropout does in training mode"):
        jxai.adapt(Unflagged(), example=x)
    module = nnx_module()
    with pytest.raises(ValueError, match=r"hand on the module itself, no function around it; in training mode .*deterministic=True, use_running_average=True"):
        jxai.adapt(lambda x: module(x), example=X)
    dropout = eqx.nn.Sequential([eqx.nn.Dropout(0.5), eqx.nn.Lambda(lambda h: 2 * h)])
    assert (jxai.adapt(dropout, example=x)(x) == 2).all() and not dropout[0].inference


class Noisy(nn.Module):
    """Draws when it is evaluated, and counts its calls."""

    @nn.compact
    def __call__(self, x):
        calls = self.variable("counts", "calls", lambda: jnp.zeros(()))
        calls.value += 1
        return x + jax.random.normal(self.make_rng("noise"), x.shape) + 10 * calls.value + self.param("b", nn.initializers.zeros, x.shape)


def test_linen_takes_keys_and_collections_that_change():
    x = jnp.zeros(3)
    variables = Noisy().init({"params": KEY, "noise": KEY}, x)
    f = jxai.adapt(Noisy(), variables, example=x, rngs={"noise": KEY}, mutable=["counts"])
    assert (f(x) == f(x)).all() and (np.asarray(f(x)) > 15).all()
    with pytest.raises(ValueError, match=r"\"counts\" is immutable.*mutable=\[name\] lets a call change a collection"):
        jxai.adapt(Noisy(), variables, example=x, rngs={"noise": KEY})
    module, variables = linen_module()
    bound = module.bind(variables)
    np.testing.assert_allclose(jxai.adapt(bound, example=X)(X), LOGITS, atol=1e-5)
    assert len(repr(jxai.taps.find(jxai.adapt(bound, example=X), X, "conv2.kernel"))) < 120  # a layer is known by its weights, however deep


def test_arguments_are_no_weights_and_what_of_them_is_no_array_stays_as_it_is():
    scaled = lambda x, *, told: by_hand(x)[: told["count"]] * told["factor"]
    f = jxai.adapt(scaled, arguments={"told": {"count": 2, "factor": jnp.float32(3), "sizes": [1, 2]}})
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(f, X), 3 * LOGITS[:2], rtol=1e-4)
    assert [leaf.shape for leaf in jax.tree.leaves(f)] == [()]
    with pytest.raises(ValueError, match="has no weights"):
        layers(f, X)


def test_a_compiled_equinox_module_keeps_its_weights():
    plain = eqx.nn.MLP(3, 2, 4, 1, key=KEY)
    f, x = jxai.adapt(eqx.filter_jit(plain), example=X[0, 0]), X[0, 0]
    np.testing.assert_allclose(gradient(f, x, 1), gradient(jxai.adapt(plain), x, 1), rtol=1e-5)
    assert len(jax.tree.leaves(f)) == 4


def test_haiku_without_random_numbers_and_with():
    net = hk.transform(lambda x: hk.dropout(hk.next_rng_key(), 0.5, hk.Linear(3, w_init=hk.initializers.Constant(1.0))(x)))
    params, x = net.init(KEY, jnp.ones(4)), jnp.ones(4)
    f = jxai.adapt(net, params, example=x, rngs=KEY)
    assert set(np.asarray(f(x)).tolist()) <= {0.0, 8.0} and (f(x) == f(x)).all()
    with pytest.raises(ValueError, match="non-None PRNGKey .*rngs=key gives one to a function that draws"):
        jxai.adapt(net, params, example=x)
    plain = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(3, w_init=hk.initializers.Constant(1.0))(x)))
    assert (jxai.adapt(plain, params, example=x)(x) == 4).all()
    with pytest.raises(ValueError, match="rngs=.* without random numbers"):
        jxai.adapt(plain, params, rngs=KEY)


@dataclasses.dataclass
class Answer:
    logits: jax.Array
    features: jax.Array


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (lambda v, h: (v, h), 0),
        (lambda v, h: {"logits": v, "aux": {"h": h}}, "logits"),
        (lambda v, h: {"a": {"b": [h, v]}}, ("a", "b", 1)),
        (lambda v, h: Answer(v, h), "logits"),
        (lambda v, h: {"logits": v}, None),
        (lambda v, h: types.MappingProxyType({"logits": v, "h": h}), "logits"),
    ],
)
def test_an_output_is_taken_by_name_or_place(returned, output):
    f = jxai.adapt(lambda w, x: returned(apply(w, x), x.mean((0, 1))), WEIGHTS, example=X, output=output)
    np.testing.assert_allclose(f(X), LOGITS, rtol=1e-5)
    if output is not None:
        with pytest.raises(ValueError, match=r"several arrays: pass one of output=.* \[4\]"):
            jxai.adapt(lambda x: returned(by_hand(x), x.mean((0, 1))), example=X)
        with pytest.raises(ValueError, match=r"output='missing' is nothing that the model returns: pass one of output="):
            jxai.adapt(lambda x: returned(by_hand(x), x.mean((0, 1))), example=X, output="missing")


def test_an_adapter_of_a_function_is_an_argument_of_a_compiled_program():
    f = jxai.Batched(lambda images: jax.vmap(by_hand)(images))
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(f, X), LOGITS, rtol=1e-5)


def test_pixels_are_scaled_normalised_and_rounded():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    f = jxai.adapt(lambda v: by_hand(v * jnp.array(std) + jnp.array(mean)), example=X, mean=mean, std=std)
    np.testing.assert_allclose(f(X), LOGITS, rtol=1e-4)
    f = jxai.adapt(lambda v: by_hand((v + 1) / 2), example=X, pixels=(-1, 1))
    np.testing.assert_allclose(gradient(f, X, 1), gradient(by_hand, X, 1), rtol=1e-4, atol=1e-6)
    seen = []

    def wants_bytes(v):
        seen.append(v.dtype)
        return by_hand(v.astype(jnp.float32) / 255)

    f = jxai.adapt(wants_bytes, example=X, dtype="uint8")
    np.testing.assert_allclose(f(X), by_hand(np.round(255 * X) / 255), rtol=1e-4)
    assert set(seen) == {np.dtype("uint8")}
    rounded = occlusion(f, X, 1, window=5, stride=5)
    np.testing.assert_allclose(rounded, occlusion(by_hand, X, 1, window=5, stride=5), atol=0.02)
    with pytest.raises(ValueError, match="dtype='uint8': rounded pixels have no derivative"):
        gradient(f, X, 1)


def test_probabilities_and_values_are_told_from_logits():
    softmax, sigmoid = (lambda x: jax.nn.softmax(by_hand(x))), (lambda x: jax.nn.sigmoid(by_hand(x)))
    np.testing.assert_allclose(jax.nn.softmax(jxai.adapt(softmax, example=X, returns="probabilities")(X)), softmax(X), rtol=1e-5)
    np.testing.assert_allclose(jxai.adapt(sigmoid, example=X, returns="sigmoid")(X), LOGITS, atol=1e-4)
    one = jxai.adapt(lambda x: by_hand(x)[2], example=X)
    np.testing.assert_allclose(gradient(one, X, 0, score="sigmoid"), gradient(by_hand, X, 2, score="sigmoid"), atol=1e-6)
    column = jxai.adapt(lambda images: jax.nn.sigmoid(jax.vmap(by_hand)(images)[:, 2]), example=X, returns="sigmoid")  # one probability for each of a batch
    np.testing.assert_allclose(column(X), LOGITS[2:3], atol=1e-5)
    value = jxai.adapt(lambda images: jax.vmap(by_hand)(images)[:, 2:3], example=X, returns="value")
    np.testing.assert_allclose(gradient(value, X, None), gradient(by_hand, X, 2), atol=1e-6)
    for f, returns, says in (
        (softmax, "logits", "returns probabilities .* say returns='probabilities'"),
        (sigmoid, "logits", "ends in a sigmoid: say returns='sigmoid'"),
        (by_hand, "probabilities", r"are in \[0, 1\] and of sum 1, but the model returns \["),
        (by_hand, "sigmoid", r"a probability for each label, in \[0, 1\], but the model returns \["),
        (lambda x: sigmoid(x)[:1], "probabilities", "one number is a probability with returns='sigmoid'"),
        (lambda x: softmax(x) * jnp.nan, "probabilities", r"of sum 1, but the model returns \[nan"),
        (by_hand, "value", r"one number, but this one's has shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=says):
            jxai.adapt(f, example=X, returns=returns)


def test_two_ways_of_calling_that_differ_are_asked_for():
    flat = lambda x: x.reshape(-1)[:4]
    assert (jxai.adapt(flat, example=X)(X) == X.reshape(-1)[:4]).all()  # channels last is usual, and works
    module = eqx.nn.Lambda(flat)
    with pytest.raises(ValueError, match="several ways, which give different numbers: pass batched=False, channels='last', or batched=False, channels='first'"):
        jxai.adapt(module, example=X)
    assert (jxai.adapt(module, example=X, channels="first")(X) == X.transpose(2, 0, 1).reshape(-1)[:4]).all()
    assert (jxai.adapt(module, example=X[:, :, :1])(X[:, :, :1]) == X[..., 0].reshape(-1)[:4]).all()  # of one channel both are one
    square = eqx.nn.Conv1d(4, 2, 4, key=KEY)  # of a series as long as it has channels
    for blank in (jnp.zeros((4, 4)), jnp.ones((4, 4))):  # whose axes look alike
        with pytest.raises(ValueError, match="several ways, which give different numbers"):
            jxai.adapt(eqx.nn.Sequential([square, eqx.nn.Lambda(lambda v: v[:, 0])]), example=blank)
    endless = eqx.nn.Lambda(lambda x: x.reshape(-1)[:4].at[0].set(jnp.inf))
    with pytest.raises(ValueError, match="several ways, which give different numbers"):
        jxai.adapt(endless, example=X)
    with pytest.raises(ValueError, match="while it is traced nothing shows which"):
        jax.jit(lambda x: jxai.adapt(module, example=x)(x))(X)
    with pytest.raises(ValueError, match=r"does not give logits of example \[10, 8, 3\]: .* It works with batched=False, channels='last'"):
        jxai.adapt(by_hand, example=X, channels="first")
    with pytest.raises(ValueError, match=r"of 1 it returns shape \(8, 3\)"):
        jxai.adapt(lambda x: x.mean(0), batched=True)(X[0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: jxai.adapt(3), "model=3 is a builtins.int, which no adapter knows: it must be an nnx or linen module"),
        (lambda: jxai.adapt(Layers), r"model=Layers is a class, no model: make one, Layers\("),
        (lambda: jxai.adapt(nnx_module(), {}), "an nnx module holds its weights"),
        (lambda: jxai.adapt(linen_module()[0]), r"needs its variables: adapt\(module, variables\)"),
        (lambda: jxai.adapt(linen_module()[0], linen_module()[1]["params"]), "must be a dictionary of collections with 'params'"),
        (lambda: jxai.adapt(hk.transform_with_state(lambda x: x), {}), "adapt.net, params, state., got 1 beside"),
        (lambda: jxai.adapt(types.SimpleNamespace(apply_fn=1, params={})), "of a train state hand on the module and the variables"),
        (lambda: jxai.adapt(by_hand, channels="middle"), "channels='middle' must be one of 'last', 'first'"),
        (lambda: jxai.adapt(by_hand, returns="odds"), "returns='odds' must be one of 'logits'"),
        (lambda: jxai.adapt(by_hand, batched="yes"), "batched='yes' must be True, False or None"),
        (lambda: jxai.adapt(by_hand, pixels=(1, 1)), r"pixels=\(1, 1\) must be what 0 and 1 become"),
        (lambda: jxai.adapt(by_hand, std=0), "std=0 must be positive"),
        (lambda: jxai.adapt(by_hand, example=X, mean=(0, 1)), "mean=.0.0, 1.0. must be one number or one for each of the 3 channels"),
        (lambda: jxai.adapt(by_hand, dtype="byte8"), "dtype='byte8' must be the name of a type"),
        (lambda: jxai.adapt(by_hand, dtype="int8"), "dtype='int8' must be a floating-point type, or one of uint8, uint16, int32"),
        (lambda: jxai.adapt(by_hand, example=np.uint8(255 * X), pixels=(0, 255)), "x must be of floating-point numbers, pixels in .0, 1., got uint8"),
        (lambda: jxai.adapt(by_hand, example=X, arguments=["train"]), r"arguments=\['train'\] must be a dictionary"),
        (lambda: jxai.adapt(*linen_module(), mutable=True), "mutable=True must be names of collections"),
        (lambda: jxai.adapt(lambda x: by_hand(x) + 1j, example=X, batched=False), "returns complex numbers, complex64, not logits"),
        (lambda: jxai.adapt(lambda a, b: by_hand(a) / 0 @ b, example=[X, X]), r"does not give logits of example \['\[10, 8, 3\]'"),
        (lambda: jxai.adapt(by_hand, example={0: X, 1: X}), r"example must name its inputs by strings, got \[0, 1\]"),
        (lambda: jxai.adapt(by_hand, dtype="uint8", mean=0.5), "whole numbers, which mean=0.5 and std=None would not leave whole"),
        (lambda: jxai.adapt(by_hand, rngs=KEY), "rngs=.* is nothing that a function takes"),
        (lambda: jxai.adapt(by_hand, example="a photograph"), "example must be an array, .* got str"),
        (lambda: jxai.adapt(lambda x: "no array", example=X), "returns no array but str: 'no array'"),
        (lambda: jxai.adapt(lambda x: x, example=X), r"it returns \(10, 8, 3\), not logits \[K\]"),
        (lambda: jxai.adapt(Partial(apply, WEIGHTS), example=X[0]), r"does not give logits of example \[8, 3\]"),
    ],
)
def test_what_cannot_be_adapted_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()
