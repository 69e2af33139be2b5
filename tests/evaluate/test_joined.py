"""What is said of whether methods differ: published examples, scipy's own numbers, and a word where a number has no meaning."""

import csv
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
import runs
from scipy import stats

from jxai import attribution, data, evaluate, metrics, naming
from jxai.evaluate import comparison, latex, verdicts
from jxai.evaluate.comparison import compared

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
# Demšar 2006, table 6: the AUC of four variants of C4.5 on 14 data sets.
AUC = np.asarray(
    """.763 .768 .771 .798 .599 .591 .590 .569 .954 .971 .968 .967 .628 .661 .654 .657 .882 .888 .886 .898 .936 .931 .916 .931 .661 .668 .609 .685
    .583 .583 .563 .625 .775 .838 .866 .875 1.000 1.000 1.000 1.000 .940 .962 .965 .962 .619 .666 .614 .669 .972 .981 .9751 .975 .957 .978 .946 .970""".split(),
    float,
).reshape(14, 4)


def test_the_published_example():
    found = compared("auc", NAMES, AUC, 1, "data set")
    test = found.friedman
    n, k, ranks = 14, 4, np.asarray(list(found.ranks.values()))
    ties = sum(t**3 - t for row in AUC for t in np.unique(row, return_counts=True)[1]) / (n * k * (k * k - 1))
    plain = test.statistic * (1 - ties)  # the paper's χ² takes no account of ties
    assert plain == pytest.approx(9.28, abs=0.02) and (n - 1) * plain / (n * (k - 1) - plain) == pytest.approx(3.69, abs=0.02)
    assert (test.statistic, test.p) == pytest.approx(stats.friedmanchisquare(*AUC.T)) and test.f == pytest.approx(13 * test.statistic / (42 - test.statistic))
    assert test.f_p == pytest.approx(stats.f.sf(test.f, 3, 39)) and test.f > stats.f.isf(0.05, 3, 39) == pytest.approx(2.85, abs=0.01)
    assert ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=6e-4)
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)  # the paper prints 1.25
    assert not found.notes and len(found.pairs) == 6


def test_pairs_are_scipys_wilcoxon_with_holms_correction_and_a_rank_biserial_effect():
    found = compared("auc", NAMES, AUC, 1, "data set")
    for pair in found.pairs:
        a, b = (AUC[:, NAMES.index(name)] for name in (pair.first, pair.second))
        d = (a - b)[a != b]
        order = stats.rankdata(abs(d))
        signs = np.stack(np.meshgrid(*[[0, 1]] * len(d)), -1).reshape(-1, len(d))  # all of them, ties or none
        p = min(1, 2 * np.mean(signs @ order <= min(order[d > 0].sum(), order[d < 0].sum()) + 1e-9))
        assert (pair.statistic, pair.p) == pytest.approx((stats.wilcoxon(d, method="asymptotic").statistic, p)) and pair.zeros == (a == b).sum()
        assert pair.effect == pytest.approx(np.sum(order * np.sign(d)) / order.sum()) and pair.difference == pytest.approx(np.median(a - b))
    for n in (9, 40, 80):
        d = np.random.default_rng(n).normal(0.2, size=n)
        theirs = stats.wilcoxon(d, method="exact" if n < 50 else "asymptotic")
        (pair,) = compared("m", ("a", "b"), np.stack([d, 0 * d], 1), 1).pairs
        assert pair.p == pytest.approx(theirs.pvalue)
    # Holm by hand: sorted p times 6, 5, …, none below an earlier one.
    p, adjusted = (np.asarray([getattr(pair, name) for pair in found.pairs]) for name in ("p", "adjusted"))
    order = np.argsort(p, kind="stable")
    assert adjusted[order] == pytest.approx(np.minimum(1, np.maximum.accumulate(p[order] * np.arange(6, 0, -1))))
    lower = compared("error", NAMES, -AUC, -1)
    assert [pair.effect for pair in lower.pairs] == pytest.approx([pair.effect for pair in found.pairs]) and lower.ranks == found.ranks
    worse = compared("auc", ("a", "b"), np.stack([np.arange(20.0), np.arange(20.0) + 1.5], 1), 1)
    assert worse.pairs[0].effect == -1 and worse.pairs[0].better == "b" and worse.friedman is None


@pytest.mark.parametrize(
    ("methods", "scores", "direction", "said"),
    [
        ("a", [[1.0], [2]], 1, "one method"),
        ("ab", [[1.0, 2], [3, 1]], 1, "Friedman's test needs three"),
        ("abc", [[1.0, 2, 3]], 1, "one row"),
        ("abc", [[1.0, 1, 1], [2, 2, 2]], 1, "all methods score the same"),
        ("abc", [[1.0, 2, np.nan]], 1, "no example has a finite score of every method"),
        ("abc", [[1.0, 2, 3], [3, 2, 1]], 0, "neither higher nor lower is better"),
        ("abc", [[1.0, 2, 3], [3, 2, 1], [1, 3, 2]], 1, "3 rows: the χ² .* is rough"),
    ],
)
def test_what_has_no_meaning_is_none_and_is_said(methods, scores, direction, said):
    found = compared("m", tuple(methods), np.asarray(scores), direction)
    assert any(re.search(said, note) for note in found.notes)
    assert "NaN" not in json.dumps(dataclasses.asdict(found))
    assert all((pair.p is None) == (pair.adjusted is None) and (pair.p is not None or pair.note) for pair in found.pairs)
    few = [pair for pair in found.pairs if pair.p is not None]
    assert all("cannot fall below 5 %" in pair.note and not pair.better for pair in few)


def test_a_row_with_nan_counts_for_the_pairs_that_have_it():
    scores = np.random.default_rng(0).normal(size=(30, 3))
    scores[:10, 2], scores[3, 0] = np.nan, np.inf
    found = compared("m", ("a", "b", "c"), scores, 1)
    assert (found.n, found.left_out) == (20, 10) and [pair.n for pair in found.pairs] == [29, 20, 20]


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another method on the same images and model, and the same methods on another model."""
    out, options = tmp_path_factory.mktemp("others"), {"limit": 21, "sample": "first", "block": 8, "batch_size": 2}
    judged = list(runs.METRICS)
    split = evaluate.run(runs.model(), data.Digits(), {"occlusion": None}, judged, out / "split", **options)
    model = evaluate.run(
        runs.model(2.0), data.Digits(), {"gradient": None, "abs:gradient": None, "more": attribution.input_x_gradient}, judged, out / "model", **options
    )
    return split, model


def test_runs_of_one_setting_are_joined_by_the_image_and_of_others_stacked(whole, other):
    alone, both, three = evaluate.joined([whole]), evaluate.joined([whole, other[0]]), evaluate.joined([whole, *other])
    assert alone.methods == tuple(runs.METHODS) and not alone.by_setting and len(alone.settings) == 1
    assert both.methods == (*runs.METHODS, "occlusion") and both.by_example[0].n == 21 and both.settings[0].runs == ("whole", "split")
    assert three.methods == ("gradient", "abs:gradient") and [s.runs for s in three.settings] == [("whole", "split"), ("model",)]
    found = three.by_example[runs.METRICS.index("sparseness")]
    tables = [run.table() for run in (whole, other[1])]
    scores = np.concatenate([np.stack([t[f"score/{m}/sparseness"] for m in three.methods], 1) for t in tables])
    assert found.n == 42 and list(found.ranks.values()) == pytest.approx(stats.rankdata(-scores, axis=1).mean(0))
    means = np.stack([np.stack([t[f"score/{m}/sparseness"].astype(float) for m in three.methods], 1).mean(0) for t in tables])
    row = three.by_setting[runs.METRICS.index("sparseness")]
    assert row.n == 2 and row.pairs[0].difference == pytest.approx(np.median(means[:, 0] - means[:, 1])) and "rise" in three.notes[0]


def test_one_label_for_two_things_in_one_setting_is_refused(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    config = json.loads((whole.path / "config.json").read_text())
    config["methods"]["rise"]["options"]["num_masks"] = 9
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"another rise each: methods\.rise\.options\.num_masks: 7 there, 9 here; .* label of its own"):
        evaluate.joined([whole, tmp_path / "run"])


def test_what_a_report_writes_of_it(whole, other, tmp_path):
    evaluate.report([whole, other[1]], tmp_path)
    assert {path.name for path in tmp_path.glob("*.pdf")} == {f"critical_difference_{metric}.pdf" for metric in runs.METRICS}
    text, table = (tmp_path / "summary.md").read_text(), list(csv.DictReader(io.StringIO((tmp_path / "tests.csv").read_text())))
    assert "## Do the methods differ?" in text and "methods that not all settings have are not compared: smoothgrad" in text
    assert "## Over data sets and models" in text and {row["rows"] for row in table} == {"example", "setting"}
    tex = (tmp_path / "summary.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\bottomrule") == 3 and r"\textbar{}Gradient\textbar{} &" in tex and "abs:" not in tex
    for line in tex.splitlines():
        assert not line.startswith(("Smooth", "RISE")) or line.count(" & ") == 3


def test_holms_correction_never_falls_from_one_pair_to_the_next():
    """Three pairs of p .010, .011 and .9: 3 · .010 = .030 is also the second one's, whose own 2 · .011 is less."""
    pairs = [comparison.Pair("a", "b", 9, 0, 0.0, 0.0, p, None, 0.0, "") for p in (0.9, 0.011, 0.010)]
    assert [pair.adjusted for pair in comparison._holm(pairs)] == pytest.approx([0.9, 0.030, 0.030])
    assert [pair.adjusted for pair in comparison._holm(pairs[:1] * 2)] == [1.0, 1.0]


def test_of_many_methods_those_that_are_not_told_apart_are_named():
    scores = np.arange(60.0)[:, None] / 1000 + np.arange(5)
    scores[:, 4] = scores[:, 3] + np.where(np.arange(60) % 2, 0.1, -0.1)
    found = compared("auc", tuple("abcde"), scores, 1)
    text = verdicts.as_markdown(evaluate.Joined((), tuple("abcde"), (found,), (), ()))
    assert "Told apart: 9 of 10 pairs, but not d and e (tests.csv has them all)." in text and "| pair |" not in text
    assert "| pair |" in verdicts.as_markdown(evaluate.Joined((), tuple("abcd"), (compared("auc", tuple("abcd"), scores[:, :4], 1),), (), ()))


def test_latex_escapes_and_marks():
    assert latex.escaped("a_b & 50% of {x}~$^\\") == r"a\_b \& 50\% of \{x\}\textasciitilde{}\$\textasciicircum{}\textbackslash{}"
    assert [latex.number(v) for v in (0.12345, -2.0, 1e-7, np.inf, np.nan)] == ["0.123", "$-2$", r"$1 \times 10^{-7}$", r"$\infty$", "--"]
    assert verdicts.best([0.1234, 0.1233, 0.2], -1) == [True, True, False] and verdicts.best([1.0, 2.0], 0) == [False, False]


def test_every_method_and_metric_has_a_proper_name():
    assert set(naming.METHODS) == set(attribution.__all__) and set(naming.METRICS) == set(metrics.__all__)
    assert [naming.proper(label) for label in ("grad_cam", "abs:gradient", "sobol@num_designs=16", "my_own")] == [
        "Grad-CAM",
        "|Gradient|",
        "Sobol (num designs 16)",
        "my_own",
    ]
