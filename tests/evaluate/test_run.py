"""Evaluation runs: what a run holds is what the library computes, whatever the blocks, devices, order or interruptions."""

import errno
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runs
import scipy.special

from jxai import data, evaluate, files, metrics
from jxai.attribution import feature_ablation, gradient, rise
from jxai.evaluate import tasks
from jxai.evaluate.columns import PER_EXAMPLE

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_scores_are_those_of_the_metrics_on_the_maps_of_the_methods(whole):
    table, digits = whole.table(), data.Digits()
    assert table["index"].tolist() == list(range(21)) and table["valid"].all()
    by_segments = runs.methods()["by segments"][1]["segments"]

    @jax.jit
    def judged(f, x, mask, key, segments):
        """The logits, and by method its map and its scores."""
        target = jax.numpy.argmax(f(x))
        slope = gradient(f, x, target)
        maps = {"gradient": slope, "abs:gradient": abs(slope), "rise": rise(f, x, target, key, num_masks=7, grid=2)}
        maps["by segments"] = feature_ablation(f, x, target, segments=segments, num_segments=16)
        own = {metric: {} if metric == "sparseness" else {"mask": mask} for metric in runs.METRICS}
        return f(x), {name: (a, {m: getattr(metrics, m)(f, x, target, a, **own[m]) for m in own}) for name, a in maps.items()}

    for i in (0, 8, 20):
        example, key = digits[i], jax.random.fold_in(tasks.Task("rise", rise, {}, {}, rise).key(0), i)
        x = np.float32(example.pixels) / 255
        logits, expected = jax.tree.map(np.asarray, judged(runs.model(), x, example.mask, key, by_segments(x)))
        assert table["label"][i] == example.label and table["predicted"][i] == table["target"][i] == logits.argmax()
        assert table["confidence"][i] == pytest.approx(scipy.special.softmax(logits).max(), rel=1e-5)
        for name, (a, scores) in expected.items():
            assert np.allclose(whole.maps(name)[i], a, rtol=1e-4, atol=1e-5), name
            for metric in runs.METRICS:
                assert table[f"score/{name}/{metric}"][i] == pytest.approx(float(scores[metric]), rel=1e-3), (name, metric)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"block": 5}, id="small blocks"),
        pytest.param({"devices": jax.devices()[1:3]}, id="two devices"),
        pytest.param({"block": 32}, id="one block", marks=pytest.mark.slow),
        pytest.param({"devices": jax.devices()[:1]}, id="one device", marks=pytest.mark.slow),
    ],
)
def test_results_do_not_depend_on_blocks_or_devices(whole, tmp_path, options):
    assert runs.same(runs.run(tmp_path / "run", **options), whole)


@pytest.mark.slow
def test_what_suits_each_task_does_not_depend_on_blocks_or_devices_either(tmp_path):
    first = runs.run(tmp_path / "a", batch_size=None, block=8)
    assert runs.same(runs.run(tmp_path / "b", batch_size=None, block=20, devices=jax.devices()[:1]), first)


def test_results_do_not_depend_on_order_or_number(whole, tmp_path):
    shuffled = runs.run(tmp_path / "run", shuffle=True, limit=1797, metrics=("sparseness",), where="correct", block=1797, batch_size=2)
    table, other = shuffled.table(), whole.table()
    both = np.isin(table["index"], other["index"])
    rows = [list(other["index"]).index(i) for i in table["index"][both]]
    assert both.sum() > 1 and (table["predicted"] == table["label"]).all()
    for name in runs.METHODS:
        assert np.array_equal(table[f"score/{name}/sparseness"][both], other[f"score/{name}/sparseness"][rows])


def test_a_run_goes_on_where_it_was_stopped(whole, tmp_path):
    class Stop(BaseException):
        pass

    def stop_after(n):
        def tell(progress):
            if progress.fresh >= n:
                raise Stop

        return tell

    for n in (8, 8, 3):
        with pytest.raises(Stop):
            runs.run(tmp_path / "run", on_progress=stop_after(n))
    there = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "blocks").iterdir()}
    assert sorted(there) == ["000000.npz", "000001.npz"]
    seen = []
    again = runs.run(tmp_path / "run", on_progress=seen.append)
    assert runs.same(again, whole)
    assert all((again.path / "blocks" / name).stat().st_mtime_ns == time for name, time in there.items())
    assert (seen[0].done, seen[0].total, seen[0].fresh) == (16, 21, 0) and (seen[-1].done, seen[-1].fresh) == (21, 5)


@pytest.mark.parametrize(
    "broken",
    [
        *("blocks/000001.npz", "maps", "half of the maps", "a bit of a block"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("maps/000001.npz", "blocks", "half of a block")),
    ],
)
def test_what_is_deleted_or_damaged_is_made_again(whole, tmp_path, broken):
    shutil.copytree(whole.path, tmp_path / "run")
    path = (
        tmp_path
        / "run"
        / {"half of a block": "blocks/000001.npz", "half of the maps": "maps/000001.npz", "a bit of a block": "blocks/000001.npz"}.get(broken, broken)
    )
    if broken.startswith("half"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif broken.startswith("a bit"):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    else:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = runs.run(tmp_path / "run")
    assert runs.same(again, whole) and len(again.maps("rise")) == 21


def test_what_a_killed_process_left_is_cleared(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run" / "blocks" / "000002.npz").unlink()
    for folder in ("blocks", "maps"):
        (tmp_path / "run" / folder / ".000002.0123.npz").write_bytes(b"half")
    again = runs.run(tmp_path / "run")
    assert runs.same(again, whole) and not list(again.path.rglob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"limit": 20}, "data.examples: 21 there, 20 here.*never fewer"),
        ({"scale": 2.0}, "model.arrays: "),
        ({"target": "label"}, "target: 'predicted' there, 'label' here"),
        ({"batch_size": 4}, "batch_size: 2 there, 4 here"),
    ],
)
def test_a_run_of_another_configuration_is_refused(whole, change, message):
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*.npz")}
    with pytest.raises(ValueError, match=message) as error:
        runs.run(whole.path, **change)
    assert "\n" not in str(error.value) and before == {path: path.stat().st_mtime_ns for path in whole.path.rglob("*.npz")}


def test_other_versions_are_refused(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    config = json.loads((whole.path / "config.json").read_text())
    config["versions"]["jax"] = "0.9.0"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="versions.jax: '0.9.0' there"):
        runs.run(tmp_path / "run")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty and has no config.json"):
        runs.run(tmp_path)
    with pytest.raises(ValueError, match="not empty and has no config.json"):
        runs.run(tmp_path / "notes.txt")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json cannot be read"):
        runs.run(tmp_path)
    (tmp_path / "config.json").write_text('{"methods": {}, "metrics": {"sparseness": {"options": {}}}}')
    with pytest.raises(ValueError, match="config.json is not as this version of jxai writes it.*anew"):
        runs.run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.txt"]


def test_a_full_disk_loses_the_block_in_flight_alone(whole, tmp_path, monkeypatch):
    write, written = files.np.lib.format.write_array, {}

    def full(file, array, **options):
        written[path := file._zipfile.filename] = True
        write(file, array, **options)
        if len(written) > 3:  # the scores of the second block, half written
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files.np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left"):
        runs.run(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run" / "blocks").iterdir()] == ["000000.npz"]
    monkeypatch.undo()
    assert runs.same(runs.run(tmp_path / "run"), whole)


class Damaged(data.Digits):
    """Example 3 cannot be read, nor can any of 8 to 15; 5 has a label that is no class."""

    def __getitem__(self, index):
        if index == 3 or 8 <= index < 16:
            raise OSError("cannot be read")
        example = super().__getitem__(index)
        return example if index != 5 else data.Example(example.pixels, 12, example.mask, "5")


def test_examples_that_fail_are_recorded_and_the_others_not_touched(tmp_path):
    damaged, sound = runs.run(tmp_path / "damaged", Damaged(), target="label"), runs.run(tmp_path / "sound", target="label")
    table, other = damaged.table(), sound.table()
    bad = np.isin(np.arange(21), [3, 5, *range(8, 16)])
    assert np.array_equal(table["valid"], ~bad) and table["error"][3] == "OSError: cannot be read"
    assert table["error"][5] == "its label 12 is no class in [0, 10)"
    for name in [name for name in table if name.startswith("score/")]:
        assert np.isnan(table[name][bad]).all() and np.array_equal(table[name][~bad], other[name][~bad])
    rows = evaluate.report([damaged], tmp_path / "report", pictures=False)
    assert {(row.n, row.failed) for row in rows} == {(11, 10)}
    assert "OSError: cannot be read" in (tmp_path / "report" / "summary.md").read_text()


def exploding(f, x, target, key=None):
    """NaN on the digit 2, infinite on the digit 4."""
    return gradient(f, x, target) / (x.sum() * 255 != X_SUMS[2]) + jax.numpy.where(x.sum() * 255 == X_SUMS[4], jax.numpy.inf, 0.0)


X_SUMS = {i: float(data.Digits()[i].pixels.sum()) for i in (2, 4)}


def test_a_method_that_gives_nan_scores_nan_and_stops_nothing(tmp_path):
    run = evaluate.run(runs.model(), data.Digits(), {"mine": exploding, "gradient": gradient}, ["sparseness"], tmp_path / "run", limit=6, sample="first")
    scores = run.table()["score/mine/sparseness"]
    assert np.array_equal(np.isnan(scores), [False, False, True, False, True, False])
    assert np.isfinite(run.table()["score/gradient/sparseness"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["gradent"]}, "unknown method 'gradent'"),
        ({"methods": []}, "methods must name at least one"),
        ({"methods": "gradient"}, "must be a sequence of names"),
        ({"methods": ["gradient", "gradient"]}, "names 'gradient' twice"),
        ({"methods": {"rise": (rise, {"masks": 3})}}, "rise has no option 'masks'"),
        ({"methods": {"rise": (rise, {"num_masks": 0})}}, "rise: num_masks=0 must be a positive integer"),
        ({"metrics": ["deletions"]}, "unknown metric 'deletions'"),
        ({"metrics": {"sparse": (metrics.sparseness, {"k": 1})}}, "sparse has no option 'k'"),
        ({"limit": 0}, "limit=0 must be a positive"),
        ({"block": 0}, "block=0 must be a positive"),
        ({"target": "top"}, "target='top' must be one of"),
        ({"where": "wrong"}, "where='wrong' must be one of"),
        ({"source": data.Arrays(np.zeros((3, 8, 8, 1), np.uint8)), "target": "label"}, "have no labels"),
        ({"source": data.Arrays(np.zeros((3, 8, 8, 1), np.uint8))}, "have no masks, which the metric pointing_game"),
        ({"source": data.Arrays(np.zeros((3, 5, 5, 1), np.uint8)), "metrics": ["sparseness"]}, "dot_general|size|shape|contract"),
        ({"f": lambda x: x.sum()}, r"f\(x\) must be a vector of logits"),
    ],
)
def test_bad_input_is_told_before_any_work(tmp_path, options, message):
    given = {"f": runs.model(), "source": data.Digits(), "methods": ["gradient"], "metrics": ["pointing_game"], "limit": 5, **options}
    first = [given.pop(name) for name in ("f", "source", "methods", "metrics")]
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate.run(*first, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_an_empty_data_set(tmp_path):
    with pytest.raises(ValueError, match="is empty"):
        evaluate.run(runs.model(), [], ["gradient"], ["sparseness"], tmp_path)


def test_nothing_is_classified_right(tmp_path):
    source = data.Arrays(data.Digits()._examples[:9], np.full(9, 11))
    with pytest.raises(ValueError, match="none of the 9 examples is classified right"):
        evaluate.run(runs.model(), source, ["gradient"], ["sparseness"], tmp_path / "run", where="correct")


def test_a_one_class_model_and_a_one_pixel_image(tmp_path):
    one = evaluate.run(lambda x: x.sum()[None], data.Digits(), ["gradient"], ["sparseness"], tmp_path / "a", limit=3, sample="first")
    assert (one.table()["confidence"] == 1).all() and np.isfinite(one.table()["score/gradient/sparseness"]).all()
    pixel = data.Arrays(np.uint8([[[[7]]], [[[0]]]]), None, np.ones((2, 1, 1), bool))
    tiny = evaluate.run(lambda x: x.sum() * np.arange(3.0), pixel, ["gradient", "occlusion"], ["pointing_game", "entropy"], tmp_path / "b")
    assert (tiny.table()["score/gradient/pointing_game"] == 1).all()


def test_columns_of_the_table(whole):
    table = whole.table()
    assert list(table)[: len(PER_EXAMPLE)] == list(PER_EXAMPLE)
    assert {name for name in table if name.startswith("score/")} == {f"score/{m}/{k}" for m in runs.METHODS for k in runs.METRICS}


def test_a_model_of_a_number_is_explained_without_a_class(tmp_path):
    w = np.random.default_rng(0).normal(size=(8, 8, 1)).astype(np.float32)
    f = jax.tree_util.Partial(lambda w, x: (w * x).sum(), jnp.asarray(w))
    options = {"limit": 6, "block": 4, "sample": "first"}
    record = evaluate.run(f, data.Digits(), ["input_x_gradient"], ["completeness_error", "sparseness"], tmp_path / "run", target=None, **options)
    table, x = record.table(), np.stack([data.Digits()[i].pixels for i in range(6)]).astype(np.float32) / 255
    assert table["valid"].all() and np.allclose(table["confidence"], (w * x).sum((1, 2, 3)), rtol=1e-4, atol=1e-5)
    assert np.allclose(np.stack([record.maps("input_x_gradient")[i] for i in range(6)]), w * x, atol=1e-5)
    assert np.allclose(table["score/input_x_gradient/completeness_error"], 0, atol=1e-4)
    with pytest.raises(ValueError, match=r"target=None explains a number f\(x\), but f\(x\) has shape \(10,\)"):
        evaluate.run(runs.model(), data.Digits(), ["gradient"], ["sparseness"], tmp_path / "other", target=None)
    evaluate.report([record.path], tmp_path / "report", pictures=False)
    assert "the value of f is explained" in (tmp_path / "report" / "summary.md").read_text()
