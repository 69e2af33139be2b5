"""Every option of every attribution method matters, each value of a choice by name, and each fill."""

import functools
import inspect
import re

import cases
import jax
import jax.numpy as jnp
import numpy as np
import option_draws
import pytest
from cases import CASES, SHAPES

from jxai import attribution, fills
from jxai.attribution import __all__ as METHODS
from jxai.testing.trial import close

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
PARAMETERS = {name: inspect.signature(getattr(attribution, name)).parameters for name in METHODS}
LISTED = [name for name in METHODS if name in CASES]
STRINGS = [(name, option) for name in LISTED for option, p in PARAMETERS[name].items() if isinstance(p.default, str)]


def method(name, kind, **changes):
    """The method with its case's options bound, as `(f, x, target, key) -> attribution`."""
    fn = functools.partial(getattr(attribution, name), **cases.options(name, SHAPES[kind], **changes))
    return lambda f, x, target, key: fn(f, x, target, key)


@functools.cache
def run(name, kind, **changes):
    """The method, jitted, on the case's network and example; remembered, since most tests compare with the plain case."""
    return np.asarray(jax.jit(method(name, kind, **changes))(option_draws.network(SHAPES[kind], CASES[name].model), option_draws.example(SHAPES[kind]), 1, KEY))


def known_values(name, option, kind):
    """The values of a by-name option, as its error lists them."""
    with pytest.raises(ValueError, match=option) as error:
        method(name, kind, **{option: "no such value"})(option_draws.network(SHAPES[kind], CASES[name].model), option_draws.example(SHAPES[kind]), 1, KEY)
    return re.findall(r"'([^']+)'", str(error.value).split("must be one of")[1])


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
            assert np.isfinite(results[value]).all()
        assert results
        results.pop("homma", None)  # the same number as saltelli, by algebra
        values = list(results.values())
        different = [not np.array_equal(a, b) for n, a in enumerate(values) for b in values[n + 1 :]]
        # A vector has no neighbours to interpolate, and few entries: piecewise linear scores and binary designs may coincide.
        assert kind == "vector" or all(different), (kind, list(results))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in LISTED for option in CASES[name].other])
def test_every_other_option_matters(name, option):
    value = CASES[name].other[option]
    value = (not PARAMETERS[name][option].default) if value == "flip" else value
    assert not close(run(name, "image", **{option: value}), run(name, "image"), 1e-6)


@pytest.mark.parametrize("name", LISTED)
def test_no_option_is_left_out(name):
    covered = {"chunk", "score", "segments", "num_segments", "baselines", "method", "method_options", *CASES[name].other, *CASES[name].inert}
    for option, p in list(PARAMETERS[name].items())[4:]:
        assert option in covered or isinstance(p.default, str | bool), f"{name}.{option} is not exercised"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "option"), [(name, o) for name in LISTED for o, p in PARAMETERS[name].items() if isinstance(p.default, bool) and o not in CASES[name].other]
)
def test_every_flag_matters(name, option):
    # Before the first ReLU, so that a layer's values have both signs.
    layer = {"layer": 2} if "layer" in PARAMETERS[name] else {}
    assert not close(run(name, "image", **{option: not PARAMETERS[name][option].default}, **layer), run(name, "image", **layer), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [fills.Mean(), fills.Blur(1.0), fills.Uniform(), fills.Neighbours()], ids=lambda fill: type(fill).__name__)
@pytest.mark.parametrize("name", [name for name in LISTED if "fill" in PARAMETERS[name]])
def test_every_fill_works_and_matters(name, fill):
    filled = run(name, "image", fill=fill)
    assert jnp.isfinite(filled).all() and not close(filled, run(name, "image", fill=0.0), 1e-6)


def test_eva_refuses_a_scalar_function():
    """All other methods that do not explain one look at all logits."""
    f, x = option_draws.network(SHAPES["image"]), option_draws.example(SHAPES["image"])
    with pytest.raises(ValueError, match="target=None must be a class"):
        method("eva", "image")(lambda v: f(v)[2], x, None, KEY)
