"""The driver: equal results however the examples are cut, placed or ordered; one trace; no gathers."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jxai import Batched, Linen, batching, device_mesh, each
from jxai.attribution import feature_ablation, gradient, rise, smoothgrad
from jxai.callables import partition

X = jax.random.uniform(jax.random.key(0), (10, 8, 8, 3))
T = np.arange(10) % 5
KEY = jax.random.key(1)


class NNX(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
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
    return nnx.view(NNX(seed), deterministic=True, use_running_average=True)


def linen(seed):
    return Linen(LinenNet(), LinenNet().init(jax.random.key(seed), X[0]))


def batched(seed):
    return Batched(Linen(LinenNet(), LinenNet().init(jax.random.key(seed), X)))


def partial(seed):
    return jax.tree_util.Partial(function, {"w": jax.random.normal(jax.random.key(seed), (3, 5))})


def equinox(seed):
    return Equinox(jax.random.normal(jax.random.key(seed), (3, 5)), jax.nn.relu)


MODELS = [nnx_model, linen, batched, partial, equinox]


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_new_weights_do_not_retrace(make):
    traces = []

    def counted(f, x, target, key=None):
        traces.append(make)
        return gradient(f, x, target)

    results = [each(counted, make(seed), X, T) for seed in range(3)]
    assert len(traces) == 1
    assert not np.allclose(results[0], results[1])
    for seed, result in enumerate(results):
        direct = jnp.stack([jax.grad(lambda x, t=t: make(seed)(x)[t])(x) for x, t in zip(X[:2], T[:2])])
        assert np.allclose(result[:2], direct, atol=1e-6)


def test_options_made_anew_do_not_retrace_and_arrays_are_traced():
    traces = []

    def counted(f, x, target, key=None, *, scale, name):
        traces.append(name)
        return gradient(f, x, target) * scale

    f = partial(0)
    a = each(counted, f, X, T, scale=np.float32(2), name="a")
    b = each(counted, f, X, T, scale=np.float32(3), name="a")
    assert traces == ["a"] and np.allclose(a * 1.5, b)
    each(counted, f, X, T, scale=np.float32(2), name="b")
    assert traces == ["a", "b"]


def test_results_do_not_depend_on_order_block_or_devices():
    f = partial(0)
    whole = each(smoothgrad, f, X, T, key=KEY, batch_size=2, num_samples=3)
    shuffled = np.array([3, 1, 9, 0, 2, 8, 7, 5, 4, 6])
    moved = each(smoothgrad, f, X[shuffled], T[shuffled], key=KEY, index=shuffled, batch_size=2, num_samples=3)
    assert np.array_equal(moved, whole[shuffled])
    block = each(smoothgrad, f, X[4:6], T[4:6], key=KEY, index=np.arange(4, 6), batch_size=2, num_samples=3)
    assert np.array_equal(block, whole[4:6])
    for devices in (2, 4):
        mesh = device_mesh(jax.devices()[:devices])
        spread = each(smoothgrad, f, X, T, key=KEY, batch_size=2, mesh=mesh, num_samples=3)
        assert np.array_equal(spread, whole)
    for batch_size in (1, 3, 10, 64):
        other = each(smoothgrad, f, X, T, key=KEY, batch_size=batch_size, num_samples=3)
        assert np.abs(other - whole).max() <= 1e-5 * np.abs(whole).max()
    assert not np.allclose(each(smoothgrad, f, X, T, key=KEY, index=np.arange(10) + 1, num_samples=3), whole)


def test_sharding_gathers_nothing():
    weights, model = partition(nnx_model(0))
    arrays, options = partition({"num_masks": 4, "grid": 2})
    mesh = device_mesh()
    arguments = (weights, arrays, KEY, [X[:8], jnp.asarray(T[:8])], jnp.arange(8), {})
    static = dict(fn=rise, model=model, options=options, batch_size=2, mesh=mesh)
    text = batching._run.lower(*arguments, **static).compile().as_text()
    assert "all-gather" not in text and "all-reduce" not in text
    result = batching._run(*arguments, **static)
    assert len(result.sharding.device_set) == 4


def test_per_example_options_and_segments_are_counted():
    segments = np.stack([np.arange(64).reshape(8, 8) % (2 + n % 3) for n in range(10)])
    driven = each(feature_ablation, partial(0), X, T, per_example={"segments": segments})
    for n in (0, 1, 5):
        alone = feature_ablation(partial(0), X[n], int(T[n]), segments=segments[n])
        assert np.allclose(driven[n], alone, atol=1e-5)


def test_memory_is_flat_in_the_number_of_examples():
    def temporary(count):
        weights, model = partition(partial(0))
        arrays, options = partition({"num_masks": 64, "grid": 2, "chunk": 4})
        x = jnp.zeros((count, 32, 32, 3))
        arguments = (weights, arrays, KEY, [x, jnp.zeros(count, int)], jnp.arange(count), {})
        lowered = batching._run.lower(*arguments, fn=rise, model=model, options=options, batch_size=2, mesh=None)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    # Nothing grows but a copy of the results, 4 KiB each; 64 masks of an example would be 256 KiB.
    assert temporary(64) - temporary(8) <= 56 * 32 * 32 * 4


def test_a_common_target_and_no_target():
    f = partial(0)
    assert np.allclose(each(gradient, f, X, 2), each(gradient, f, X, np.full(10, 2)))
    scalar = jax.tree_util.Partial(lambda w, x: function(w, x)[2], {"w": f.args[0]["w"]})
    assert np.allclose(each(gradient, scalar, X, None), each(gradient, f, X, 2), atol=1e-6)


def test_only_pixels_must_be_finite():
    """A metric's attribution may hold NaN: it alone then gives NaN. The message names pixels, whatever comes after them."""

    def total(f, x, target, attribution, key=None):
        return attribution.sum()

    maps = X.at[3, 0, 0, 0].set(jnp.nan)
    result = each(total, partial(0), X, T, maps)
    assert np.array_equal(np.isnan(result), np.arange(10) == 3)
    with pytest.raises(ValueError, match="x must be finite, but example 3"):
        each(total, partial(0), maps, T, X)


@pytest.mark.parametrize(
    ("examples", "options", "word"),
    [
        ((X, T + 1), {}, "target=5 must be a class in"),
        ((X, -1), {}, "target=-1"),
        ((X.at[3, 0, 0, 0].set(jnp.nan), T), {}, "example 3 has NaN"),
        ((X.at[2].set(jnp.inf), T), {}, "example 2 has NaN or infinite"),
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
    assert [int(each(kind, partial(0), X, T, k=k)[0]) for k in (1, 1.0, True, 1)] == [1, 2, 3, 1]
