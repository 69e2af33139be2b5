"""What a report says beside the scores: classes, accuracy, ties, heavy tails, options."""

import types

import numpy as np
import pytest
import runs

from jxai import data, evaluate, metrics
from jxai.evaluate import table, told


@pytest.mark.parametrize(
    ("values", "share"), [([1, 2, 3, 4], 0), ([0, 0, 0, 5], 0.75), ([2, 1, 2, 1], 1), ([np.nan, np.nan, 1, 2], 0), ([-0.0, 0.0, 1, 2], 0.5)]
)
def test_ties_are_the_entries_that_equal_another(values, share):
    assert told.ties(np.float32([values]))[0] == share


def of(**columns):
    n = len(next(iter(columns.values())))
    return {"valid": np.ones(n, bool), "index": np.arange(n), "name": np.full(n, ""), "error": np.full(n, ""), **{k: np.asarray(v) for k, v in columns.items()}}


def test_classes_are_counted_and_accuracy_is_of_those_with_a_label():
    said = told.classes(of(label=[0, 0, 1, 2, -1], predicted=[0, 1, 1, 2, 2]))
    assert said == "Examples by label: 0: 2, 1: 1, 2: 1. The model is right on 3 of 4 (75.0%)."
    assert told.classes(of(label=[-1, -1], predicted=[0, 1])) == ""
    assert "of 1 (100.0%)" in told.classes({**of(label=[1, 1], predicted=[1, 0]), "valid": np.array([True, False])})


CONFIG = {
    "model": {"name": "m"},
    "data": {"name": "d"},
    "target": "predicted",
    "where": "all",
    "seed": 0,
    "methods": {
        "cam": {"seeds": [0], "options": {"score": "logit", "layer": None}},
        "rise": {"seeds": [0], "options": {"num_masks": 7, "fill": "float32[1] sha256 00"}},
    },
    "metrics": {"deletion": {"direction": -1, "options": {"steps": 4}, "on": {m: {"options": {"score": "logit"}, "seeds": [0]} for m in ("cam", "rise")}}},
}


def test_a_report_says_ties_heavy_tails_and_options():
    of_nothing = {"damaged_maps": lambda: [], "lacking": dict}
    run = types.SimpleNamespace(config=CONFIG, methods=["cam", "rise"], metrics=["deletion"], path=types.SimpleNamespace(name="r"), **of_nothing)
    columns = of(label=[0, 1, 1, 1, 1], predicted=[0, 1, 1, 0, 1])
    columns |= {"score/cam/deletion": np.float32([0, 0, 0, 0, 100]), "score/rise/deletion": np.float32([1, 2, 3, 4, 5])}
    columns |= {"tied/cam": np.float32([0.9] * 5), "tied/rise": np.float32([0.0] * 5)}
    rows = table.summarise(run, columns)
    text = table.as_markdown(run, columns, rows)
    assert "Examples by label: 0: 1, 1: 4. The model is right on 4 of 5 (80.0%)." in text
    assert "whose order the seed draws, and which is no finding: cam 90%." in text
    assert "- cam: score logit\n- rise: num_masks 7\n- deletion: steps 4, score logit" in text and "| method | deletion ↓ (logit) |" in text
    cam, rise = (next(line for line in text.splitlines() if line.startswith(f"| {name}")) for name in ("cam", "rise"))
    assert "20 [0, 60], median 0" in cam and "median" not in rise
    assert {row.method: row.median for row in rows} == {"cam": 0, "rise": 3}


def test_the_seed_orders_what_is_equal_in_a_map(tmp_path):
    flat = lambda f, x, target, key=None: x * 0
    run = evaluate.run(
        runs.model(), data.Digits(), {"flat": flat}, {"d": (metrics.deletion, {"steps": 2})}, tmp_path, limit=2, block=2, batch_size=2, seeds=(0, 1)
    )
    table = run.table()
    assert (table["tied/flat"] == 1).all() and (table["score/flat/d"] != table["score/flat@seed=1/d"]).all()
