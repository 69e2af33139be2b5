"""Several inputs: one explained while the others are held, or all of them at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import X, by_hand

import jxai
from jxai import attribution, metrics
from jxai.adapters import jointly
from jxai.attribution import feature_ablation, gradient, gradient_shap, input_x_gradient, integrated_gradients, kernel_shap, smoothgrad
from jxai.metrics.parameters import layers

AGE = np.float32([0.3, 2.0])
RNG = np.random.default_rng(0)
A, B = np.float32(RNG.normal(size=(2, 4))), np.float32(RNG.normal(size=(3, 4)))
TABLE = {"age": AGE, "codes": np.float32([1, -1, 0.5])}
KEY = jax.random.key(0)


def of_pair(pair):
    return by_hand(pair[0]) * pair[1].sum()


def of_dict(inputs):
    return by_hand(inputs["image"]) * inputs["age"].sum()


def of_arguments(image, age):
    return by_hand(image) * age.sum()


def of_batches(image, age):
    return jax.vmap(of_arguments)(image, age)


@pytest.mark.parametrize(
    ("model", "example", "explain"),
    [
        (of_pair, (X, AGE), 0),
        (of_arguments, [X, AGE], 0),
        (of_batches, (X, AGE), 0),
        (of_dict, {"image": X, "age": AGE}, "image"),
        (of_arguments, {"image": X, "age": AGE}, "image"),
    ],
)
def test_one_input_is_explained_while_the_others_are_held(model, example, explain):
    f = jxai.adapt(model, example=example, explain=explain)
    np.testing.assert_allclose(jax.jit(gradient, static_argnums=2)(f, X, 1), AGE.sum() * gradient(by_hand, X, 1), rtol=1e-4, atol=1e-6)
    held = [leaf for leaf in jax.tree.leaves(f) if leaf.shape == AGE.shape]
    assert len(held) == 1 and (held[0] == AGE).all()


def test_held_inputs_are_no_weights():
    f = jxai.adapt(lambda w, inputs: (inputs["image"].mean((0, 1)) @ w) * inputs["age"].sum(), B, example={"image": X, "age": AGE}, explain="image")
    assert len(layers(f, X)) == 1
    assert len(metrics.parameter_randomization(f, X, 1, gradient(f, X, 1), KEY, method=gradient).y) == 1


def linear(inputs):
    return inputs["age"] @ A + inputs["codes"] @ B


def test_all_inputs_at_once():
    f = jxai.adapt(linear, example=TABLE)
    for method in (input_x_gradient, integrated_gradients):
        maps = jax.jit(lambda table, method=method: jointly(method)(f, table, 2))(TABLE)
        np.testing.assert_allclose(maps["age"], AGE * A[:, 2], rtol=1e-5)
        np.testing.assert_allclose(maps["codes"], TABLE["codes"] * B[:, 2], rtol=1e-5)
    shares = jointly(kernel_shap)(f, TABLE, 2, KEY, num_samples=16)  # a feature is an input unless segments say otherwise
    np.testing.assert_allclose(shares["age"], np.full(2, (AGE @ A)[2]), rtol=1e-4)
    np.testing.assert_allclose(shares["codes"], np.full(3, (TABLE["codes"] @ B)[2]), rtol=1e-4)
    base, labels = {"age": np.float32(1), "codes": np.float32([0, 1, 2])}, {"age": np.array([0, 1]), "codes": np.array([2, 2, 3])}
    taken = jointly(feature_ablation)(f, TABLE, 2, segments=labels, fill=base)
    np.testing.assert_allclose(taken["age"], (AGE - 1) * A[:, 2], rtol=1e-4)
    lost = (TABLE["codes"] - base["codes"]) * B[:, 2]
    np.testing.assert_allclose(taken["codes"], [lost[:2].sum()] * 2 + [lost[2]], rtol=1e-4, atol=1e-6)
    expected = jointly(gradient_shap)(f, TABLE, 2, KEY, baselines={"age": np.ones((1, 2), np.float32), "codes": np.zeros((1, 3), np.float32)}, sigma=0.0)
    np.testing.assert_allclose(expected["age"], (AGE - 1) * A[:, 2], rtol=1e-4)
    pair = jointly(integrated_gradients)(jxai.adapt(of_pair, example=(X, AGE)), (X, AGE), 1, steps=64)
    total = float(sum(part.sum() for part in pair))
    np.testing.assert_allclose(total, of_pair((X, AGE))[1], rtol=2e-2)  # of the baseline, 0
    assert jax.tree.map(np.shape, pair) == (X.shape, AGE.shape)


def test_what_has_no_meaning_for_several_inputs_is_refused():
    for name in ("grad_cam", "occlusion", "rise", "xrai", "blur_integrated_gradients", "extremal_perturbation", "eva", "meaningful_perturbation"):
        with pytest.raises(ValueError, match=f"method={name} looks at where entries lie"):
            jointly(getattr(attribution, name))
    f = jxai.adapt(linear, example=TABLE)
    with pytest.raises(ValueError, match=r"inputs\['codes'\] must be a floating-point array, got int64: hold it"):
        jointly(gradient)(f, {"age": AGE, "codes": np.arange(3)}, 1)
    with pytest.raises(ValueError, match="x must be one array, got a dict of 2"):
        smoothgrad(f, TABLE, 1, KEY)
    for other in ({"age": 0.0, "code": 1.0}, {"age": 0.0, "codes": 1.0, "more": 0.0}, (0.0, 1.0)):  # which would go to other inputs
        with pytest.raises(ValueError, match=r"baseline must be a tree like the inputs, \{'age': \[2\], 'codes': \[3\]\}, got"):
            jointly(integrated_gradients)(f, TABLE, 1, baseline=other)
    with pytest.raises(ValueError, match="inputs={} must hold an array"):
        jointly(gradient)(f, {}, 1)
    for wrong, says in (
        (dict(explain="height"), r"explain='height' must be one of \['age', 'codes'\]"),
        (dict(pixels=(0, 255)), "need explain=, which one of them is meant"),
        (dict(channels="first"), "need explain="),
    ):
        with pytest.raises(ValueError, match=says):
            jxai.adapt(linear, example=TABLE, **wrong)
    with pytest.raises(ValueError, match="explain=0 names one of several inputs, which example must hold"):
        jxai.adapt(by_hand, example=X, explain=0)
    with pytest.raises(ValueError, match=r"example\[1\] must be an array, got str"):
        jxai.adapt(of_pair, example=(X, "old"), explain=0)
    tokens = {"image": X, "age": jnp.arange(2)}
    f = jxai.adapt(of_dict, example=tokens, explain="image")  # whole numbers are held as they are
    np.testing.assert_allclose(f(X), by_hand(X), rtol=1e-5)
