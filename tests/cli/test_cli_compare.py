"""`jxai compare` on results that are written by hand."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jxai.cli import compare, main
from jxai.evaluate.record import Record, folder


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 10
    names: tuple[str, ...] = ("a",)
    out: str = "out"


def row(mean, low, high, **names):
    return {**names, "mean": mean, "low": low, "high": high, "n": 5}


def written(config, rows, commit="1" * 40, **more):
    """The folder of results of a configuration."""
    Record(config).write(rows)
    path = folder(config) / "results.json"
    content = json.loads(path.read_text())
    content["runs"][0] |= {"commit": commit, "dirty": False}
    path.write_text(json.dumps({**content, **more}))
    return str(folder(config))


@pytest.fixture
def both(tmp_path):
    nan = float("nan")
    first = [row(1.0, 0.5, 1.5, method="b", metric="m"), row(2.0, nan, nan, method="c", metric="m"), row(3.0, 2.0, 4.0, method="a", metric="only")]
    second = [row(2.25, 1.6, 2.5, metric="m", method="b"), row(1.0, 0.5, 1.5, method="c", metric="m"), row(nan, nan, nan, method="d", metric="m")]
    a = written(Config(out=str(tmp_path)), first)
    return a, written(Config(steps=20, out=str(tmp_path)), second, commit="2" * 40)


def test_what_differs_and_rows_side_by_side(both, capsys):
    a, b = both
    assert main(["compare", a, f"{b}/results.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"A  {a}", f"B  {b}/results.json"]
    assert "config.steps: 10 | 20" in lines and f'commit: "{"1" * 12}" | "{"2" * 12}"' in lines
    assert not any(line.startswith(("config.names", "jax:", "experiment")) for line in lines)
    (marked,) = [line.split() for line in lines if "method=b" in line]
    assert marked == "method=b, metric=m 1 [0.5, 1.5] n=5 2.25 [1.6, 2.5] n=5 +1.25 *".split()  # matched though named in another order
    (open_,) = [line.split() for line in lines if "method=c" in line]
    assert open_ == "method=c, metric=m 2 [–, –] n=5 1 [0.5, 1.5] n=5 -1".split()  # without an interval nothing is marked
    only = [lines.index(f"only in {name}:") for name in "AB"]
    assert "method=a, metric=only" in lines[only[0] + 1] and "method=d, metric=m" in lines[only[1] + 1] and only[0] < only[1]


def test_alike_results(both, capsys):
    assert main(["compare", both[0], both[0]]) == 0
    output = capsys.readouterr().out
    assert "the same experiment, configuration, commit and versions" in output and "only in" not in output and "*" not in output


def test_rows_of_the_same_names_and_without_a_mean():
    rows = [{"metric": "m", "mean": 1, "more": {"x": 2}}, {"metric": "m", "mean": 3}, {"metric": "m", "asked": "verdict", "more": {"verdict": "fooled"}}]
    found = compare.named(rows)
    assert list(found.values()) == rows and len(found) == 3
    text = "\n".join(compare.beside(rows, rows[::-1]))
    assert 'metric="m"' not in text and "asked=verdict, metric=m" in text and "verdict=fooled" in text and "metric=m, #2" in text


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"rows": 1}', '{"rows": [], "config": {}}', '{"rows": [1], "config": {}, "runs": []}'])
def test_bad_input_is_one_line(both, tmp_path, capsys, content):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    assert main(["compare", both[0], str(path)]) == 2
    output, told = capsys.readouterr()
    assert not output and told.count("\n") == 1 and told.startswith("jxai: error:") and str(path) in told


def test_a_folder_above_names_those_within(both, tmp_path, capsys):
    assert main(["compare", both[0], str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert all(folder(config).name in told for config in (Config(), Config(steps=20)))


def test_nothing_of_jax_is_imported(both):
    code = f"before = set(sys.modules); from jxai.cli import compare; compare.read({both[0]!r}); print(*sorted({{*sys.modules}} - before))"
    environment = {**os.environ, "PYTHONPATH": str(Path(compare.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", "import sys, jxai.cli; " + code], check=True, env=environment, capture_output=True, text=True)
    assert "jxai.cli.compare" in done.stdout.split() and not {"jax", "numpy", "jxai.evaluate"} & {*done.stdout.split()}
