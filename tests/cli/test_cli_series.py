"""`jxai explain` of series, vectors and files with odd names: files are written, pictures too."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jxai
from jxai import cli

FACTORY = """
import jax.numpy as jnp
class Made:
    def __init__(self, shape): self.input_shape, self.model = shape, lambda x: jnp.stack([x.sum(), (x * x).sum(), x.ravel()[0]])
short, long, table, video = (lambda shape=shape: Made(shape) for shape in ((12, 1), (12, 10), (30,), (2, 3, 4, 1)))
def five(): return Made((2, 2, 2, 2, 1))
def picture(): return Made(None)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_series", raising=False)
    (tmp_path / "own_series.py").write_text(FACTORY)
    return tmp_path


@pytest.mark.parametrize(("name", "shape"), [("short", (12, 1)), ("long", (12, 10)), ("table", (30,)), ("video", (2, 3, 4, 1)), ("five", (2, 2, 2, 2, 1))])
def test_whatever_the_rank_the_results_are_written(here, capsys, name, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save("x.npy", x)
    assert cli.main(["explain", "x.npy", "--model", f"own_series:{name}", "--methods", "gradient", "--target", "1", "--out", "out"]) == 0
    np.testing.assert_allclose(np.load("out/explanation.npz")["gradient"][0], 2 * x, rtol=1e-6)
    assert os.path.exists("out/explanation.png") == (name != "five")
    assert ("has no picture" in capsys.readouterr().out) == (name == "five")


@pytest.mark.slow
def test_odd_names_of_files_are_no_trouble(here):
    from PIL import Image

    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save("t.png")
    for name in (b"price_$5_$6.png", b"caf\xe9.png", b"two\nlines.png"):
        os.rename(b"t.png", name)
        command = [sys.executable, "-m", "jxai", "explain", name, "--model", "own_series:picture", "--methods", "gradient", "--out", "out"]
        done = subprocess.run(
            command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(jxai.__file__).parents[1])}
        )
        assert done.returncode == 0, done.stderr
        assert sorted(os.listdir("out")) == ["explanation.npz", "explanation.png"]
        os.rename(name, b"t.png")
