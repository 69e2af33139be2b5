"""One exact model for all: f(x) = w · x + b, whose true attribution of every entry is w · x. And Quantus's known defects, which we do not have."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import each, metrics
from jxai.fills import Mean
from jxai.metrics.documented import direction
from jxai.typing import Curve

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
SHAPE = (6, 6, 1)
X = jnp.asarray(RNG.uniform(0.3, 1, SHAPE), jnp.float32)
W = jnp.asarray(RNG.permutation(np.linspace(-1, 1, 36)).reshape(SHAPE), jnp.float32)
TRUTH = W * X
KEY = jax.random.key(0)


def linear(weights, x):
    return jnp.stack([(weights * x).sum(), jnp.float32(0.3)])


F = jax.tree_util.Partial(linear, W)
OPTIONS = {
    "aopc": {"fill": 0.0, "grid": 6},
    "selectivity": {"grid": 6},
    "irof": {"grid": 6, "fill": 0.0},
    "road": {"fill": 0.0, "score": "logit"},
    "deletion": {"score": "logit"},
    "insertion": {"score": "logit", "fill": 0.0},
    "comprehensiveness": {"score": "logit"},
    "sufficiency": {"score": "logit"},
    "mu_fidelity": {"grid": 6},
    "faithfulness_estimate": {"score": "logit"},
    "completeness_score": {"fill": 0.0},
    "soundness_score": {"fill": 0.0},
}
# The true attribution's value, where it is a number that does not depend on the model.
PERFECT = {
    "mu_fidelity": 1.0,
    "faithfulness_correlation": 1.0,
    "faithfulness_estimate": 1.0,
    "sensitivity_n": 1.0,
    "infidelity": 0.0,
    "completeness_error": 0.0,
    "non_sensitivity": 0.0,
}
# And of the reversed attribution, where that is known too.
WORST = {"mu_fidelity": -1.0, "faithfulness_correlation": -1.0, "faithfulness_estimate": -1.0, "sensitivity_n": -1.0}
FAITHFULNESS = ("aopc", "selectivity", "irof", "road", "deletion", "insertion", "comprehensiveness", "sufficiency", "completeness_score", *PERFECT)


def value(name, attribution, **options):
    out = getattr(metrics, name)(F, X, 0, attribution, KEY, **{**OPTIONS.get(name, {}), **options})
    return out.auc if isinstance(out, Curve) else out


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_the_truth_is_best_and_its_reverse_worst(name):
    judge = jax.jit(jax.vmap(lambda a: value(name, a)))
    others = [TRUTH.ravel()[RNG.permutation(36)].reshape(SHAPE) for _ in range(30)] + [jnp.asarray(RNG.normal(size=SHAPE), jnp.float32) for _ in range(10)]
    truth, turned, *rest = direction(getattr(metrics, name)) * np.asarray(judge(jnp.stack([TRUTH, -TRUTH, *others])))
    tolerance = 1e-5 * np.abs([truth, turned, *rest]).max()
    assert all(truth >= other - tolerance for other in rest), (truth, max(rest))
    if name == "non_sensitivity":
        return  # the reverse is zero where the truth is
    assert truth > turned + tolerance
    if name not in ("infidelity", "completeness_error", "completeness_score"):  # a random map can be further off than the reverse
        assert all(turned <= other + tolerance for other in rest), (turned, min(rest))


@pytest.mark.parametrize("name", PERFECT)
def test_the_truths_value_is_the_perfect_one(name):
    assert float(value(name, TRUTH)) == pytest.approx(PERFECT[name], abs=2e-5)
    if name in WORST:
        assert float(value(name, -TRUTH)) == pytest.approx(WORST[name], abs=2e-5)


def test_every_faithfulness_metric_is_here_or_says_why_not():
    families = ("curves", "road", "rationales", "intrinsic", "information", "subsets", "axioms", "infidelity")
    of = {name for name in metrics.__all__ if inspect.getmodule(getattr(metrics, name)).__name__.rsplit(".", 1)[-1] in families}
    elsewhere = {
        "average_drop": "multiplies x by the map's magnitude: best is the map that keeps most",
        "average_gain": "the same",
        "average_increase": "the same",
        "monotonicity": "all orders of positive terms are monotone; tested below on a model where order matters",
        "monotonicity_correlation": "about magnitudes; a closed form is in test_axioms",
        "performance_information_curve": "about image information; in test_information",
        "soundness_score": "about labels that are not predicted; in test_rationales",
    }
    assert of == set(FAITHFULNESS) | set(elsewhere)


# Quantus's defects, by their number in the list that this library was built against.


def gated(x):
    """Entry 0 opens the others, which count by their index: joining them before it lowers nothing and raises nothing."""
    return jnp.stack([x[0] * (x[1:] * jnp.arange(1.0, 6.0)).sum() - 0.1 * (1 - x[0]) * x[1:].sum(), jnp.float32(0)])


def test_1_monotonicity_tells_orders_apart():
    x = jnp.ones(6)
    good = jnp.asarray([-1.0, 1, 2, 3, 4, 5])  # increasing order: the gate first
    scores = [float(metrics.monotonicity(gated, x, 0, a, score="logit")) for a in (good, -good)]
    assert scores[0] == 1 and scores[1] < 0.5


def test_2_completeness_is_a_number_that_survives_rounding():
    errors = [float(metrics.completeness_error(F, X, 0, a)) for a in (TRUTH, TRUTH + 1e-7, 2 * TRUTH)]
    assert errors[0] < 1e-5 and errors[1] < 1e-4
    assert errors[2] == pytest.approx(abs(float(TRUTH.sum())), rel=1e-4)


def test_3_sensitivity_n_is_one_at_every_size():
    for subsets in ("random", "ranked"):
        curve = metrics.sensitivity_n(F, X, 0, TRUTH, KEY, subsets=subsets)
        assert np.allclose(curve.y[1:] if subsets == "ranked" else curve.y, 1, atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_4_localisation_does_not_depend_on_the_batch(n):
    mask = np.zeros((n, 4, 4), bool)
    mask[:, :2, :2] = True
    shares = each(metrics.energy_pointing, F, np.ones((n, 4, 4, 1), np.float32), None, np.ones((n, 4, 4, 1), np.float32), per_example={"mask": mask})
    assert np.allclose(shares, 0.25)


def test_5_what_is_removed_is_what_is_said():
    """An image without black pixels: 0 is 0, not the darkest pixel, and the default of an exact linear model is exactly 1."""
    bright = X + 0.5
    assert float(metrics.faithfulness_correlation(F, bright, 0, W * bright, KEY)) == pytest.approx(1, abs=1e-5)
    assert float(metrics.faithfulness_correlation(F, bright, 0, W * bright, KEY, fill=Mean())) < 1 - 1e-4


def test_6_areas_do_not_grow_with_the_number_of_steps():
    areas = [float(metrics.deletion(F, X, 0, TRUTH, steps=n).auc) for n in (6, 12, 36)]
    assert np.ptp(areas) < 0.05 and 0 < min(areas) and max(areas) < 1


def test_7_areas_are_the_trapezoid_rule():
    curve = metrics.deletion(F, X, 0, TRUTH, steps=9, score="logit")
    assert float(curve.auc) == pytest.approx(np.trapezoid(curve.y, curve.x), rel=1e-5)


def test_8_a_deterministic_perturbation_is_evaluated_once():
    passes = [0]

    def counted(x):
        jax.debug.callback(lambda _: passes.__setitem__(0, passes[0] + 1), x.ravel()[0])
        return linear(W, x)

    jax.block_until_ready(jax.jit(lambda a: metrics.infidelity(counted, X, 0, a, sizes=3, num_samples=50, chunk=1))(TRUTH))
    jax.effects_barrier()
    assert passes[0] == 1 + 4
