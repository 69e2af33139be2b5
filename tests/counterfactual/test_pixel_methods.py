"""The contract of counterfactuals, held by every method that searches without a generator."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.counterfactual import run, wachter
from jxai.counterfactual.frank_wolfe import sparse_vce
from jxai.counterfactual.saliency import deduce, jsma
from jxai.counterfactual.spheres import growing_spheres
from jxai.counterfactual.unlike import native_guide
from jxai.uncertainty import gaussian_density

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
SHAPE, KEY = (4, 3, 1), jax.random.key(0)
REGION = np.arange(12).reshape(4, 3) % 3 > 0
traces: list[int] = []


def _logits(w, v, x):
    traces.append(1)
    return jnp.tanh((x.ravel() - 0.5) @ w) @ v


def model(seed=0):
    rng = np.random.default_rng(seed)
    return Partial(_logits, jnp.asarray(rng.normal(size=(12, 9)), jnp.float32), jnp.asarray(2 * rng.normal(size=(9, 3)), jnp.float32))


def _first_five(x):
    return x.ravel()[:5]


EXAMPLES = RNG.uniform(size=(60, *SHAPE)).astype(np.float32)
LABELS = np.asarray(jax.vmap(model())(EXAMPLES)).argmax(1)
DENSITY = gaussian_density(EXAMPLES.reshape(60, 12)[:, :5], np.arange(60) % 3, 3)
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
    return x, np.asarray(jax.vmap(model())(x)).argmin(1)


@pytest.mark.parametrize("name", METHODS)
def test_runs_batches_and_single_searches_agree(name):
    f, (x, target) = model(), inputs()
    found = run(search(name), f, x, target, KEY, block=3, batch_size=3)
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(4))
    batched = jax.jit(jax.vmap(lambda x, t, k: METHODS[name](f, x, t, k)))(x, target, keys)
    for field in ("x", "logits"):
        np.testing.assert_allclose(getattr(batched, field), getattr(found, field), atol=1e-3)
    np.testing.assert_array_equal(batched.valid, found.valid)
    np.testing.assert_array_equal(batched.steps, found.steps)
    assert found.x.shape == x.shape and found.x.dtype == x.dtype and (found.steps > 0).all()
    # What a result claims is true of it.
    logits = np.asarray(jax.vmap(f)(found.x))
    np.testing.assert_allclose(logits, found.logits, atol=1e-4)
    assert found.valid.any() and (logits.argmax(1) == target)[found.valid].all()


@pytest.mark.parametrize("name", METHODS)
def test_frozen_entries_keep_their_bits_and_the_range_holds(name):
    f, (x, target) = model(), inputs()
    found = run(search(name, region=REGION), f, x, target, KEY)
    np.testing.assert_array_equal(found.x[:, ~REGION], x[:, ~REGION])
    assert found.x.min() >= 0 and found.x.max() <= 1 and (found.x != x).any()
    nothing = jax.jit(lambda r: METHODS[name](f, jnp.asarray(x[0]), target[0], KEY, region=r))(np.zeros((4, 3), bool))
    np.testing.assert_array_equal(nothing.x, x[0])
    assert not nothing.valid


@pytest.mark.parametrize("name", METHODS)
def test_what_needs_no_search_or_allows_none_is_data(name):
    f, (x, _) = model(), inputs(1)
    one = jax.jit(lambda x, t: METHODS[name](f, x, t, KEY))
    found = one(x[0], f(jnp.asarray(x[0])).argmax())
    np.testing.assert_array_equal(found.x, x[0])
    assert found.valid and found.steps == 0
    for target in (-1, 3):
        found = one(x[0], target)
        np.testing.assert_array_equal(found.x, x[0])
        assert not found.valid and found.steps == 0
    found = one(np.full(SHAPE, np.nan, np.float32), 0)
    assert not found.valid and found.steps == 0


@pytest.mark.parametrize("name", METHODS)
def test_an_unreachable_class_fails_with_the_likeliest_point(name):
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x.ravel(), w @ x.ravel() - 30.0]), jnp.linspace(-1, 1, 12))
    x = inputs(1)[0][0]
    found = jax.jit(lambda x: METHODS[name](f, x, 2, KEY))(x)
    assert not found.valid and np.isfinite(found.x).all()
    p = lambda v: float(jax.nn.log_softmax(f(jnp.asarray(v)))[2])
    assert p(found.x) >= p(x) - 1e-4


@pytest.mark.parametrize("name", METHODS)
def test_new_weights_and_arrays_compile_nothing_anew(name):
    x, target = inputs()
    run(search(name, region=REGION), model(), x, target, KEY, block=100, batch_size=4)
    before = len(traces)
    run(search(name, region=~REGION), model(1), 1 - x, target[::-1], jax.random.key(1), block=100, batch_size=4)
    # The shapes of f(x) are looked at anew; fewer lanes may be left at the end than before, but for each size no more than once.
    assert len(traces) - before <= 4


@pytest.mark.parametrize("name", METHODS)
def test_bad_inputs_are_errors(name):
    f, x = model(), jnp.asarray(inputs(1)[0][0])
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
