"""The driver: equal results however the examples are cut, placed or ordered; one trace; no gathers."""

import dataclasses

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn, numbers
from flax import nnx

from jxai import Batched, Linen, batching, device_mesh, each
from jxai.attribution import feature_ablation, gradient, rise, smoothgrad
from jxai.callables import partition

X = np.random.default_rng(0).uniform(size=(10, 8, 8, 3)).astype(np.float32)
T = np.arange(10) % 5
KEY = jax.random.key(1)


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.head = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.Linear(4, 5, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(nnx.relu(self.norm(self.conv(x)))).mean((-3, -2)))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5)(nn.relu(nn.Conv(4, (3, 3))(x)).mean((-3, -2)))


class Equinox(eqx.Module):
    weight: jax.Array
    activation: object

    def __call__(self, x):
        return self.activation(x @ self.weight).mean((0, 1))


def function(weights, x):
    return jax.nn.relu(x @ weights["w"]).mean((0, 1))


def nnx_model(seed):
    return drawn(lambda rngs: nnx.view(NNX(rngs), deterministic=True, use_running_average=True), seed)


def variables(x, seed):
    return numbers(jax.eval_shape(LinenNet().init, jax.random.key(0), x), seed)


def linen(seed):
    return Linen(LinenNet(), variables(X[0], seed))


def batched(seed):
    return Batched(Linen(LinenNet(), variables(X, seed)))


def weight(seed):
    return np.random.default_rng(seed).normal(size=(3, 5)).astype(np.float32)


def partial(seed):
    return jax.tree_util.Partial(function, {"w": weight(seed)})


def equinox(seed):
    return Equinox(weight(seed), jax.nn.relu)


MODELS = [nnx_model, linen, batched, partial, equinox]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_new_weights_do_not_retrace(make):
    once = chex.assert_max_traces(lambda f, x, target, key=None: gradient(f, x, target), n=1)
    models = [make(seed) for seed in range(2)]
    results = [np.asarray(each(once, f, X, T)) for f in models]
    assert not np.allclose(results[0], results[1])
    direct = jax.grad(lambda x, f, t: f(x)[t])
    arrays, rest = partition(models[1])
    slopes = jax.jit(lambda arrays, xs, ts: jax.vmap(lambda x, t: direct(x, rest.combine(arrays), t))(xs, ts))(arrays, X[:2], T[:2])
    assert np.allclose(results[1][:2], slopes, atol=1e-6)


def test_options_made_anew_do_not_retrace_and_arrays_are_traced():
    traces = []

    def counted(f, x, target, key=None, *, scale, name):
        traces.append(name)
        return gradient(f, x, target) * scale

    f = partial(0)
    a, b = (np.asarray(each(counted, f, X, T, scale=np.float32(scale), name="a")) for scale in (2, 3))
    assert traces == ["a"] and np.allclose(a * 1.5, b)
    each(counted, f, X, T, scale=np.float32(2), name="b")
    assert traces == ["a", "b"]


def noisy(n=slice(None), **options):
    options = {"batch_size": 2, "num_samples": 3, **options}
    return np.asarray(each(smoothgrad, partial(0), X[n], T[n], key=KEY, **options))


def test_results_do_not_depend_on_order_or_block():
    whole = noisy()
    shuffled = np.array([3, 1, 9, 0, 2, 8, 7, 5, 4, 6])
    assert np.array_equal(noisy(shuffled, index=shuffled), whole[shuffled])
    assert np.array_equal(noisy(slice(4, 6), index=np.arange(4, 6)), whole[4:6])
    assert not np.allclose(noisy(index=np.arange(10) + 1), whole)


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_results_do_not_depend_on_devices(devices):
    assert np.array_equal(noisy(mesh=device_mesh(jax.devices()[:devices])), noisy())


@pytest.mark.parametrize("batch_size", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10, 64))])
def test_results_hardly_depend_on_the_size_of_batches(batch_size):
    whole = noisy()
    assert np.abs(noisy(batch_size=batch_size) - whole).max() <= 1e-5 * np.abs(whole).max()


def test_sharding_gathers_nothing():
    weights, model = partition(nnx_model(0))
    arrays, options = partition({"num_masks": 4, "grid": 2})
    mesh = device_mesh()
    arguments = (weights, arrays, KEY, [X[:8], T[:8]], jnp.arange(8), {})
    static = dict(fn=rise, model=model, options=options, batch_size=2, mesh=mesh)
    text = batching._run.lower(*arguments, **static).compile().as_text()
    assert "all-gather" not in text and "all-reduce" not in text
    result = batching._run(*arguments, **static)
    assert len(result.sharding.device_set) == 4


def test_per_example_options_and_segments_are_counted():
    segments = np.stack([np.arange(64).reshape(8, 8) % (2 + n % 3) for n in range(10)])
    driven = each(feature_ablation, partial(0), X, T, per_example={"segments": segments})
    alone = jax.jit(lambda x, t, labels: feature_ablation(partial(0), x, t, segments=labels, num_segments=4))
    for n in (0, 1, 5):
        assert np.allclose(np.asarray(driven)[n], alone(X[n], T[n], segments[n]), atol=1e-5)


def test_memory_is_flat_in_the_number_of_examples():
    def temporary(count):
        weights, model = partition(partial(0))
        arrays, options = partition({"num_masks": 64, "grid": 2, "chunk": 4})
        x = np.zeros((count, 32, 32, 3), np.float32)
        arguments = (weights, arrays, KEY, [x, np.zeros(count, int)], jnp.arange(count), {})
        lowered = batching._run.lower(*arguments, fn=rise, model=model, options=options, batch_size=2, mesh=None)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    # Nothing grows but a copy of the results, 4 KiB each; 64 masks of an example would be 256 KiB.
    assert temporary(64) - temporary(8) <= 56 * 32 * 32 * 4


def test_a_common_target_and_no_target():
    f = partial(0)
    assert np.allclose(each(gradient, f, X, 2), each(gradient, f, X, np.full(10, 2)))
    scalar = jax.tree_util.Partial(lambda w, x: function(w, x)[2], {"w": f.args[0]["w"]})
    assert np.allclose(each(gradient, scalar, X, None), each(gradient, f, X, 2), atol=1e-6)


def put(x, n, value):
    """x with this value in example n."""
    x = x.copy()
    x[n, 0, 0, 0] = value
    return x


def test_only_pixels_must_be_finite():
    """A metric's attribution may hold NaN: it alone then gives NaN. The message names pixels, whatever comes after them."""

    def total(f, x, target, attribution, key=None):
        return attribution.sum()

    maps = put(X, 3, np.nan)
    result = each(total, partial(0), X, T, maps)
    assert np.array_equal(np.isnan(result), np.arange(10) == 3)
    with pytest.raises(ValueError, match="x must be finite, but example 3"):
        each(total, partial(0), maps, T, X)


@pytest.mark.parametrize(
    ("examples", "options", "word"),
    [
        ((X, T + 1), {}, "target=5 must be a class in"),
        ((X, -1), {}, "target=-1"),
        ((put(X, 3, np.nan), T), {}, "example 3 has NaN"),
        ((put(X, 2, np.inf), T), {}, "example 2 has NaN or infinite"),
        ((X, T[:4]), {}, "equal in number"),
        ((X[:0], T[:0]), {}, "no examples"),
        ((X, T), {"batch_size": 0}, "batch_size=0"),
        ((X, T), {"index": np.arange(3)}, "index must have shape"),
        ((X, T), {"score": "odds"}, "score='odds'"),
    ],
)
def test_bad_input_is_one_line(examples, options, word):
    with pytest.raises(ValueError, match=word) as error:
        each(gradient, partial(0), *examples, **options)
    assert "\n" not in str(error.value)


def kind(f, x, target, key=None, *, k):
    return jnp.float32({int: 1, float: 2, bool: 3}[type(k)])


def test_options_that_are_equal_but_of_another_type_are_others():
    assert [int(np.asarray(each(kind, partial(0), X, T, k=k))[0]) for k in (1, 1.0, True, 1)] == [1, 2, 3, 1]


def test_models_of_two_classes_with_the_same_fields_are_two_programs():
    """JAX takes the structures of such dataclasses for equal (0.10.2, 0.12.0)."""
    one, other = (
        jax.tree_util.register_dataclass(dataclasses.make_dataclass(name, ["w"], namespace={"__call__": call}))
        for name, call in (
            ("Sum", lambda self, x: (self.w * x).sum((0, 1))),
            ("Least", lambda self, x: (self.w * x).min((0, 1))),
        )
    )
    w = jnp.ones(3)
    assert jax.tree.structure(one(w)) == jax.tree.structure(other(w)), "JAX tells them now"
    for model in (one, other):
        np.testing.assert_allclose(each(gradient, model(w), X[:2], 1)[0], jax.grad(lambda x, f=model(w): f(x)[1])(X[0]), atol=1e-6)
