"""Infidelity: exact linear models, the authors' patches by brute force, and the optimal scale in closed form."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import fills
from jxai.metrics.infidelity import infidelity as metric


def jitted(metric):
    """Compiled once for each model and options; eager, a loop compiles at every call."""
    traced = ("f", "x", "target", "attribution", "key", "segments", "fill")
    return jax.jit(metric, static_argnames=[name for name in inspect.signature(metric).parameters if name not in traced])


infidelity = jitted(metric)

KEY = jax.random.key(0)
IMAGE = (6, 5, 2)
RNG = np.random.default_rng(1)
W = RNG.normal(size=IMAGE).astype(np.float32)
X = RNG.uniform(size=IMAGE).astype(np.float32)
OTHER = RNG.normal(size=IMAGE).astype(np.float32)
NOISES = ["gaussian", "noisy_baseline"]


def _network(curved, v):
    value = (v * W).sum()
    return jnp.stack([jnp.where(curved, jnp.sin(value / 2) + (v**2 * OTHER).sum(), value + 3), jnp.where(curved, 0, -value)])


linear, curved = Partial(_network, np.asarray(False)), Partial(_network, np.asarray(True))
"""Which of the two it is, is data, so that one program judges both."""


def logit(f, v):
    """Their first logit in NumPy."""
    value = (v * W).sum()
    return np.sin(value / 2) + (v**2 * OTHER).sum() if f is curved else value + 3


def patches(side, step, height, width):
    """Masks of all patches, the last ones cut at the border."""
    for i in range(0, max(height - side, 0) + step, step):
        for j in range(0, max(width - side, 0) + step, step):
            mask = np.zeros((height, width, 1), bool)
            mask[i : i + side, j : j + side] = True
            yield mask


def brute(f, x, a, sizes, step=None, fill=0.0, scaled=False):
    terms = []
    for side in sizes:
        for mask in patches(side, step or side, *x.shape[:2]):
            terms.append(((mask * a).sum(), logit(f, x) - logit(f, np.where(mask, np.float32(fill), x))))
    predicted, drop = np.array(terms, float).T
    beta = (predicted * drop).mean() / (predicted**2).mean() if scaled else 1.0
    return ((beta * predicted - drop) ** 2).mean()


def test_an_exact_linear_model_has_none():
    assert infidelity(linear, X, 0, X * W) < 1e-9
    assert infidelity(linear, X, 0, (X * W).sum(-1, keepdims=True), sizes=(2, 3), stride=1) < 1e-9
    assert infidelity(linear, X, 0, (X - np.float32(0.3)) * W, fill=0.3) < 1e-9
    for noise in NOISES:
        assert infidelity(linear, X, 0, W, KEY, perturbation=noise) < 1e-8
        assert infidelity(linear, X, 0, -W, KEY, perturbation=noise) > 0.1


def test_the_reversed_attribution_is_off_by_twice_the_drop():
    drops = np.array([(X * W)[m[..., 0]].sum() for m in patches(4, 4, 6, 5)])
    assert infidelity(linear, X, 0, -X * W) == pytest.approx(4 * (drops**2).mean(), rel=1e-4)
    assert infidelity(linear, X, 0, np.zeros(IMAGE, np.float32)) == pytest.approx((drops**2).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("sizes", "stride", "scaled"),
    [
        ((1, 3), None, True),
        ((2, 3), 2, False),
        *(pytest.param(*patches, scaled, marks=pytest.mark.slow) for patches in [(4, None), ((2, 5), 1), (9, None)] for scaled in (False, True)),
        pytest.param((1, 3), None, False, marks=pytest.mark.slow),
        pytest.param((2, 3), 2, True, marks=pytest.mark.slow),
    ],
)
def test_patches_are_those_of_a_loop(sizes, stride, scaled):
    """Side by side, none undone by the next (Quantus leaves all former patches filled), or overlapping."""
    result = infidelity(curved, X, 0, OTHER, sizes=sizes, stride=stride, scaled=scaled, fill=0.2)
    expected = brute(curved, X, OTHER, sizes if isinstance(sizes, tuple) else (sizes,), stride, 0.2, scaled)
    assert result == pytest.approx(expected, rel=1e-4)


def test_the_number_of_passes_is_one_for_each_patch():
    """Nothing deterministic is evaluated twice."""
    count = []

    def counted(v):
        jax.debug.callback(lambda v: count.append(np.asarray(v).tobytes()), v)
        return curved(v)

    infidelity(Partial(counted), X, 0, OTHER, sizes=2, chunk=1)
    jax.effects_barrier()
    assert len(count) == len(set(count)) == 1 + 3 * 3


def test_scaling_takes_any_factor_out():
    for options in ({}, {"perturbation": "noisy_baseline"}):
        run = lambda a, o=options: infidelity(curved, X, 0, a, KEY, scaled=True, **o)
        assert run(OTHER) == pytest.approx(float(run(-7 * OTHER)), rel=1e-3)
        assert run(OTHER) <= infidelity(curved, X, 0, OTHER, KEY, **options) * (1 + 1e-5)
    assert infidelity(linear, X, 0, 5 * X * W, scaled=True) < 1e-8
    zero = infidelity(curved, X, 0, np.zeros(IMAGE, np.float32), scaled=True)
    assert zero == pytest.approx(float(infidelity(curved, X, 0, np.zeros(IMAGE, np.float32))))


def test_noise_has_the_expected_error():
    """Of a linear model: `E[(Iᵀ(a − w))²]` is `σ²‖a − w‖²`, and the squared mean `(xᵀ(a − w))²` more from a noisy zero."""
    delta = OTHER - W
    base = 0.04 * float((delta**2).sum())
    run = lambda noise: infidelity(linear, X, 0, OTHER, KEY, perturbation=noise, num_samples=4000)
    assert run("gaussian") == pytest.approx(base, rel=0.1)
    assert run("noisy_baseline") == pytest.approx(base + float((X * delta).sum()) ** 2, rel=0.1)
    # One channel: the slope of all of them.
    shared = infidelity(linear, X, 0, OTHER[..., :1], KEY, perturbation="gaussian")
    assert shared == infidelity(linear, X, 0, np.broadcast_to(OTHER[..., :1], IMAGE), KEY, perturbation="gaussian")


@pytest.mark.parametrize("shape", [(7,), (3, 5, 4, 2), pytest.param((1, 1, 1), marks=pytest.mark.slow)])
def test_other_ranks(shape):
    x, w = RNG.uniform(size=shape).astype(np.float32), RNG.normal(size=shape).astype(np.float32)
    f = Partial(lambda w, v: (v * w).sum()[None] + 1, w)
    assert infidelity(f, x, 0, x * w) < 1e-8 and infidelity(f, x, 0, -x * w) > 1e-3
    assert infidelity(f, x, 0, w, KEY, perturbation="noisy_baseline", sigma=0.2) < 1e-8


def test_not_finite_is_nan():
    for bad in (np.nan, np.inf):
        spoilt = OTHER.copy()
        spoilt[0, 0, 0] = bad
        assert np.isnan(infidelity(linear, X, 0, spoilt))
        assert np.isnan(infidelity(linear, X, 0, spoilt, KEY, perturbation="gaussian"))
    assert np.isnan(infidelity(linear, X, 2, OTHER))


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"perturbation": "circle"}, "perturbation='circle'"),
        ({"perturbation": "gaussian"}, "key=None"),
        ({"fill": fills.Uniform()}, "key=None"),
        ({"sizes": 0}, "sizes=0"),
        ({"sizes": ()}, r"sizes=\(\)"),
        ({"stride": 0}, "stride=0"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"sigma": -1.0}, "sigma=-1.0"),
    ],
)
def test_bad_options(options, word):
    with pytest.raises(ValueError, match=word):
        infidelity(linear, X, 0, OTHER, **options)


def test_bad_attribution():
    with pytest.raises(ValueError, match="attribution must have shape"):
        infidelity(linear, X, 0, OTHER[:3])
