"""The page of a report: its numbers are the table's, equal runs make equal bytes, and whatever a run lacks, the page says so."""

import csv
import json
import shutil

import numpy as np
import pytest
import runs
from jax.tree_util import Partial
from page_parser import self_contained
from scipy import stats

from jxai import data, evaluate, pages
from jxai.attribution import gradient
from jxai.evaluate.joined import joined
from jxai.naming import proper

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_its_numbers_are_those_of_the_table(whole, tmp_path):
    evaluate.report([whole], tmp_path)
    page = self_contained((tmp_path / "report.html").read_text("utf-8"))
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = {(row["metric"], row["method"]): row["mean"] for row in csv.DictReader(file)}
    assert page.cells[: len(rows)] == [rows[metric, method] for method in runs.METHODS for metric in runs.METRICS]
    (browser,) = page.browsers()
    table = whole.table()
    assert len(browser["c"]) == 21 and [m["n"] for m in browser["m"]] == list(map(proper, runs.METRICS)) and [m["w"] for m in browser["m"]] == [1, 1, 1]
    for row, case in enumerate(browser["c"]):
        assert [layer["n"] for layer in case["l"]] == list(map(proper, runs.METHODS))
        assert [layer["k"] for layer in case["l"]] == ["signed", "unsigned", "signed", "unsigned", "signed"]
        found = [[float(v.replace("−", "-")) for v in scores] for scores in case["s"]]
        assert np.allclose(found, [[table[f"score/{m}/{k}"][row] for k in runs.METRICS] for m in runs.METHODS], rtol=6e-3)
        assert case.get("w", 0) == (table["label"][row] != table["predicted"][row]) and case["g"] == str(table["label"][row])
    expected = [np.mean([stats.spearmanr(*(whole.maps(m)[4].ravel() for m in (a, b)))[0] for a in runs.METHODS for b in runs.METHODS if a < b])]
    assert browser["c"][4]["d"] == pytest.approx(1 - expected[0], abs=1e-4)


def test_every_pair_is_tested_as_the_library_tests_it(whole):
    page = self_contained(runs.page(whole))
    at = len(runs.METHODS) * len(runs.METRICS)
    summed = [page.cells[at + 5 * n : at + 5 * n + 5] for n in range(3)]
    study = joined([whole]).by_example
    assert summed == [
        [str(one.n), str(one.friedman.statistic), str(one.friedman.p), str(sum(bool(p.better) for p in one.pairs)), proper(min(one.ranks, key=one.ranks.get))]
        for one in study
    ]
    pairs = [page.cells[at + 15 + 6 * n : at + 21 + 6 * n] for n in range(30)]
    assert [row[3] for row in pairs] == ["" if pair.adjusted is None else str(pair.adjusted) for one in study for pair in one.pairs] and len(
        page.cells
    ) == at + 15 + 180


def test_equal_runs_make_equal_bytes(whole, tmp_path):
    class Stop(BaseException):
        pass

    def stop(progress):
        if progress.fresh >= 8:
            raise Stop

    with pytest.raises(Stop):
        runs.run(tmp_path / "run", on_progress=stop)
    assert runs.page(runs.run(tmp_path / "run")) == runs.page(whole)


class Odd(data.Digits):
    """A name that is none to a browser, an example that cannot be read."""

    def __getitem__(self, index):
        if index == 1:
            raise OSError("cannot <be> read")
        example = super().__getitem__(index)
        return data.Example(example.pixels, example.label, example.mask, f"</script><b>{index}\udcff.png")


def nan_on_two(f, x, target, key=None):
    return gradient(f, x, target) * (1 - 2 * (x.sum() * 255 == TWO)) / (x.sum() * 255 != TWO)


TWO = float(data.Digits()[2].pixels.sum())


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return evaluate.run(runs.model(), Odd(), {"<b>mine": nan_on_two}, ["sparseness"], tmp_path_factory.mktemp("odd") / "run", limit=4, sample="first")


def test_failures_odd_names_and_one_method(odd):
    page = self_contained(runs.page(odd))
    (browser,) = page.browsers()
    assert page.count("script") == 2 and page.count("b") == 1  # the interval's
    names = [case["n"] for case in browser["c"]]
    assert names[0] == "</script><b>0\\xff.png" and browser["c"][1]["e"] == "OSError: cannot <be> read" and "l" not in browser["c"][1]
    assert browser["c"][2]["l"][0]["k"] == "plain" and browser["c"][2]["s"] == [["–"]] and all(case["d"] is None for case in browser["c"])
    assert "Failed: 1 (" in " ".join(text for _, text in page.texts)


@pytest.mark.parametrize(("images", "shown"), [(3, [0, 10, 20]), (1, [0]), (0, None), (500, list(range(21)))])
def test_so_many_images_are_shown_evenly_over_the_run(whole, tmp_path, images, shown):
    text = runs.page(whole, images=images)
    browsers = self_contained(text).browsers()
    assert ([case["n"] for case in browsers[0]["c"]] if browsers else None) == (None if shown is None else [f"example {n}" for n in shown])
    assert (f"{images} of 21 examples are shown" in text) == (images in (1, 3)) and ("No example is shown" in text) == (images == 0)
    with pytest.raises(ValueError, match="images=-1 must be 0 or more"):
        evaluate.report([whole], tmp_path, images=-1)


def test_what_was_not_kept_or_is_damaged_is_said(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    run = evaluate.Run(tmp_path / "run")
    run.block(0).pictures.unlink()
    run.block(1).explanations().write_bytes(b"PK")
    (browser,) = self_contained(text := runs.page(run)).browsers()
    assert "Of 8 examples the picture was not kept, or is damaged." in text and "The explanations of blocks 1 are damaged" in text
    assert ["x" in case for case in browser["c"]] == [False] * 8 + [True] * 13 and ["l" in case for case in browser["c"]] == [True] * 8 + [False] * 8 + [
        True
    ] * 5
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "keep_maps": False}))
    shutil.rmtree(run.path / "maps")
    shutil.rmtree(run.path / "pictures")
    assert "this run kept no explanations" in runs.page(evaluate.Run(run.path))


def test_disagreement():
    a = np.arange(12.0).reshape(2, 2, 3)
    assert pages.disagreement([a, 2 * a.sum(-1, keepdims=True)]) == pytest.approx(0) and pages.disagreement([a, -a]) == pytest.approx(2)
    assert pages.disagreement([a, np.ones_like(a)]) == 1 and pages.disagreement([a]) is None and pages.disagreement([a, a * np.nan]) is None


def test_a_page_of_two_runs(whole, odd):
    page = self_contained(runs.page(whole, odd))
    assert (
        len(page.browsers()) == 2
        and {"#s1", "#s2"} <= set(page.targets)
        and len({tag["id"] for _, tag in page.tags if "id" in tag}) == sum("id" in tag for _, tag in page.tags)
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9,), (20, 3), (5, 12, 12, 3), (30, 40, 3), (2, 2, 2, 2, 2)])
@pytest.mark.parametrize("target", ["predicted", None])
def test_examples_of_every_rank_and_models_of_a_number(tmp_path, shape, target):
    rng = np.random.default_rng(0)
    f = Partial(lambda w, x: x.ravel() @ w, rng.normal(size=(int(np.prod(shape)), 3) if target else int(np.prod(shape))).astype(np.float32))
    source = data.Arrays(rng.random((4, *shape)).astype(np.float32), np.arange(4) % 3, class_names=None if target is None else "abc")
    run = evaluate.run(f, source, {"gradient": gradient, "mine": nan_on_two}, ["sparseness"], tmp_path / "run", target=target)
    (browser,) = self_contained(runs.page(run)).browsers()
    kinds = {layer.get("k") for case in browser["c"] for layer in case["l"]}
    assert kinds == ({"bars"} if len(shape) == 1 else {"plain"} if len(shape) == 5 else {"signed"}) and len(browser["c"]) == 4
    assert all(("x" in case, "v" in case) == (1 < len(shape) < 5, len(shape) == 1) for case in browser["c"])
    assert all(("value" in dict(case["f"])) == (target is None) and case.get("w", 0) in (0, 1) for case in browser["c"])
