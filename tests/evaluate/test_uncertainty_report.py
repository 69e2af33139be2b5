"""What uncertainty runs say: the library's numbers, intervals of examples drawn again, and tables, pictures and pages that hold them."""

import csv
import json
import re

import numpy as np
import pytest
import uncertainty_runs

from jxai import data, evaluate
from jxai.evaluate.uncertain import resampled
from jxai.evaluate.uncertain.page import page
from jxai.evaluate.uncertain.sheet import ends
from jxai.evaluate.uncertain.summary import BINS, summarise
from jxai.uncertainty import detection, selective
from jxai.uncertainty.calibration import expected_calibration_error


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    other = {"noise": data.Noise((8, 8, 1), 11), "contrast": data.corrupted(data.Digits("test"), "contrast", 4)}
    return uncertainty_runs.run(tmp_path_factory.mktemp("report") / "run", scores=("max_softmax", "energy"), against=other, limit=40)


def histograms(at, marked, size):
    return [np.bincount(at[part], minlength=size)[None] for part in (~marked, marked)]


@pytest.mark.parametrize(("n", "m"), [(50, 70), (300, 20), (40, 40), (1, 1)])
def test_numbers_of_a_draw_are_the_librarys_ties_included(n, m):
    random = np.random.default_rng(n)
    inside, outside = random.normal(size=n).round(1), random.normal(1, 1, m).round(1)
    values, at = np.unique(np.r_[inside, outside, -9, 9], return_inverse=True)  # two values that no example of the draw has
    found = resampled.detection(*histograms(at[:-2], np.arange(n + m) >= n, len(values)))
    told = {"auroc": detection.auroc(inside, outside)}
    for way in ("out", "in"):
        told |= {f"aupr_{way}": detection.aupr(inside, outside, positive=way), f"fpr95_{way}": detection.fpr95(inside, outside, positive=way)}
    assert {name: v[0] for name, v in found.items()} == pytest.approx(told, abs=1e-12)
    wrong = random.random(n) < 0.3
    values, at = np.unique(np.r_[inside, -9, 9], return_inverse=True)
    found = resampled.selection(*histograms(at[:-2], wrong, len(values)))
    told = {name: getattr(selective, name)(inside, wrong * 1.0) for name in ("aurc", "excess_aurc", "augrc")}
    told["error_auroc"] = detection.auroc(inside[~wrong], inside[wrong]) if wrong.any() and not wrong.all() else np.nan
    assert {name: v[0] for name, v in found.items()} == pytest.approx(told, abs=1e-12, nan_ok=True)


def test_intervals_are_those_of_drawing_again():
    random = np.random.default_rng(0)
    inside, outside = random.normal(size=80), random.normal(1, 1, 60)
    found = resampled.of_detection(inside, outside)
    drawn = [detection.auroc(random.choice(inside, 80), random.choice(outside, 60)) for _ in range(1000)]
    assert found["auroc"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)
    assert found == resampled.of_detection(inside, outside) and found["auroc"] == resampled.of_detection(inside * 2 + 1, outside * 2 + 1)["auroc"]
    wrong = random.random(80) < 0.3
    drawn = [selective.augrc(inside[at], wrong[at] * 1.0) for at in random.integers(0, 80, (1000, 80))]
    assert resampled.of_selection(inside, wrong)["augrc"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.01)
    confidence = np.r_[random.random(70), 0, 1, np.arange(1, 9) / BINS]  # edges of bins belong to the bin below
    correct = random.random(80) < confidence
    pairs = np.stack([1 - confidence, confidence], 1)
    off = lambda at: (
        np.abs([((confidence[at] > (b - (b == 0)) / BINS) & (confidence[at] <= (b + 1) / BINS)) @ (correct[at] - confidence[at]) for b in range(BINS)]).sum()
        / 80
    )
    assert off(np.arange(80)) == pytest.approx(float(expected_calibration_error(pairs, correct.astype(int), bins=BINS, kind="binary")), abs=1e-5)
    drawn = [off(random.integers(0, 80, 80)) for _ in range(1000)]
    assert resampled.of_calibration(confidence, correct, BINS) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)


def test_confidences_on_an_edge_of_float32_are_in_the_errors_bins():
    """.8 of float32 is a little more than .8: in a bin of its own its gap could not cancel that of .79."""
    confidence, correct = np.repeat(np.float32([0.8, 0.79]), 500), np.repeat([True, False], 500)
    told = float(expected_calibration_error(np.stack([1 - confidence, confidence], 1), correct.astype(int), bins=BINS, kind="binary"))
    low, high = resampled.of_calibration(confidence.astype(np.float64), correct, BINS)
    assert low < told < high and told == pytest.approx((0.79 - 0.2) / 2, abs=1e-5)


def test_rows_are_the_librarys_numbers_of_the_table(made):
    table = made.table()
    rows = {(row.set, row.score, row.metric): row for row in summarise(made, table, "run")}
    first, noise, contrast = ((table["set"] == n) for n in range(3))
    u, right = table["uncertainty/energy"], table["label"] == table["predicted"]
    assert rows["noise", "energy", "auroc"].value == detection.auroc(u[first], u[noise]) and rows["noise", "energy", "auroc"][7:] == (40, 11, 0)
    assert rows["noise", "energy", "fpr95_in"].value == detection.fpr95(u[first], u[noise], positive="in")
    assert rows["contrast", "energy", "aurc"].value == selective.aurc(u[contrast], ~right[contrast] * 1.0)
    assert rows["digits", "", "accuracy"].value == right[first].mean() and rows["contrast", "", "accuracy"].value == right[contrast].mean()
    assert rows["digits", "", "negative_log_likelihood"].value == pytest.approx(-table["log_likelihood"][first].mean())
    assert not [key for key in rows if key[0] == "noise" and (not key[1] or key[2] == "aurc")], "noise has no labels"
    for row in rows.values():
        assert np.isnan(row.value) or row.low <= row.value <= row.high or row.metric == "expected_calibration_error"
    table["uncertainty/energy"] = np.where(np.arange(len(u)) == 3, np.nan, np.where(np.arange(len(u)) == 4, np.inf, u))
    lost = {(row.set, row.score, row.metric): row for row in summarise(made, table, "run")}["noise", "energy", "auroc"]
    assert (lost.n, lost.lost) == (39, 1) and np.isfinite(lost.value)


def test_tables_are_of_one_piece(made, tmp_path):
    rows = evaluate.report([made], tmp_path, pictures=False)
    assert {path.name for path in tmp_path.iterdir()} == {"summary.csv", "summary.json", "summary.md", "summary.tex"}
    with open(tmp_path / "summary.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(rows) and float(lines[0]["value"]) == rows[0].value and lines[0]["direction"] == "higher"
    told = json.loads((tmp_path / "summary.json").read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert [one["label"] for one in told["runs"][0]["sets"]] == ["digits", "noise", "contrast"] and len(told["rows"]) == len(rows)
    tex = (tmp_path / "summary.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 6 and "Max Softmax (MSP)" in tex


def test_the_page_holds_it_all_in_equal_bytes(made):
    table = made.table()
    rows = summarise(made, table, "run")
    found = page([made], ["run"], [table], [rows], images=3)
    for words in ("Uncertainty of a model", "Max Softmax (MSP)", "noise told from digits", "Risk by coverage", "Reliability", "contrast: least certain"):
        assert words in found
    assert found.count('class="sheet"') == 6 and len(re.findall(r"<li[^>]*><img", found)) == 6 * 3
    assert found == page([made], ["run"], [table], [rows], images=3)


@pytest.mark.slow
def test_pictures_are_drawn(made, tmp_path):
    evaluate.report([made], tmp_path, images=3)
    names = {
        f"{name}.{kind}"
        for name in ("images", "reliability", "roc_noise", "roc_contrast", "risk_coverage_digits", "risk_coverage_contrast")
        for kind in ("png", "pdf")
    }
    assert names | {"report.html"} <= {path.name for path in tmp_path.iterdir()}


def test_without_pictures_a_run_shows_none(tmp_path):
    run = uncertainty_runs.run(tmp_path / "run", scores=("max_softmax",), against=None, fit_on=None, limit=4, keep_pictures=False)
    assert not (run.path / "pictures").exists() and ends(run, run.table(), "max_softmax", 3) == []


def test_without_labels_and_other_data_there_are_images_alone(tmp_path):
    run = evaluate.uncertainty(uncertainty_runs.runs.model(), data.Noise((8, 8, 1), 5), tmp_path / "run", label="noise", scores=("energy", "max_softmax"))
    assert evaluate.report([run], tmp_path / "out", pictures=False) == [] == run.rows() and "noise (5)" in run._repr_html_()
    found = page([run], ["run"], [run.table()], [[]], images=2)
    assert found.count('class="sheet"') == 2 and "By Energy" in found and "<table" not in found


def test_a_notebook_shows_it_in_short(made):
    shown = made._repr_html_()
    rows = {(row.set, row.score, row.metric): row for row in made.rows()}
    assert "digits (40), noise (11), contrast (40)" in shown and f"{rows['noise', 'energy', 'auroc'].value:.4g} [" in shown and "Max Softmax (MSP)" in shown


def test_runs_of_two_kinds_have_no_report_together(made, tmp_path):
    class Other(evaluate.Run):
        def __init__(self):
            self.path, self.config = tmp_path, {"methods": {}}

    with pytest.raises(ValueError, match="runs must be of one kind"):
        evaluate.report([made, Other()], tmp_path)
