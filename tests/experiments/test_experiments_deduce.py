"""The experiment on sparse counterfactuals runs, and its rows are what the searches and metrics say."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.counterfactual import deduce, deduce_measures
from experiments.counterfactual.deduce_networks import PlainResNet
from jxai import counterfactual
from jxai.evaluate import findings
from jxai.evaluate.record import folder
from jxai.models import ordinary as trained
from jxai.models.layers import Conv


def test_means_of_what_is_kept():
    values, kept = np.array([[1.0, 2, 6], [4, 5, 6], [7, 8, np.nan]]), np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    np.testing.assert_array_equal(findings.means(values, kept), [3.5, np.nan, 7.5])


def test_sizes_of_common_cases_and_differences_where_both_reached():
    """Two images of five pixels, two targets; L0 by hand, a difference of 1e-7 counted."""
    x, target = np.zeros((2, 5, 1, 1), np.float32), np.array([[1, 2], [1, 2]])
    reached = {"deduce": [[1, 1], [1, 0]], "deduce λ=4": [[0, 1], [1, 1]], "jsma": [[1, 0], [0, 1]], "prototype": [[1, 1]] * 2, "revise λ=.1": [[1, 1]] * 2}
    counts = {"deduce": [[1, 2], [3, 4]], "deduce λ=4": [[1, 1], [2, 2]], "jsma": [[5, 5], [5, 4]], "prototype": [[5, 5]] * 2, "revise λ=.1": [[5, 5]] * 2}
    points = {name: np.float32(1e-7) * (np.arange(5) < np.array(c)[..., None]).reshape(2, 2, 5, 1, 1) for name, c in counts.items()}
    steps, seconds = np.full((2, 2), 7), np.asarray(0.5)
    found = {name: deduce_measures.Found(points[name], np.array(reached[name], bool), steps, seconds) for name in counts}
    rows = deduce_measures.measured(x, target, found)
    expected = {
        ("deduce", "all", "failures"): [0, 0.5],
        ("deduce", "reached", "L0"): [1.5, 3],
        ("deduce", "common", "L0"): [1, np.nan],  # what λ = 4 failed on counts as common
        ("deduce λ=4", "common", "L0"): [np.nan, np.nan],
        ("jsma", "common", "L0"): [5, np.nan],
        ("jsma", "both", "L0 more than deduce"): [4, np.nan],
        ("jsma", "both", "L0 more than deduce λ=4"): [np.nan, 2],
        ("deduce λ=4", "both", "L0 more than deduce"): [-1, -1],
        ("jsma", "all", "steps"): [7, 7],
    }
    for key, value in expected.items():
        np.testing.assert_allclose(rows[key], value)
    assert ("deduce", "both", "L0 more than deduce") not in rows


@pytest.mark.slow
@pytest.mark.parametrize("held_out", [False, True])
def test_deduce(tmp_path, held_out):
    small = dict(seeds=2, images=1, judged=1, train=512, steps=30, widths=(4, 8), blocks=1)
    small |= dict(search_steps=20, judge_steps=2, judge_starts=1)
    config = deduce.Config(methods=("deduce", "jsma"), threshold=0.105, held_out=held_out, out=str(tmp_path), **small)
    try:
        rows = deduce.run(config)
    except (FileNotFoundError, ValueError, ImportError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae and mnist_gan: {error}")
    assert (folder(config) / "counterfactuals.png").stat().st_size > 1000
    assert len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows)
    assert {r["metric"] for r in rows} >= {"failures", "steps", "L0", "L1", "AnoGAN", "accuracy", "L0 more than deduce"}
    told = []
    (folder(config) / "results.json").unlink()
    again = deduce.run(config, told.append)
    np.testing.assert_equal(again, rows)
    assert not told  # no search ran anew
    assert list(dict.fromkeys(r["method"] for r in rows if r["metric"] == "failures")) == ["deduce", "deduce λ=4", "jsma"]
    assert {r["method"] for r in rows if r["metric"] == "accuracy"} == {"normalised", "plain"}
    # By hand, of the second seed's image and networks.
    normal, plain = deduce.networks((4, 8), 1, 512, 30, 1, folder(config))
    x, y = (v[1512:] for v in trained.mnist("train", 2512)) if held_out else (v[1000:] for v in trained.mnist("test", 2000))
    x, target = deduce.cases([normal, plain], x, y, 1)
    assert target.shape == (1, 9) and all(set(t) == set(range(10)) - {int(f(v).argmax())} for f in (plain, normal) for v, t in zip(x, target))
    found = counterfactual.run(counterfactual.jsma.search(threshold=0.105), plain, x, target)
    row = {(r["seed"], r["of"], r["metric"]): r for r in rows if r["method"] == "jsma"}
    assert row[1, "all", "failures"]["mean"] == pytest.approx(1 - found.valid.mean())
    assert row[1, "all", "steps"]["mean"] == pytest.approx(found.steps.mean())
    changes = (found.x != x[:, None]).reshape(1, 9, -1).sum(2)
    expected = changes[found.valid].mean() if found.valid.any() else np.nan
    np.testing.assert_allclose(row[1, "reached", "L0"]["mean"], expected)
    both = [row[seed, "all", "failures"]["mean"] for seed in (0, 1)]
    assert row["all", "all", "failures"]["mean"] == pytest.approx(np.mean(both)) and row["all", "all", "failures"]["n"] == 2


def test_the_baselines_network_is_a_resnet_whose_last_stage_sees_one_position():
    sizes, kinds = [], []

    def walk(x):
        network = PlainResNet((4, 6, 8, 10), 2, rngs=nnx.Rngs(0))
        kinds.extend(type(layer) for _, layer in nnx.iter_graph(network))
        y = nnx.max_pool(nnx.relu(network.norm(network.stem(x))), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in network.blocks:
            sizes.append(y.shape[0])
            y = block(y)
        sizes.append(y.shape[0])
        return network(x)

    assert jax.eval_shape(walk, jax.ShapeDtypeStruct((28, 28, 1), jnp.float32)).shape == (10,)
    assert sizes == [7, 7, 7, 4, 4, 2, 2, 1, 1]
    # 7×7 stem, 16 convolutions of 3×3 and three shortcuts, each with a normalisation after it.
    assert kinds.count(Conv) == kinds.count(nnx.BatchNorm) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(seeds=0), "seeds=0 must be a positive integer"),
        (dict(images=0), "images=0 must be a positive integer"),
        (dict(judged=41), "judged=41 must lie in"),
        (dict(judge_steps=0), "judge_steps=0 must be a positive integer"),
        (dict(certainties=(2.0, -1.0)), "certainties=-1.0 must lie in"),
        (dict(held_out=True, train=58000), "seeds=3 and images=40 want 3000 digits, of which there are 2000"),
        (dict(seeds=11), "seeds=11 and images=40 want 11000 digits"),
        (dict(methods=("deduce", "jsmb")), "methods={'jsmb'} must be among"),
        (dict(methods=("jsma",)), "must have 'deduce' among them"),
    ],
)
def test_bad_configurations(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        deduce.run(deduce.Config(**options, out=str(tmp_path)))
    assert not any(tmp_path.iterdir())
