"""What is recognised as one curve, softmax or log-sum-exp is that, whatever moves between its parts; and what is that is recognised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bound_points import points
from near_misses import CURVES, SOFTMAXES

from jxai.bounds import METHODS, Box, Interval, ball, bound, certify, interval
from jxai.bounds.graph import graph
from jxai.bounds.rules.reductions import LogSumExp, Softmax
from jxai.certificates import verify

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.linspace(-1.0, 3.0, 12)


def of_another_row(x):
    x = x.reshape(2, 2, 3)
    m = x.max(-1)
    return (jnp.log(jnp.exp(x - m[..., None]).sum(-1)) + m.T).ravel()


def of_another_axis(x):
    x = x.reshape(2, 2, 3)
    m = x.max((1, 2))
    return (jnp.log(jnp.exp(x - m[:, None, None]).sum(-1)) + m[None, :]).ravel()


@pytest.mark.parametrize("f", [of_another_row, of_another_axis])
def test_a_shift_of_another_row_is_not_added_back(f):
    """At one point, bounds are the function."""
    low, high = jax.jit(interval(f))(Box(X, X))
    np.testing.assert_allclose(low, f(X), rtol=1e-5)
    np.testing.assert_allclose(high, f(X), rtol=1e-5)


def test_no_false_class_is_certified():
    g = lambda x: of_another_row(x)[jnp.array([2, 1])]
    assert int(g(X).argmax()) == 1
    claim = certify(g, X, 0.1, 0, method="crown_ibp")
    assert not claim.holds and verify(g, X, claim).values["margin"] < 0


def test_near_misses_at_one_point_are_what_they_are():
    """A few of each kind in one program; the slow test has them all."""
    x = 1.7 * jax.random.normal(jax.random.key(3), (3, 3))
    some = {k: f for k, (f, shape) in SOFTMAXES.items() if shape == (3, 3)}
    chosen = [*list(CURVES.values())[::5], *list(some.values())[1::16]]
    f = lambda x: jnp.concatenate([g(x).ravel() for g in chosen])
    y = np.asarray(f(x))
    for end in jax.jit(interval(f))(Box(x, x)):
        np.testing.assert_allclose(end, y, rtol=2e-5, atol=2e-5 * np.abs(y).max())


SPELLINGS = {
    "softmax": (Softmax, lambda x, axis: jax.nn.softmax(x, axis)),
    "softmax, plain": (Softmax, lambda x, axis: (e := jnp.exp(x)) / e.sum(axis, keepdims=True)),
    "log_softmax": (LogSumExp, lambda x, axis: jax.nn.log_softmax(x, axis)),
    "logsumexp": (LogSumExp, lambda x, axis: jax.nn.logsumexp(x, axis)),
    "logsumexp, axes kept": (LogSumExp, lambda x, axis: jax.nn.logsumexp(x, axis, keepdims=True)),
    "a shift of all": (LogSumExp, lambda x, axis: jnp.log(jnp.exp(x - (m := x.max())).sum(axis)) + m),
}


def kinds(f, x, exact=False):
    return [type(node.operation) for node in graph(f, ball(x, 0.1), exact=exact).nodes]


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_field_s_own_spellings_are_recognised(name):
    kind, f = SPELLINGS[name]
    x = jnp.zeros((3, 3, 3))
    for axis in (0, 1, 2, (0, 2)):
        assert kinds(lambda x: f(x, axis), x)[0] is kind


def test_in_floating_point_a_shift_must_be_the_greatest_entry_and_casts_are_steps():
    """Where exponentials may vanish, or a sum is rounded to half precision, softmax is bounded step by step."""
    x = jnp.zeros((3, 3))
    assert Softmax in kinds(jax.nn.softmax, x, exact=True) and LogSumExp in kinds(jax.nn.logsumexp, x, exact=True)
    assert Softmax not in kinds(lambda x: SPELLINGS["softmax, plain"][1](x, -1), x, exact=True)
    half = lambda x: jax.nn.softmax(x.astype(jnp.bfloat16)).astype(x.dtype)
    assert Softmax in kinds(half, x) and Softmax not in kinds(half, x, exact=True)


@pytest.mark.parametrize("operation", [LogSumExp((1,)), Softmax((1,))])
def test_lines_of_softmax_and_its_sum_hold_and_touch(operation):
    """Below log-sum-exp lies its tangent in the middle."""
    box = Box(jnp.array([[-1.0, 0.0, 0.5]]), jnp.array([[0.5, 1.0, 2.0]]))
    ends = Interval(box.lower, box.upper)
    lines = operation.relax(operation.interval(ends), [ends])
    function = jax.nn.logsumexp if isinstance(operation, LogSumExp) else jax.nn.softmax
    at = points(box, 999, jax.random.key(0))
    y = function(at, -1)
    below = jax.vmap(lines.lower_maps[0].apply)(at) + lines.lower
    above = jax.vmap(lines.upper_maps[0].apply)(at) + lines.upper
    assert (below <= y + 1e-5).all() and (y <= above + 1e-5).all()
    if isinstance(operation, LogSumExp):
        np.testing.assert_allclose(below[0], y[0], atol=1e-5)  # the first point is the middle


CASES = {**SOFTMAXES, **{name: (f, (3, 3)) for name, f in CURVES.items()}}


def lie_within(values, low, high, rounding, what):
    room = 2e-5 * (1 + np.abs(values).max(0)) if rounding == "nearest" else 0.0
    assert (values >= np.asarray(low) - room).all() and (values <= np.asarray(high) + room).all(), what


def case(part, shape):
    x = 1.5 * jax.random.normal(jax.random.key(part), shape)
    return Box(x - 0.15, x + 0.15)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["nearest", "outward"])
def test_every_near_miss_lies_within_its_intervals(rounding):
    """All alignments of axes, and all curves, at sampled points. Operation by operation: 1200 programs would take long to compile."""
    boxes = {shape: (box := case(0, shape), points(box, 2_000, jax.random.key(1))) for shape in ((3, 3), (2, 2, 2))}
    for name, (f, shape) in CASES.items():
        box, at = boxes[shape]
        values = np.asarray(jax.vmap(lambda x, f=f: f(x).ravel())(at), np.float64)
        lie_within(values, *(end.ravel() for end in interval(f, rounding=rounding)(box)), rounding, name)


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["nearest", "outward"])
@pytest.mark.parametrize("part", range(4))
def test_near_misses_lie_within_all_bounds(part, rounding):
    """Some of every kind by every method."""
    squares = [f for f, shape in CASES.values() if shape == (3, 3)]
    for shape, some in (((3, 3), squares[part::16]), ((2, 2, 2), [f for f, shape in CASES.values() if shape != (3, 3)][part::200])):
        f = lambda x, some=some: jnp.concatenate([g(x).ravel() for g in some])
        box = case(part, shape)
        values = np.asarray(jax.jit(jax.vmap(f))(points(box, 10_000, jax.random.key(1))), np.float64)
        options = {"alpha_crown": {"steps": 2}}
        found = jax.jit(lambda b, f=f: {m: bound(f, b, method=m, rounding=rounding, **options.get(m, {})) for m in METHODS})(box)
        for method, ends in found.items():
            lie_within(values, *ends, rounding, method)
