"""Inside `jax.shard_map` with its defaults every routine gives what it gives under `vmap`, whatever of its arguments the devices share."""

from __future__ import annotations

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counterfactual import search_cases
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial
from metrics import metric_cases
from proofs import BOUNDS
from shards import same, sharded, two

from jxai import attribution, counterfactual, each, loops, metrics
from jxai.testing import example, network
from jxai.testing.examples import attribution_map, pointwise, shape_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

QUICK = ("deletion", "guided_integrated_gradients", "lime", "meaningful_perturbation")
"""A scan, a `while_loop`, a solver of its own, and a descent from a constant."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in attribution.__all__])
def test_a_method(name):
    case = cases.CASES.get(name, cases.UNKNOWN)
    shape = shape_of(case.shapes[0])
    f, options, keys = case.model(shape), cases.options(name, shape), jax.random.split(jax.random.key(3), 2)
    call = lambda x, key: getattr(attribution, name)(f, x, 1, key, **options)
    same(call, two(example, shape), keys, tolerance=case.tolerance)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in metrics.__all__])
def test_a_metric(name):
    case, shape = metric_cases.CASES.get(name, metric_cases.UNKNOWN), shape_of(metric_cases.main_kind(name))
    f, options, keys = pointwise(shape), metric_cases.options(name, shape), jax.random.split(jax.random.key(3), 2)
    call = lambda x, a, key: getattr(metrics, name)(f, x, 1, a, key, **options)
    same(call, two(example, shape), two(attribution_map, shape), keys, tolerance=case.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", counterfactual.METHODS)
def test_a_search(name):
    told = {"targeted": True, "shape": "vector", "model": lambda shape, seed: network(shape, seed), **search_cases.CASES.get(name, {})}
    x = jnp.asarray(told.get("x", example(shape_of(told["shape"]))))
    f, options = told["model"](x.shape, 0), told.get("options", {})
    options = options(x.shape) if callable(options) else options
    target = np.int32(np.asarray(f(x)).argmin()) if told["targeted"] else None
    call = lambda x, key: getattr(counterfactual, name)(f, x, target, key, **options)
    same(call, jnp.stack([x, 0.9 * x + 0.05]), jax.random.split(jax.random.key(3), 2), tolerance=1e-3)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "crown of margins" else pytest.mark.slow) for n in BOUNDS])
def test_bounds_and_sufficient_subsets(name):
    same(lambda x: jax.tree.map(jnp.asarray, jax.tree.leaves(BOUNDS[name](x))), two(example, (6,)), tolerance=1e-4)


def test_what_devices_share_is_each_examples_own():
    """JAX sums a derivative by what devices share over the devices; here x, and then all but what f closes over, is shared."""
    weights = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    x = np.float32([0.3, 0.2, 0.1])
    by_target = sharded(lambda t: attribution.gradient(Partial(jnp.matmul, weights[0]), x, t), jnp.arange(2))
    by_weights = sharded(lambda w: attribution.gradient(lambda v: w @ v, x, 1), weights)
    np.testing.assert_allclose([by_target, by_weights], [weights[0, :2], weights[:, 1]], rtol=1e-6)


def test_a_loop_descends_on_each_device_alone():
    step = lambda v, goal: v - jax.grad(lambda u: (u - goal) ** 2)(v)
    goals = jnp.float32([1, 5])
    found = sharded(lambda goal: loops.scan(lambda v, _: (step(v, goal), None), 0.0, length=1)[0], goals)
    turned = sharded(lambda goal: loops.while_loop(lambda v: v < goal, lambda v: loops.cond(v > 3, lambda: 9.0, lambda: v + goal / 2), jnp.float32(0)), goals)
    np.testing.assert_allclose([found, turned], [[2, 10], [1, 5]])


@pytest.mark.parametrize("axes", [("i",), ("i", "j")])
def test_a_mesh_as_jax_makes_it(axes):
    mesh = jax.make_mesh((2,) * len(axes), axes, devices=jax.devices()[: 2 ** len(axes)])
    weights, xs = np.float32([[1, 2], [3, 4]]), np.ones((4, 2), np.float32)
    f, targets = Partial(jnp.matmul, weights), np.arange(4) % 2
    spread = jax.device_put(xs, NamedSharding(mesh, P(axes)))
    with jax.set_mesh(mesh):
        inside = each(attribution.gradient, f, spread, targets, mesh=mesh)
        inside = np.asarray(inside + 0 * spread)
        with pytest.raises(ValueError, match="inside of jit under jax.set_mesh with explicit axes"):
            jax.jit(lambda xs: each(attribution.gradient, f, xs, targets, mesh=mesh))(xs)
    for found in (each(attribution.gradient, f, xs, targets, mesh=mesh), each(attribution.gradient, f, spread, targets), inside):
        np.testing.assert_array_equal(found, weights[targets])
