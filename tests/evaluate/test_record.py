"""The record of an experiment: named by its configuration, kept through a kill, strict in its JSON, and honest about the code that made it."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jxai.evaluate import experiment, findings
from jxai.evaluate.record import Record, folder, plain
from jxai.identity import versions as identity


@dataclasses.dataclass(frozen=True)
class Config:
    sizes: tuple[int, ...] = (1, 2, 3)
    rate: float = 0.5
    out: str = "out"


def test_the_folder_is_named_by_what_is_run(tmp_path):
    config = Config(out=str(tmp_path))
    assert folder(config).parent == tmp_path and folder(config).name == folder(Config(out="elsewhere")).name
    assert folder(dataclasses.replace(config, rate=0.25)) != folder(config) != folder(dataclasses.replace(config, sizes=(1, 2)))
    assert not tmp_path.joinpath(folder(config).name).exists()  # until something is kept
    here = Record(config)
    assert here.begun() is None and here.results() is None
    here.path.joinpath("picture.txt").write_text("")
    begun = json.loads((folder(config) / "config.json").read_text())
    assert begun["experiment"] == "test_record" and begun["config"] == {"sizes": [1, 2, 3], "rate": 0.5} and len(begun["runs"]) == 1
    (folder(config) / "config.json").write_text(json.dumps({**begun, "config": {"sizes": [], "rate": 0.5}}))
    with pytest.raises(ValueError, match="another configuration"):
        Record(config).kept("piece", lambda: pytest.fail("made in another's folder"))


def test_pieces_are_made_once_and_come_back_as_they_were(tmp_path):
    config, made = Config(out=str(tmp_path)), []

    def piece(name, value):
        return lambda: made.append(name) or value

    rows = [{"method": "a", "mean": np.nan, "low": np.float32(0.5), "high": np.inf, "n": 0, "more": None}]
    values = {("all", "PIECE, VAE", 0.5, 3): np.arange(3), ("x",): np.array([True, False])}
    for _ in range(2):
        here = Record(config)
        found = here.kept("|gradient|, λ = .1/2", piece("arrays", {"x": jnp.arange(3.0)}))
        np.testing.assert_array_equal(found["x"], [0, 1, 2])
        assert found["x"].dtype == np.float32
        assert "gradient" not in [path.stem for path in (here.path / "kept").iterdir()]
        (row,) = here.kept_rows("rows", piece("rows", rows))
        assert np.isnan(row["mean"]) and row["low"] == 0.5 and row["high"] == np.inf and row["more"] is None
        found = here.kept_values("values", piece("values", values))
        assert found.keys() == values.keys() and all((found[key] == value).all() for key, value in values.items())
    assert made == ["arrays", "rows", "values"]
    other = Record(config).kept("gradient_λ = .1/2", piece("other", {"x": np.zeros(1)}))
    assert made[-1] == "other" and len(other["x"]) == 1  # names that look alike as files are two


def test_a_piece_that_fails_leaves_nothing(tmp_path):
    here = Record(Config(out=str(tmp_path)))
    with pytest.raises(ZeroDivisionError):
        here.kept("piece", lambda: {"x": 1 / 0})
    with pytest.raises(TypeError, match=r"object.* has no place in JSON"):
        here.kept_rows("piece", lambda: [{"x": object()}])
    assert not list(folder(here.config).glob("kept/*"))


def test_json_is_strict():
    assert plain({"a": (np.float32(1.5), np.nan, -np.inf), "b": [jnp.arange(2), True, None, "NaN"]}) == {
        "a": [1.5, None, "-Infinity"],
        "b": [[0, 1], True, None, "NaN"],
    }
    for wrong, message in ((Path("x"), "PosixPath"), ({1: 2}, "1 must be a string"), ({"x": {1, 2}}, "set"), (1j, "complex")):
        with pytest.raises(TypeError, match=message):
            plain(wrong)


def test_results_say_what_made_them_and_are_not_made_twice(tmp_path):
    config, calls, told = Config(out=str(tmp_path)), [], []

    @experiment.recorded
    def run(config, here):
        calls.append(here.kept("piece", lambda: {"x": np.arange(4)})["x"])
        here.tell("halfway")
        return [findings.row(calls[-1], {"curve": np.arange(2)}, seed=0, method="a", metric="m"), findings.row([], method="b", metric="m")]

    first, second = run(config, told.append), run(config, told.append)
    np.testing.assert_equal(first, second)
    assert len(calls) == 1 and len(told) == 1 and told[0].endswith(" s: halfway")
    assert first[0]["mean"] == 1.5 and first[0]["more"] == {"curve": [0, 1]} and np.isnan(first[1]["mean"])
    text = (folder(config) / "results.json").read_text()
    content = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is no JSON"))
    assert content["rows"][1] == {"method": "b", "metric": "m", "mean": None, "low": None, "high": None, "n": 0}
    (made,) = content["runs"]
    assert {"python", "jax", "jaxlib", "numpy", "flax", "jxai", "device"} <= set(made["versions"]) and content["seconds"] == made["seconds"]
    assert {"commit", "dirty", "began"} <= set(made)


def test_other_code_is_told(tmp_path):
    config = Config(out=str(tmp_path))
    Record(config).kept("piece", lambda: {"x": np.zeros(1)})
    path = folder(config) / "config.json"
    assert [line.split(str(tmp_path))[0] for line in experiment.state(Record(config))] == ["going on with what is kept in "]
    begun = json.loads(path.read_text())
    begun["runs"][0]["versions"]["jax"], begun["runs"][0]["commit"] = "0.1", "abc"
    path.write_text(json.dumps(begun))
    _, told = experiment.state(Record(config))
    assert "made by other code" in told and "versions.jax: '0.1' there" in told and "commit: 'abc' there" in told
    here = Record(config)
    here.write([])
    first, second = here.results()["runs"]
    assert first["versions"]["jax"] == "0.1" != second["versions"]["jax"]
    assert "has the results of this configuration; remove it to run anew" in experiment.state(Record(config))[0]


def test_the_checkout_of_a_file(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("one.py", "ignored.py"):
        (inside / name).write_text("")
    if identity.checkout.__wrapped__(str(inside / "one.py")) != {"commit": None, "dirty": None}:
        pytest.skip("the folder for temporary files lies in a checkout")
    git = lambda *command: subprocess.run(["git", "-C", str(inside), "-c", "user.name=a", "-c", "user.email=a@b", *command], check=True, capture_output=True)
    try:
        git("init")
    except OSError:
        pytest.skip("git is not installed")
    (inside / ".gitignore").write_text("ignored.py")
    git("add", ".")
    git("commit", "-m", "one")
    found = identity.checkout.__wrapped__(str(inside / "one.py"))
    assert len(found["commit"]) == 40 and found["dirty"] is False
    (inside / "two.py").write_text("")
    assert identity.checkout.__wrapped__(str(inside / "one.py")) == {**found, "dirty": True}
    assert identity.checkout.__wrapped__(str(inside / "ignored.py")) == {"commit": None, "dirty": None}
    assert identity.checkout.__wrapped__(str(tmp_path / "absent" / "x.py")) == {"commit": None, "dirty": None}


SCRIPT = """
'''A toy.'''
import dataclasses, os, time
import numpy as np
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded

@dataclasses.dataclass(frozen=True)
class Config:
    count: int
    out: str = "out"

@recorded
def run(config, here):
    if config.count == 0:
        raise KeyboardInterrupt
    if config.count > 9:
        raise ValueError("count is too large\\nindeed")
    rows = []
    for i in range(config.count):
        def make(i=i):
            print("made", i, flush=True)
            time.sleep(60 if i == 2 and "SLOW" in os.environ else 0)
            return {"x": np.full(5, i)}
        rows.append(findings.row(here.kept(f"piece {i}", make)["x"], number=i, metric="m"))
    return rows

def show(config, rows):
    print([row["mean"] for row in rows])

def main():
    command_line(Config, run, show, __doc__)

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def toy(tmp_path, monkeypatch, capsys):
    """The command of a toy of an experiment, in a folder of its own: `(exit code, output, errors)`."""
    pytest.importorskip("tyro")
    (tmp_path / "toy.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    found = importlib.util.spec_from_file_location("toy", "toy.py")
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "toy", module)
    found.loader.exec_module(module)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["toy.py", *arguments])
        try:
            code = module.main() or 0
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


@pytest.mark.skipif(os.name != "posix", reason="kills by a signal")
def test_a_run_that_was_killed_goes_on(toy, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(identity.__file__).parents[2]), "SLOW": "1"}
    killed = subprocess.Popen([sys.executable, "toy.py", "4"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "made 2" not in (line := killed.stdout.readline()):
        assert line, killed.stderr.read()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (here,) = (tmp_path / "out").iterdir()
    assert sorted(path.name[:7] for path in (here / "kept").glob("[!.]*")) == ["piece_0", "piece_1"] and not (here / "results.json").exists()
    (here / "kept" / ".piece_2.half.npz").write_bytes(b"half of")  # what a write that was killed leaves
    code, output, told = toy("4")
    assert code == 0 and output.startswith("made 2\nmade 3\n[0.0, 1.0, 2.0, 3.0]") and "going on with what is kept" in told
    assert str(here.relative_to(tmp_path) / "results.json") in output and len(json.loads((here / "results.json").read_text())["runs"]) == 2
    code, output, told = toy("4")
    assert output.startswith("[0.0, 1.0, 2.0, 3.0]") and "has the results" in told


def test_what_cannot_begin_is_told_in_a_line(toy, tmp_path, monkeypatch):
    assert toy("10") == (2, "", "toy.py: error: count is too large\n") and not (tmp_path / "out").exists()
    assert toy("0") == (130, "", "toy.py: interrupted\n")
    monkeypatch.setitem(sys.modules, "tyro", None)  # as where it is not installed
    code, output, told = toy("1")
    assert code == 2 and not output and told == "toy.py: error: experiments need tyro: pip install 'jxai[experiments]', or '.[experiments]' in a checkout\n"
