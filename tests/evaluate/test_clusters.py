"""Clusters of a run's explanations: a planted tag is one, by method and class; what is written of them."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import data, evaluate, metrics
from jxai.attribution import gradient, input_x_gradient
from jxai.evaluate import cluster_report, clusters
from jxai.evaluate.clusters import compared

CLASSES = ("plain", "tagged, often", "rare")


def linear(w, x):
    return jnp.tensordot(w, x, 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over images of two classes, one of which bears a tag in a third of its examples, and the places of these."""
    rng = np.random.default_rng(0)
    x = (0.3 * rng.uniform(size=(66, 6, 6, 2))).astype(np.float32)
    labels = np.asarray([0, 1] * 30 + [2] * 6)
    tagged = np.arange(1, 60, 6)
    x[tagged, :2, :2] += 0.7
    w = rng.normal(size=(3, 6, 6, 2)).astype(np.float32)
    w[1, :2, :2] = 5
    f = jax.tree_util.Partial(linear, jnp.asarray(w))
    path = tmp_path_factory.mktemp("run") / "run"
    source = data.Arrays(x, labels, class_names=CLASSES)
    methods = {"input_x_gradient": input_x_gradient, "gradient": gradient}
    run = evaluate.run(f, source, methods, {"sparseness": metrics.sparseness}, path, target="label", block=16, model_name="linear")
    return run, tagged


def test_a_tag_is_a_cluster_of_the_class_that_bears_it(made):
    run, tagged = made
    told = []
    found = clusters(run, methods=["input_x_gradient"], num_permutations=19, num_neighbours=6, layout="none", on_progress=told.append)
    assert [(one.method, one.target, len(one.places)) for one in found] == [
        ("input_x_gradient", 0, 30),
        ("input_x_gradient", 1, 30),
    ]  # 6 of class 2 are too few
    assert told == ["input_x_gradient, class 0: 30 examples", "input_x_gradient, class 1: 30 examples"]
    plain, often = found
    assert often.places[often.spectrum.labels == 1].tolist() == tagged.tolist() and often.test.p_value == np.float32(0.05) < plain.test.p_value
    maps = np.stack([run.maps("input_x_gradient")[i].sum(-1, keepdims=True) for i in often.places])
    np.testing.assert_allclose(often.maps, maps, rtol=1e-6)
    np.testing.assert_allclose(often.means()[1], maps[np.isin(often.places, tagged)].mean(0), rtol=1e-5)
    assert set(often.typical(1, 4)) < set(tagged) and len(often.typical(1, 4)) == 4
    (alone,) = clusters(run, methods=["input_x_gradient"], targets=[1], num_permutations=19, num_neighbours=6, layout="none")
    jax.tree.map(np.testing.assert_array_equal, (alone.spectrum, alone.test), (often.spectrum, often.test))  # whatever else is asked for
    (whole,) = clusters(run, methods=["input_x_gradient"], together=True, num_permutations=0, layout="none", size=None)
    assert whole.target is None and len(whole.places) == 66 and whole.test is None


def test_what_is_written_of_them(made, tmp_path):
    run, tagged = made
    table = run.table()
    found = clusters(run, methods=["input_x_gradient"], targets=[1], num_permutations=9, num_neighbours=6, clusters=2)
    (row,) = cluster_report.write(run, table, found, tmp_path)
    assert row.explained == "tagged, often" and row.sizes == (20, 10) and row.gap_after == 2 and row.p_value == pytest.approx(0.1)
    wrong = (table["predicted"] != table["label"])[np.isin(table["index"], tagged)]
    assert row.mistakes[1] == wrong.mean()
    with open(tmp_path / "labels.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["index"]) for line in lines] == list(range(1, 60, 2)) and {line["explained"] for line in lines} == {"tagged, often"}
    assert [int(line["index"]) for line in lines if line["cluster"] == "1"] == tagged.tolist()
    np.testing.assert_allclose([float(line["x"]) for line in lines], np.asarray(found[0].spectrum.layout)[:, 0], rtol=1e-5)
    with open(tmp_path / "summary.csv", newline="") as file:
        assert next(csv.DictReader(file))["sizes"] == "20 10"
    assert (tmp_path / "input_x_gradient_tagged, often.png").stat().st_size > 5000


def test_equal_explanations_are_no_clusters(made):
    run, _ = made
    (same,) = clusters(run, methods=["gradient"], targets=[0], num_permutations=0, layout="none", norm="l2")  # of a linear model all are equal
    assert np.ptp(same.maps, axis=0).max() == 0 and same.spectrum.num_neighbours == 3


def test_maps_of_images_are_summed_and_made_smaller_and_others_are_not():
    maps = np.random.default_rng(0).normal(size=(3, 8, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(compared(maps, 3, None), maps.sum(-1, keepdims=True), rtol=1e-5)
    halves = compared(maps, 3, 4)
    assert halves.shape == (3, 4, 4, 1)
    np.testing.assert_allclose(halves.mean((1, 2, 3)), maps.sum(-1).mean((1, 2)), rtol=1e-4)
    assert compared(maps[:, :, 0], 2, 4).shape == (3, 8, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["rise"]}, "no method 'rise', but input_x_gradient, gradient"),
        ({"targets": [2]}, "class 2 is explained in 6 examples"),
        ({"targets": [7]}, "class 7 is explained in 0 examples"),
        ({"targets": [1], "together": True}, "says nothing where all examples"),
        ({"num_neighbours": 30, "targets": [1]}, "num_neighbours=30"),
        ({"neighbours": 3}, "unknown options neighbours; clusters takes num_neighbours"),
    ],
)
def test_bad_input_is_named(made, options, said):
    with pytest.raises(ValueError, match=said):
        clusters(made[0], num_permutations=0, **options)


def test_a_run_without_explanations_says_so(tmp_path):
    x = np.random.default_rng(0).uniform(size=(12, 4)).astype(np.float32)
    f = jax.tree_util.Partial(jnp.dot, jnp.ones((3, 4)))
    run = evaluate.run(f, data.Arrays(x), {"gradient": gradient}, {"sparseness": metrics.sparseness}, tmp_path / "run", keep_maps=False)
    with pytest.raises(ValueError, match="kept no explanations"):
        clusters(run)


def test_random_numbers_are_of_the_method_and_class(made):
    run, _ = made
    (one,) = clusters(run, methods=["input_x_gradient"], targets=[0], num_permutations=5, layout="none", seed=1)
    assert one.test.null.shape == (5,)
    (other,) = clusters(run, methods=["input_x_gradient"], targets=[0], num_permutations=5, layout="none", seed=2)
    assert not np.array_equal(one.test.null, other.test.null)
