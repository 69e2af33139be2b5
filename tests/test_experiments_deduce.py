"""The experiment on sparse counterfactuals runs, and its rows are what the searches and metrics say."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from jxai import counterfactual

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
import deduce  # noqa: E402
import trained  # noqa: E402


def test_means_of_what_is_kept():
    values, kept = np.array([[1.0, 2, 6], [4, 5, 6], [7, 8, np.nan]]), np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], bool)
    np.testing.assert_array_equal(deduce.means(values, kept), [3.5, np.nan, 7.5])


@pytest.mark.slow
def test_deduce(tmp_path):
    small = dict(images=1, judged=1, train=512, steps=30, widths=(2,), search_steps=20, judge_steps=2)
    config = deduce.Config(methods=("deduce", "jsma"), threshold=0.105, out=str(tmp_path), **small)
    try:
        rows = deduce.run(config)
    except (FileNotFoundError, ValueError, ImportError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae and mnist_gan: {error}")
    assert (tmp_path / "counterfactuals.png").stat().st_size > 1000
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == len(rows)
    assert deduce.Config().threshold == 0.5 and {r["metric"] for r in rows} >= {"failures", "steps", "L0", "L1", "AnoGAN", "accuracy"}
    plain, normal = (deduce.network(config.widths, 512, 30, 0, normal) for normal in (False, True))
    x, target = deduce.cases([normal, plain], *trained.mnist("test", 1000), 1)
    assert target.shape == (1, 9) and all(set(t) == set(range(10)) - {int(f(v).argmax())} for f in (plain, normal) for v, t in zip(x, target))
    found = counterfactual.run(counterfactual.jsma.search(threshold=0.105), plain, x, target)
    row = {(r["of"], r["metric"]): r for r in rows if r["method"] == "jsma"}
    assert row["all", "failures"]["mean"] == pytest.approx(1 - found.valid.mean()) and row["all", "steps"]["mean"] == pytest.approx(found.steps.mean())
    changed = (np.abs(found.x - x[:, None]) > 1e-5).reshape(1, 9, -1).sum(2)
    each = [changed[i][found.valid[i]].mean() for i in range(1) if found.valid[i].any()]
    assert row["reached", "L0"]["mean"] == pytest.approx(np.mean(each)) and row["reached", "L0"]["n"] == len(each)
