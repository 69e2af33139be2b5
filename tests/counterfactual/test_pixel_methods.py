"""The contract of counterfactuals, held by every method that searches without a generator."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.tree_util import Partial

from jxai.counterfactual import run, wachter
from jxai.counterfactual.frank_wolfe import sparse_vce
from jxai.counterfactual.saliency import deduce, jsma
from jxai.counterfactual.spheres import growing_spheres
from jxai.counterfactual.unlike import native_guide
from jxai.uncertainty import fit_gaussian_density

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
SHAPE, KEY = (4, 3, 1), jax.random.key(0)
REGION = np.arange(12).reshape(4, 3) % 3 > 0
traces: list[int] = []


def _logits(w, v, b, x):
    traces.append(1)
    return jnp.tanh((x.ravel() - 0.5) @ w) @ v + b


def model(seed=0, bias=(0, 0, 0)):
    rng = np.random.default_rng(seed)
    return Partial(_logits, rng.normal(size=(12, 9)).astype(np.float32), (2 * rng.normal(size=(9, 3))).astype(np.float32), np.float32(bias))


def logits_of(f, x):
    """What the model says of examples `[n, 4, 3, 1]`, in NumPy."""
    w, v, b = f.args
    return np.tanh((np.asarray(x).reshape(len(x), 12) - 0.5) @ w) @ v + b


def _first_five(x):
    return x.ravel()[:5]


EXAMPLES = RNG.uniform(size=(60, *SHAPE)).astype(np.float32)
LABELS = logits_of(model(), EXAMPLES).argmax(1)
DENSITY = fit_gaussian_density(EXAMPLES.reshape(60, 12)[:, :5], None, np.arange(60) % 3, num_classes=3)
METHODS = {
    "wachter": functools.partial(wachter, steps=60, learning_rate=0.05),
    "jsma": functools.partial(jsma, steps=40),
    "deduce": functools.partial(deduce, density=DENSITY, features=Partial(_first_five), steps=40),
    "growing_spheres": functools.partial(growing_spheres, num_samples=64, steps=20),
    "sparse_vce": functools.partial(sparse_vce, radius=1.0, steps=20),
    "native_guide": functools.partial(native_guide, examples=EXAMPLES, labels=LABELS),
}


def search(name, **options):
    return METHODS[name].func.search(**{**METHODS[name].keywords, **options})


def inputs(n=4):
    """Examples, and the least likely class of each."""
    x = np.random.default_rng(5).uniform(0.1, 0.9, (n, *SHAPE)).astype(np.float32)
    return x, logits_of(model(), x).argmin(1)


KEYS = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(np.arange(4))


def together(name, region=REGION, batch_size=2, **data):
    """A run of four searches, of which two go at once."""
    x, target = inputs()
    given = {"f": model(), "x": x, "target": target, "key": KEY, **data}
    return run(search(name, region=region), *given.values(), block=3, batch_size=batch_size)


@functools.cache
def compiled(name):
    return jax.jit(jax.vmap(lambda f, x, t, k, r: METHODS[name](f, x, t, k, region=r), (None, 0, 0, 0, 0)))


def alone(name, f, x, target, region):
    """The method itself on four examples: one program for all truths below."""
    return jax.tree.map(np.asarray, compiled(name)(f, x, np.asarray(target, np.int32), KEYS, np.broadcast_to(region, (4, 4, 3))))


@pytest.mark.parametrize("name", METHODS)
def test_runs_batches_and_single_searches_agree(name):
    f, (x, target) = model(), inputs()
    found, batched = together(name), alone(name, f, x, target, REGION)
    for field in ("x", "logits"):
        np.testing.assert_allclose(getattr(batched, field), getattr(found, field), atol=1e-3)
    np.testing.assert_array_equal(batched.valid, found.valid)
    np.testing.assert_array_equal(batched.steps, found.steps)
    assert found.x.shape == x.shape and found.x.dtype == x.dtype and (found.steps > 0).all()
    # What a result claims is true of it.
    logits = logits_of(f, found.x)
    np.testing.assert_allclose(logits, found.logits, atol=1e-4)
    assert found.valid.any() and (logits.argmax(1) == target)[found.valid].all()
    # Frozen entries keep their bits, and the range holds.
    np.testing.assert_array_equal(found.x[:, ~REGION], x[:, ~REGION])
    assert found.x.min() >= 0 and found.x.max() <= 1 and (found.x != x).any()


@pytest.mark.parametrize("name", METHODS)
def test_what_needs_no_search_or_allows_none_is_data(name):
    f, (x, target) = model(), inputs()
    x = np.broadcast_to(x[0], x.shape).copy()
    x[3] = np.nan
    found = alone(name, f, x, [logits_of(f, x[:1]).argmax(), -1, 3, 0], True)
    np.testing.assert_array_equal(found.x[:3], x[:3])
    np.testing.assert_array_equal(found.valid, [True, False, False, False])
    np.testing.assert_array_equal(found.steps, 0)
    x, _ = inputs()
    nothing = alone(name, f, x, target, False)
    np.testing.assert_array_equal(nothing.x, x)
    assert not nothing.valid.any()


@pytest.mark.parametrize("name", METHODS)
def test_an_unreachable_class_fails_with_the_likeliest_point(name):
    f, x = model(bias=(0, 0, -100)), inputs()[0]
    found = alone(name, f, x, [2, 2, 2, 2], True)
    assert not found.valid.any() and np.isfinite(found.x).all()
    p = [scipy.special.log_softmax(logits_of(f, v), 1)[:, 2] for v in (found.x, x)]
    assert (p[0] >= p[1] - 1e-4).all()


@pytest.mark.parametrize("name", METHODS)
def test_new_weights_and_arrays_compile_nothing_anew(name):
    x, target = inputs()
    together(name, batch_size=1)
    before = len(traces)
    together(name, ~REGION, batch_size=1, f=model(1), x=1 - x, target=target[::-1], key=jax.random.key(1))
    # The shapes of f(x) are looked at anew; nothing of the search is.
    assert len(traces) - before <= 2


@pytest.mark.parametrize(
    "name", ["wachter", "sparse_vce", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name not in ("wachter", "sparse_vce"))]
)
def test_weights_wider_than_x_search_the_same(name):
    (x,), (target,) = inputs(1)
    wanted = jax.tree.map(np.asarray, METHODS[name](model(), x, int(target), KEY))
    with jax.enable_x64(True):
        f = jax.tree.map(lambda w: jnp.asarray(w, jnp.float64), model())
        found = jax.tree.map(np.asarray, METHODS[name](f, jnp.asarray(x, jnp.float32), int(target), KEY))
    assert found.x.dtype == np.float32 and found.valid == wanted.valid
    if name != "growing_spheres":  # which draws other numbers
        np.testing.assert_allclose(found.x, wanted.x, atol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_bad_inputs_are_errors(name):
    f, x = model(), inputs(1)[0][0]
    method = METHODS[name]
    for call, message in (
        (lambda: method(f, x, 3, KEY), r"target=3 must be a class in \[0, 3\)"),
        (lambda: method(f, x, None, KEY), "target=None must be a class"),
        (lambda: method(f, (9 * x).astype(int), 0, KEY), "must be a floating-point array"),
        (lambda: method(lambda v: v.ravel()[:1], x, 0, KEY), "two classes or more"),
        (lambda: method(lambda v: v, x, 0, KEY), "must be a vector of logits"),
        (lambda: search(name, region=np.zeros((4, 3), bool)), "region freezes every entry"),
        (lambda: method(f, x, 0, KEY, region=np.ones((2, 2), bool)), "region|Frozen"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
