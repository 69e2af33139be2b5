"""Every option of every metric matters, each value of a choice by name, and each fill."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import metric_cases
import numpy as np
import option_draws
import pytest
from cases import SHAPES
from metric_cases import CASES, main_kind

from jxai import fills, metrics
from jxai.metrics import __all__ as METRICS
from jxai.typing import Curve

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(3)
PARAMETERS = {name: inspect.signature(getattr(metrics, name)).parameters for name in METRICS}
LISTED = [name for name in METRICS if name in CASES]
STRINGS = [(name, option) for name in LISTED for option, p in PARAMETERS[name].items() if isinstance(p.default, str)]
FILLS = [fills.Mean(), fills.Blur(1.0), fills.Uniform(), fills.Neighbours()]


def metric(name, kind, **changes):
    """The metric with its case's options bound, as `(f, x, target, attribution, key)`."""
    fn = functools.partial(getattr(metrics, name), **metric_cases.options(name, SHAPES[kind], **changes))
    return lambda f, x, target, attribution, key: fn(f, x, target, attribution, key)


def given(name):
    """A network, an example, a target, an attribution and a key."""
    shape = SHAPES[main_kind(name)]
    f, x = option_draws.pointwise(shape), option_draws.example(shape)
    return f, x, jnp.argsort(f(x))[-1 if CASES[name].predicted else -2], option_draws.attribution_map(shape), KEY


@functools.cache
def plain(name):
    return numbers(jax.jit(metric(name, main_kind(name)))(*given(name)))


@functools.cache
def variants(name):
    """What the metric gives with other options: `{(option, value as text): numbers}`, of one program for all of them."""
    case, kind = CASES[name], main_kind(name)
    changes = {(option, "before"): under for option, under in case.under.items()}
    changes |= {(option, "other"): case.under.get(option, {}) | {option: value} for option, value in case.other.items()}
    for option, p in PARAMETERS[name].items():
        if isinstance(p.default, str) and "code of" not in case.equal.get(option, ""):
            changes |= {(option, value): {option: value} for value in known_values(name, option)}
    if "fill" in PARAMETERS[name]:
        changes |= {("fill", str(fill)): {"fill": fill} for fill in FILLS}
    made = {label: metric(name, kind, **change) for label, change in changes.items()}
    results = jax.jit(lambda *arguments: {label: fn(*arguments) for label, fn in made.items()})(*given(name))
    return {label: numbers(result) for label, result in results.items()}


def known_values(name, option):
    """The values of a by-name option, as its error lists them."""
    with pytest.raises(ValueError, match=f"{option}='no such value' must be one of") as error:
        metric(name, main_kind(name), **{option: "no such value"})(*given(name))
    return re.findall(r"'([^']+)'", str(error.value).split("must be one of")[1])


def numbers(result):
    """What was measured, as one vector: y and the area of a curve, or the scalar."""
    return np.append(np.asarray(result.y), result.auc) if isinstance(result, Curve) else np.atleast_1d(np.asarray(result))


def close(a, b, tolerance):
    return a.shape == b.shape and np.abs(a - b).max() <= tolerance * (np.abs(b).max() + 1e-3)


def test_the_list_is_sorted():
    assert list(METRICS) == sorted(METRICS)


@pytest.mark.parametrize("name", LISTED)
def test_no_option_is_left_out(name):
    covered = {"mask", "chunk", "num_segments", "fill", *CASES[name].options, *CASES[name].other}
    for option, p in list(PARAMETERS[name].items())[5:]:
        assert option in covered or isinstance(p.default, str), f"{name}.{option} is not exercised"
    # What is only set, never varied, must at least be said to be so by being in `other` too.
    assert set(CASES[name].options) - set(CASES[name].other) <= {"segments", "method", "method_options", *(o for n, o in STRINGS if n == name)}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), STRINGS)
def test_every_value_of_a_by_name_option_works_and_matters(name, option):
    assert PARAMETERS[name][option].default in known_values(name, option)
    results = [result for (varied, value), result in variants(name).items() if varied == option and value not in ("before", "other")]
    assert all(np.isfinite(result).all() for result in results)
    different = [a.shape != b.shape or not np.array_equal(a, b) for n, a in enumerate(results) for b in results[n + 1 :]]
    assert option in CASES[name].equal or (different and all(different)), results


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option"), [(name, option) for name in LISTED for option in CASES[name].other])
def test_every_other_option_matters(name, option):
    changed = variants(name)[option, "other"]
    before = variants(name).get((option, "before"), plain(name))
    assert np.isfinite(changed).all() and (option in CASES[name].equal or not close(changed, before, 1e-6))


@pytest.mark.slow
@pytest.mark.parametrize("fill", FILLS, ids=lambda fill: type(fill).__name__)
@pytest.mark.parametrize("name", [name for name in LISTED if "fill" in PARAMETERS[name]])
def test_every_fill_works_and_matters(name, fill):
    filled = variants(name)["fill", str(fill)]
    same = fill == metric_cases.options(name, SHAPES[main_kind(name)]).get("fill", PARAMETERS[name]["fill"].default)
    assert "fill" in CASES[name].equal or (np.isfinite(filled).all() and same == close(filled, plain(name), 1e-6))
