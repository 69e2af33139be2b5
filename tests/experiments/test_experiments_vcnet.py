"""The experiment on tables runs, and its rows are what the network and the metrics say."""

import json

import numpy as np
import pytest

from experiments.counterfactual import vcnet
from jxai import counterfactual
from jxai.evaluate.record import folder

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.slow
def test_vcnet(tmp_path):
    config = vcnet.Config(tables=("compas",), examples=30, seeds=1, limit=600, steps=400, search_steps=30, out=str(tmp_path))
    try:
        t = vcnet.table("compas", 600, 30)
    except (ImportError, ValueError) as error:
        pytest.skip(f"needs the data set compas: {error}")
    rows = vcnet.run(config)
    assert len(json.loads((folder(config) / "results.json").read_text())["rows"]) == len(rows)
    assert t.x.shape == (600, 11) and t.names[t.feature[t.immutable[0]]] == "age" and len(t.immutable) == 5
    assert t.x.min() == 0 and t.x.max() == 1 and all((t.tests[:, list(group)].sum(1) == 1).all() for group in t.groups)
    f = vcnet.network(config, t, 0)
    own = np.stack([np.asarray(f(v)).argmax() for v in t.tests])
    found = counterfactual.run(vcnet.methods(config, t)["vcnet"], f, t.tests, 1 - own)
    row = {r["metric"]: r for r in rows if r["method"] == "vcnet" and r["seed"] == 0}
    assert row["validity"]["mean"] == pytest.approx(found.valid.mean()) and row["validity"]["n"] == 30
    assert np.array_equal(found.x[:, list(t.immutable)], t.tests[:, list(t.immutable)]) and row["broken constraints"]["mean"] == 0
    assert row["L1"]["mean"] == pytest.approx(np.abs(found.x - t.tests)[found.valid].sum(1).mean(), rel=1e-4) and found.valid.any()
    (accuracy,) = [r for r in rows if r["method"] == "predictor" and r["seed"] == 0]
    assert accuracy["mean"] == pytest.approx((own == t.labels).mean())
