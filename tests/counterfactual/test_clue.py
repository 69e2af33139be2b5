"""CLUE, δ-CLUE, ∇-CLUE and GLAM-CLUE on a plane whose uncertain region is known."""

import jax
import numpy as np
import pytest
import scipy.special
from jax.tree_util import Partial
from latent_toys import Disc, Ensemble, Linear, each_alone, linear_model, same

from jxai.counterfactual import run
from jxai.counterfactual.clue import clue, delta_clue, nabla_clue
from jxai.counterfactual.diversity import apd, diversity, dpp
from jxai.counterfactual.glam import fit_glam, glam_clue
from jxai.uncertainty.predictive import predictive

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
PLANE = Linear(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
# Uncertain on the unit circle; the point below lies on it, the nearest certain points lie along its radius.
DISC, ON = Disc(np.zeros(2, np.float32)), np.float32([0.9, 0.0])
KEY = jax.random.key(0)
ROOMY = dict(generator=PLANE, clip=None, steps=150, learning_rate=0.03)
ENSEMBLE = Ensemble(RNG.normal(size=(7, 3, 2)).astype(np.float32))
MEAN = Partial(lambda w, x: w.mean(0) @ x, ENSEMBLE.weights)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def parts(logits):
    """The uncertainties of members' logits `[S, K]` by their definitions."""
    p = scipy.special.softmax(np.asarray(logits, np.float64), 1)
    total, aleatoric = entropy(p.mean(0)), entropy(p).mean()
    return {"total": total, "aleatoric": aleatoric, "epistemic": total - aleatoric}


def disc(x):
    """`DISC` in NumPy."""
    logit = 4 * ((np.asarray(x) ** 2).sum(-1) - 1)
    return np.stack([np.zeros_like(logit), logit], -1)


def found_by(method, f=DISC, x=ON, key=None, **options):
    """The method, compiled whole."""
    return jax.tree.map(np.asarray, jax.jit(lambda f, x, key: method(f, x, None, key, **options))(f, x, key))


def test_the_parts_of_the_uncertainty_are_those_of_the_definition():
    logits = RNG.normal(size=(7, 4)).astype(np.float32)
    kinds = ("total", "aleatoric", "epistemic")
    predict = jax.jit(lambda logits: [predictive(logits, kind) for kind in kinds])
    assert np.allclose(predict(logits), [parts(logits)[kind] for kind in kinds], atol=1e-5)
    assert abs(predict(np.broadcast_to(logits[:1], (7, 4)))[2]) < 1e-6
    assert np.isfinite(predict(np.broadcast_to(np.float32([1e4, -1e4, 0, 0]), (7, 4)))[0])


def test_the_way_to_certainty_is_along_the_radius():
    found = found_by(clue, proximity=0.1, **ROOMY)
    before, after = (parts(v[None])["total"] for v in (disc(ON), found.logits))
    assert found.valid and after < 0.3 * before and abs(found.x[1]) < 0.03
    assert np.allclose(found.logits, disc(found.x), atol=1e-5) and np.allclose(found.latent, found.x)


def test_the_objective_is_least_where_the_price_of_distance_is_what_the_entropy_gains():
    price = 0.5
    line = np.linspace(-1.5, 2.5, 4001)
    logits = 4 * (line**2 - 1)
    p = 1 / (1 + np.exp(-logits))
    values = entropy(np.clip(np.stack([p, 1 - p], 1), 1e-12, 1)) + price * np.abs(line - 0.9)
    near = (line > 0) & (line < 0.95)  # the slope at 0.9 leads inwards
    found = found_by(clue, distance="l1", proximity=price, tolerance=0.0, **{**ROOMY, "steps": 400, "learning_rate": 0.01})
    logit = 4 * (float(found.x[0]) ** 2 - 1)
    q = 1 / (1 + np.exp(-logit))
    value = entropy(np.asarray([q, 1 - q])) + price * abs(float(found.x[0]) - 0.9)
    assert value < values[near].min() + 0.03


def test_thresholds_prices_and_the_plateau():
    strict = found_by(clue, threshold=1e-9, **{**ROOMY, "steps": 5})
    assert not strict.valid and np.isfinite(strict.x).all()
    assert found_by(clue, threshold=0.2, proximity=0.1, **ROOMY).valid
    # A high price on the code, or on another prediction, keeps the point where it is.
    for options in ({"latent": 1e3}, {"prediction": 1e3}):
        held = found_by(clue, proximity=0.0, **options, **{**ROOMY, "learning_rate": 1e-3})
        assert np.abs(held.x - ON).max() < 0.03
    # With nothing to gain the objective is level, and the search ends after the paper's three steps.
    level = found_by(clue, f=Partial(lambda w, x: w, np.zeros(3, np.float32)), proximity=0.0, **ROOMY)
    assert not level.valid and level.steps == 3


@pytest.mark.parametrize("kind", [pytest.param("total", marks=pytest.mark.slow), "aleatoric", "epistemic"])
def test_an_ensemble_is_made_certain_in_the_sense_asked_for(kind):
    x = np.float32([0.4, -0.3])
    found = found_by(clue, f=MEAN, x=x, members=ENSEMBLE, uncertainty=kind, proximity=0.0, **ROOMY)
    assert found.valid and parts(ENSEMBLE.weights @ found.x)[kind] < parts(ENSEMBLE.weights @ x)[kind]
    assert np.allclose(found.logits, ENSEMBLE.weights.mean(0) @ found.x, atol=1e-5)


def test_restarts_in_the_ball_stay_in_it_and_find_both_ways():
    radius = 0.45
    found = run(delta_clue.search(radius=radius, proximity=0.0, tolerance=0.0, **ROOMY), DISC, ON[None], None, KEY, restarts=24)
    far = np.linalg.norm(found.latent[0] - ON, axis=1)
    assert (far <= radius + 1e-5).all() and (far > 0.9 * radius).any() and found.valid.all()
    classes = found.logits[0].argmax(1)
    assert set(classes) == {0, 1}
    # The certain points of the ball are at its border on either side, one mode for each class.
    ends = np.asarray(found.x)[0]
    assert (ends[classes == 0, 0] < 0.6).any() and (ends[classes == 1, 0] > 1.2).any()
    wide_ball = found_by(delta_clue, key=KEY, radius=2.0, **ROOMY)
    assert np.linalg.norm(wide_ball.latent - ON) > radius


@pytest.mark.parametrize("kind", ["dpp", "apd"])
def test_diversities_have_their_closed_forms_and_gradients(kind):
    def formula(points):
        d = np.linalg.norm(points[:, None] - points[None], axis=-1)
        return np.linalg.det(1 / (1 + d) + 1e-4 * np.eye(4)) if kind == "dpp" else d[np.triu_indices(4, 1)].mean()

    points = RNG.normal(size=(4, 3)).astype(np.float32)
    # Under vmap the whole set is one determinant still, and points that coincide have a finite gradient.
    value_and_slope = jax.jit(jax.vmap(jax.value_and_grad(lambda v: diversity(v, kind))))
    values, slopes = map(np.asarray, value_and_slope(np.stack([points, 2 * points, 0 * points])))
    assert np.allclose(values, [formula(points), formula(2 * points), 0], atol=1e-5) and np.isfinite(slopes).all()
    exact = points.astype(np.float64)
    for i, j in [(0, 0), (1, 2), (3, 1)]:
        bump = np.zeros((4, 3))
        bump[i, j] = 1e-4
        numeric = (formula(exact + bump) - formula(exact - bump)) / 2e-4
        assert abs(numeric) > 1e-3 and abs(slopes[0, i, j] - numeric) < 1e-3 * abs(numeric) + 1e-4


def test_diversities_by_name():
    points = RNG.normal(size=(4, 3)).astype(np.float32)
    named, plain, single = jax.jit(lambda v: ([diversity(v, kind) for kind in ("dpp", "apd")], [dpp(v), apd(v)], apd(v[:1])))(points)
    assert np.array_equal(named, plain) and single == 0


@pytest.mark.parametrize("kind", ["dpp", pytest.param("apd", marks=pytest.mark.slow)])
def test_a_joint_set_is_more_diverse_than_the_same_points_apart(kind):
    options = dict(num_counterfactuals=3, diversity=kind, proximity=0.0, tolerance=0.0, **{**ROOMY, "steps": 40})

    @jax.jit
    def joint(weight):
        found = nabla_clue(DISC, ON, None, KEY, diversity_weight=weight, **options)
        return found, diversity(found.x, kind)

    (together, much), (_, little) = joint(np.float32(1)), joint(np.float32(0))
    assert together.x.shape == (3, 2) and together.logits.shape == (3, 2) and together.valid.shape == (3,)
    assert np.asarray(together.valid).all() and much > little + 0.05
    assert np.allclose(together.logits, disc(together.x), atol=1e-5)


def group_means(latents, groups, num):
    return np.stack([latents[groups == g].mean(0) for g in range(num)])


def test_a_learned_translation_makes_its_group_certain_in_one_call():
    f = linear_model(2, 2, 4, 2.0)
    weights, bias = np.asarray(f.weights), np.asarray(f.bias)
    normal = weights[1] - weights[0]
    # Points about the boundary, of both predicted classes.
    foot = -normal * (bias[1] - bias[0]) / (normal @ normal)
    examples = (foot + RNG.normal(size=(40, 2)) * 0.2).astype(np.float32)
    groups = (examples @ weights.T + bias).argmax(1)
    shifts = np.asarray(fit_glam(f, PLANE, examples, groups, 2, sparsity=0.01, clip=None))
    assert shifts.shape == (2, 2)
    # Each is led away from the boundary, to its own side, and the sparse one along the axis on which the logits change faster.
    assert shifts[0] @ normal < -0.1 and shifts[1] @ normal > 0.1
    steep = np.abs(normal).argmax()
    sparse = np.asarray(fit_glam(f, PLANE, examples, groups, 2, sparsity=0.1, steps=400, clip=None))
    assert (np.abs(sparse[:, 1 - steep]) < 0.05).all() and (np.abs(sparse[:, steep]) > 0.1).all()
    found = run(glam_clue.search(generator=PLANE, translations=shifts, clip=None), f, examples, None)
    assert (found.steps == 0).all() and found.valid.mean() > 0.9
    assert np.allclose(found.x, examples + shifts[groups], atol=1e-5)
    same(jax.tree.map(lambda leaf: leaf[1], found), found_by(glam_clue, f=f, x=examples[1], generator=PLANE, translations=shifts, clip=None))


def test_a_translation_begins_at_the_difference_of_the_groups_means():
    f = linear_model(2, 2, 4)
    examples, certain = ((RNG.normal(size=(20, 2)) + at).astype(np.float32) for at in (0, 3))
    groups, certain_groups = np.arange(20) % 2, np.arange(20) // 10
    shifts = fit_glam(f, PLANE, examples, groups, 2, certain=certain, certain_groups=certain_groups, steps=0, clip=None)
    expected = group_means(certain, certain_groups, 2) - group_means(examples, groups, 2)
    assert np.allclose(shifts, expected, atol=1e-5)


@pytest.mark.parametrize("method", [pytest.param(clue, marks=pytest.mark.slow), delta_clue, nabla_clue])
def test_batched_equals_one_at_a_time(method):
    own = {clue: {"sigma": 0.1}, delta_clue: {"radius": 0.3}, nabla_clue: {"num_counterfactuals": 3}}[method]
    options = {**own, **ROOMY, "steps": 20, "tolerance": 0.0}
    x = RNG.uniform(0.4, 0.9, (4, 2)).astype(np.float32)
    found = run(method.search(**options), DISC, x, None, KEY, batch_size=2, block=6)
    each_alone(found, lambda v, i: method(DISC, v, None, jax.random.fold_in(KEY, i), **options), x, np.arange(4))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (clue, {"uncertainty": "epistemic"}, "needs members"),
        (clue, {"uncertainty": "none"}, "uncertainty='none' must be one of"),
        (clue, {"members": DISC}, r"members\(x\) must be logits \[S, 2\]"),
        (clue, {"members": ENSEMBLE}, r"got shape \(7, 3\)"),
        (clue, {"distance": "l3"}, "distance='l3'"),
        (clue, {"proximity": -1.0}, "proximity=-1.0"),
        (clue, {"sigma": -1.0}, "sigma=-1.0"),
        (clue, {"tolerance": -1.0}, "tolerance=-1.0"),
        (clue, {"sigma": 1.0}, "key=None"),
        (delta_clue, {"radius": 0.0}, "radius=0.0"),
        (delta_clue, {"radius": 1.0}, "key=None"),
        (nabla_clue, {}, "key=None"),
        (nabla_clue, {"diversity": "mmd"}, "diversity='mmd'"),
        (nabla_clue, {"num_counterfactuals": 0}, "num_counterfactuals=0"),
        (glam_clue, {"translations": np.zeros((3, 2))}, r"translations must have shape \[2, 2\]"),
    ],
)
def test_bad_options_are_named(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(DISC, ON, None, generator=PLANE, **options)


def test_a_target_and_bad_groups_are_refused():
    for method, options in ((clue, {}), (glam_clue, {"translations": np.zeros((2, 2))})):
        with pytest.raises(ValueError, match="target=1 must be None"):
            method(DISC, ON, 1, generator=PLANE, **options)
    with pytest.raises(ValueError, match="groups"):
        fit_glam(DISC, PLANE, ON[None], np.asarray([2]), 2)
    with pytest.raises(ValueError, match="groups has no example of 1"):
        fit_glam(DISC, PLANE, ON[None], np.asarray([0]), 2)
    with pytest.raises(ValueError, match="certain and certain_groups"):
        fit_glam(DISC, PLANE, ON[None], np.asarray([0]), 1, certain=ON[None])
