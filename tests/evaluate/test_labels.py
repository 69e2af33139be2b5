"""Labels, folders and records as people make them: no two columns share a name, whatever the labels are a report can be written, and what is no record is told so."""

import json
import shutil

import jax
import numpy as np
import pytest
import runs

from jxai import data, evaluate, metrics
from jxai.attribution import gradient
from jxai.evaluate import columns
from jxai.evaluate.joined import labelled
from jxai.evaluate.latex import escaped
from jxai.evaluate.store import PICTURE, Run
from jxai.evaluate.table import as_markdown, summarise

pytestmark = pytest.mark.usefixtures("quick_compilation")
FILE = "<i>|[a]/" + "b" * 250


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    methods, judges = {"file": gradient, "gradient": gradient, "Gradient": lambda f, x, target, key: -x * 0 + x**2}, {FILE: metrics.sparseness}
    return evaluate.run(
        runs.model(), data.Digits(), methods, judges, tmp_path_factory.mktemp("odd") / "run", limit=4, block=4, batch_size=4, seed=3, seeds=(5, 4)
    )


def test_a_report_of_odd_labels(odd, tmp_path):
    evaluate.report([odd], tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} >= {".md", ".tex", ".csv", ".html", ".png", ".pdf"}
    rows = [line for line in (tmp_path / "summary.md").read_text().splitlines() if line.startswith("| ")]
    assert rows[0].startswith(r"| method | \<i>\|[a]/bbb") and all(
        line.replace(r"\|", "").count("|") == rows[0].replace(r"\|", "").count("|") for line in rows[:4]
    )
    page = (tmp_path / "report.html").read_text()
    assert ">gradient<" in page and ">Gradient<" in page  # not twice by one name, of which a chart would show one


def test_a_latex_row_begins_no_argument():
    assert escaped("[a]*") == "{[}a]{*}"


def _record(seeds, **on):
    asked = {label: {"options": {}, "seeds": seeds} for label in on}
    return {"seed": 0, "methods": asked, "metrics": {metric: {"on": asked} for metric in dict.fromkeys(m for own in on.values() for m in own)}}


def test_two_columns_of_one_name_are_refused(odd):
    columns.refuse_alike(_record([0, 1], **{"rise": ["a"], "rise@seed=2": ["b/c"]}))
    with pytest.raises(ValueError, match="'rise@seed=1' would be of rise and of rise@seed=1"):
        columns.refuse_alike(_record([0, 1], **{"rise": ["a"], "rise@seed=1": ["a"]}))
    with pytest.raises(ValueError, match=r"'a/b/c' would be of a(/b)?, judged by (b/)?c and of"):
        columns.refuse_alike(_record([0], **{"a": ["c", "b/c"], "a/b": ["c"]}))


def test_maps_of_other_seeds_than_the_runs_own_are_looked_at(tmp_path):
    noise = lambda f, x, target, key: x * jax.random.uniform(key, x.shape)
    run = evaluate.run(
        runs.model(), data.Digits(), {"noise": noise}, ["sparseness"], tmp_path / "run", limit=2, block=2, batch_size=2, sample="first", seed=3, seeds=(5, 4)
    )
    shown = run.looked_at({0})[0]
    assert {"noise", "noise@seed=4", "noise@seed=5", PICTURE} == shown.keys() and np.array_equal(shown["noise"], shown["noise@seed=4"])
    assert evaluate.report([run], tmp_path / "report") and (tmp_path / "report" / "examples.png").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["methods"]["rise"].pop("seeds"),
        lambda c: c["metrics"]["sparseness"]["on"]["rise"].pop("seeds"),
        lambda c: c["data"].pop("parts"),
        lambda c: c.update(metrics=[]),
        lambda c: c.update(metrics={"sparseness": 3}),
        lambda c: c.pop("keep_maps"),
    ],
)
def test_a_record_of_another_version(whole, tmp_path, change):
    config = json.loads((whole.path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="not as this version of jxai writes it"):
        Run(tmp_path)


def test_anew_beside_a_report(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "run")
    (tmp_path / "run" / "report").mkdir()
    (tmp_path / "run" / "report" / "summary.md").write_text("what a person may want")
    (tmp_path / "run" / ".config.0.json").write_text("{")  # of a process that was killed
    with Run.writing(tmp_path / "run", {**whole.config, "seed": 1}, anew=True) as run:
        assert not list(run.path.glob(".config*"))
        assert run.config["seed"] == 1 and not run.table() and (tmp_path / "run" / "report" / "summary.md").exists()


def test_every_run_has_a_name_of_its_own(whole, tmp_path):
    found = []
    for name in ("x/a", "y/a", "z/a-1"):
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(whole.path / "config.json", tmp_path / name)
        found.append(Run(tmp_path / name))
    assert len(set(labelled(found))) == 3 and labelled(found[1:]) == ["a", "a-1"]


def test_a_score_that_failed_on_all_examples_says_so(odd):
    rows = [row._replace(n=0, mean=np.nan, failed=4, missing=0) for row in summarise(odd, odd.table())]
    assert as_markdown(odd, odd.table(), rows).count("| –, 4 failed |") == 3


def _of_score(out, score, method=None):
    config = {"block": 2, "batch_size": 2, "limit": 2, "keep_maps": False}
    methods = {"gradient": gradient} if method is None else {method: (gradient, {"score": score})}
    options = {} if method else {"score": score}
    return evaluate.run(runs.model(), data.Digits(), methods, {"d": (metrics.deletion, {"steps": 2, **options})}, out, **config)


def test_other_scores_of_several_runs_are_not_averaged_and_are_told(tmp_path):
    logit, probability, other = (_of_score(tmp_path / "1", "logit"), _of_score(tmp_path / "2", "probability"), _of_score(tmp_path / "3", "probability", "p"))
    with pytest.raises(ValueError, match="hold another d each: metrics.d.on.gradient.score: 'logit' there"):
        evaluate.joined([logit, probability])
    assert evaluate.joined([logit, other]).notes == ("d is measured in logit of gradient and in probability of p: their values have other scales",)
    assert not evaluate.joined([probability, other]).notes


def test_a_label_is_a_text():
    with pytest.raises(ValueError, match="methods names 1, which is no text"):
        evaluate.run(runs.model(), data.Digits(), {1: gradient}, ["sparseness"], "out", limit=1)
