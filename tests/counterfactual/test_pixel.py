"""Wachter's counterfactuals: on linear models the projection onto the boundary, the cheapest single feature, and linear programs' solutions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from jax.tree_util import Partial

from jxai.counterfactual import run, wachter
from jxai.counterfactual.pixel import leaving, missing, steepest, stopped

pytestmark = pytest.mark.usefixtures("quick_compilation")


def linear(w, b):
    return Partial(_linear, np.float32(w), np.float32(b))


def _linear(w, b, x):
    return w @ x + b


def problem(size, classes, seed):
    """A linear model, an example, its second most likely class, and `A d <= c`: what a change d must satisfy to be of that class."""
    rng = np.random.default_rng(seed)
    w, b, x = rng.normal(size=(classes, size)), rng.normal(size=classes), rng.normal(size=size)
    logits = w @ x + b
    target = np.argsort(logits)[-2]
    others = np.arange(classes) != target
    return linear(w, b), x.astype(np.float32), target, w[others] - w[target], logits[target] - logits[others]


def found_by(problem, **options):
    f, x, target, *_ = problem
    found = jax.tree.map(lambda leaf: leaf[0], run(wachter.search(clip=None, **options), f, x[None], np.asarray([target])))
    w, b = f.args
    assert found.valid and (w @ found.x + b).argmax() == target
    return found.x.astype(float) - x


@pytest.mark.parametrize(
    "size, seed, distance",
    [
        (5, 0, "l2"),
        (5, 1, "squared"),
        (60, 0, "l2"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(5, 1, "l2"), (5, 0, "squared"), (60, 0, "squared")]),
    ],
)
def test_two_classes_give_the_projection_onto_the_boundary(size, seed, distance):
    given = problem(size, 2, seed)
    a, c = given[3][0], given[4][0]
    truth = a * c / (a @ a)
    d = found_by(given, distance=distance, loss="hinge", patience=100, halvings=7, steps=3000)
    np.testing.assert_allclose(np.linalg.norm(d), np.linalg.norm(truth), rtol=1e-3)
    np.testing.assert_allclose(d, truth, atol=2e-2 * np.linalg.norm(truth))


@pytest.mark.parametrize("loss", ["squared", pytest.param("cross_entropy", marks=pytest.mark.slow)])
def test_other_losses_come_to_the_same_boundary(loss):
    given = problem(20, 2, 0)
    a, c = given[3][0], given[4][0]
    d = found_by(given, distance="l2", loss=loss, steps=3000)
    assert 1 - 1e-5 <= np.linalg.norm(d) / (abs(c) / np.linalg.norm(a)) < 1.01


def test_scales_make_the_projection_a_weighted_one():
    given = problem(6, 2, 0)
    a, c, s = given[3][0], given[4][0], np.linspace(0.5, 2, 6)
    d = found_by(given, distance="l2", loss="hinge", scale=s.astype(np.float32), patience=100, steps=3000)
    truth = s**2 * a * c / ((a * s) @ (a * s))
    np.testing.assert_allclose(d, truth, atol=2e-2 * np.linalg.norm(truth))


def test_several_classes_give_the_nearest_point_of_the_polytope():
    given = problem(20, 5, 3)
    _, _, _, a, c = given
    inside = dict(type="ineq", fun=lambda d: c - a @ d, jac=lambda d: -a)
    truth = scipy.optimize.minimize(lambda d: d @ d / 2, np.zeros(20), jac=lambda d: d, constraints=inside, method="SLSQP").x
    d = found_by(given, distance="l2", loss="hinge", threshold=0.0, patience=100, halvings=7, steps=3000)
    assert np.linalg.norm(d) < 1.005 * np.linalg.norm(truth)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_l1_changes_the_one_feature_that_is_cheapest(seed, scaled):
    given = problem(8, 2, seed)
    a, c = given[3][0], given[4][0]
    s = np.ones(8)
    if scaled:
        s[np.argsort(abs(a))[-2]] = 2
    d = found_by(given, loss="hinge", scale=s.astype(np.float32), steps=4000)
    at = np.argmax(abs(a) * s)
    np.testing.assert_allclose(d[at], c / a[at], rtol=1e-2)
    np.testing.assert_allclose((abs(d) / s).sum(), abs(c / a[at]) / s[at], rtol=1e-2)
    assert (np.delete(d, at) == 0).sum() >= 6


def test_l1_with_several_classes_is_a_linear_program():
    given = problem(20, 5, 0)
    _, _, _, a, c = given
    best = scipy.optimize.linprog(np.ones(40), A_ub=np.concatenate([a, -a], 1), b_ub=c).fun
    d = found_by(given, loss="hinge", threshold=0.0, patience=100, steps=4000)
    assert abs(d).sum() < 1.03 * best and (d != 0).sum() <= 6


def test_a_threshold_is_kept_and_costs_distance():
    f, x, target, *_ = problem(6, 3, 1)
    options = dict(clip=None, distance="l2", steps=2000)
    settings = [(t, loss) for t in (0.5, 0.9) for loss in ("hinge", "squared")]
    found = [run(wachter.search(loss=loss, threshold=np.asarray(t, np.float32), **options), f, x[None], [target]) for t, loss in settings]
    p = [scipy.special.softmax(o.logits[0])[target] for o in found]
    for value, t in zip(p, (0.5, 0.5, 0.9, 0.9)):
        assert t <= value < t + 0.01
    far = [np.linalg.norm(o.x[0] - x) for o in found]
    assert max(far[:2]) < min(far[2:]) and abs(far[0] - far[1]) < 0.05 * far[0]


def test_a_range_bends_the_way():
    # The cheapest feature has no room; the next must serve.
    f = linear([[0, 0, 0], [3.0, 2.0, 1.0]], [0, -4.0])
    x = np.asarray([0.9, 0.2, 0.5], np.float32)
    found = run(wachter.search(loss="hinge", steps=2000), f, x[None], [1])
    np.testing.assert_allclose(found.x[0], [1.0, 0.25, 0.5], atol=0.01)
    assert found.x.max() <= 1 and found.valid.all()


def test_a_start_among_the_target_class_serves_where_the_loss_is_flat():
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), jax.nn.relu(w @ x - 0.5) * 10 - 1]), np.float32([1, 0]))
    x, starts = np.asarray([[0.1, 0.3], [0.2, 0.6]], np.float32), np.asarray([[0.9, 0.9], [0.95, 0.1]], np.float32)
    stuck = run(wachter.search(), f, x, [1, 1])
    assert not stuck.valid.any()
    np.testing.assert_array_equal(stuck.x, x)
    found = run(wachter.search(loss="hinge"), f, x, [1, 1], per_example={"start": starts})
    assert found.valid.all()
    # The second feature goes all the way back.
    np.testing.assert_allclose(found.x, np.stack([np.full(2, 0.6), x[:, 1]], 1), atol=2e-3)
    np.testing.assert_array_equal(found.x[:, 1], x[:, 1])
    alone = jax.jit(lambda x: wachter(f, x, 1, loss="hinge", start=starts[0], region=np.asarray([True, False])))(x[0])
    np.testing.assert_allclose(alone.x, [0.6, 0.3], atol=2e-3)


def test_losses_are_their_formulas():
    logits = np.float32([1, 3, -0.5])
    p = scipy.special.softmax(logits)
    given = [(0, "squared", 0.5), (0, "cross_entropy", 0.5), (0, "hinge", 0.0), (0, "hinge", 0.5), (0, "hinge", 0.8), (1, "hinge", 0.5)]
    squared, cross_entropy, *hinge, none = map(float, jax.jit(lambda logits: [missing(logits, *options) for options in given])(logits))
    np.testing.assert_allclose([squared, cross_entropy, hinge[0]], [(p[0] - 1) ** 2, -np.log(p[0]), 2], rtol=1e-5)
    for more, t in zip(hinge[1:], (0.5, 0.8)):
        # Adding what is missing brings the probability to the threshold.
        np.testing.assert_allclose(scipy.special.softmax(logits + np.asarray([more, 0, 0]))[0], t, rtol=1e-5)
    assert none == 0


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_slopes_are_shortest_subgradients(distance):
    pull, zero = np.asarray([0.3, -1.0, 0.025]), np.zeros(3)
    size = {"l1": lambda d: abs(d).sum(), "l2": np.linalg.norm}[distance]
    total = lambda d, w: w * pull @ d + size(d)
    slope_of = jax.jit(lambda pull, d: steepest(pull, d, distance))
    for d in (np.asarray([0.2, -0.1, 0.4]), np.asarray([1.0, 2.0, -3.0])):
        numeric = scipy.optimize.approx_fprime(d, total, 1e-7, 1.0)
        np.testing.assert_allclose(slope_of(pull, d), numeric, atol=1e-4)
    # At x a step against the slope goes down if any does: above the λ at which moves begin, and not below.
    begins = float(jax.jit(lambda pull: leaving(pull, distance))(pull))
    for weight in (0.99 * begins, 1.01 * begins):
        slope = np.asarray(slope_of(weight * pull, zero))
        assert slope.any() == (weight > begins)
        assert not slope.any() or total(-1e-3 * slope, weight) < 0
        directions = np.random.default_rng(0).normal(size=(2000, 3))
        assert weight > begins or min(total(d, weight) for d in directions) > 0


def test_moves_end_where_they_would_cross_x():
    x, v = jnp.asarray([0.5, 0.5, 0.5, 0.5]), jnp.asarray([0.6, 0.4, 0.5, 0.5])
    moved, slope = jnp.asarray([0.45, 0.3, 0.6, 0.6]), jnp.asarray([1.0, 1.0, -1.0, 0.0])
    np.testing.assert_array_equal(stopped(x, v, moved, slope), np.asarray([0.5, 0.3, 0.6, 0.5], np.float32))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(loss="l2"), "loss='l2' must be one of 'squared', 'cross_entropy', 'hinge'"),
        (dict(distance="linf"), "distance='linf' must be one of"),
        (dict(threshold=1.0), "threshold=1.0 must lie in"),
        (dict(threshold=-0.1), "threshold=-0.1 must lie in"),
        (dict(price=0.0), "price=0.0 must lie in"),
        (dict(scale=0.0), "scale=0.0 must be finite and greater than 0"),
        (dict(scale=np.float32([1, np.nan, 1])), "scale=nan must be finite and greater than 0"),
        (dict(scale=np.ones(2)), r"scale of shape \(2,\) must broadcast against x of shape \(3,\)"),
        (dict(x=np.float32([39, 20000, 40]), clip=None), r"scale=None: x is a vector with entries up to 20000"),
        (dict(x=np.float32([39, 0.5, 40])), r"x must lie in clip=\(0.0, 1.0\).* from 0.5 to 40: give clip=\(low, high\)"),
        (dict(clip=(1.0, 0.0)), r"clip=\(1.0, 0.0\) must be \(low, high\) with low < high"),
        (dict(clip=(np.zeros(2), 1.0)), r"clip of shape \(2,\) must broadcast against x of shape \(3,\)"),
        (dict(growth=1.0), "growth=1.0 must lie in"),
        (dict(patience=0), "patience=0 must be a positive integer"),
        (dict(halvings=0), "halvings=0 must be a positive integer"),
        (dict(learning_rate=-1.0), "learning_rate=-1.0 must lie in"),
        (dict(start=np.zeros(2)), r"start of shape \(2,\) must have the shape of x, \(3,\)"),
        (dict(constraints=[3]), r"constraints\[0\] must be a constraint"),
        (dict(target=None), "target=None must be a class"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        wachter(**{**dict(f=linear(np.eye(3), np.zeros(3)), x=np.float32([0.1, 0.2, 0.3]), target=1), **options})
