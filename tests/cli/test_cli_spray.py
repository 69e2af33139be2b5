"""`jxai spray RUN`: the library's clusters, a table, files and a page; one line for every kind of bad input."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import data, evaluate, metrics
from jxai.attribution import input_x_gradient
from jxai.cli import main

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rng = np.random.default_rng(0)
    x = (0.3 * rng.uniform(size=(48, 5, 5, 1))).astype(np.float32)
    x[:12:2, :2, :2] += 0.7
    f = jax.tree_util.Partial(jnp.tensordot, jnp.asarray(rng.normal(size=(2, 5, 5, 1)), jnp.float32), axes=3)
    source = data.Arrays(x, np.arange(48) % 2, class_names=CLASSES)
    path = tmp_path_factory.mktemp("run") / "run"
    evaluate.run(f, source, {"input_x_gradient": input_x_gradient}, {"sparseness": metrics.sparseness}, path, target="label", model_name="own")
    return path


def test_the_command_prints_and_writes_the_librarys_clusters(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["spray", str(run), "--label", "cat", "1", "--permutations", "19", "--layout", "none", "--out", str(out), "--html"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = evaluate.clusters(run, num_permutations=19, layout="none")
    best = min(expected, key=lambda one: one.test.p_value)
    sizes = " + ".join(map(str, np.bincount(best.spectrum.labels)))
    assert lines[1].startswith(f"input_x_gradient  {CLASSES[best.target]}") and sizes in lines[1] and f"{best.test.p_value:.2g}" in lines[1]
    assert best.target == 0 and np.bincount(best.spectrum.labels).tolist() == [18, 6]
    assert lines[3] == f"wrote summary.csv, labels.csv and 2 pictures into {out}" and lines[4] == f"wrote {out / 'spray.html'}"
    with open(out / "labels.csv", newline="") as file:
        labels = {int(line["index"]): int(line["cluster"]) for line in csv.DictReader(file)}
    assert labels == {int(i): int(c) for one in expected for i, c in zip(one.places, one.spectrum.labels)}
    page = (out / "spray.html").read_text("utf-8")
    assert "mean of cluster 1" in page and "cluster 1: 6" in page and "jxai spray" in page and "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "input_gradient"], "unknown method 'input_gradient'; did you mean input_x_gradient?"),
        (["--label", "cow"], "--label 'cow' is no class of this run; "),
        (["--label", "2"], "--label '2' is no class of this run"),
        (["--neighbours", "24"], r"num_neighbours=24 must be an integer in [1, 24)"),
        (["--clusters", "0"], "clusters=0 must be an integer in [1, 24)"),
        (["--most", "1"], "most=1 must be 2 or more"),
        (["--permutations", "-1"], "--permutations -1 must be 0 (no test) or more"),
        (["--norm", "max"], "argument --norm: invalid choice: 'max'"),
        (["--out", __file__], f"--out {__file__} must be a folder"),
        (["--together", "--label", "cat"], "says nothing where all examples are taken together"),
    ],
)
def test_bad_input_is_one_line(run, capsys, arguments, message):
    assert main(["spray", str(run), "--permutations", "0", *arguments]) == 2
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert last.startswith("jxai: error: ") and message in last and not out, err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["spray", str(tmp_path)]) == 2
    assert "is no run: it has no config.json" in capsys.readouterr().err
