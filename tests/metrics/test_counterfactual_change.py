"""Validity, distances, redundancy and violations of counterfactuals, against hand-made cases and NumPy."""

import functools

import counterfactual_toys as toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from jxai.counterfactual.search.constraints import Frozen, Monotone, Near, OneHot, Ordinal, Range
from jxai.metrics import counterfactual as metrics
from jxai.metrics.counterfactual import mad
from jxai.models.simple import MLP

pytestmark = pytest.mark.usefixtures("quick_compilation")

X, COUNTERFACTUAL = np.float32([0, 1, 2, 3]), np.float32([0, 1.5, 0, 3 + 5e-6])
DISTANCES = ("l0", "l1", "l2", "linf")


@jax.tree_util.Partial
def identity(x):
    return x


def _spoilt(at, x):
    return x + at


# The identity, but for the first logit.
SPOILT = jax.tree_util.Partial(_spoilt, np.float32([np.nan, 0, 0]))


@functools.cache
def compiled(name, options):
    return jax.jit(lambda f, x, v, t, more: getattr(metrics, name)(f, x, v, t, **dict(options), **more))


def judged(name, f, x, v, t=None, **options):
    """Compiled once for each set of options; arrays and numbers are data."""
    more = {key: options.pop(key) for key in list(options) if not isinstance(options[key], (bool, int, tuple, type(None)))}
    more = {key: np.float32(value) if isinstance(value, float) else value for key, value in more.items()}
    out = compiled(name, tuple(sorted(options.items())))(f, x, v, None if t is None else np.int32(t), more)
    return float(out)


def test_distances_of_a_known_change():
    """The change is (0, ½, −2, 5e-6), the last too small to count as one."""
    of = lambda name, **options: judged(name, None, X, COUNTERFACTUAL, **options)
    found = {name: of(name) for name in (*DISTANCES, "sparsity")}
    assert found == pytest.approx({"l0": 2, "l1": 2.5, "l2": 4.25**0.5, "linf": 2, "sparsity": 0.5}, rel=1e-5)
    assert of("l2", squared=True) == pytest.approx(4.25)
    assert of("l2", squared=True, per_feature=True) == pytest.approx(4.25 / 4)
    assert of("l2", per_feature=True) == pytest.approx((4.25 / 4) ** 0.5)
    assert of("l1", per_feature=True) == pytest.approx(2.5 / 4, rel=1e-5)
    assert of("l0", atol=1e-7) == 3 and of("sparsity", atol=1.0) == 0.75


def test_no_change_is_no_distance():
    for name in DISTANCES:
        assert judged(name, None, X, X) == 0
    assert judged("sparsity", None, X, X) == 1
    assert judged("redundancy", identity, X, X, 3) == 0
    assert violations(X, Frozen(np.arange(4) == 0)) == 0


def test_scales_divide():
    of = lambda name, scale: judged(name, None, X, COUNTERFACTUAL, scale=scale)
    scale = np.float32([1, 0.25, 4, 1])
    assert of("l1", scale) == pytest.approx(2 + 0.5, rel=1e-5)
    assert of("linf", scale) == pytest.approx(2)
    assert of("l2", 2.0) == pytest.approx(4.25**0.5 / 2)


def test_mad_is_scipys_and_one_where_it_vanishes():
    examples = np.random.default_rng(0).gamma(2.0, size=(31, 5)).astype(np.float32)
    examples[:, 2] = np.where(np.arange(31) < 4, 7, 3)
    expected = stats.median_abs_deviation(examples, axis=0)
    assert expected[2] == 0
    assert np.allclose(mad(examples), np.where(expected == 0, 1, expected), rtol=1e-6)
    with pytest.raises(ValueError, match="examples must be"):
        mad(np.zeros((0, 3), np.float32))


def test_validity_is_the_arg_max_and_strict_validity_a_probability():
    """Softmax of logits log (1, 2, 1) is (¼, ½, ¼)."""
    v = np.log(np.float32([1, 2, 1]))
    valid = lambda t, f=identity: judged("validity", f, v, v, t)
    strict = lambda t, threshold, f=identity: judged("strict_validity", f, v, v, t, threshold=threshold)
    assert valid(1) == 1 and valid(0) == 0
    assert strict(1, 0.49) == 1 and strict(1, 0.51) == 0
    # A third of the probability can be the most, and less than a half the largest: strict validity asks another question.
    assert strict(0, 0.25 - 1e-6) == 1
    assert np.isnan(valid(1, SPOILT)) and np.isnan(strict(1, 0.5, SPOILT))


def test_success_does_not_ask_the_model():
    v = np.float32([0, 1])
    assert judged("success", identity, v, v, 0) == 1 and judged("success", identity, v, np.float32([np.nan, 1]), 0) == 0


def test_oracle_agreement_is_given_success():
    """f takes the first for class 1, and the oracle, its negative, all for the other."""
    v, w = np.float32([0, 1]), np.float32([1, 0])
    opposite = jax.tree_util.Partial(jnp.negative)
    agree = lambda w, oracle, **options: judged("oracle_agreement", identity, v, w, 1, oracle=oracle, **options)
    assert agree(v, identity) == 1 and agree(v, opposite) == 0 and np.isnan(agree(w, opposite))
    assert agree(w, opposite, valid_only=False) == 1
    with pytest.raises(ValueError, match="oracle must have the classes of f"):
        agree(w, jax.tree_util.Partial(lambda x: jnp.zeros(3)))


def test_transfer_validity_is_the_mean_validity_of_the_models():
    _, counterfactual, target = toys.pairs()
    models = [toys.model(seed) for seed in range(5)]
    stack, target = toys.stacked(models), np.asarray(target)
    expected = np.mean([toys.logits(m, counterfactual).argmax(1) == target for m in models], 0)
    for v, t, share in zip(np.asarray(counterfactual), target, expected):
        assert judged("transfer_validity", models[0], v, v, t, models=stack) == pytest.approx(share)


def test_transfer_validity_of_networks():
    """Of `nnx` modules made by `vmap`."""
    make = nnx.vmap(lambda key: MLP(toys.SIZE, (8,), 3, rngs=nnx.Rngs(key)), in_axes=0, out_axes=0)
    models, (x, counterfactual, target) = make(jax.random.split(jax.random.key(0), 4)), toys.pairs()
    x, v, t = (np.asarray(rows)[0] for rows in (x, counterfactual, target))
    graph, state = nnx.split(models)
    single = [nnx.merge(graph, jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], state)) for i in range(4)]
    expected = np.mean([judged("validity", m, x, v, t) for m in single])
    assert judged("transfer_validity", single[0], x, v, t, models=models) == pytest.approx(expected)


@pytest.mark.parametrize("models", [identity, {"w": np.zeros(()), "f": identity}, [np.zeros(2), np.zeros(3)], [np.zeros((0, 2))]])
def test_models_that_are_not_stacked_are_refused(models):
    with pytest.raises(ValueError, match="models must be models with their arrays stacked"):
        metrics.transfer_validity(identity, X, X, 1, models=models)


def loop_redundancy(f, x, counterfactual, target, atol=1e-5):
    """CARLA's loop over a vector."""
    count = 0
    for j in np.flatnonzero(abs(counterfactual - x) > atol):
        back = counterfactual.copy()
        back[j] = x[j]
        count += int(toys.logits(f, back[None])[0].argmax() == target)
    return count


def test_redundancy_is_a_loop_over_changed_features_at_any_chunk():
    f, (x, counterfactual, target) = toys.model(), map(np.asarray, toys.pairs(12))
    expected = [loop_redundancy(f, *row) for row in zip(x, counterfactual, target)]
    assert len(set(expected)) > 2
    for chunk in (None, 4):
        assert [judged("redundancy", f, *row, chunk=chunk) for row in zip(x, counterfactual, target)] == expected
    # Whole counts when everything is redundant, zero when the last change was needed.
    always, sums = (
        toys.Weighted(np.float32([np.zeros(toys.SIZE), w]), np.float32(b)) for w, b in ((np.zeros(toys.SIZE), (0, 1)), (np.ones(toys.SIZE), (5.5, 0)))
    )
    zero = np.zeros(toys.SIZE, np.float32)
    assert judged("redundancy", always, x[0], x[0] + 1, 1, chunk=4) == toys.SIZE
    assert judged("redundancy", sums, zero, zero + 1, 1, chunk=4) == 0


def test_redundancy_of_images_goes_by_position_or_segment():
    """The class is 1 where the first channel sums to more than ½; two of four pixels change, each by more than that."""
    x = np.zeros((2, 2, 3), np.float32)
    counterfactual = x.copy()
    counterfactual[0, 0], counterfactual[1, 1, 0] = 1, 1
    f = jax.tree_util.Partial(lambda v: jnp.array([0.5, v[..., 0].sum()]))
    of = lambda **options: judged("redundancy", f, x, counterfactual, 1, **options)
    assert of() == 2
    assert of(grid=(2, 1)) == 2 and of(grid=1) == 0
    traced = lambda labels: of(segments=np.array(labels), num_segments=3)
    assert traced([[0, 1], [1, 0]]) == 0 and traced([[0, 1], [1, 2]]) == 2
    known = jax.jit(lambda v: metrics.redundancy(f, x, v, 1, segments=np.array([[0, 1], [1, 0]])))  # labels that are no data need no num_segments
    assert known(counterfactual) == 0


def test_redundancy_makes_as_many_passes_as_there_are_changes():
    calls = [0]

    def counting(v):
        jax.debug.callback(lambda _: calls.__setitem__(0, calls[0] + 1), v[0])
        return jnp.stack([v.sum(), v[0]])

    counterfactual = np.isin(np.arange(50), [3, 20, 41]).astype(np.float32)
    jax.jit(lambda v: metrics.redundancy(counting, jnp.zeros(50), v, 0, chunk=1))(counterfactual).block_until_ready()
    jax.effects_barrier()
    assert calls[0] == 3


def violations(v, *constraints, x=X):
    count = jax.jit(lambda x, v: metrics.constraint_violations(None, x, v, None, constraints=constraints))
    return float(count(x, np.float32(v)))


def test_constraint_violations_are_the_entries_that_must_move():
    assert violations(COUNTERFACTUAL, Frozen(np.array([True, False, True, True]))) == 1
    assert violations(COUNTERFACTUAL, Range(0.5, 2.0)) == 3
    assert violations(COUNTERFACTUAL, Monotone(np.array([1, 1, 1, 1]))) == 1 and violations(COUNTERFACTUAL, Monotone(np.array([0, 0, -1, 0]))) == 0
    assert violations(COUNTERFACTUAL, Near(2.1, p=2.0)) == 0 and violations(COUNTERFACTUAL, Near(1.0, p=2.0)) == 2
    # An entry that breaks two constraints counts once.
    assert violations(COUNTERFACTUAL, Range(0.5, 2.0), Monotone(np.ones(4))) == 3
    one_hot = np.float32([1, 0, 0, 5])
    assert violations([0, 0, 1, 5], OneHot(((0, 1, 2),)), x=one_hot) == 0
    assert violations([0, 0.4, 0.6, 5], OneHot(((0, 1, 2),)), x=one_hot) == 2
    assert violations([1, 0, 0, 4.6], Ordinal(3, (4.0, 5.0)), x=one_hot) == 1


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("l0", {"atol": -1.0}, "atol=-1.0 must lie in"),
        ("l1", {"scale": 0.0}, "scale=0.0 must lie in"),
        ("l2", {"scale": np.ones(3, np.float32)}, r"scale of shape \(3,\) must broadcast"),
        ("linf", {"scale": np.ones((2, 4), np.float32)}, r"scale of shape \(2, 4\) must broadcast"),
        ("redundancy", {"chunk": 0}, "chunk=0"),
        ("strict_validity", {"threshold": 0.0}, "threshold=0.0 must lie in"),
        ("constraint_violations", {"constraints": ()}, r"constraints=\(\) must hold a constraint"),
        ("constraint_violations", {"constraints": (1,)}, r"constraints\[0\] must be a constraint"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(identity, X, COUNTERFACTUAL, 1, **options)
