"""Sufficient subsets: selections by hand, an exact loop in NumPy, bookkeeping, transformations, and certificates that fail where they must."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from jax.tree_util import Partial

from jxai import each, fills, sufficiency
from jxai.attribution import gradient
from jxai.certificates import digests, load, save, verify
from jxai.models import CNN

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = ("batched_gradient_sis", "random_subset", "ranked_subset", "sis", "sis_collection")  # with the papers' score, where a test names no other
batched_gradient_sis, random_subset, ranked_subset, sis, sis_collection = (functools.partial(getattr(sufficiency, n), score="probability") for n in NAMES)
RNG = np.random.default_rng(0)
W = RNG.normal(size=(10, 3)).astype(np.float32)
X = RNG.uniform(0.5, 2, size=10).astype(np.float32) * np.float32(RNG.choice([-1, 1], 10))
LINEAR = Partial(lambda w, x: x @ w, W)
LABEL = int((X @ W).argmax())
EVERY = [sis, batched_gradient_sis, random_subset, lambda f, x, target, key, **o: ranked_subset(f, x, target, x, key, **o)]


def two(s):
    """A model of two logits whose first is s(x)."""
    return Partial(lambda x: jnp.stack([s(x), jnp.zeros(())]))


SUM = two(lambda v: v.sum())
MODEL = drawn(lambda rngs: CNN(1, (4,), 3, rngs=rngs))
IMAGE = RNG.uniform(size=(6, 6, 1)).astype(np.float32)


@jax.jit
def probabilities(model, xs):
    return jax.nn.softmax(jax.vmap(model)(xs))


def by_hand(score, x, threshold, present=None):
    """Backward selection as the paper has it, one pass at a time: the subset (None where nothing suffices) and the scores."""
    present = np.ones(len(x), bool) if present is None else present.copy()
    curve, ways = [score(np.where(present, x, 0))], [present.copy()]
    while present.any():
        tried = {i: score(np.where(present & (np.arange(len(x)) != i), x, 0)) for i in np.flatnonzero(present)}
        present[max(tried, key=lambda i: (tried[i], -i))] = False
        curve.append(max(tried.values()))
        ways.append(present.copy())
    return (None if curve[0] < threshold else ways[max(np.flatnonzero(np.asarray(curve) >= threshold))]), curve


def probability(x):
    logits = np.float64(x) @ np.float64(W)
    e = np.exp(logits - logits.max())
    return (e / e.sum())[LABEL]


@pytest.mark.parametrize("chunk", [3, pytest.param(1, marks=pytest.mark.slow), pytest.param(64, marks=pytest.mark.slow)])
def test_the_selection_is_that_of_a_loop_of_single_passes(chunk):
    for threshold in (0.4, 0.5 * probability(X) + 0.2, 0.9 * probability(X)):
        held, curve = by_hand(probability, X, threshold)
        found = sis(LINEAR, X, threshold=threshold, chunk=chunk)
        assert np.array_equal(found.held, held) and found.holds and found.label == LABEL and found.size == held.sum()
        assert np.allclose(found.curve, curve, atol=1e-6) and found.value == pytest.approx(probability(np.where(held, X, 0)), abs=1e-6)
    low = sis(LINEAR, X, threshold=0.5 * (1 + max(by_hand(probability, X, 0)[1])), chunk=chunk)
    assert not low.holds and low.held.all()


def test_sums_norms_and_ties():
    found = sis(SUM, np.float32([1, 4, 2, 4, 3]), 0, threshold=8.0, score="logit")
    # The least go first, and of the two fours the one of the lowest index.
    assert found.removed_at.tolist() == [0, 3, 1, 4, 2] and found.held.tolist() == [False, True, False, True, False]
    assert found.curve.tolist() == [14, 13, 11, 8, 4, 0]
    assert sis(SUM, np.float32([1, 4, 2, 4, 3]), 0, threshold=14.5, score="logit").holds.item() is False
    norm = sis(two(lambda v: jnp.linalg.norm(v)), np.float32([3, 0.1, 4, 0.1, 0.2]), 0, threshold=4.9, score="logit")
    assert norm.held.tolist() == [True, False, True, False, False] and norm.value == pytest.approx(5, abs=1e-4)
    same = sis(SUM, np.ones(5, np.float32), 0, threshold=2.0, score="logit")
    assert same.removed_at.tolist() == [0, 1, 2, 3, 4] and same.size == 2
    # What already was below the threshold cannot suffice, though a part of it would reach it.
    assert not sis(SUM, np.float32([3, -3, 0, 0, 0]), 0, threshold=2.0, score="logit").holds


def test_collections_are_disjoint_and_what_is_left_does_not_suffice():
    x = np.asarray([5.0, 1.0, 3.0, 4.0, 2.0, 4.0], np.float32)
    f = SUM
    found = sis_collection(f, x, 0, threshold=5.0, score="logit")
    present, expected = np.ones(6, bool), []
    while (held := by_hand(np.sum, x, 5.0, present)[0]) is not None:
        expected.append(held)
        present &= ~held
    assert len(found) == len(expected) == 3 and all(np.array_equal(c.held, h) for c, h in zip(found, expected))
    assert all(c.holds and verify(f, x, c).holds for c in found) and np.sum([c.held for c in found], 0).max() == 1
    assert np.array_equal(found[1].removed_at < 0, expected[0])
    assert [c.size.item() for c in sis_collection(f, x, 0, threshold=5.0, score="logit", max_subsets=2)] == [1, 2]
    assert sis_collection(f, x, 0, threshold=50.0, score="logit") == ()
    # The fill alone suffices: one empty subset, not eight.
    (empty,) = sis_collection(f, x, 0, threshold=-1.0, score="logit")
    assert empty.size == 0 and verify(f, x, empty).holds


def test_gradients_of_linear_models_say_all():
    f = two(lambda v: v @ W[:, 0])
    for threshold in (0.0, 0.5, 1.0):
        exact, steep = (method(f, X, 0, threshold=threshold + float(X @ W[:, 0]), score="logit") for method in (sis, batched_gradient_sis))
        assert np.array_equal(exact.held, steep.held) and np.array_equal(exact.removed_at, steep.removed_at)
        assert np.allclose(exact.curve, steep.curve, atol=1e-4)


@pytest.mark.parametrize("per_step", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 64))])
def test_every_pixel_goes_once(per_step):
    for method in (batched_gradient_sis, random_subset):
        found = method(MODEL, IMAGE, key=jax.random.key(1), threshold=0.05, per_step=per_step)
        steps, removed_at = -(-36 // per_step), np.asarray(found.removed_at)
        assert found.curve.shape == (steps + 1,)
        counts = np.bincount(removed_at, minlength=steps)
        assert counts[:-1].tolist() == [per_step] * (steps - 1) and counts.sum() == 36
        shown = np.stack([np.where((removed_at >= t).reshape(6, 6, 1), IMAGE, 0) for t in range(steps + 1)])
        assert np.allclose(found.curve, np.asarray(probabilities(MODEL, shown))[:, int(found.label)], atol=1e-5)
        last = max(np.flatnonzero(np.asarray(found.curve) >= 0.05), default=0)
        assert np.array_equal(found.held, removed_at >= last) and verify(MODEL, IMAGE, found).holds == bool(found.holds)
        assert np.array_equal(np.asarray(found.mask)[..., 0].ravel(), found.held)


def test_the_step_takes_those_whose_removal_costs_least_by_the_gradient():
    model, x = drawn(lambda rngs: CNN(3, (4,), 3, rngs=rngs), 2), RNG.uniform(size=(6, 6, 3)).astype(np.float32)
    fill = np.float32([0.4, 0.5, 0.6])
    found = batched_gradient_sis(model, x, 1, threshold=0.1, per_step=5, fill=fill)
    slope_at, removed_at = jax.jit(lambda at: gradient(model, at, 1, score="probability")), np.asarray(found.removed_at)
    for t in (0, 3, 7):
        left = removed_at >= t
        slope = (np.asarray(slope_at(np.where(left.reshape(6, 6, 1), x, fill))) * (x - fill)).sum(-1).ravel()
        least = set(np.argsort(np.where(left, slope, np.inf))[: min(5, left.sum())].tolist())
        assert least == set(np.flatnonzero(removed_at == t).tolist())


def test_the_last_crossing_counts():
    # Without the last entry the score dips below the threshold, and without the next one it is above again.
    f = two(lambda v: jnp.where(v[2] != 0, 5.0, jnp.where(v[1] != 0, 1.0, 4.0)) + v[0])
    found = ranked_subset(f, np.ones(3, np.float32), 0, np.float32([3, 2, 1]), threshold=4.5, score="logit")
    assert found.curve.tolist() == [6, 2, 5, 4] and found.held.tolist() == [True, False, False]


def test_ranks_segments_and_positions_of_none():
    x, a = np.ones((2, 3, 2), np.float32), np.float32([[0, 1, 2], [3, 9, -1]])[..., None]
    labels = np.asarray([[0, 0, 1], [1, 5, 2]])
    found = ranked_subset(SUM, x, 0, a, threshold=5.0, score="logit", segments=labels, num_segments=3)
    # Means by segment: .5, 2.5, −1; position (1, 1) is of none, and stays.
    assert found.removed_at.tolist() == [1, 2, 0] and found.curve.tolist() == [12, 10, 6, 2]
    assert found.held.tolist() == [False, True, False]
    assert np.asarray(found.mask)[..., 0].tolist() == [[0, 0, 1], [1, 1, 0]]
    patches = sis(SUM, np.ones((6, 6, 1), np.float32), 0, threshold=9.0, score="logit", grid=2)
    assert patches.size == 1 and patches.held.shape == (4,) and np.asarray(patches.mask).sum() == 9


FILLS = [0.3, fills.Mean(), fills.Uniform(0.0, 1.0), fills.Blur(1.0), fills.Neighbours()]
# Each method with one fill, a number, one of x, and one that draws among them; the others by `make test-slow`.
QUICK = {(0, 0), (1, 1), (2, 2), (3, 0)}


@pytest.mark.parametrize(
    ("method", "fill"),
    [pytest.param(EVERY[m], FILLS[n], marks=[pytest.mark.slow] * ((m, n) not in QUICK)) for m in range(len(EVERY)) for n in range(len(FILLS))],
)
def test_certificates_hold_the_fill_that_was_shown(method, fill, tmp_path):
    start = np.asarray(probabilities(MODEL, IMAGE[None])).max()
    found = method(MODEL, IMAGE, None, jax.random.key(3), threshold=float(0.98 * start), fill=fill, grid=3)
    shown = np.asarray(probabilities(MODEL, np.asarray(found.shown(IMAGE))[None]))[0, int(found.label)]
    assert found.holds and found.value == pytest.approx(float(shown), abs=1e-5)
    save(tmp_path / "c.npz", found)
    assert verify(MODEL, IMAGE, load(tmp_path / "c.npz")).holds


def test_false_claims_fail():
    found = sis(LINEAR, X, threshold=0.9 * probability(X))
    assert verify(LINEAR, X, found).holds and set(verify(LINEAR, X, found).values) == {"same_x", "same_weights", "probability"}
    other = Partial(LINEAR.func, LINEAR.args[0] * 1.01)
    assert not verify(LINEAR, X * 1.01, found).holds and not verify(other, X, found).holds
    lies = [dict(threshold=np.float32(found.value) + np.float32(0.01)), dict(label=(found.label + 1) % 3), dict(held=np.zeros_like(found.held))]
    assert all(not verify(LINEAR, X, dataclasses.replace(found, **lie)).holds for lie in lies)
    assert verify(LINEAR, X, dataclasses.replace(found, threshold=np.float32(found.value) / 2)).holds  # weaker, and true
    rng, held = np.random.default_rng(5), 0
    for _ in range(24):
        claim = dataclasses.replace(found, held=rng.permutation(np.asarray(found.held)))
        truth = probability(np.where(claim.held, X, 0)) >= float(found.threshold)
        assert verify(LINEAR, X, claim).holds == truth
        held += truth
    assert held < 12
    with pytest.raises(ValueError, match="shape"):
        verify(LINEAR, X[:5], found)


@pytest.mark.parametrize("method", EVERY)
def test_transformations(method):
    one = lambda x, target, key, threshold: method(LINEAR, x, target, key, threshold=threshold)
    # The last asks for a class that is none.
    xs = np.stack([*RNG.normal(size=(2, 10)).astype(np.float32), X, X, X])
    targets, levels = (xs @ W).argmax(1), np.float32([0.5, 0.5, 0.3, 0.7, 0.5])
    targets[-1] = 7
    keys = [jax.random.key(n) for n in range(5)]
    alone = [one(x, None, key, level) for x, key, level in zip(xs[:4], keys, levels)]
    lanes = lambda *lanes: (jax.vmap(one)(*lanes), one(*(v[0] for v in lanes)))
    together, jitted = jax.jit(lanes)(xs, targets, jnp.stack(keys), levels)
    assert together.digests is None and alone[0].digests == digests(LINEAR, xs[0])
    for name in ("held", "removed_at", "curve", "value", "label", "fill"):
        assert np.allclose(np.asarray(getattr(together, name))[:4], [getattr(c, name) for c in alone], atol=1e-6)
        assert np.allclose(getattr(jitted, name), getattr(alone[0], name), atol=1e-6)
    assert not np.asarray(together.holds)[4]


def test_each_and_new_weights_do_not_retrace():
    count = []

    def f(w, x):
        count.append(1)
        return x @ w

    xs = RNG.normal(size=(5, 10)).astype(np.float32)
    found = each(batched_gradient_sis, Partial(f, W), xs, None, threshold=0.5)
    traced = len(count)
    again = each(batched_gradient_sis, Partial(f, W[::-1].copy()), xs, None, threshold=0.5)
    assert found.held.shape == (5, 10) and not np.array_equal(found.curve, again.curve)
    sis(Partial(f, W), X, threshold=0.5)
    compiled = len(count)
    sis(Partial(f, W * 2), X, threshold=0.6)
    # Only what looks at shapes (and at the weights' digest) calls it again.
    assert len(count) - compiled < compiled - traced


def test_half_precision_nan_and_one_pixel():
    half = sis(LINEAR, X.astype(np.float16), threshold=0.5)
    assert half.holds and verify(LINEAR, X.astype(np.float16), half).holds and half.fill.dtype == np.float16
    broken = np.where(np.arange(10) == 2, np.float32(np.nan), X)
    for method in EVERY:
        with pytest.raises(ValueError, match="x must be finite"):
            method(LINEAR, broken, 0, jax.random.key(0), threshold=0.5)
        found = jax.jit(lambda v, method=method: method(LINEAR, v, 0, jax.random.key(0), threshold=0.5))(broken)
        assert not found.holds and np.asarray(found.held).all()
    pixel = sis(SUM, np.ones((1, 1, 1), np.float32), 0, threshold=0.5, score="logit")
    assert pixel.size == 1 and pixel.holds


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(threshold=0.0), "threshold=0.0"),
        (dict(threshold=1.5), "threshold=1.5"),
        (dict(target=3), "target=3"),
        (dict(score="odds"), "score='odds'"),
        (dict(segments=np.zeros(4, int)), "segments must be integers"),
        (dict(segments=np.full(10, -1)), "must not be negative"),
        (dict(grid=11), "grid=11"),
        (dict(fill=np.zeros(3)), "fill has shape"),
        (dict(fill=fills.Uniform(), key=None), "key=None"),
    ],
)
def test_bad_input(options, message):
    options = {"threshold": 0.5, "key": jax.random.key(0), **options}
    target, key = options.pop("target", None), options.pop("key")
    for method in EVERY:
        with pytest.raises(ValueError, match=message if key is not None or method is not random_subset else "random"):
            method(LINEAR, X, target, key, **options)


@pytest.mark.parametrize(
    "message, call",
    [
        ("one-class", lambda: sis(lambda x: x[:1], X)),
        ("threshold=None must be a number, since no logit is known to suffice", lambda: sis(LINEAR, X, score="logit")),
        ("vector of logits", lambda: batched_gradient_sis(lambda x: x.sum(), X)),
        ("per_step=0", lambda: batched_gradient_sis(LINEAR, X, per_step=0)),
        ("noise=-1", lambda: batched_gradient_sis(LINEAR, X, noise=-1.0)),
        ("chunk", lambda: sis(LINEAR, X, chunk=0)),
        ("max_subsets=0", lambda: sis_collection(LINEAR, X, max_subsets=0)),
        ("attribution must have shape", lambda: ranked_subset(LINEAR, X, None, np.zeros(3))),
        ("floating-point", lambda: sis(LINEAR, np.arange(10))),
    ],
)
def test_more_bad_input(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_default_block_wastes_few_passes():
    """Counted on a CPU: blocks of an eighth of 16 features run 2 passes at once, so that the odd steps waste one each."""
    seen = []

    def f(x):
        jax.debug.callback(lambda _: seen.append(1), x[0])
        return jnp.stack([x.sum(), 0.0])

    for chunk, passes in ((None, sum(2 * -(-left // 2) for left in range(1, 17))), (16, 16 * 16)):
        seen.clear()
        jax.block_until_ready(sis(f, np.ones(16, np.float32), 0, threshold=0.9, chunk=chunk))
        jax.effects_barrier()
        assert passes <= len(seen) <= passes + 3, chunk  # and x itself, and its fill
