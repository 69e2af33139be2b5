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

from jxai import each
from jxai.counterfactual.search.constraints import Range
from jxai.metrics import counterfactual as metrics
from jxai.metrics import documented

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
        counterfactual = counterfactual[:, None] + jax.random.normal(jax.random.key(1), (n, 4, toys.SIZE))
    return toys.model(), x, counterfactual, target


def keyed(name):
    return {"key": jax.random.key(2)} if name in KEYED else {}


def split(name):
    """The options as arrays to trace and the others, which are static."""
    own = options(name)
    return {k: v for k, v in own.items() if k not in ("constraints", "steps")}, {k: v for k, v in own.items() if k in ("constraints", "steps")}


@pytest.mark.parametrize("name", metrics.__all__)
def test_signature_and_docstring(name):
    fn = getattr(metrics, name)
    doc, parameters = inspect.getdoc(fn), list(inspect.signature(fn).parameters.values())
    assert all(re.search(rf"^{word}:$", doc, re.M) for word in ("Args", "Returns", "Raises"))
    assert doc.splitlines()[-1].startswith("Reference: ") and re.search(r" (19|20)\d\d, \".+\", ", documented.line(fn, "Reference"))
    assert documented.direction(fn) in (1, -1) and documented.line(fn, "Range") and documented.line(fn, "Cost")
    arguments = doc.split("Args:")[1].split("Returns:")[0]
    assert all(re.search(rf"\b{p.name}\b", arguments) for p in parameters), name
    if name not in DATA_SETS:
        positional = ["f", "x", "counterfactual", "target", *(["key"] if name in KEYED else [])]
        assert [p.name for p in parameters[: len(positional)]] == positional
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(positional) :])


def test_the_attribution_metrics_are_another_list():
    from jxai import metrics as attribution

    assert "counterfactual" not in attribution.__all__ and sorted(metrics.__all__) == metrics.__all__


@pytest.mark.parametrize("name", ONE)
def test_jit_is_eager_and_new_weights_do_not_retrace(name):
    f, x, counterfactual, target = (leaf if callable(leaf) else leaf[0] for leaf in given(name))
    traced, static = split(name)
    traces, fn = [], getattr(metrics, name)

    @jax.jit
    def run(f, x, counterfactual, target, own, key):
        traces.append(name)
        return fn(f, x, counterfactual, target, **own, **static, **key)

    first = run(f, x, counterfactual, target, traced, keyed(name))
    assert first.shape == () and first.dtype == jnp.float32
    assert np.allclose(first, fn(f, x, counterfactual, int(target), **traced, **static, **keyed(name)), rtol=1e-4, equal_nan=True)
    run(toys.model(1), x, counterfactual + 1, target, jax.tree.map(lambda leaf: leaf + 0, traced), keyed(name))
    assert len(traces) == 1
    # What is data under a trace becomes data.
    nowhere = run(f, x, counterfactual, jnp.full_like(target, toys.CLASSES), traced, keyed(name))
    assert np.isnan(nowhere) != (name in TARGETLESS)
    for bad in (jnp.nan, jnp.inf):
        spoiled = run(f, x, counterfactual.at[(0,) * counterfactual.ndim].set(bad), target, traced, keyed(name))
        assert (spoiled == 0) if name == "success" else np.isnan(spoiled)
    assert len(traces) == 1


@pytest.mark.parametrize("name", ONE)
def test_batched_is_one_at_a_time(name):
    f, x, counterfactual, target = given(name)
    own, fn = options(name), getattr(metrics, name)
    batched = each(fn, f, x, counterfactual, target, batch_size=2, **keyed(name), **own)
    for i in range(len(x)):
        key = {k: jax.random.fold_in(v, i) for k, v in keyed(name).items()}
        one = fn(f, x[i], counterfactual[i], target[i], **key, **own)
        assert np.allclose(batched[i], one, rtol=1e-4, atol=1e-5, equal_nan=True), (i, batched[i], one)


@pytest.mark.parametrize("name", ONE)
def test_half_precision(name):
    """The number in single precision of the same arrays, but for what the model's own half precision changes."""
    f, x, counterfactual, target = (leaf if callable(leaf) else leaf[0] for leaf in given(name))
    half = [jnp.asarray(v, jnp.float16) for v in (x, counterfactual)]
    low = getattr(metrics, name)(f, *half, target, **keyed(name), **options(name))
    full = getattr(metrics, name)(f, *(v.astype(jnp.float32) for v in half), target, **keyed(name), **options(name))
    assert low.dtype == jnp.float32 and np.allclose(low, full, rtol=5e-2, atol=1e-2, equal_nan=True)


@pytest.mark.parametrize("name", ONE)
def test_no_model_where_none_is_looked_at(name):
    f, x, counterfactual, target = (leaf if callable(leaf) else leaf[0] for leaf in given(name))
    fn = functools.partial(getattr(metrics, name), **keyed(name), **options(name))
    if name in OPTIONAL_MODEL:
        assert np.allclose(fn(None, x, counterfactual, target), fn(f, x, counterfactual, target), equal_nan=True)
    if name in BLIND:
        assert np.allclose(fn(None, x, counterfactual, None), fn(f, x, counterfactual, target))


@pytest.mark.parametrize("name", ONE)
def test_bad_arguments_are_one_line_that_names_them(name):
    f, x, counterfactual, target = (leaf if callable(leaf) else leaf[0] for leaf in given(name))
    fn = functools.partial(getattr(metrics, name), **keyed(name), **options(name))

    def fails(word, *arguments):
        with pytest.raises(ValueError, match=re.escape(word)) as error:
            fn(*arguments)
        assert "\n" not in str(error.value)

    fails("x must be", f, (x * 255).astype(jnp.uint8), counterfactual, target)
    fails("counterfactual must", f, x, counterfactual[..., :-1], target)
    fails("counterfactual must", f, x, counterfactual.astype(jnp.int32), target)
    fails("counterfactual must", f, x, counterfactual[:0] if name in SETS else counterfactual[None], target)
    if name not in TARGETLESS:
        fails(f"target={toys.CLASSES}", f, x, counterfactual, toys.CLASSES)
        fails("target=-1", f, x, counterfactual, -1)
        fails("target=None must be a class", f, x, counterfactual, None)
    if name not in OPTIONAL_MODEL:
        fails("f(x) must be a vector of logits", lambda v: f(v)[None], x, counterfactual, target)
    if name in KEYED:
        with pytest.raises(ValueError, match="key=None"):
            getattr(metrics, name)(f, x, counterfactual, target, **options(name))
