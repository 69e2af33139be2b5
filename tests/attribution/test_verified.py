"""EVA: closed forms on linear models, and overlaps that no perturbation exceeds."""

import functools
import itertools
import math

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from eva_overlaps import FORMS, GROUPS, KEY, RNG, SINGLE, X, attained, found, held, linear, maps

from jxai import data, taps
from jxai.attribution import eva
from jxai.attribution.verified import eva_certificate
from jxai.bounds import METHODS, margins
from jxai.bounds.attack import attack
from jxai.bounds.certify import certify
from jxai.bounds.projection import random_point
from jxai.masks import features
from jxai.models import available

pytestmark = pytest.mark.usefixtures("quick_compilation")

network = functools.cache(cases.network)


@functools.cache
def on(kind):
    """A model, an example and its groups."""
    shape = cases.SHAPES[kind]
    return network(shape), np.asarray(cases.example(shape)), cases.segments(shape)


@pytest.mark.parametrize(("bound", "per_group"), FORMS)
def test_a_linear_model_of_two_classes_has_a_closed_form(bound, per_group):
    f, w = linear(2)
    d, r = np.abs(w[0] - w[1]), np.asarray(RNG.uniform(0.05, 0.2, 8), np.float32)
    options = {"segments": GROUPS, "num_segments": 4, "bound": bound, "per_group": per_group}
    expected = [(r * d)[GROUPS == g].sum() for g in GROUPS]
    assert np.allclose(maps(f, X, 1, radius=r, objective="margin", **options), expected, rtol=1e-4)
    # The paper's objective bounds the two logits apart, so that the weights of both count.
    whole = 0.1 * (np.abs(w[0]) + np.abs(w[1]))
    apart = [whole[GROUPS == g].sum() for g in GROUPS]
    assert np.allclose(maps(f, X, 1, radius=0.1, objective="overlap", **options), apart, rtol=1e-4)


@pytest.mark.parametrize(("p", "dual"), [(2, lambda v: np.sqrt((v**2).sum())), (1, np.max)])
@pytest.mark.parametrize("per_group", [True, False])
def test_other_norms_take_the_dual_norm(p, dual, per_group):
    f, w = linear(2)
    d = 0.1 * np.abs(w[0] - w[1])
    expected = [dual(d) - dual(np.where(GROUPS == g, 0, d)) for g in GROUPS]
    a = maps(f, X, 0, radius=0.1, p=p, segments=GROUPS, num_segments=4, objective="margin", per_group=per_group)
    assert np.allclose(a, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip", [None, (0.0, 1.0)])
@pytest.mark.parametrize("per_group", [True, False])
def test_many_classes_equal_the_search_of_all_corners(clip, per_group):
    f, w = linear(5, 6)
    x, segments, radius = X[:6], np.asarray([0, 1, 1, 7, 2, 0]), 0.4
    corners = np.asarray(list(itertools.product([0, 1], repeat=6)))

    def overlap(free):
        low, high = x - radius * free, x + radius * free
        low, high = (low, high) if clip is None else (np.clip(low, *clip), np.clip(high, *clip))
        logits = np.where(corners, high, low) @ w.T
        return (np.delete(logits, 2, 1).max(1) - logits[:, 2]).max()

    whole = overlap(np.ones(6))
    # Label 7 is none of the three groups: it moves always.
    expected = [0 if g == 7 else whole - overlap(segments != g) for g in segments]
    got = maps(f, x, 2, radius=radius, clip=clip, segments=segments, num_segments=3, objective="margin", per_group=per_group)
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-5) and np.count_nonzero(expected) == 5


ASKED = [("overlap", math.inf), ("margin", 2), ("margin", math.inf)]
# For a vector each bound is asked one of the three, for an image the one that compiles soonest.
QUICK = {("vector", *form, *ASKED[n % 3]) for n, form in enumerate(FORMS)} | {("image", "interval", True, *ASKED[0])}
ON = [(kind, *form, *asked) for kind in ("vector", "image") for form in FORMS for asked in ASKED]


@pytest.mark.parametrize(("kind", "bound", "per_group", "objective", "p"), [one if one in QUICK else pytest.param(*one, marks=pytest.mark.slow) for one in ON])
def test_no_perturbation_has_a_greater_overlap(kind, bound, per_group, objective, p):
    shape = cases.SHAPES[kind]
    f, x, segments = network(shape, ASKED.index((objective, p))), cases.example(shape), cases.segments(shape)
    upper = found(f, x, 1, 0.3, segments=segments, objective=objective, p=p, bound=bound, per_group=per_group)
    for u in range(5):
        assert attained(f, held(x, 0.3, segments, u, p), 1, 2000, u) <= upper[u] + 1e-5, u


@pytest.mark.parametrize("kind", ["vector", pytest.param("image", marks=pytest.mark.slow)])
def test_order_of_the_bounds(kind):
    """What contains another bound is nowhere smaller, the paper's objective is no tighter than margins, and all agree where nothing moves."""
    f, x, segments = on(kind)
    by = {b: found(f, x, 2, 0.1, segments=segments, bound=b) for b in METHODS}
    chain = ["interval", "crown_ibp", "crown", "alpha_crown"]
    for loose, tight in [*zip(chain, chain[1:]), ("interval", "forward")]:
        assert (by[loose] >= by[tight] - 1e-4).all(), (loose, tight)
    assert by["crown"].sum() < 0.9 * by["interval"].sum()
    for bound in SINGLE:
        refined = found(f, x, 2, 0.1, segments=segments, bound=bound, objective="margin")
        single = found(f, x, 2, 0.1, segments=segments, bound=bound, objective="margin", per_group=False)
        assert (refined <= by[bound] + 1e-4).all() and (single >= refined - 1e-4).all()
        assert single[:-1].max() <= single[-1] + 1e-5  # one set of functions: a part of the ball has no greater overlap
        assert np.abs(single[:-1] - refined[:-1]).max() > 1e-3
    logits = np.asarray(f(x))
    nothing = np.delete(logits, 2).max() - logits[2]
    for bound, per_group in FORMS:
        assert np.allclose(found(f, x, 2, 0.0, segments=segments, bound=bound, per_group=per_group), nothing, atol=1e-5)


EACH = [(*form, objective) for form in FORMS for objective in ("overlap", "margin")]
SOON = [("interval", True, "margin"), ("forward", False, "margin"), ("crown", True, "overlap"), ("crown", False, "overlap")]


@pytest.mark.parametrize(("bound", "per_group", "objective"), [one if one in SOON else pytest.param(*one, marks=pytest.mark.slow) for one in EACH])
def test_what_the_model_does_not_see_gets_nothing(bound, per_group, objective):
    seen = np.float32(GROUPS != 1)
    f = jax.tree_util.Partial(lambda w, x: jax.nn.relu((seen * x) @ w[0]) @ w[1], [jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((8, 9), (9, 3))])
    a = np.asarray(maps(f, X, 0, radius=0.2, segments=GROUPS, num_segments=4, bound=bound, per_group=per_group, objective=objective))
    assert (a[2:5] == 0).all() and (np.abs(a[[0, 5, 6]]) > 0).all()


CROSSED = [(True, "overlap"), (False, "margin")]


@pytest.mark.parametrize(("per_group", "objective"), [(False, "overlap"), (True, "margin"), *(pytest.param(*one, marks=pytest.mark.slow) for one in CROSSED)])
def test_a_named_adversary(objective, per_group):
    f, x, segments = on("vector")
    options = {"segments": segments, "objective": objective, "per_group": per_group}
    one = np.stack([found(f, x, 1, 0.2, adversary=j, **options) for j in (0, 2, 3)])
    assert np.allclose(one.max(0), found(f, x, 1, 0.2, **options), atol=1e-5)
    assert attained(f, held(x, 0.2, segments, 3), 1, 2000, 5, adversary=0) <= one[0, 3] + 1e-5
    if objective == "margin":
        region = held(x, 0.2, segments, 9)
        assert np.allclose(-np.delete(jax.jit(margins)(f, region, 1), 1), one[:, -1], atol=1e-4)


def test_hybrid_holds_the_points_that_were_drawn_and_no_more():
    (f, x, segments), n = on("vector"), 40
    last = len(taps.layers(f, x)) - 1
    options = dict(segments=segments, bound="interval", layer=last, num_samples=n, key=KEY)
    # At the logits themselves nothing is left to verify: the overlap is that of the box of the sampled logits.
    upper = found(f, x, 1, 0.3, **options)
    drawn = jax.jit(lambda r: jax.vmap(lambda n: f(random_point(r, jax.random.fold_in(KEY, n))))(np.arange(n)))
    logits = np.stack([np.concatenate([drawn(held(x, 0.3, segments, u)), np.asarray(f(x))[None]]) for u in range(5)])
    assert np.allclose(upper, np.delete(logits.max(1), 1, 1).max(1) - logits.min(1)[:, 1], atol=1e-5)
    # In the middle: above what was drawn, below what is verified from x on; the empirical box lies within the verified one.
    worst_drawn = (np.delete(logits, 1, 2).max(2) - logits[..., 1]).max(1)
    layer = next(l.index for l in taps.layers(f, x) if l.primitive == "relu")
    whole = found(f, x, 1, 0.3, segments=segments, bound="interval")
    for bound, per_group in [("interval", True), ("crown", True), ("crown", False)]:
        hybrid = found(f, x, 1, 0.3, **{**options, "bound": bound, "layer": layer}, per_group=per_group)
        assert (hybrid >= worst_drawn - 1e-5).all(), bound
        if bound == "interval":
            assert (hybrid <= whole + 1e-5).all() and hybrid.sum() < 0.9 * whole.sum()
    assert np.allclose(found(f, x, 1, 0.3, **options, chunk=7), upper, rtol=1e-5)


def test_a_layer_that_is_passed_by_is_refused():
    w = [jnp.asarray(np.random.default_rng(n).normal(size=(6, 6)), jnp.float32) for n in range(3)]

    def residual(x):
        inside = jnp.tanh(x @ w[0])
        return jax.nn.relu(x + inside @ w[1]) @ w[2]

    x = cases.example((6,))
    by = {l.primitive: l.index for l in taps.layers(residual, x)}
    with pytest.raises(ValueError, match=f"layer={by['tanh']} .*is passed by"):
        eva(residual, x, 1, KEY, radius=0.1, layer=by["tanh"], bound="interval")
    assert np.isfinite(jax.jit(lambda x: eva(residual, x, 1, KEY, radius=0.1, layer=by["relu"], bound="interval"))(x)).all()


@pytest.mark.parametrize(("bound", "per_group"), [("interval", True), ("crown", True), ("crown", False), ("forward", False)])
@pytest.mark.parametrize("objective", ["margin", pytest.param("overlap", marks=pytest.mark.slow)])
def test_outward_overlaps_hold_in_exact_arithmetic(bound, per_group, objective):
    """A long sum whose terms cancel, so that float32 errs on either side; the truth by float64."""
    size = 2000
    x, w = jnp.asarray(RNG.uniform(-30, 30, size), jnp.float32), jnp.asarray(RNG.normal(size=(3, size)), jnp.float32)
    f, segments = jax.tree_util.Partial(lambda w, x: w @ x, w), np.arange(size) % 7
    low, high = (np.float64(np.asarray(v)) for v in (x - jnp.float32(0.01), x + jnp.float32(0.01)))
    d, exact = np.float64(np.asarray(w)) - np.float64(np.asarray(w))[1], np.float64(np.asarray(x))
    free = np.where(np.arange(8)[:, None] == segments, 0, 1)
    truth = [max((d[j] * np.where(move, np.where(d[j] > 0, high, low), exact)).sum() for j in (0, 2)) for move in free]
    upper = found(f, x, 1, 0.01, segments=segments, objective=objective, bound=bound, per_group=per_group, rounding="outward")
    assert (upper >= truth).all() and (objective == "overlap" or (upper - truth).max() < 3e-3 * np.abs(d * exact).sum(1).max())


def test_what_is_wrong_under_a_trace_becomes_nan():
    f, x, _ = on("vector")
    a = jax.jit(lambda x, t, j: eva(f, x, t, radius=0.1, adversary=j, bound="crown_ibp"))
    nowhere = np.float32([np.nan, *x[1:]])
    assert np.isfinite(a(x, 1, 2)).all()
    for target, adversary in [(1, 1), (4, 2), (-1, 2), (1, 4), (1, -1)]:
        assert np.isnan(a(x, target, adversary)).all(), (target, adversary)
    assert np.isnan(a(nowhere, 1, 2)).all()
    for per_group in (True, False):
        plain = jax.jit(lambda x, t, per_group=per_group: eva(f, x, t, radius=0.1, per_group=per_group, bound="crown_ibp"))
        assert np.isnan(plain(x, 4)).all() and np.isnan(plain(nowhere, 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -0.1}, "radius=-0.1 must be"),
        ({"radius": np.nan}, "radius=nan must be"),
        ({"radius": np.ones(5)}, "radius has shape"),
        ({"p": 3}, "p=3 must be 1, 2"),
        ({"clip": (1, 0)}, "clip="),
        ({"clip": (0.8, 1.0)}, "must lie in clip"),
        ({"bound": "ibp"}, "bound='ibp' must be one of 'interval', 'forward'"),
        ({"bound": "interval", "per_group": False}, "bound='interval' has no linear functions"),
        ({"bound": "alpha_crown", "per_group": False}, "bound='alpha_crown' has no linear functions"),
        ({"objective": "drop"}, "objective='drop' must be one of"),
        ({"rounding": "up"}, "rounding='up' must be one of"),
        ({"adversary": 1}, "adversary=1 must be a class in .* other than"),
        ({"adversary": 4}, "adversary=4 must be a class"),
        ({"adversary": 1.5}, "adversary=1.5 must be one integer"),
        ({"layer": 1}, "key=None"),
        ({"layer": 99, "key": KEY}, "layer=99 must be"),
        ({"layer": 1, "key": KEY, "num_samples": 0}, "num_samples=0 must be"),
        ({"grid": 9}, "grid=9 is larger"),
    ],
)
def test_bad_options(options, message):
    f, x, _ = on("vector")
    with pytest.raises(ValueError, match=message):
        eva(f, x, 1, **{"radius": 0.1, **options})
    if not options.keys() & {"layer", "key"}:
        with pytest.raises(ValueError, match=message):
            eva_certificate(f, x, 1, **{"radius": 0.1, **options})


def test_models_without_rivals_are_refused():
    x = cases.example((6,))
    with pytest.raises(ValueError, match="target=None must be a class"):
        eva(lambda v: v.sum(), x, None, radius=0.1)
    with pytest.raises(ValueError, match="two classes or more"):
        eva(lambda v: v[:1], x, 0, radius=0.1)


@pytest.fixture(scope="module")
def digit():
    """The robust network and a test digit."""
    try:
        return available()["robust_mnist"].build().model, jnp.asarray(np.float32(data.source("mnist")[0].pixels) / 255)
    except (ImportError, OSError, ValueError) as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_digit(digit):
    """The whole ball's overlap is what `certify` finds; no attack exceeds an overlap; what matters is the digit, not the empty border."""
    f, x = digit
    label = int(f(x).argmax())
    upper = found(f, x, label, 0.1, clip=(0, 1), grid=7, objective="margin", per_group=False)
    a = eva_certificate(f, x, label, radius=0.1, clip=(0, 1), grid=7, objective="margin", per_group=False, rounding="nearest").attribution
    proof = certify(f, x, 0.1, clip=(0, 1), rounding="nearest")
    assert upper[-1] == pytest.approx(-float(np.delete(proof.margins, label).min()), abs=1e-3) and upper[-1] < 0 and proof.holds
    segments = features(x, None, 7).labels
    for u in (10, 24, 49):
        least = float(attack(f, held(x, 0.1, segments, u, clip=(0, 1)), label, restarts=1, steps=20, loss="ce").margin)
        assert -least <= upper[u] + 1e-4
    ink = np.asarray(x)[..., 0].reshape(7, 4, 7, 4).max((1, 3)) > 0.5
    scores = np.asarray(a)[::4, ::4, 0]
    assert scores.min() >= 0 and scores[ink].mean() > 2 * scores[~ink].mean()
