"""The contract that every metric keeps, over every name in `jxai.metrics.__all__`."""

from __future__ import annotations

import functools
import inspect
import re

import cases
import jax
import jax.numpy as jnp
import metric_cases
import numpy as np
import pytest
from cases import CLASSES, SHAPES
from metric_cases import CASES

from jxai import each, fills, metrics
from jxai.metrics import __all__ as METRICS
from jxai.metrics import documented
from jxai.typing import Curve

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
PARAMETERS = {name: inspect.signature(getattr(metrics, name)).parameters for name in METRICS}
PAIRS = [(name, kind) for name in METRICS if name in CASES for kind in CASES[name].shapes]
STRINGS = [(name, option) for name in METRICS for option, p in PARAMETERS[name].items() if isinstance(p.default, str)]
FILLS = [fills.Mean(), fills.Blur(1.0), fills.Uniform(), fills.Neighbours()]


def main_kind(name):
    """The shape that the costlier tests run on: an image where it takes one."""
    shapes = CASES[name].shapes
    return "image" if "image" in shapes else shapes[-1]


def metric(name, kind, **changes):
    """The metric with its case's options bound, as `(f, x, target, attribution, key)`."""
    fn = functools.partial(getattr(metrics, name), **metric_cases.options(name, SHAPES[kind], **changes))
    return lambda f, x, target, attribution, key: fn(f, x, target, attribution, key)


def target(name, logits):
    """The class at which the metric is measured."""
    return jnp.argsort(logits)[-1 if CASES[name].predicted else -2]


@functools.cache
def given(name, kind, dtype=jnp.float32):
    """A network, an example, a target, an attribution and a key."""
    shape = SHAPES[kind]
    f, x = metric_cases.network(shape), cases.example(shape, dtype=dtype)
    return f, x, target(name, f(x)), metric_cases.attribution(shape, dtype=dtype), KEY


@functools.cache
def jitted(name, kind):
    """The metric with the case's own options, and a list that grows whenever it is traced; most tests compare with it."""
    fn, traces = metric(name, kind), []

    def counted(f, x, target, attribution, key):
        traces.append(name)
        return fn(f, x, target, attribution, key)

    return jax.jit(counted), traces


@functools.cache
def plain(name, kind):
    return jitted(name, kind)[0](*given(name, kind))


@functools.cache
def variants(name):
    """What the metric gives with other options: `{(option, value as text): numbers}`, of one program for all of them."""
    case, kind = CASES[name], main_kind(name)
    changes = {(option, "before"): under for option, under in case.under.items()}
    changes |= {(option, "other"): case.under.get(option, {}) | {option: value} for option, value in case.other.items()}
    for option, p in PARAMETERS[name].items():
        if isinstance(p.default, str) and "code of" not in case.equal.get(option, ""):
            changes |= {(option, value): {option: value} for value in known_values(name, option)}
    if takes(name, "fill"):
        changes |= {("fill", str(fill)): {"fill": fill} for fill in FILLS}
    made = {label: metric(name, kind, **change) for label, change in changes.items()}
    results = jax.jit(lambda *arguments: {label: fn(*arguments) for label, fn in made.items()})(*given(name, kind))
    return {label: numbers(result) for label, result in results.items()}


def known_values(name, option):
    """The values of a by-name option, as its error lists them."""
    kind = main_kind(name)
    with pytest.raises(ValueError, match=f"{option}='no such value' must be one of") as error:
        metric(name, kind, **{option: "no such value"})(*given(name, kind))
    assert "\n" not in str(error.value)
    return re.findall(r"'([^']+)'", str(error.value).split("must be one of")[1])


def numbers(result):
    """What was measured, as one vector: y and the area of a curve, or the scalar."""
    return np.append(np.asarray(result.y), result.auc) if isinstance(result, Curve) else np.atleast_1d(np.asarray(result))


def close(a, b, tolerance=2e-5):
    return a.shape == b.shape and np.abs(a - b).max() <= tolerance * (np.abs(b).max() + 1e-3)


def takes(name, option):
    return option in PARAMETERS[name]


def test_every_metric_has_a_case_and_every_case_a_metric():
    assert set(CASES) == set(METRICS) and list(METRICS) == sorted(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_signature_and_documentation(name):
    fn = getattr(metrics, name)
    parameters = list(PARAMETERS[name].values())
    assert [p.name for p in parameters[:5]] == ["f", "x", "target", "attribution", "key"] and parameters[4].default is None
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[5:])
    assert [p.name for p in parameters[5:] if p.default is p.empty] == (["mask"] if CASES[name].mask else [])
    doc = inspect.getdoc(fn)
    assert all(re.search(rf"^{word}:$", doc, re.M) for word in ("Args", "Returns", "Raises"))
    assert doc.splitlines()[-1].startswith("Reference: ") and re.search(r" (1[89]|20)\d\d, \".+\", ", documented.line(fn, "Reference"))
    assert documented.direction(fn) in (1, -1, 0) and documented.line(fn, "Range") and documented.line(fn, "Cost")
    arguments = doc.split("Args:")[1].split("Returns:")[0]
    for p in parameters:
        assert re.search(rf"\b{p.name}\b", arguments), f"{name} does not document {p.name}"


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_result_is_a_finite_float32_scalar_or_curve_within_its_range(name, kind):
    """Of images, videos, and of vectors in bfloat16. Two numbers in the Range line hold for the scalar, or the area."""
    half = kind == "vector"
    result = jitted(name, kind)[0](*given(name, kind, jnp.bfloat16)) if half else plain(name, kind)
    assert isinstance(result, Curve) == CASES[name].curve
    scalar = result.auc if CASES[name].curve else result
    assert scalar.shape == () and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(result))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    if CASES[name].curve:
        assert result.x.shape == result.y.shape and result.x.ndim == 1 and (np.diff(result.x) >= 0).all()
    bounds = re.match(r"[\[({](−?[\d.]+), (−?[\d.]+)[\])}](?! for)", documented.line(getattr(metrics, name), "Range"))
    if bounds is not None:
        low, high = (float(end.replace("−", "-")) for end in bounds.groups())
        assert low - 1e-5 <= float(scalar) <= high + 1e-5


@pytest.mark.parametrize("name", METRICS)
def test_jit_is_eager_new_weights_do_not_retrace_and_bad_data_gives_nan(name):
    case, kind = CASES[name], main_kind(name)
    f, x, own, a, _ = given(name, kind)
    first, (fn, traces) = numbers(plain(name, kind)), jitted(name, kind)
    known = len(traces)
    other = numbers(fn(metric_cases.network(SHAPES[kind], seed=1), x, (own + 1) % CLASSES, a, KEY))
    assert "weights" in case.equal or case.blind == np.array_equal(other, first)
    assert np.array_equal(numbers(fn(f, x, own, a, KEY)), first)
    assert case.keyed == (not np.array_equal(numbers(fn(f, x, own, a, jax.random.key(77))), first))
    assert case.blind or np.isnan(numbers(fn(f, x, jnp.full_like(own, CLASSES), a, KEY))).all()
    for bad in (jnp.nan, jnp.inf):
        assert np.isnan(numbers(fn(f, x, own, a.at[(0,) * a.ndim].set(bad), KEY))).all()
    for level in (0.0, 0.7, -0.7):
        assert np.isfinite(numbers(fn(f, x, own, jnp.full_like(a, level), KEY))).all(), level
    assert len(traces) == known
    assert close(numbers(metric(name, kind)(f, x, int(own), a, KEY)), first)


@pytest.mark.parametrize("name", METRICS)
def test_each_is_a_loop(name):
    """In blocks of two, by `vmap`. A map with NaN among the examples spoils its own result alone."""
    kind, count = main_kind(name), 3
    shape = SHAPES[kind]
    f, xs = metric_cases.network(shape), jnp.stack([cases.example(shape, n) for n in range(count)])
    maps = jnp.stack([metric_cases.attribution(shape, n) for n in range(count)]).at[2].set(jnp.nan)
    targets, keys = jax.vmap(lambda x: target(name, f(x)))(xs), jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(count))
    loop = [numbers(jitted(name, kind)[0](f, *row)) for row in zip(xs, targets, maps, keys)]
    options = metric_cases.options(name, shape)
    own = {option: np.stack([options.pop(option)] * count) for option in ("mask",) if option in options}
    results = each(getattr(metrics, name), f, xs, targets, maps, key=KEY, batch_size=2, per_example=own, **options)
    rows = [numbers(jax.tree.map(lambda leaf, n=n: leaf[n], results)) for n in range(count)]
    assert close(rows[0], loop[0]) and close(rows[1], loop[1])
    assert np.isnan(rows[2]).all() and np.isnan(loop[2]).all()


@pytest.mark.parametrize("name", METRICS)
def test_channels_count_by_their_sum(name):
    """An attribution with one channel and one with all give the same number where every position's sum is the same."""
    if takes(name, "method"):
        pytest.skip("explains again: the attribution must have the shape that the method returns")
    kind = main_kind(name)
    f, x, own, a, key = given(name, kind)
    if a.ndim == 1:
        pytest.skip("a vector has no channels")
    one = a.sum(-1, keepdims=True)
    assert close(numbers(jitted(name, kind)[0](f, x, own, one, key)), numbers(plain(name, kind)), 1e-4)


@pytest.mark.parametrize("name", [name for name in METRICS if takes(name, "chunk")])
def test_chunk_does_not_change_the_result(name):
    kind = main_kind(name)
    assert close(numbers(jax.jit(metric(name, kind, chunk=2))(*given(name, kind))), numbers(plain(name, kind)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), STRINGS)
def test_every_value_of_a_by_name_option_works_and_matters(name, option):
    assert PARAMETERS[name][option].default in known_values(name, option)
    results = [result for (varied, value), result in variants(name).items() if varied == option and value not in ("before", "other")]
    assert all(np.isfinite(result).all() for result in results)
    different = [a.shape != b.shape or not np.array_equal(a, b) for n, a in enumerate(results) for b in results[n + 1 :]]
    assert option in CASES[name].equal or (different and all(different)), results


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in METRICS if name in CASES for option in CASES[name].other])
def test_every_other_option_matters(name, option):
    changed = variants(name)[option, "other"]
    before = variants(name).get((option, "before"), numbers(plain(name, main_kind(name))))
    assert np.isfinite(changed).all() and (option in CASES[name].equal or not close(changed, before, 1e-6))


@pytest.mark.parametrize("name", METRICS)
def test_no_option_is_left_out(name):
    covered = {"mask", "chunk", "num_segments", "fill", *CASES[name].options, *CASES[name].other}
    for option, p in list(PARAMETERS[name].items())[5:]:
        assert option in covered or isinstance(p.default, str), f"{name}.{option} is not exercised"
    # What is only set, never varied, must at least be said to be so by being in `other` too.
    assert set(CASES[name].options) - set(CASES[name].other) <= {"segments", "method", "method_options", *(o for n, o in STRINGS if n == name)}


@pytest.mark.parametrize("name", [name for name in METRICS if "image" in CASES[name].shapes])
def test_half_precision(name):
    """x and the attribution in half precision: finite, float32, and the number in single precision of the same maps."""
    f, x, own, a, key = given(name, "image", jnp.float16)
    fn = jitted(name, "image")[0]
    half = fn(f, x, own, a, key)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(half)) and np.isfinite(numbers(half)).all()
    if CASES[name].blind:
        assert close(numbers(half), numbers(fn(f, x.astype(jnp.float32), own, a.astype(jnp.float32), key)), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fill", FILLS, ids=lambda fill: type(fill).__name__)
@pytest.mark.parametrize("name", [name for name in METRICS if takes(name, "fill")])
def test_every_fill_works_and_matters(name, fill):
    filled, kind = variants(name)["fill", str(fill)], main_kind(name)
    same = fill == metric_cases.options(name, SHAPES[kind]).get("fill", PARAMETERS[name]["fill"].default)
    assert "fill" in CASES[name].equal or (np.isfinite(filled).all() and same == close(filled, numbers(plain(name, kind)), 1e-6))


@pytest.mark.parametrize("name", [name for name in METRICS if name in CASES and (CASES[name].passes is not None or CASES[name].blind)])
def test_passes_are_as_stated(name):
    kind, count = main_kind(name), [0]
    f, x, own, a, key = given(name, kind)

    def counting(f, v):
        jax.debug.callback(lambda _: count.__setitem__(0, count[0] + 1), v.ravel()[0])
        return f(v)

    counted = jax.tree_util.Partial(counting, f)

    fn = metric(name, kind, **({"chunk": 1} if takes(name, "chunk") else {}))
    one_by_one = numbers(jax.jit(fn)(counted, x, own, a, key))
    jax.effects_barrier()
    assert count[0] == (0 if CASES[name].blind else CASES[name].passes)
    assert close(one_by_one, numbers(plain(name, kind)))


@pytest.mark.parametrize("name", METRICS)
def test_bad_arguments_are_one_line_that_names_them(name):
    kind = main_kind(name)
    f, x, own, a, key = given(name, kind)
    fn = metric(name, kind)

    def fails(word, *arguments):
        with pytest.raises(ValueError, match=word) as error:
            fn(*arguments)
        assert "\n" not in str(error.value), error.value

    fails("x must be", f, (x * 255).astype(jnp.uint8), own, a, key)
    for bad in (a[0], a[None], jnp.concatenate([a, a]), jnp.ones((a.shape[0] + 1,) + a.shape[1:])):
        fails("attribution must have shape", f, x, own, bad, key)
    fails("attribution must be floating", f, x, own, (a * 10).astype(jnp.int32), key)
    if not CASES[name].blind:
        fails(f"target={CLASSES}", f, x, CLASSES, a, key)
        fails("target=-1", f, x, -1, a, key)
        fails("vector of logits", lambda v: f(v)[None], x, own, a, key)
    if CASES[name].keyed:
        fails("key=None", f, x, own, a, None)
    if takes(name, "chunk"):
        with pytest.raises(ValueError, match="chunk=0"):
            metric(name, kind, chunk=0)(f, x, own, a, key)
