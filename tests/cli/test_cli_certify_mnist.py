"""`jxai certify` on MNIST, of the network that Wong and Kolter trained to be provably robust."""

import os
from pathlib import Path

import pytest

from jxai import cli, evaluate

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.slow
def test_robust_mnist_as_the_paper_trained_it(tmp_path, capsys, monkeypatch):
    shared = Path(os.environ.get("JXAI_DATA", Path(__file__).parents[3] / "shared"))
    if not (shared / "weights" / "robust_mnist.npz").is_file() or not (shared / "tfds" / "mnist").is_dir():
        pytest.skip("no shared data: set JXAI_DATA or put it into ../shared")
    monkeypatch.setenv("JXAI_DATA", str(shared))
    monkeypatch.chdir(tmp_path)
    given = ["--model", "robust_mnist", "--radius", "0.1", "--limit", "16", "--margins.rounding", "nearest"]
    assert cli.main(["certify", "mnist", *given]) == 0
    table = evaluate.Run("certification").table()
    assert "16 examples of mnist" in capsys.readouterr().out and (table["predicted"] == table["label"]).sum() >= 15
    assert table["certified"].sum() >= 14 and not (table["certified"] & table["attacked"]).any()
