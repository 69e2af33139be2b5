"""ODIN's step in closed form, on a linear model; RankFeat through a model beside its formula on arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from uncertainty.numpy_scores import softmax

from jxai import taps, uncertainty
from jxai.testing import SHAPES, example, network
from jxai.uncertainty import formulas
from jxai.uncertainty.formulas.perturbed import without_first

pytestmark = pytest.mark.usefixtures("quick_compilation")

W = np.asarray([[1.0, -2, 0.5, 0], [0.5, 1, -1, 0], [0.2, 0.4, 2, 0]], np.float32)
X = np.asarray([0.4, 0.3, 0.9, 0.5], np.float32)


def linear(w, x):
    return w @ x


F = Partial(linear, jnp.asarray(W))


def stepped(noise, temperature, zero, std=1.0):
    """By hand: the gradient of log softmax(z / T)_ŷ is Wᵀ(onehot − p) / T; its sign where it is 0 is `zero`."""
    z = (W @ X).astype(np.float64)
    slope = -(W.T.astype(np.float64) @ (np.eye(3)[z.argmax()] - softmax(z / temperature)))
    sign = np.where(slope == 0, zero, np.sign(slope))
    return -softmax(W @ (X - noise * sign / std) / temperature).max()


@pytest.mark.parametrize(("convention", "zero"), [("paper", 0), ("openood", 1)])
def test_odin_steps_along_the_sign_of_the_gradient(convention, zero):
    """The last entry has no influence but through the step, which only OpenOOD takes there: seen with weights on it after the step."""
    score = uncertainty.odin(F, X, noise=0.05, temperature=2.0, convention=convention)
    np.testing.assert_allclose(score, stepped(0.05, 2.0, zero), rtol=1e-6)

    moved = []

    def seen(x):
        jax.debug.callback(lambda v: moved.append(np.asarray(v)), x)
        return F(x)

    uncertainty.odin(seen, X, noise=0.05, temperature=2.0, convention=convention)
    jax.effects_barrier()
    assert any(abs(v[3] - (X[3] - 0.05 * zero)) < 1e-7 and abs(abs(v[0] - X[0]) - 0.05) < 1e-6 for v in moved)


def test_odin_of_normalised_images_is_that_of_pixels():
    """A step of ε / std where f takes (x − mean) / std is one of ε in x; OpenOOD writes the former."""
    mean, std = np.float32([0.5, 0.4, 0.3, 0.2]), np.float32([0.2, 0.25, 0.3, 0.1])
    pixels = lambda x: F((x - mean) / std)
    ours = uncertainty.odin(pixels, X, noise=0.01, temperature=10.0)
    theirs = uncertainty.odin(F, (X - mean) / std, noise=0.01, temperature=10.0, std=std)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(uncertainty.odin(F, X, noise=0.05, temperature=2.0, std=0.5), stepped(0.1, 2.0, 0), rtol=1e-6)


def test_odin_without_a_step_is_the_largest_probability():
    np.testing.assert_allclose(uncertainty.odin(F, X, noise=0, temperature=1.0), uncertainty.max_softmax(F, X), rtol=1e-6)


def test_odin_steps_where_the_softmax_is_saturated_and_in_half_precision():
    """Where p rounds to 1 its gradient is 0, and divided by T = 1000 in float16 it underflows; its sign is neither."""
    sure = Partial(linear, jnp.asarray(60 * W))
    assert jax.grad(lambda x: jax.nn.log_softmax(sure(x)).max())(X).any() == 0
    moved = []

    def seen(x):
        jax.debug.callback(lambda v: moved.append(np.asarray(v)), x)
        return sure(x)

    uncertainty.odin(seen, X, noise=0.05, temperature=1.0)
    jax.effects_barrier()
    assert any(np.abs(np.abs(v - X) - [0.05, 0.05, 0.05, 0]).max() < 1e-6 for v in moved)
    small = Partial(linear, jnp.asarray(1e-4 * W, jnp.float16))
    half = uncertainty.odin(small, X.astype(np.float16), noise=10.0, temperature=1000.0)
    whole = uncertainty.odin(Partial(linear, jnp.asarray(1e-4 * W)), X, noise=10.0, temperature=1000.0)
    kinds = set()
    uncertainty.odin(lambda v: (kinds.add(v.dtype), small(v))[1], X.astype(np.float16))
    assert kinds == {jnp.dtype(jnp.float16)}
    np.testing.assert_allclose(half, whole, rtol=1e-5)


def test_odin_names_what_is_wrong():
    for options, message in (
        ({"std": (1.0, 2.0)}, r"std of shape \(2,\) must broadcast against x of shape \(4,\)"),
        ({"std": (1.0, 2.0, 0.0, 1.0)}, "std=.* must be positive"),
        ({"noise": -1.0}, "noise=-1.0 must be a number >= 0"),
        ({"temperature": 0.0}, "temperature=0.0 must be a positive number"),
        ({"noise": True}, "noise=True must be a number >= 0"),
        ({"convention": "x"}, "convention='x' must be one of"),
        ({"fitted": 3}, "odin fits nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            uncertainty.odin(F, X, **options)
    with pytest.raises(ValueError, match="two classes or more"):
        uncertainty.odin(Partial(linear, jnp.asarray(W[:1])), X)


def convolved(w, x):
    """A map `[5, 5, 7]` behind a rectifier, its mean, a linear map."""
    kernel, weights, bias = w
    a = jax.nn.relu(jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0])
    return a.mean((0, 1)) @ weights + bias


def test_rank_feat_of_a_model_is_that_of_its_last_map():
    drawn = np.random.default_rng(3)
    w = tuple(jnp.asarray(drawn.normal(size=shape), jnp.float32) for shape in ((3, 3, 2, 7), (7, 4), (4,)))
    f, x = Partial(convolved, w), drawn.uniform(size=(7, 7, 2)).astype(np.float32)
    a = jax.nn.relu(jax.lax.conv_general_dilated(x[None], w[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0])
    expected = formulas.rank_feat(f(x), a, uncertainty.Head(w[1], w[2]), temperature=2.0)
    np.testing.assert_allclose(uncertainty.rank_feat(f, x, temperature=2.0), expected, rtol=1e-5)


def test_rank_feat_of_two_layers_averages_their_logits():
    f, x = network(SHAPES["image"], 0), example(SHAPES["image"])
    names = tuple(layer.index for layer in taps.layers(f, x) if layer.spatial)[-2:]
    apart = [taps.replace(f, x, name, lambda a: without_first(a.reshape(-1, a.shape[-1])).reshape(a.shape)) for name in names]
    mean = np.mean(apart, 0)
    np.testing.assert_allclose(uncertainty.rank_feat(f, x, layer=names), formulas.energy(mean), rtol=1e-5)
    for options, message in (
        ({"layer": ()}, r"layer=\(\) must name"),
        ({"temperature": 0.0}, "temperature=0.0 must be a positive number"),
        ({"convention": "x"}, "convention='x' must be one of"),
        ({"fitted": 3}, "rank_feat fits nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            uncertainty.rank_feat(f, x, **options)
    with pytest.raises(ValueError, match="two classes or more"):
        uncertainty.rank_feat(lambda v: f(v)[:1], x)
