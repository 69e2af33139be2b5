"""Reports: the numbers are those of the run, the statistics those of the textbooks."""

import csv
import shutil

import numpy as np
import pytest
import runs
from PIL import Image
from scipy import stats

from jxai import data, evaluate, metrics
from jxai.attribution import gradient
from jxai.evaluate import statistics
from jxai.evaluate.table import as_csv, direction_of, scores_of

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_interval_of_a_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [statistics.mean_interval(rng.exponential(size=60), resamples=500, seed=n) for n in range(300)]
    assert 0.90 <= np.mean([i.low <= 1 <= i.high for i in intervals]) <= 0.98


def test_interval_is_near_students_for_many_normal_values():
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = statistics.mean_interval(values)
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert found.mean == values.mean() and found.low == pytest.approx(low, abs=0.03) and found.high == pytest.approx(high, abs=0.03)
    assert found == statistics.mean_interval(np.append(values, [np.nan]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (np.nan, np.nan, np.nan, 0)), ([np.nan], (np.nan, np.nan, np.nan, 0)), ([2.0, np.nan], (2, np.nan, np.nan, 1)), ([2.0] * 5, (2, 2, 2, 5))],
)
def test_interval_of_few_values(values, expected):
    assert np.array_equal(statistics.mean_interval(np.asarray(values)), expected, equal_nan=True)


def test_ranks_and_critical_difference_of_the_published_example():
    # Demšar 2006, table 6: AUC of four C4.5 variants on 14 data sets; mean ranks 3.143, 2.000, 2.893, 1.964; CD at 5 % 1.25 (for α = .05: 2.569 √(4·5/(6·14))).
    auc = np.asarray(
        """.763 .768 .771 .798 .599 .591 .590 .569 .954 .971 .968 .967 .628 .661 .654 .657 .882 .888 .886 .898 .936 .931 .916 .931 .661 .668 .609 .685
        .583 .583 .563 .625 .775 .838 .866 .875 1.000 1.000 1.000 1.000 .940 .962 .965 .962 .619 .666 .614 .669 .972 .981 .9751 .975 .957 .978 .946 .970""".split(),
        float,
    ).reshape(14, 4)
    found = statistics.ranking(auc, 1)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=6e-4) and found.n == 14
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert statistics.ranking(-auc, -1).ranks == pytest.approx(found.ranks)
    chi2 = 12 * 14 / (4 * 5) * ((found.ranks**2).sum() - 4 * 5**2 / 4)
    assert chi2 == pytest.approx(9.28, abs=0.02)  # the paper's, not corrected for ties, which can only raise it
    assert stats.chi2.sf(chi2 * 1.2, 3) < found.p < stats.chi2.sf(chi2, 3)


def test_ranks_leave_out_examples_on_which_a_method_failed():
    scores = np.asarray([[1.0, 2, 3], [np.nan, 9, 1], [1, 2, 3]])
    assert statistics.ranking(scores, 1).ranks.tolist() == [3, 2, 1] and statistics.ranking(scores, 1).n == 2
    nothing = statistics.ranking(np.full((2, 3), np.nan), 1)
    assert nothing.n == 0 and np.isnan(nothing.ranks).all()
    same = statistics.ranking(np.ones((5, 3)), -1)
    assert same.ranks.tolist() == [2, 2, 2] and np.isnan(same.p)


def test_the_csv_holds_the_means_of_the_runs_scores(whole, tmp_path):
    evaluate.report([whole.path], tmp_path, pictures=False)
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    table = whole.table()
    assert {(row["metric"], row["method"]) for row in rows} == {(k, m) for k in runs.METRICS for m in runs.METHODS} and len(rows) == 15
    for row in rows:
        scores = table[f"score/{row['method']}/{row['metric']}"].astype(float)
        assert float(row["mean"]) == scores.mean() and float(row["low"]) <= scores.mean() <= float(row["high"]) and row["n"] == "21"
    for metric in runs.METRICS:
        ranks = stats.rankdata(-np.stack([table[f"score/{m}/{metric}"] for m in runs.METHODS], 1), axis=1).mean(0)
        assert [float(r["rank"]) for r in sorted(rows, key=lambda r: list(runs.METHODS).index(r["method"])) if r["metric"] == metric] == pytest.approx(
            list(ranks)
        )


def test_the_csv_is_the_same_to_the_bit_for_the_same_scores(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "whole")
    texts = [as_csv(evaluate.report([path], tmp_path / "report", pictures=False)) for path in (whole.path, tmp_path / "whole")]
    assert texts[0] == texts[1]


def test_pictures_and_several_runs(whole, tmp_path):
    other = evaluate.run(
        runs.model(2.0), data.Digits(), ["gradient", "rise"], {"deletion": (metrics.deletion, {"steps": 4})}, tmp_path / "other", limit=5, sample="first"
    )
    evaluate.report([whole, other], tmp_path / "report")
    pictures = {str(path.relative_to(tmp_path / "report")) for path in (tmp_path / "report").rglob("*.png")}
    assert pictures == {
        "whole/heatmap.png",
        "whole/examples.png",
        "other/examples.png",
        *(f"whole/critical_difference_{metric}.png" for metric in runs.METRICS),
        *(f"other/{name}.png" for name in ("heatmap", "curves_deletion", "critical_difference_deletion")),
    }
    assert all(np.asarray(Image.open(tmp_path / "report" / name)).std() > 5 for name in pictures)
    text = (tmp_path / "report" / "summary.md").read_text()
    assert "## whole:" in text and "## other:" in text and "deletion ↓" in text


def test_least_relevant_first_turns_the_direction(tmp_path):
    given = {"deletion": (metrics.deletion, {"steps": 4}), "least": (metrics.deletion, {"steps": 4, "order": "least"})}
    run = evaluate.run(runs.model(), data.Digits(), {"mine": gradient}, given, tmp_path / "run", limit=3, sample="first")
    assert (direction_of(run, "deletion"), direction_of(run, "least")) == (-1, 1)
    assert scores_of(run, run.table(), "least").shape == (3, 1)


def test_errors(tmp_path, whole):
    with pytest.raises(ValueError, match="must name at least one"):
        evaluate.report([], tmp_path)
    with pytest.raises(ValueError, match="no run: it has no config.json"):
        evaluate.report([tmp_path], tmp_path)
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run" / "blocks" / "000001.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="000001.npz is damaged.*evaluating again mends it"):
        evaluate.report([tmp_path / "run"], tmp_path)
    shutil.rmtree(tmp_path / "run" / "blocks")
    with pytest.raises(ValueError, match="no finished block yet"):
        evaluate.report([tmp_path / "run"], tmp_path)
