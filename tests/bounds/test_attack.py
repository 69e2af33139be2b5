"""The attack: the closed-form optimum of linear models, what brute force finds, and never a point outside of the region."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from jxai.bounds import Ball, Box, ball, interval
from jxai.bounds.attack import attack
from jxai.bounds.projection import contains, projection, random_point

pytestmark = pytest.mark.usefixtures("quick_compilation")

NORMS = (np.inf, 2, 1)
KEY = jax.random.key(0)
run = jax.jit(attack, static_argnames=("loss", "steps", "restarts", "chunk"))
values = jax.jit(lambda f, points: jax.vmap(f)(points))
drawn = jax.jit(lambda region, keys: jax.vmap(lambda key: random_point(region, key))(keys))


def slow(every, *quick):
    return [pytest.param(*one, marks=() if one in quick else pytest.mark.slow) for one in every]


def affine(weights, x):
    return weights[0] @ x.ravel() + weights[1]


def relu_net(weights, x):
    return weights[2] @ jax.nn.relu(weights[1] @ jax.nn.relu(weights[0] @ x.ravel()))


def linear(seed=0, classes=2, size=30):
    rng = np.random.default_rng(seed)
    weights = jnp.asarray(rng.normal(size=(classes, size)), jnp.float32), jnp.asarray(rng.normal(size=classes), jnp.float32)
    return jax.tree_util.Partial(affine, weights)


def net(seed=0, size=12, classes=4, hidden=16):
    rng = np.random.default_rng(seed)
    shapes = (hidden, size), (hidden, hidden), (classes, hidden)
    weights = [jnp.asarray(rng.normal(size=s) / np.sqrt(s[1]), jnp.float32) for s in shapes]
    return jax.tree_util.Partial(relu_net, weights)


def point(seed=0, size=30, fixed=0.3):
    rng = np.random.default_rng(seed)
    x, radius = rng.uniform(size=size), rng.uniform(0.1, 1, size) * (rng.random(size) > fixed)
    return np.float32(x), np.float32(radius)


def margins_of(f, label):
    """The differences `f[label] − f[j]`, as functions `⟨a, x⟩ + b` in float64."""
    weights, bias = (np.asarray(v, np.float64) for v in f.args[0])
    return [(weights[label] - weights[j], bias[label] - bias[j]) for j in range(len(bias)) if j != label]


def inside(region, x):
    """In exact arithmetic."""
    x, lower, upper = (np.asarray(v) for v in (x, region.lower, region.upper))
    if not ((x >= lower) & (x <= upper)).all() or isinstance(region, Box):
        return bool(((x >= lower) & (x <= upper)).all())
    parts = zip(x.ravel().tolist(), np.ravel(region.center).tolist(), np.ravel(region.radius).tolist())
    parts = [(abs(Fraction(v) - Fraction(c)), Fraction(r)) for v, c, r in parts]
    return all(r > 0 or d == 0 for d, r in parts) and sum((d / r) ** int(region.p) for d, r in parts if r > 0) <= 1


@pytest.mark.parametrize(("loss", "p"), slow(itertools.product(("ce", "dlr", "both"), NORMS), ("ce", np.inf), ("dlr", 2), ("both", 1)))
def test_the_optimum_of_a_linear_model(p, loss):
    for seed in range(3):
        f, (x, radius) = linear(seed), point(seed)
        ((a, b),) = margins_of(f, 1)
        scaled = np.abs(a * np.float64(radius))
        least = a @ np.float64(x) + b - {np.inf: scaled.sum(), 2: np.linalg.norm(scaled), 1: scaled.max()}[p]
        found = run(f, ball(x, radius, p), 1, None, loss=loss, restarts=1)
        # Momentum closes in on a vertex of the ℓ1 ball, and never stands on it.
        assert least - 1e-4 <= float(found.margin) <= least + (5e-3 if p == 1 else 1e-3) * scaled.max()
        assert bool(found.success) == (float(found.margin) < 0)


def test_the_optimum_over_a_box_that_cuts_the_ball():
    for seed in range(3):
        f, (x, radius) = linear(seed), point(seed, fixed=0)
        ((a, b),) = margins_of(f, 0)
        region = ball(x, 3 * radius, 1, (0, 1))
        lower, upper, r = np.asarray(region.lower, np.float64), np.asarray(region.upper, np.float64), 3 * np.asarray(radius, np.float64)
        # x = center + plus − minus, Σ (plus + minus) / r <= 1.
        limits = [(0, h) for h in upper - np.float64(x)] + [(0, h) for h in np.float64(x) - lower]
        best = linprog(np.concatenate([a, -a]), A_ub=np.concatenate([1 / r, 1 / r])[None], b_ub=[1], bounds=limits)
        clean = a @ np.float64(x) + b
        found = float(run(f, region, 0, None, loss="dlr", restarts=1).margin)
        assert clean + best.fun - 1e-4 <= found <= clean + 0.95 * best.fun
        box = ball(x, radius, np.inf, (0, 1))
        corner = b + np.where(a > 0, a * np.asarray(box.lower, np.float64), a * np.asarray(box.upper, np.float64)).sum()
        assert float(run(f, box, 0, None, loss="dlr", restarts=1).margin) == pytest.approx(corner, abs=1e-4)


@pytest.mark.parametrize("p", [pytest.param(np.inf, marks=pytest.mark.slow), 2, pytest.param(1, marks=pytest.mark.slow)])
def test_several_classes(p):
    f, (x, radius) = linear(3, classes=5), point(3)
    least = []
    for a, b in margins_of(f, 2):
        scaled = np.abs(a * np.float64(radius))
        least.append(a @ np.float64(x) + b - {np.inf: scaled.sum(), 2: np.linalg.norm(scaled), 1: scaled.max()}[p])
    found = float(run(f, ball(x, radius, p), 2, KEY, loss="ce", restarts=6).margin)
    assert min(least) - 1e-4 <= found <= min(least) + 0.02 * abs(min(least))


@pytest.mark.parametrize("p", NORMS)
def test_the_point_is_inside_and_its_margin_its_own(p):
    @jax.jit
    def whole(f, region, label, seed):
        found = attack(f, region, label, jax.random.key(seed))
        return found, contains(region, found.x), f(found.x), interval(f)(region)

    for seed in range(12):
        f, (x, radius) = net(seed), point(seed, 12)
        region = ball(x, (1e-4, 0.1, 30.0)[seed % 3] * radius, p, (0, 1) if seed % 2 else None)
        found, contained, logits, bounds = jax.tree.map(np.asarray, whole(f, region, seed % 4, seed))
        assert inside(region, found.x) and contained
        own = logits[seed % 4] - np.delete(logits, seed % 4).max()
        assert float(found.margin) == pytest.approx(own, abs=1e-5) and bool(found.success) == (float(found.margin) < 0)
        assert (logits >= bounds.lower - 1e-5).all() and (logits <= bounds.upper + 1e-5).all()


@pytest.mark.parametrize("p", [np.inf, pytest.param(2, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)])
def test_what_brute_force_finds(p):
    steps = np.linspace(-1, 1, 401)
    u = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    u = u[np.linalg.norm(u, p, axis=1) <= 1]
    for seed in range(3):
        f, x = net(seed, size=2, classes=3), np.float32([0.3, -0.2])
        logits = np.asarray(values(f, np.concatenate([x[None], np.float32(x + u)])))
        label = int(logits[0].argmax())
        least = (logits[:, label] - np.delete(logits, label, 1).max(1)).min()
        # Sparse steps get stuck where a ReLU bends: of one of these networks, one start in six ends near the least.
        found = run(f, ball(x, 1.0, p), label, jax.random.key(seed), restarts=64 if p == 1 else 8)
        near = 1e-3 + (0.2 * abs(least) if p == 1 else 0)
        assert float(found.margin) <= least + near and bool(found.success) == (least < 0)


@pytest.mark.parametrize("p", [np.inf, 2, pytest.param(1, marks=pytest.mark.slow)])
def test_radius_zero_leaves_x(p):
    f, x = net(), point(0, 12)[0]
    logits = np.asarray(f(x))
    found = run(f, ball(x, 0.0, p), 1, KEY)
    assert np.array_equal(found.x, x) and float(found.margin) == pytest.approx(logits[1] - np.delete(logits, 1).max(), abs=1e-6)


@pytest.mark.parametrize("p", [np.inf, pytest.param(2, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.slow)])
def test_vmap_is_a_loop_and_keys_reproduce(p):
    f, xs = net(), np.stack([point(seed, 12)[0] for seed in range(3)])
    labels, keys = np.asarray([0, 2, 3]), jax.random.split(KEY, 3)
    many = jax.jit(jax.vmap(lambda x, label, key: attack(f, ball(x, 0.5, p), label, key)))(xs, labels, keys)
    loop = [run(f, ball(x, 0.5, p), label, key) for x, label, key in zip(xs, labels, keys)]
    # Rounding decides which of two ways a descent takes, but not where it leads to.
    assert np.allclose(many.margin, [one.margin for one in loop], atol=0.02)
    assert np.array_equal(run(f, ball(xs[0], 0.5, p), labels[0], keys[0]).x, loop[0].x)
    starts = np.asarray(drawn(ball(xs[0], 0.5, p), keys))
    assert not np.array_equal(starts[0], starts[1]) and all(inside(ball(xs[0], 0.5, p), s) for s in starts)


def test_chunks_change_nothing_and_new_weights_do_not_retrace():
    region, label = ball(point(0, 12)[0], 0.5), jnp.int32(1)
    whole = run(net(), region, label, KEY, restarts=5, steps=10)
    traces = run._cache_size()
    assert float(run(net(1), region, label, KEY, restarts=5, steps=10).margin) != float(whole.margin) and run._cache_size() == traces
    for chunk in (2, 100):
        assert np.allclose(run(net(), region, label, KEY, restarts=5, steps=10, chunk=chunk).margin, whole.margin, atol=1e-4)


def test_labels_and_regions_that_are_none():
    f, x = net(), point(0, 12)[0]
    for label in (4, -1):
        found = run(f, ball(x, 0.5), jnp.int32(label), KEY)
        assert np.isnan(found.margin) and not found.success
        with pytest.raises(ValueError, match=f"target={label} must be a class in"):
            attack(f, ball(x, 0.5), label, KEY)
    broken = run(f, Box(x + 1, x), 1, KEY)
    assert np.isnan(broken.margin) and not broken.success
    apart = Ball(x, np.ones_like(x), x + 2, x + 3, 2)
    assert np.isnan(run(f, apart, 1, KEY).margin)


@pytest.mark.parametrize(
    ("f", "options", "message"),
    [
        (net(), {"loss": "hinge"}, "loss='hinge' must be one of 'ce', 'dlr', 'both'"),
        (net(), {"steps": 0}, "steps=0"),
        (net(), {"restarts": 0}, "restarts=0"),
        (net(), {"chunk": 0}, "chunk=0"),
        (net(), {"step_size": 0.0}, "step_size=0.0"),
        (net(), {"key": None}, "key=None must be"),
        (net(), {"label": None}, "must be one integer class"),
        (lambda x: x[:1], {}, "two classes or more"),
        (lambda x: x.sum(), {}, r"f\(x\) must be a vector"),
        (net(), {"region": 3}, "region must be a Box"),
    ],
)
def test_bad_input(f, options, message):
    given = {"region": ball(point(0, 12)[0], 0.5), "label": 1, "key": KEY, **options}
    with pytest.raises(ValueError, match=message):
        attack(f, given.pop("region"), given.pop("label"), given.pop("key"), **given)


def test_a_model_that_is_nan_somewhere_is_attacked_elsewhere():
    f = lambda x: jnp.stack([x.sum(), 0.3 + 0 * jnp.sqrt(x.sum() - 0.2)])
    found = jax.jit(lambda region: attack(f, region, 0, KEY))(ball(np.full(4, 0.25, np.float32), 0.2))
    assert np.isfinite(found.margin) and found.success


@pytest.mark.parametrize("p", [1, 2])
def test_the_projection_is_the_nearest_point_of_a_ball(p):
    rng = np.random.default_rng(0)
    x, radius = point(1, 20, fixed=0.2)
    region = ball(x, np.where(radius > 0, np.float32(0.5), np.float32(0)), p)
    nearest, points = jax.jit(lambda region, v: projection(region)(v)), np.asarray(drawn(region, jax.random.split(KEY, 50)), np.float64)
    for _ in range(5):
        v = np.float32(x + rng.normal(size=20))
        near, others = np.asarray(nearest(region, v), np.float64), points
        others = np.concatenate([others, np.asarray(x) + 0.5 * np.eye(20)[np.asarray(radius) > 0], np.asarray(x) - 0.5 * np.eye(20)[np.asarray(radius) > 0]])
        # Of all z in a convex set, P v is nearest to v exactly if ⟨v − P v, z − P v⟩ <= 0 for each.
        free = np.asarray(radius) > 0
        assert (((np.asarray(v) - near) * (others - near))[:, free].sum(1) <= 1e-3).all()
