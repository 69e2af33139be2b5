"""Where scores of features go wrong in other libraries, or could: ranks, ties, empty classes, cancelling, memory, bad input."""

from __future__ import annotations

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jxai import uncertainty
from jxai.uncertainty import Head, Neighbours, formulas

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(1)
N, D, K = 200, 6, 3
LABELS = RNG.integers(0, K, N)
H = (RNG.normal(size=(N, D)) + LABELS[:, None]).astype(np.float32)
HEAD = Head(RNG.normal(size=(D, K)).astype(np.float32), RNG.normal(size=K).astype(np.float32))
Z = np.asarray(H @ HEAD.weights + HEAD.bias)
FITS = ("fdbd", "gaussian_density", "kl_matching", "knn", "mahalanobis", "nci", "nn_guide", "relation", "relative_mahalanobis", "she", "vim")


def fit(name, features=H, logits=Z, labels=LABELS, head=HEAD, **options):
    return getattr(uncertainty, f"fit_{name}")(features, logits, labels, head, **options)


@pytest.mark.parametrize("chunk", [100, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in (1, 7, 64, 200, 1000))])
def test_the_search_in_blocks_is_the_whole_one(chunk):
    bank = np.concatenate([H[:60], H[:60], H])  # each of these twice over
    known, queries = fit("knn", bank, None, None), H[:5] + RNG.normal(size=(5, D)).astype(np.float32)
    u, v = (a / np.linalg.norm(a.astype(np.float64), axis=1, keepdims=True) for a in (queries, bank))
    truth = np.sort(np.linalg.norm(u[:, None] - v[None], axis=2), 1)
    for k in (1, 13, 320):
        ours = jax.jit(jax.vmap(lambda h, k=k: formulas.knn(None, h, known, num_neighbours=k, chunk=chunk)))(queries)
        np.testing.assert_allclose(ours, truth[:, k - 1], rtol=1e-5)


def test_relations_are_summed_over_the_rows_of_a_shorter_last_block_once():
    known = fit("relation")
    whole, parts = (formulas.relation(Z[0], H[0], known, chunk=chunk) for chunk in (1000, 64))
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_a_relation_as_weak_as_the_threshold_is_dropped():
    known = fit("relation", np.float32([[1, 0]]), np.zeros((1, 2), np.float32), None)
    score = lambda threshold: formulas.relation(np.zeros(2, np.float32), np.float32([3, 0]), known, threshold=threshold)
    assert score(0.5) == 0 and score(0.499) == -0.5  # cos 1 times ⟨(½, ½), (½, ½)⟩


@pytest.mark.parametrize(("fraction", "rows"), [(0.5, 100), (0.501, 101), (0.07, 14), (0.001, 1), (1.0, 200)])
def test_a_share_of_the_bank_is_rounded_up_but_not_by_rounding(fraction, rows):
    assert fit("nn_guide", fraction=fraction).bank.shape == (rows, D)


@pytest.mark.parametrize("name", ["knn", "nn_guide", "relation"])
def test_the_memory_of_a_search_is_flat_in_the_bank(name):
    def temporaries(n):
        known = fit(name, np.tile(H, (n, 1)), np.tile(Z, (n, 1)), None)
        run = jax.jit(jax.vmap(lambda known, z, h: getattr(formulas, name)(z, h, known, chunk=100), (None, 0, 0)))
        return run.lower(known, Z[:64], H[:64]).compile().memory_analysis().temp_size_in_bytes

    small, large = temporaries(2), temporaries(40)
    assert large < small + 20_000 < 64 * 8000 * 4  # less by far than one number for each example and row


def test_a_near_neighbour_does_not_cancel():
    away = np.float32([3, 3, 3, 3, 3, 3.001])
    known = fit("knn", np.stack([np.full(6, 3, np.float32), H[0]]), None, None)
    u, v = away.astype(np.float64) / np.linalg.norm(away.astype(np.float64)), np.full(6, 6**-0.5)
    np.testing.assert_allclose(formulas.knn(None, away, known, num_neighbours=1), np.linalg.norm(u - v), rtol=1e-3)
    assert formulas.knn(None, np.full(6, 3, np.float32), known, num_neighbours=1) < 1e-7


def test_features_of_zeros_and_of_any_size():
    known = fit("knn", np.concatenate([H, np.zeros((1, D), np.float32)]), None, None)
    score = jax.jit(lambda h: formulas.knn(None, h, known, num_neighbours=2))
    assert score(jnp.zeros(D)) == pytest.approx(1)  # from all others; its own row is the nearest
    reference = score(H[3])
    for size in (1e-30, 1e30):
        np.testing.assert_allclose(score(H[3] * np.float32(size)), reference, rtol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(score))(jnp.zeros(D))).all()


@pytest.mark.parametrize("name", [name if name in ("knn", "mahalanobis") else pytest.param(name, marks=pytest.mark.slow) for name in FITS])
def test_slopes_are_finite_and_those_of_differences(name):
    known = fit(name)
    options = {"num_neighbours": 4} if name in ("knn", "nn_guide") else {}
    score = lambda h: getattr(formulas, name)(h @ HEAD.weights + HEAD.bias, h, known, **options)
    step = 1e-3 * RNG.normal(size=D).astype(np.float32)
    special = np.asarray(known.bank[0]) if hasattr(known, "bank") else H[1]
    values, slopes = map(np.asarray, jax.jit(jax.vmap(jax.value_and_grad(score)))(np.stack([H[0], H.mean(0), special, H[0] - step, H[0] + step])))
    assert np.isfinite(slopes).all()
    np.testing.assert_allclose(slopes[0] @ step, (values[4] - values[3]) / 2, rtol=0.1, atol=1e-6 * np.abs(values).max())


@pytest.mark.parametrize("kind", ["equal classes", "classes that sum to 0", "low rank"])
def test_vim_finds_the_origin_of_a_head_of_less_rank_than_it_seems(kind):
    weights = RNG.normal(size=(40, 6)).astype(np.float32)
    if kind == "equal classes":
        weights[:, 1] = weights[:, 0]
    elif kind == "classes that sum to 0":
        weights -= weights.mean(1, keepdims=True)
    else:
        weights = weights[:, :3] @ RNG.normal(size=(3, 6)).astype(np.float32)
    features, bias = RNG.normal(size=(100, 40)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
    known = uncertainty.fit_vim(features, features @ weights + bias, None, Head(weights, bias))
    rank = {"low rank": 3}.get(kind, 5)
    left, values, right = np.linalg.svd(weights.T.astype(np.float64), full_matrices=False)
    truth = -(right[:rank].T / values[:rank]) @ left[:, :rank].T @ bias
    np.testing.assert_allclose(known.origin, truth, rtol=1e-3, atol=1e-4)
    assert np.isfinite(formulas.vim(features[0] @ weights + bias, features[0], known))


def test_vim_chooses_its_dimension_as_published_and_says_where_nothing_is_left():
    assert [uncertainty.formulas.residual._principal(d) for d in (64, 768, 2048)] == [32, 512, 1000]
    flat = np.concatenate([H[:, :3], np.zeros((N, 3), np.float32)], 1)
    head = Head(np.concatenate([HEAD.weights[:3], np.zeros((3, K), np.float32)]), HEAD.bias)
    with pytest.raises(ValueError, match="dimension=4 must be less than the rank of the features"):
        fit("vim", flat, flat @ head.weights + head.bias, None, head, dimension=4)


def test_a_class_without_examples_takes_no_part():
    labels = 2 * (LABELS > 0)
    of_three, of_two = fit("mahalanobis", labels=labels), fit("mahalanobis", labels=labels // 2)
    h = H[:4] + 1
    np.testing.assert_array_equal(*(jax.vmap(lambda h, k=k: formulas.mahalanobis(None, h, k))(h) for k in (of_three, of_two)))
    assert of_three.means.shape[0] == 2 and np.isfinite(formulas.relative_mahalanobis(None, h[0], fit("relative_mahalanobis", labels=labels)))
    # All of one class: its distance, and nothing beside the background.
    one = fit("relative_mahalanobis", labels=np.zeros(N, int))
    assert abs(formulas.relative_mahalanobis(None, h[0], one)) < 1e-4
    with pytest.raises(ValueError, match="class 2 has fewer than 2 examples"):
        fit("gaussian_density", labels=LABELS % 2)


def test_directions_that_the_features_do_not_vary_in_do_not_count():
    """Dead units, and units that are the sum of others but for rounding: in float32 a precision matrix of them is noise."""
    more = np.concatenate([H, H[:, :1] + H[:, 1:2], np.zeros((N, 2), np.float32)], 1)
    few, many = fit("mahalanobis"), fit("mahalanobis", more)
    assert many.whitening.shape == (D + 3, D)
    score = jax.vmap(lambda h, known: formulas.mahalanobis(None, h, known), (0, None))
    np.testing.assert_allclose(score(more[:9], many), score(H[:9], few), rtol=1e-4)
    # Far from 0 the sum differs from its parts by more rounding.
    assert fit("mahalanobis", np.concatenate([H + 1000, H[:, :1] + H[:, 1:2] + 2000], 1)).whitening.shape == (D + 1, D)
    with pytest.raises(ValueError, match="features must vary within the classes"):
        fit("mahalanobis", np.ones((N, 2), np.float32) * LABELS[:, None].astype(np.float32))


def test_a_class_that_is_never_predicted_or_never_right():
    logits = Z.copy()
    logits[:, 2] = -50
    known = fit("kl_matching", logits=logits)
    np.testing.assert_array_equal(np.exp(known.log_probabilities[2]), [0, 0, 1])
    assert np.isfinite(formulas.kl_matching(Z[0], None, known))
    patterns = fit("she", logits=logits)
    np.testing.assert_array_equal(patterns.means[2], 0)
    assert formulas.she(np.float32([0, 0, 9]), H[0], patterns) == 0
    with pytest.raises(ValueError, match="labels must agree with the logits somewhere"):
        fit("she", labels=(Z.argmax(1) + 1) % K)


def test_probabilities_too_small_for_float32_are_kept():
    logits = np.float32([[0, -300, -5], [-300, 0, -5]])
    known = fit("kl_matching", None, logits, None)
    np.testing.assert_allclose(known.log_probabilities[:2, :2], [[0, -300], [-300, 0]], atol=0.01)
    log_p = scipy.special.log_softmax([0, -1, -5])
    truth = np.exp(log_p) @ (log_p - scipy.special.log_softmax([0, -300, -5]))
    np.testing.assert_allclose(formulas.kl_matching(np.float32([0, -1, -5]), None, known), truth, rtol=1e-4)


def test_a_class_that_is_impossible_in_the_template_and_in_the_answer_adds_nothing():
    known = fit("kl_matching", None, np.float32([[0, 1, -np.inf], [1, 0, -np.inf]]), None)
    answer = np.float32([0, 0, -np.inf])
    truth = scipy.special.rel_entr([0.5, 0.5], scipy.special.softmax([0, 1])).sum()
    np.testing.assert_allclose(formulas.kl_matching(answer, None, known), truth, rtol=1e-5)
    np.testing.assert_allclose(formulas.kl_matching(np.float32([0, 1, -200]), None, known), 0, atol=1e-6)


def test_at_the_mean_and_where_logits_tie():
    boundaries, collapse = fit("fdbd"), fit("nci")
    assert formulas.fdbd(np.ones(K, np.float32), H[0], boundaries) == 0
    assert formulas.fdbd(np.ones(K, np.float32), np.asarray(boundaries.mean), boundaries) == 0
    np.testing.assert_allclose(formulas.nci(Z[0], np.asarray(collapse.mean), collapse, alpha=0.5), -0.5 * np.abs(collapse.mean).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in FITS if name not in ("knn", "nn_guide", "relation")])
def test_a_fit_needs_memory_for_a_block_only(name):
    n = 60_000
    features = np.tile(H, (n // N, 1))
    logits, labels = np.tile(Z, (n // N, 1)), np.tile(LABELS, n // N)
    tracemalloc.start()
    many = fit(name, features, logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < features.size * 4 + 1_500_000 if name == "gaussian_density" else peak < 1_500_000  # in float64 the features are 2.9 MB
    for a, b in zip(jax.tree.leaves(fit(name)), jax.tree.leaves(many)):
        np.testing.assert_allclose(np.abs(a), np.abs(b), rtol=1e-4, atol=1e-5)


BAD = [
    ("mahalanobis", dict(labels=None), r"labels must be \[n\], which fit_mahalanobis reads, got None"),
    ("mahalanobis", dict(logits=None, labels=LABELS[:5]), "features and labels must be of the same examples, got lengths 200, 5"),
    ("relative_mahalanobis", dict(logits=None, labels=LABELS - 1), "labels must be classes in .*, but go from -1 to 1"),
    ("dice", dict(logits=None), r"logits must be \[n, K\], which fit_dice reads, got None"),
    ("relation", dict(logits=None), r"logits must be \[n, K\], which fit_relation reads, got None"),
    (
        "knn",
        dict(features=np.full((3, 2), np.nan, np.float32), logits=None, labels=None),
        r"features must be finite, but features\[0\] \(3 of 3\) has NaN",
    ),
    ("she", dict(labels=LABELS[:5]), "features and logits and labels must be of the same examples, got lengths 200, 200, 5"),
    ("she", dict(labels=LABELS + 1), r"labels must be classes in \[0, 3\), but go from 1 to 3; they look one-based"),
    ("kl_matching", dict(logits=np.full((4, 3), 1 / 3, np.float32)), "logits must be logits, but they are probabilities"),
    ("kl_matching", dict(features=H[:9]), "logits and features and labels must be of the same examples, got lengths 200, 9, 200"),
    ("kl_matching", dict(logits=Z[:, :1]), "logits must be of two classes or more"),
    ("nci", dict(head=None), r"head must be a Head, which fit_nci reads: jxai.uncertainty.linear_head\(f, x\) finds a model's, got NoneType"),
    ("fdbd", dict(head=Head(HEAD.weights.T, HEAD.bias)), r"head must map the 6 features to the 3 logits, got weights \(3, 6\)"),
    ("fdbd", dict(head=Head(HEAD.weights * [0, 1, 0], HEAD.bias)), "the weights of classes 0 and 2 are equal"),
    ("vim", dict(head=Head(HEAD.weights * np.nan, HEAD.bias)), "head must be finite"),
    ("vim", dict(dimension=6), r"dimension=6 must be an integer in \[1, 6\)"),
    ("nn_guide", dict(fraction=1.5), r"fraction=1.5 must lie in \[0, 1\]"),
    ("nn_guide", dict(fraction=0.0), "fraction=0.0 must be a positive number"),
]


@pytest.mark.parametrize("name, given, message", BAD)
def test_a_bad_fit_is_an_error(name, given, message):
    with pytest.raises(ValueError, match=message):
        fit(name, **given)


@pytest.mark.parametrize("name", [name for name in FITS if name != "gaussian_density"])
def test_a_fit_has_no_place_in_a_program(name):
    with pytest.raises(ValueError, match=f"must be concrete, but .* traced: call fit_{name} outside of jit"):
        jax.jit(lambda h, z: fit(name, h, z))(H, Z)


@pytest.mark.parametrize("name", FITS)
def test_a_bad_example_is_an_error(name):
    formula, known = getattr(formulas, name), fit(name)
    with pytest.raises(ValueError, match=f"fitted must be a .*, made by fit_{name}.*, got None"):
        formula(Z[0], H[0])
    with pytest.raises(ValueError, match=r"fitted must be a .*, got a Head"):
        formula(Z[0], H[0], HEAD)
    if name != "kl_matching":
        with pytest.raises(ValueError, match="features must have D = 6 entries, as what was fitted has, got 5"):
            formula(Z[0], H[0, :5], known)
        with pytest.raises(ValueError, match="features must be finite"):
            formula(Z[0], H[0] * np.nan, known)
    if name in ("kl_matching", "she", "fdbd", "nci", "relation"):
        with pytest.raises(ValueError, match="logits must be of K = 3 classes, as what was fitted has, got 4"):
            formula(np.zeros(4, np.float32), H[0], known)


def test_nan_is_not_taken_for_an_answer_in_a_program():
    fits = {name: fit(name) for name in FITS}

    @jax.jit
    def scores(z, h):
        return {name: getattr(formulas, name)(z, h, known, **({"num_neighbours": 3} if name == "knn" else {})) for name, known in fits.items()}

    reads = lambda what: {name for name, score in what.items() if np.isnan(score)}
    assert reads(scores(Z[0], H[0])) == set()
    assert reads(scores(Z[0] * np.nan, H[0])) == {"fdbd", "kl_matching", "nci", "nn_guide", "relation", "she", "vim"}
    assert reads(scores(Z[0], H[0] * np.nan)) == set(FITS) - {"kl_matching"}


def test_options_out_of_range_are_errors():
    with pytest.raises(ValueError, match="num_neighbours=300 must be at most the 200 examples of the bank"):
        formulas.knn(None, H[0], fit("knn"), num_neighbours=300)
    for options, message in (
        ({"power": 0.0}, "power=0.0 must be a positive number"),
        ({"threshold": -1.0}, r"threshold=-1.0 must lie in \[0, inf\]"),
        ({"chunk": 0}, "chunk=0 must be a positive integer"),
    ):
        with pytest.raises(ValueError, match=message):
            formulas.relation(Z[0], H[0], fit("relation"), **options)
    with pytest.raises(ValueError, match="divisor='max' must be one of 'mean', 'norm'"):
        formulas.fdbd(Z[0], H[0], fit("fdbd"), divisor="max")
    with pytest.raises(ValueError, match=r"alpha=-1.0 must lie in \[0, inf\]"):
        formulas.nci(Z[0], H[0], fit("nci"), alpha=-1.0)
    assert isinstance(fit("knn"), Neighbours)
