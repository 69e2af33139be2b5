"""The contract that every metric of counterfactuals keeps, over every name in `jxai.metrics.counterfactual.__all__`."""

from __future__ import annotations

import functools
import inspect
import re

import counterfactual_toys as toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shards import same

from jxai import each
from jxai.counterfactual.search.constraints import Range
from jxai.metrics import counterfactual as metrics
from jxai.metrics import documented
from jxai.testing.trial import Trial, check_documentation, check_signature

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXAMPLES, LABELS = toys.data()
DATA_SETS = ("fid", "substitutability")
SETS = ("apd", "dpp", "label_coverage", "squared_cosines")
ONE = [name for name in metrics.__all__ if name not in DATA_SETS]
KEYED = ("anogan_score",)
# Those that look at neither target nor model, and those that only have use for f's number of classes.
BLIND = ("anogan_score", "apd", "bits_per_dim", "constraint_violations", "dpp", "l0", "l1", "l2", "linf", "sparsity", "squared_cosines", "success")
TARGETLESS = (*BLIND, "label_coverage")
OPTIONAL_MODEL = (*BLIND, "class_density", "knn_target_share", "nearest_target_distance", "prototype_gap", "trust_score")
STATIC = ("constraints", "steps")


@functools.cache
def options(name):
    known = {
        "constraints": (Range(0.0, 1.0),),
        "oracle": toys.model(7),
        "models": toys.stacked([toys.model(seed) for seed in range(3)]),
        "examples": jnp.asarray(EXAMPLES),
        "labels": jnp.asarray(LABELS),
        "prototypes": jnp.eye(toys.CLASSES, toys.SIZE),
        "density": toys.Gaussians(jnp.eye(toys.CLASSES, toys.SIZE), jnp.float32(0.5)),
        "autoencoders": toys.stacked([toys.projection(seed) for seed in range(toys.CLASSES)]),
        "autoencoder": toys.projection(9),
        "generator": toys.Normal(jnp.zeros(toys.SIZE)) if name == "bits_per_dim" else toys.projection(3),
    }
    own = {p: value for p, value in known.items() if p in inspect.signature(getattr(metrics, name)).parameters}
    return {**own, "steps": 20} if name == "anogan_score" else own


def given(name, n=5):
    """A model, and n examples, counterfactuals and targets."""
    x, counterfactual, target = toys.pairs(n)
    if name in SETS:
        drawn = np.random.default_rng(1).normal(size=(n, 4, toys.SIZE)).astype(np.float32)
        counterfactual = jnp.asarray(np.asarray(counterfactual)[:, None] + drawn)
    return toys.model(), x, counterfactual, target


def first(name):
    f, *rows = given(name)
    return f, *(np.asarray(row)[0] for row in rows)


def keyed(name):
    return {"key": jax.random.key(2)} if name in KEYED else {}


@functools.cache
def trial(name):
    """One program for each metric, of model, example, counterfactual, target, options that are arrays, and key."""
    traced = {k: v for k, v in options(name).items() if k not in STATIC}
    static = {k: v for k, v in options(name).items() if k in STATIC}
    made = Trial(getattr(metrics, name), static, (toys.SIZE,))
    made.main = made.program(lambda f, x, counterfactual, target, own, key: made.fn(f, x, counterfactual, target, **own, **static, **key))
    return lambda f, x, counterfactual, target, own=traced: made.main(f, x, counterfactual, target, own, keyed(name)), traced, made


@pytest.mark.parametrize("name", metrics.__all__)
def test_signature_and_docstring(name):
    fn = getattr(metrics, name)
    check_documentation(fn, ("Range", "Direction", "Cost", "Reference"))
    assert re.search(r" (19|20)\d\d, \".+\", ", documented.line(fn, "Reference")) and documented.direction(fn) in (1, -1)
    if name not in DATA_SETS:
        check_signature(fn, ("f", "x", "counterfactual", "target", *(["key"] if name in KEYED else [])), given=options(name))


def test_the_attribution_metrics_are_another_list():
    from jxai import metrics as attribution

    assert "counterfactual" not in attribution.__all__ and sorted(metrics.__all__) == metrics.__all__


@pytest.mark.parametrize("name", ONE)
def test_new_weights_do_not_retrace_and_bad_data_becomes_data(name):
    f, x, counterfactual, target = first(name)
    run, traced, made = trial(name)
    value = run(f, x, counterfactual, target)
    assert value.shape == () and value.dtype == np.float32 and np.isfinite(value)
    assert np.array_equal(value, run(f, x, counterfactual, target))
    run(toys.model(1), x, counterfactual + 1, target, jax.tree.map(np.array, traced))
    nowhere = run(f, x, counterfactual, np.full_like(target, toys.CLASSES))
    assert np.isnan(nowhere) != (name in TARGETLESS)
    for bad in (np.nan, np.inf):
        spoiled = counterfactual.copy()
        spoiled[(0,) * spoiled.ndim] = bad
        result = run(f, x, spoiled, target)
        assert (result == 0) if name == "success" else np.isnan(result)
    assert made.main.traces == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_jit_is_eager(name):
    f, x, counterfactual, target = first(name)
    plain = getattr(metrics, name)(f, *map(jnp.asarray, (x, counterfactual)), int(target), **keyed(name), **options(name))
    assert np.allclose(trial(name)[0](f, x, counterfactual, target), plain, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_batched_is_one_at_a_time(name):
    f, x, counterfactual, target = given(name)
    own, fn = options(name), getattr(metrics, name)
    batched = each(fn, f, x, counterfactual, target, batch_size=2, **keyed(name), **own)
    for i in range(len(x)):
        key = {k: jax.random.fold_in(v, i) for k, v in keyed(name).items()}
        one = fn(f, x[i], counterfactual[i], target[i], **key, **own)
        assert np.allclose(batched[i], one, rtol=1e-4, atol=1e-5, equal_nan=True), (i, batched[i], one)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_half_precision(name):
    """The number in single precision of the same arrays, but for what the model's own half precision changes."""
    f, x, counterfactual, target = first(name)
    half, run = [v.astype(np.float16) for v in (x, counterfactual)], trial(name)[0]
    low, full = run(f, *half, target), run(f, *(v.astype(np.float32) for v in half), target)
    assert low.dtype == np.float32 and np.allclose(low, full, rtol=5e-2, atol=1e-2, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ONE if name in OPTIONAL_MODEL])
def test_no_model_where_none_is_looked_at(name):
    f, x, counterfactual, target = first(name)
    run = trial(name)[0]
    assert np.allclose(run(None, x, counterfactual, target), run(f, x, counterfactual, target))
    if name in BLIND:
        assert np.allclose(run(None, x, counterfactual, None), run(f, x, counterfactual, target))


@pytest.mark.parametrize("name", ONE)
def test_bad_arguments_are_one_line_that_names_them(name):
    f, x, counterfactual, target = first(name)
    made = Trial(getattr(metrics, name), {**options(name), **keyed(name)}, x.shape)
    empty = counterfactual[:0] if name in SETS else counterfactual[None]
    made.refuses("integer pixels", "x must be", f, (x * 255).astype(np.uint8), counterfactual, target)
    for bad in (counterfactual[..., :-1], counterfactual.astype(np.int32), empty):
        made.refuses(f"a counterfactual of shape {bad.shape} and {bad.dtype}", "counterfactual must", f, x, bad, target)
    if name not in TARGETLESS:
        for outside in (toys.CLASSES, -1):
            made.refuses(f"target={outside}", f"target={outside}", f, x, counterfactual, outside)
        made.refuses("no target", "target=None must be a class", f, x, counterfactual, None)
    if name not in OPTIONAL_MODEL:
        made.refuses("a model that returns [1, K]", r"f\(x\) must be a vector of logits", lambda v: f(v)[None], x, counterfactual, target)
    else:
        assert made.refusal(None, x, counterfactual, None if name in BLIND else target) is None
    if name in KEYED:
        made.refuses("no key", "key=None", f, x, counterfactual, target, key=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_the_second_eager_call_compiles_nothing(name):
    f, x, counterfactual, target = first(name)
    Trial(getattr(metrics, name), {**options(name), **keyed(name)}, x.shape).plainly(f, x, counterfactual, target)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_inside_shard_map_it_is_what_it_is_under_vmap(name):
    f, *rows = given(name, 2)
    own, keys = options(name), jax.random.split(jax.random.key(3), 2)
    call = lambda x, found, target, key: getattr(metrics, name)(f, x, found, target, **own, **({"key": key} if name in KEYED else {}))
    same(call, *map(jnp.asarray, rows), keys, tolerance=1e-3)
