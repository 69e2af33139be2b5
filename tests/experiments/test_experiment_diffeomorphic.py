"""The experiment on coordinates runs, and its rows are what the metrics say of what the searches find."""

import json

import jax
import numpy as np
import pytest

from experiments.counterfactual import diffeomorphic, every_class
from jxai import counterfactual
from jxai.evaluate.record import folder
from jxai.models import ordinary as trained


@pytest.mark.slow
def test_diffeomorphic(tmp_path):
    config = diffeomorphic.Config(images=2, seeds=1, train=2048, steps=80, threshold=0.6, out=str(tmp_path))
    try:
        rows = diffeomorphic.run(config)
    except (FileNotFoundError, ValueError) as error:
        pytest.skip(f"needs the data set mnist and the weights mnist_vae: {error}")
    assert (folder(config) / "counterfactuals.png").stat().st_size > 1000
    written = json.loads((folder(config) / "results.json").read_text())["rows"]
    assert len(written) == len(rows) and {r["coordinates"] for r in rows} == {"pixels", "vae"}
    f, oracle = trained.ordinary(0, 2048), trained.ordinary(1, 2048)
    x, target = every_class.cases([f], *trained.mnist("test", 8), 2)
    assert target.shape == (2, 9) and all(set(t) == set(range(10)) - {int(f(v).argmax())} for v, t in zip(x, target))
    search = counterfactual.diffeomorphic.search(generator=diffeomorphic.coordinates(config)["vae"], threshold=0.6, steps=80, learning_rate=0.05)
    found = counterfactual.run(search, f, x, target)
    ok = found.valid.ravel()
    said = np.asarray(jax.vmap(oracle)(found.x.reshape(-1, 28, 28, 1))).argmax(1)
    row = {r["metric"]: r for r in rows if r["coordinates"] == "vae" and r["seed"] == 0}
    assert row["reached"]["mean"] == pytest.approx(ok.mean()) and row["steps"]["mean"] == pytest.approx(found.steps.mean())
    assert row["oracle agrees"]["mean"] == pytest.approx((said == target.ravel())[ok].mean()) and row["oracle agrees"]["n"] == ok.sum() > 5
    flat = np.abs(found.x - x[:, None]).reshape(18, -1)[ok]
    assert row["L1"]["mean"] == pytest.approx(flat.sum(1).mean(), rel=1e-4)
