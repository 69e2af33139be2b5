"""Validity, distances, redundancy and violations of counterfactuals, against hand-made cases and NumPy."""

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

X, COUNTERFACTUAL = jnp.array([0.0, 1.0, 2.0, 3.0]), jnp.array([0.0, 1.5, 0.0, 3.0 + 5e-6])
DISTANCES = ("l0", "l1", "l2", "linf")


def identity(x):
    return x


def test_distances_of_a_known_change():
    """The change is (0, ½, −2, 5e-6), the last too small to count as one."""
    found = {name: float(getattr(metrics, name)(None, X, COUNTERFACTUAL, None)) for name in (*DISTANCES, "sparsity")}
    assert found == pytest.approx({"l0": 2, "l1": 2.5, "l2": 4.25**0.5, "linf": 2, "sparsity": 0.5}, rel=1e-5)
    assert metrics.l2(None, X, COUNTERFACTUAL, None, squared=True) == pytest.approx(4.25)
    assert metrics.l2(None, X, COUNTERFACTUAL, None, squared=True, per_feature=True) == pytest.approx(4.25 / 4)
    assert metrics.l2(None, X, COUNTERFACTUAL, None, per_feature=True) == pytest.approx((4.25 / 4) ** 0.5)
    assert metrics.l1(None, X, COUNTERFACTUAL, None, per_feature=True) == pytest.approx(2.5 / 4, rel=1e-5)
    assert metrics.l0(None, X, COUNTERFACTUAL, None, atol=1e-7) == 3 and metrics.sparsity(None, X, COUNTERFACTUAL, None, atol=1.0) == 0.75


def test_no_change_is_no_distance():
    for name in DISTANCES:
        assert getattr(metrics, name)(None, X, X, None) == 0
    assert metrics.sparsity(None, X, X, None) == 1
    assert metrics.redundancy(identity, X, X, 3) == 0
    assert metrics.constraint_violations(None, X, X, None, constraints=(Frozen(jnp.zeros(4, bool).at[0].set(True)),)) == 0


def test_scales_divide():
    scale = jnp.array([1.0, 0.25, 4.0, 1.0])
    assert metrics.l1(None, X, COUNTERFACTUAL, None, scale=scale) == pytest.approx(2 + 0.5, rel=1e-5)
    assert metrics.linf(None, X, COUNTERFACTUAL, None, scale=scale) == pytest.approx(2)
    assert metrics.l2(None, X, COUNTERFACTUAL, None, scale=2.0) == pytest.approx(4.25**0.5 / 2)


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
    v = jnp.log(jnp.array([1.0, 2.0, 1.0]))
    assert metrics.validity(identity, v, v, 1) == 1 and metrics.validity(identity, v, v, 0) == 0
    assert metrics.strict_validity(identity, v, v, 1, threshold=0.49) == 1 and metrics.strict_validity(identity, v, v, 1, threshold=0.51) == 0
    # A third of the probability can be the most, and less than a half the largest: strict validity asks another question.
    assert metrics.strict_validity(identity, v, v, 0, threshold=0.25 - 1e-6) == 1
    assert np.isnan(metrics.validity(lambda x: x.at[0].set(jnp.nan), v, v, 1))
    assert np.isnan(metrics.strict_validity(lambda x: x.at[0].set(jnp.nan), v, v, 1))


def test_success_does_not_ask_the_model():
    v = jnp.array([0.0, 1.0])
    assert metrics.success(identity, v, v, 0) == 1 and metrics.success(identity, v, v.at[0].set(jnp.nan), 0) == 0


def test_oracle_agreement_is_given_success():
    """f takes the first for class 1, and the oracle, its negative, all for the other."""
    v, w = jnp.array([0.0, 1.0]), jnp.array([1.0, 0.0])
    opposite = jax.tree_util.Partial(jnp.negative)
    assert metrics.oracle_agreement(identity, v, v, 1, oracle=identity) == 1
    assert metrics.oracle_agreement(identity, v, v, 1, oracle=opposite) == 0
    assert np.isnan(metrics.oracle_agreement(identity, v, w, 1, oracle=opposite))
    assert metrics.oracle_agreement(identity, v, w, 1, oracle=opposite, valid_only=False) == 1
    with pytest.raises(ValueError, match="oracle must have the classes of f"):
        metrics.oracle_agreement(identity, v, w, 1, oracle=lambda x: jnp.zeros(3))


def test_transfer_validity_is_the_mean_validity_of_the_models():
    _, counterfactual, target = toys.pairs()
    models = [toys.model(seed) for seed in range(5)]
    for v, t in zip(counterfactual, target):
        expected = np.mean([metrics.validity(m, v, v, t) for m in models])
        assert metrics.transfer_validity(models[0], v, v, t, models=toys.stacked(models)) == pytest.approx(expected)


def test_transfer_validity_of_networks():
    """Of `nnx` modules made by `vmap`."""
    make = nnx.vmap(lambda key: MLP(toys.SIZE, (8,), 3, rngs=nnx.Rngs(key)), in_axes=0, out_axes=0)
    models, (x, counterfactual, target) = make(jax.random.split(jax.random.key(0), 4)), toys.pairs()
    graph, state = nnx.split(models)
    single = [nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], state)) for i in range(4)]
    expected = np.mean([metrics.validity(m, x[0], counterfactual[0], target[0]) for m in single])
    assert metrics.transfer_validity(single[0], x[0], counterfactual[0], target[0], models=models) == pytest.approx(expected)


@pytest.mark.parametrize("models", [identity, {"w": jnp.zeros(()), "f": identity}, [jnp.zeros(2), jnp.zeros(3)], [jnp.zeros((0, 2))]])
def test_models_that_are_not_stacked_are_refused(models):
    with pytest.raises(ValueError, match="models must be models with their arrays stacked"):
        metrics.transfer_validity(identity, X, X, 1, models=models)


def loop_redundancy(f, x, counterfactual, target, atol=1e-5):
    """CARLA's loop over a vector."""
    changed = [j for j in range(x.size) if abs(counterfactual[j] - x[j]) > atol]
    return sum(int(np.argmax(f(counterfactual.at[j].set(x[j]))) == target) for j in changed)


def test_redundancy_is_a_loop_over_changed_features_at_any_chunk():
    f, (x, counterfactual, target) = toys.model(), toys.pairs(12)
    expected = [loop_redundancy(f, *row) for row in zip(x, counterfactual, target)]
    assert len(set(expected)) > 2
    for chunk in (None, 1, 4):
        assert jax.vmap(lambda *row, c=chunk: metrics.redundancy(f, *row, chunk=c))(x, counterfactual, target).tolist() == expected
    # Whole counts when everything is redundant, zero when the last change was needed.
    assert metrics.redundancy(lambda v: jnp.array([0.0, 1.0]), x[0], x[0] + 1, 1) == toys.SIZE
    assert metrics.redundancy(lambda v: jnp.array([2.5, v.sum()]), jnp.zeros(3), jnp.ones(3), 1) == 0


def test_redundancy_of_images_goes_by_position_or_segment():
    """The class is 1 where the first channel sums to more than ½; two of four pixels change, each by more than that."""
    x = jnp.zeros((2, 2, 3))
    counterfactual = x.at[0, 0].set(1.0).at[1, 1, 0].set(1.0)
    f = lambda v: jnp.array([0.5, v[..., 0].sum()])
    assert metrics.redundancy(f, x, counterfactual, 1) == 2
    assert metrics.redundancy(f, x, counterfactual, 1, grid=(2, 1)) == 2 and metrics.redundancy(f, x, counterfactual, 1, grid=1) == 0
    segments = jnp.array([[0, 1], [1, 0]])
    assert metrics.redundancy(f, x, counterfactual, 1, segments=segments) == 0
    traced = jax.jit(lambda s: metrics.redundancy(f, x, counterfactual, 1, segments=s, num_segments=3))
    assert traced(segments) == 0 and traced(jnp.array([[0, 1], [1, 2]])) == 2


def test_redundancy_makes_as_many_passes_as_there_are_changes():
    calls = [0]

    def counting(v):
        jax.debug.callback(lambda _: calls.__setitem__(0, calls[0] + 1), v[0])
        return jnp.stack([v.sum(), v[0]])

    counterfactual = jnp.zeros(50).at[jnp.array([3, 20, 41])].set(1.0)
    jax.jit(lambda v: metrics.redundancy(counting, jnp.zeros(50), v, 0, chunk=1))(counterfactual).block_until_ready()
    jax.effects_barrier()
    assert calls[0] == 3


def test_constraint_violations_are_the_entries_that_must_move():
    count = lambda v, *constraints, x=X: float(metrics.constraint_violations(None, x, v, None, constraints=constraints))
    assert count(COUNTERFACTUAL, Frozen(jnp.array([True, False, True, True]))) == 1
    assert count(COUNTERFACTUAL, Range(0.5, 2.0)) == 3
    assert count(COUNTERFACTUAL, Monotone(jnp.array([1, 1, 1, 1]))) == 1 and count(COUNTERFACTUAL, Monotone(jnp.array([0, 0, -1, 0]))) == 0
    assert count(COUNTERFACTUAL, Near(2.1, p=2.0)) == 0 and count(COUNTERFACTUAL, Near(1.0, p=2.0)) == 2
    # An entry that breaks two constraints counts once.
    assert count(COUNTERFACTUAL, Range(0.5, 2.0), Monotone(jnp.ones(4))) == 3
    one_hot = jnp.array([1.0, 0.0, 0.0, 5.0])
    assert count(jnp.array([0.0, 0.0, 1.0, 5.0]), OneHot(((0, 1, 2),)), x=one_hot) == 0
    assert count(jnp.array([0.0, 0.4, 0.6, 5.0]), OneHot(((0, 1, 2),)), x=one_hot) == 2
    assert count(one_hot.at[3].set(4.6), Ordinal(3, (4.0, 5.0)), x=one_hot) == 1


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("l0", {"atol": -1.0}, "atol=-1.0 must lie in"),
        ("l1", {"scale": 0.0}, "scale=0.0 must lie in"),
        ("l2", {"scale": jnp.ones(3)}, r"scale of shape \(3,\) must broadcast"),
        ("linf", {"scale": jnp.ones((2, 4))}, r"scale of shape \(2, 4\) must broadcast"),
        ("redundancy", {"chunk": 0}, "chunk=0"),
        ("strict_validity", {"threshold": 0.0}, "threshold=0.0 must lie in"),
        ("constraint_violations", {"constraints": ()}, r"constraints=\(\) must hold a constraint"),
        ("constraint_violations", {"constraints": (1,)}, r"constraints\[0\] must be a constraint"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(identity, X, COUNTERFACTUAL, 1, **options)
