"""Whether clusters say anything: p-values of eigengaps and of clusters."""

import jax
import numpy as np
import pytest
from scipy import stats

from jxai.dataset import eigengap_test, enrichment

KEY = jax.random.key(0)


def cloud(seed, n=100):
    """One cloud, longer along some axes than along others."""
    return np.random.default_rng(seed).normal(size=(n, 6)) * [3, 2, 1, 1, 0.5, 0.1]


def test_two_clouds_have_a_gap_that_one_cloud_of_their_covariance_has_not():
    x = cloud(0)
    assert eigengap_test(x, key=KEY, num_permutations=19).p_value > 0.2
    x[:30, 5] += 4
    found = eigengap_test(x, key=KEY, num_permutations=19)
    assert found.p_value == np.float32(1 / 20) and found.clusters == 2 and found.gap > found.null.max() and found.null.shape == (19,)
    assert eigengap_test(x, key=KEY, num_permutations=19, gap="absolute").gap < 0.2


def test_dependence_between_features_is_no_cluster():
    """What says the same thing six times refutes that its columns are independent; a normal cloud with the same axes does not come apart, either."""
    x = np.random.default_rng(2).normal(size=(80, 1)) + 0.3 * np.random.default_rng(3).normal(size=(80, 6))
    tests = {null: eigengap_test(x, key=KEY, null=null, num_permutations=19).p_value for null in ("gaussian", "columns")}
    assert tests["gaussian"] > 0.2 and tests["columns"] == np.float32(1 / 20)


@pytest.mark.slow
def test_the_p_value_of_a_normal_cloud_is_uniform():
    found = np.asarray([eigengap_test(cloud(seed), key=jax.random.key(seed), num_permutations=19).p_value for seed in range(100)])
    assert stats.kstest(found - np.random.default_rng(0).uniform(0, 1 / 20, 100), "uniform").pvalue > 0.01
    assert (found <= 0.05).mean() <= 0.12


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (cloud(0)[:3], {}, "4 examples or more"),
        (cloud(0), {"null": "uniform"}, "null='uniform'"),
        (cloud(0), {"gap": "widest"}, "gap='widest'"),
        (cloud(0), {"num_permutations": 0}, "num_permutations=0"),
        (cloud(0), {"most": 1}, "most=1"),
        (cloud(0), {"key": None}, "key=None"),
        (cloud(0), {"num_neighbours": 100}, "num_neighbours=100"),
    ],
)
def test_bad_input_is_named(given, options, said):
    with pytest.raises(ValueError, match=said):
        eigengap_test(given, **{"key": KEY, **options})


def test_enrichment_is_fishers_test_of_the_best_cluster():
    labels = np.repeat([0, 1, 2], [50, 20, 10])
    marked = np.isin(np.arange(80), [0, 1, 2, 50, 51, 52, 53, 54, 55, 70])
    found = enrichment(labels, marked)
    tables = [[[(marked & own).sum(), (~marked & own).sum()], [(marked & ~own).sum(), (~marked & ~own).sum()]] for own in (labels == c for c in range(3))]
    exact = [stats.fisher_exact(table, "greater").pvalue for table in tables]
    np.testing.assert_allclose(found.p_values, exact, rtol=1e-9)
    assert found.cluster == 1 and found.p_value == pytest.approx(3 * min(exact))
    np.testing.assert_allclose([found.purity, found.recall], [6 / 20, 6 / 10], rtol=1e-6)
    np.testing.assert_allclose(found.purities, [3 / 50, 6 / 20, 1 / 10], rtol=1e-6)
    whole = enrichment(labels, labels == 2)
    assert whole.purity == whole.recall == 1 and whole.cluster == 2
    assert enrichment(labels, np.arange(80) % 8 == 0).p_value == 1


@pytest.mark.parametrize(
    ("labels", "marked", "said"),
    [
        ([0.0, 1.0], [True, False], "labels must be"),
        ([0, 1], [True], r"marked must be \[2\] booleans"),
        ([0, 1], [1, 0], "marked must be"),
        ([0, 1], [True, True], "some of the examples"),
        ([0, 1], [False, False], "some of the examples"),
    ],
)
def test_bad_marks_are_named(labels, marked, said):
    with pytest.raises(ValueError, match=said):
        enrichment(np.asarray(labels), np.asarray(marked))
