"""One exact model for all: f(x) = w · x + b, whose true attribution of every entry is w · x. And Quantus's known defects, which we do not have."""

import functools
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
X = RNG.uniform(0.3, 1, SHAPE).astype(np.float32)
W = RNG.permutation(np.linspace(-1, 1, 36)).reshape(SHAPE).astype(np.float32)
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


OTHERS = [TRUTH.ravel()[RNG.permutation(36)].reshape(SHAPE) for _ in range(30)] + [RNG.normal(size=SHAPE).astype(np.float32) for _ in range(10)]


@functools.cache
def judged(name):
    """What the metric says of the truth, its reverse and forty other maps: one program."""
    judge = jax.vmap(lambda f, x, a: getattr(metrics, name)(f, x, 0, a, KEY, **OPTIONS.get(name, {})), (None, None, 0))
    return jax.tree.map(np.asarray, jax.jit(judge)(F, X, np.stack([TRUTH, -TRUTH, *OTHERS])))


def values(name):
    out = judged(name)
    return out.auc if isinstance(out, Curve) else out


@pytest.mark.parametrize("name", FAITHFULNESS)
def test_the_truth_is_best_and_its_reverse_worst(name):
    truth, turned, *rest = direction(getattr(metrics, name)) * values(name)
    tolerance = 1e-5 * np.abs([truth, turned, *rest]).max()
    assert all(truth >= other - tolerance for other in rest), (truth, max(rest))
    if name == "non_sensitivity":
        return  # the reverse is zero where the truth is
    assert truth > turned + tolerance
    if name not in ("infidelity", "completeness_error", "completeness_score"):  # a random map can be further off than the reverse
        assert all(turned <= other + tolerance for other in rest), (turned, min(rest))


@pytest.mark.parametrize("name", PERFECT)
def test_the_truths_value_is_the_perfect_one(name):
    assert values(name)[0] == pytest.approx(PERFECT[name], abs=2e-5)
    if name in WORST:
        assert values(name)[1] == pytest.approx(WORST[name], abs=2e-5)


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
    good = np.float32([-1, 1, 2, 3, 4, 5])  # increasing order: the gate first
    score = jax.jit(jax.vmap(lambda a: metrics.monotonicity(gated, np.ones(6, np.float32), 0, a, score="logit")))
    scores = np.asarray(score(np.stack([good, -good])))
    assert scores[0] == 1 and scores[1] < 0.5


def test_2_completeness_is_a_number_that_survives_rounding():
    error = jax.jit(jax.vmap(lambda a: metrics.completeness_error(F, X, 0, a)))
    errors = np.asarray(error(np.stack([TRUTH, TRUTH + np.float32(1e-7), 2 * TRUTH])))
    assert errors[0] < 1e-5 and errors[1] < 1e-4
    assert errors[2] == pytest.approx(abs(float(TRUTH.sum())), rel=1e-4)


def test_3_sensitivity_n_is_one_at_every_size():
    ranked = jax.jit(lambda x, a: metrics.sensitivity_n(F, x, 0, a, KEY, subsets="ranked"))(X, TRUTH)
    assert np.allclose(judged("sensitivity_n").y[0], 1, atol=1e-4) and np.allclose(np.asarray(ranked.y)[1:], 1, atol=1e-4)


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(6, marks=pytest.mark.slow)])
def test_4_localisation_does_not_depend_on_the_batch(n):
    mask = np.zeros((n, 4, 4), bool)
    mask[:, :2, :2] = True
    shares = each(metrics.energy_pointing, F, np.ones((n, 4, 4, 1), np.float32), None, np.ones((n, 4, 4, 1), np.float32), per_example={"mask": mask})
    assert np.allclose(shares, 0.25)


def test_5_what_is_removed_is_what_is_said():
    """An image without black pixels: 0 is 0, not the darkest pixel, and the default of an exact linear model is exactly 1."""
    bright = X + 0.5
    score = lambda x, a: [metrics.faithfulness_correlation(F, x, 0, a, KEY, **options) for options in ({}, {"fill": Mean()})]
    zero, mean = jax.jit(score)(bright, W * bright)
    assert float(zero) == pytest.approx(1, abs=1e-5) and float(mean) < 1 - 1e-4


def test_6_areas_do_not_grow_with_the_number_of_steps():
    areas = np.asarray(jax.jit(lambda x, a: [metrics.deletion(F, x, 0, a, steps=n, score="probability").auc for n in (6, 36)])(X, TRUTH))
    assert np.ptp(areas) < 0.05 and 0 < min(areas) and max(areas) < 1


def test_7_areas_are_the_trapezoid_rule():
    curve = judged("deletion")
    assert np.allclose(curve.auc, np.trapezoid(curve.y, curve.x, axis=1), rtol=1e-5, atol=1e-5)


def test_8_a_deterministic_perturbation_is_evaluated_once():
    passes = [0]

    def counted(x):
        jax.debug.callback(lambda _: passes.__setitem__(0, passes[0] + 1), x.ravel()[0])
        return linear(W, x)

    jax.block_until_ready(jax.jit(lambda a: metrics.infidelity(counted, X, 0, a, sizes=3, num_samples=50, chunk=1))(TRUTH))
    jax.effects_barrier()
    assert passes[0] == 1 + 4
