"""The contract that every attribution method keeps, over every name in `jxai.attribution.__all__`."""

from __future__ import annotations

import functools
import inspect
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, CLASSES, SHAPES

from jxai import attribution, each, fills
from jxai.attribution import __all__ as METHODS

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
PAIRS = [(name, kind) for name in METHODS for kind in SHAPES if kind in getattr(CASES.get(name), "shapes", SHAPES)]
VIDEOS_SLOW = [pytest.param(*p, marks=pytest.mark.slow) if p[1] == "video" else p for p in PAIRS]
"""What of PAIRS runs when: programs of videos take long to compile."""
IMAGES_QUICK = [p if p[1] == "image" else pytest.param(*p, marks=pytest.mark.slow) for p in PAIRS]
STRINGS = [(name, option) for name in METHODS for option, p in inspect.signature(getattr(attribution, name)).parameters.items() if isinstance(p.default, str)]


def method(name, kind, **changes):
    """The method with its case's options bound, as `(f, x, target, key) -> attribution`, and what it is called with."""
    fn = functools.partial(getattr(attribution, name), **cases.options(name, SHAPES[kind], **changes))
    return lambda f, x, target, key: fn(f, x, target, key)


@functools.cache
def run(name, kind, dtype=jnp.float32, **changes):
    """The method, jitted, on the case's network and example; remembered, since most tests compare with the plain case."""
    fn = method(name, kind, **changes)
    return jax.jit(fn)(cases.network(SHAPES[kind]), cases.example(SHAPES[kind], dtype=dtype), 1, KEY)


def close(a, b, rtol=1e-5):
    scale = float(jnp.max(jnp.abs(b))) + 1e-12
    return float(jnp.max(jnp.abs(a - b))) <= rtol * scale


def known_values(name, option, kind):
    """The values of a by-name option, as its error lists them."""
    with pytest.raises(ValueError, match=option) as error:
        method(name, kind, **{option: "no such value"})(cases.network(SHAPES[kind]), cases.example(SHAPES[kind]), 1, KEY)
    assert "\n" not in str(error.value)
    values = re.findall(r"'([^']+)'", str(error.value).split("must be one of")[1])
    assert values
    return values


def test_every_method_has_a_case_and_every_case_a_method():
    assert set(CASES) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_signature_and_documentation(name):
    fn = getattr(attribution, name)
    parameters = list(inspect.signature(fn).parameters.values())
    assert [p.name for p in parameters[:4]] == ["f", "x", "target", "key"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[4:])
    doc = inspect.getdoc(fn)
    assert all(re.search(rf"^\s*{word}", doc, re.M) for word in ("Args:", "Returns:", "Raises:", "Cost: ", "Reference: "))
    for p in parameters[4:]:
        assert re.search(rf"\b{p.name}\b", doc), f"{name} does not document {p.name}"


@pytest.mark.parametrize(("name", "kind"), VIDEOS_SLOW)
def test_jit_is_eager_and_new_weights_do_not_retrace(name, kind):
    shape, traces = SHAPES[kind], []
    fn = method(name, kind)

    @jax.jit
    def jitted(f, x, target, key):
        traces.append(name)
        return fn(f, x, target, key)

    f, x = cases.network(shape), cases.example(shape)
    first = jitted(f, x, jnp.int32(1), KEY)
    assert first.ndim == x.ndim and jnp.broadcast_shapes(first.shape, x.shape) == x.shape and first.dtype == x.dtype
    assert jnp.isfinite(first).all() and jnp.abs(first).max() > 0
    if kind == CASES[name].shapes[0]:
        # Iterated optimisation amplifies rounding; a step or two must still agree.
        assert close(first, fn(f, x, 1, KEY), 1e-3 if "perturbation" in name else 2e-5)
    other = jitted(cases.network(shape, seed=1), x, jnp.int32(2), jax.random.key(9))
    assert len(traces) == 1 and not close(first, other)
    assert np.array_equal(first, jitted(f, x, jnp.int32(1), KEY))
    outside = jitted(f, x, jnp.int32(CLASSES), KEY)
    assert CASES[name].blind or jnp.isnan(outside).all()
    assert CASES[name].keyed == (not np.array_equal(first, jitted(f, x, jnp.int32(1), jax.random.key(77))))


@pytest.mark.parametrize(("name", "kind"), IMAGES_QUICK)
def test_vmap_is_a_loop_and_each_too(name, kind):
    shape = SHAPES[kind]
    fn = method(name, kind)
    f, xs = cases.network(shape), jnp.stack([cases.example(shape, n) for n in range(3)])
    targets, keys = jnp.arange(3), jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(3))
    jitted = jax.jit(fn)
    loop = jnp.stack([jitted(f, x, t, k) for x, t, k in zip(xs, targets, keys)])
    tolerance = 1e-3 if "perturbation" in name else 2e-5
    if kind == "image":
        assert close(jax.jit(jax.vmap(fn, (None, 0, 0, 0)))(f, xs, targets, keys), loop, tolerance)
    driven = each(getattr(attribution, name), f, xs, targets, key=KEY, batch_size=2, **cases.options(name, shape))
    assert close(driven, loop, tolerance)


@pytest.mark.parametrize("name", [name for name in METHODS if "chunk" in inspect.signature(getattr(attribution, name)).parameters])
def test_chunk_does_not_change_the_result(name):
    kind = "image"
    whole = run(name, kind, chunk=1000)
    tolerance = 1e-3 if "perturbation" in name else 2e-5
    assert close(run(name, kind, chunk=1), whole, tolerance) and close(run(name, kind, chunk=3), whole, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), STRINGS)
def test_every_value_of_a_by_name_option_works_and_matters(name, option):
    for kind in CASES[name].shapes:
        results = {}
        for value in known_values(name, option, kind):
            try:
                results[value] = run(name, kind, **{option: value})
            except ValueError as error:  # a value may not fit this rank; the error says so
                assert option in str(error) and "\n" not in str(error), error
                continue
            assert jnp.isfinite(results[value]).all()
        values = list(results.values())
        assert values
        results.pop("homma", None)  # the same number as saltelli, by algebra
        values = list(results.values())
        different = [not np.array_equal(a, b) for n, a in enumerate(values) for b in values[n + 1 :]]
        # A vector has no neighbours to interpolate, and few entries: piecewise linear scores and binary designs may coincide.
        assert kind == "vector" or all(different), (kind, list(results))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in METHODS for option in CASES[name].other])
def test_every_other_option_matters(name, option):
    kind = "image"
    value = CASES[name].other[option]
    default = inspect.signature(getattr(attribution, name)).parameters[option].default
    value = (not default) if value == "flip" else value
    assert not close(run(name, kind, **{option: value}), run(name, kind), 1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_no_option_is_left_out(name):
    covered = {"chunk", "score", "segments", "num_segments", "baselines", "method", "method_options", *CASES[name].other, *CASES[name].inert}
    for option, p in list(inspect.signature(getattr(attribution, name)).parameters.items())[4:]:
        assert option in covered or isinstance(p.default, (str, bool)), f"{name}.{option} is not exercised"
        if isinstance(p.default, bool) and option not in CASES[name].other:
            # Before the first ReLU, so that a layer's values have both signs.
            layer = {"layer": 2} if "layer" in inspect.signature(getattr(attribution, name)).parameters else {}
            assert not close(run(name, "image", **{option: not p.default}, **layer), run(name, "image", **layer), 1e-6)


@pytest.mark.parametrize(("name", "kind", "dtype"), [(*p, d) for p, d in zip(PAIRS * 2, [jnp.float16, jnp.bfloat16] * len(PAIRS)) if p[1] != "video"])
def test_half_precision(name, kind, dtype):
    half = run(name, kind, dtype=dtype)
    single = run(name, kind)
    assert half.dtype == dtype and half.shape == single.shape and jnp.isfinite(half).all()
    agreement = np.corrcoef(np.ravel(half.astype(jnp.float32)), np.ravel(single))[0, 1]
    assert agreement > 0.8 or jnp.ptp(single) < 1e-6, agreement


@pytest.mark.parametrize("name", [name for name in METHODS if CASES[name].black_box or CASES[name].passes])
def test_targets_share_passes_and_passes_are_as_stated(name):
    kind, count = "image", [0]
    f, x = cases.network(SHAPES[kind]), cases.example(SHAPES[kind])

    def counted(v):
        jax.debug.callback(lambda _: count.__setitem__(0, count[0] + 1), v.ravel()[0])
        return f(v)

    options = {"chunk": 1} if "chunk" in inspect.signature(getattr(attribution, name)).parameters else {}
    fn = method(name, kind, **options)

    def passes(call):
        count[0] = 0
        jax.block_until_ready(call())
        jax.effects_barrier()
        return count[0]

    one = passes(lambda: jax.jit(lambda: fn(counted, x, 1, KEY))())
    if CASES[name].passes:
        assert one == CASES[name].passes
    if CASES[name].black_box:
        every = jax.jit(jax.vmap(lambda t: fn(counted, x, t, KEY)))
        assert passes(lambda: every(jnp.arange(CLASSES))) == one
        assert close(every(jnp.arange(CLASSES))[1], fn(f, x, 1, KEY), 1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_bad_arguments_are_one_line_that_names_them(name):
    kind = CASES[name].shapes[-1]
    f, x = cases.network(SHAPES[kind]), cases.example(SHAPES[kind])
    fn = method(name, kind)

    def fails(word, *arguments):
        with pytest.raises(ValueError, match=word) as error:
            fn(*arguments)
        assert "\n" not in str(error.value), error.value

    fails("x must be", f, (x * 255).astype(jnp.uint8), 1, KEY)
    if not CASES[name].blind:
        fails(f"target={CLASSES}", f, x, CLASSES, KEY)
        fails("target=-1", f, x, -1, KEY)
        fails("target=None", f, x, None, KEY)
        fails("vector of logits", lambda v: f(v)[None], x, 1, KEY)
    if CASES[name].keyed and name != "sobol" and name != "kernel_shap":
        fails("key=None", f, x, 1, None)


@pytest.mark.parametrize("name", METHODS)
def test_a_scalar_function_is_explained_with_target_none(name):
    kind = "image"
    f, x = cases.network(SHAPES[kind]), cases.example(SHAPES[kind])
    options = {"score": "logit"} if "score" in inspect.signature(getattr(attribution, name)).parameters else {}
    if name == "sidu":
        pytest.skip("SIDU looks at the whole output vector, so a scalar function has another map")
    if name == "eva":
        with pytest.raises(ValueError, match="target=None must be a class"):
            method(name, kind)(lambda v: f(v)[2], x, None, KEY)
        return
    fn = method(name, kind, **options)
    scalar = jax.jit(lambda x, key: fn(lambda v: f(v)[2], x, None, key))(x, KEY)
    assert close(scalar, jax.jit(lambda x, key: fn(f, x, 2, key))(x, KEY), 1e-4)


# Left out: optimised masks, region growing, and a singular vector, whose derivative is undefined where singular values coincide.
SMOOTH = [name for name in METHODS if name not in ("extremal_perturbation", "meaningful_perturbation", "xrai", "eigen_cam")]


@pytest.mark.parametrize("name", SMOOTH)
def test_attributions_are_differentiable(name):
    kind = CASES[name].shapes[0]
    f, x = cases.network(SHAPES[kind]), cases.example(SHAPES[kind])
    fn = method(name, kind)
    slope = jax.jit(jax.grad(lambda f, x: (fn(f, x, 1, KEY) ** 2).sum(), argnums=0, allow_int=True))(f, x)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
@pytest.mark.parametrize("fill", [fills.Mean(), fills.Blur(1.0), fills.Uniform(), fills.Neighbours()], ids=lambda fill: type(fill).__name__)
@pytest.mark.parametrize("name", [name for name in METHODS if "fill" in inspect.signature(getattr(attribution, name)).parameters])
def test_every_fill_works_and_matters(name, fill):
    filled = run(name, "image", fill=fill)
    assert jnp.isfinite(filled).all() and not close(filled, run(name, "image", fill=0.0), 1e-6)
