"""`jxai doctor`: what it finds is there, what is broken ends in exit code 1, and nothing of anybody's is printed."""

import importlib.metadata
import json
import os
import sys

import jax
import jax.numpy as jnp
import pytest

from jxai import attribution, cli
from jxai.cli import doctor, selftest

REQUIRES = [
    "jax>=0.10",
    "numpy>=999.1",
    'left-out>=1; extra == "demo"',
    "rich>=13; extra == 'demo'",
    "jxai[demo]; extra == 'test'",
    "pytest>=8; extra == 'test'",
]


def asked(capsys):
    code = cli.main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_installation_that_works(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JXAI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SOME_TOKEN", "hidden away")
    (tmp_path / "data" / "tfds" / "mine" / "1.0.0").mkdir(parents=True)
    (tmp_path / "data" / "tfds" / "mine" / "1.0.0" / "dataset_info.json").write_text("{}")
    (tmp_path / "data" / "weights").mkdir()
    (tmp_path / "data" / "weights" / "mnist_lenet5.npz").write_text("")
    code, found = asked(capsys)
    assert code == 0 and found["broken"] == []
    assert found["packages"]["jax"] == jax.__version__ and found["devices"][jax.devices()[0].platform]
    assert found["data"]["TFDS"].replace("\\", "/") == "~/data/tfds: mine" and found["environment"]["JXAI_DATA"].replace("\\", "/") == "~/data"
    assert found["models"]["mnist_lenet5"] == "found" and found["models"]["robust_mnist"] == "not found: JXAI_DATA/weights/robust_mnist.npz"
    assert set(found["self-test"]) == {"gradient", "bounds", "sobol"} and not {"test", "bench"} & set(found["extras"])
    said = doctor.text(found)
    assert "hidden" not in said and str(tmp_path) not in said and said.endswith("\neverything works")


@pytest.fixture
def instant(monkeypatch):
    monkeypatch.setattr(selftest, "checks", lambda: [])


def test_what_is_missing_is_said_and_what_is_too_old_is_broken(capsys, monkeypatch, instant):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    code, found = asked(capsys)
    assert code == 1 and found["broken"] == [f"numpy {importlib.metadata.version('numpy')} is older than 999.1: pip install --upgrade numpy"]
    assert found["extras"] == {"demo": f"missing left-out: pip install 'jxai[demo]' (there: rich {importlib.metadata.version('rich')})"}


def test_a_wrong_answer_is_broken(monkeypatch):
    monkeypatch.setattr(attribution, "gradient", lambda f, x, target: jnp.ones_like(x))
    monkeypatch.setattr(selftest, "_sobol", lambda: 1 / 0)
    gradient, bounds, sobol = selftest.checks()
    assert not gradient.holds and gradient.off > 0.1 and bounds.holds and not sobol.holds and sobol.error == "ZeroDivisionError: division by zero"
    broken: list[str] = []
    monkeypatch.setattr(selftest, "checks", lambda: [gradient, bounds, sobol])
    doctor._tested(broken)
    assert [line.split(":")[0] for line in broken] == ["self-test gradient", "self-test sobol"]


def test_without_jax_the_rest_is_still_said(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    assert doctor.main() == 1
    out = capsys.readouterr().out
    assert "python" in out and "broken: ModuleNotFoundError: import of jax halted" in out and "everything works" not in out


def test_a_user_without_a_home(monkeypatch, tmp_path):
    from jxai.cli import cache
    from jxai.data import prepared

    for name in ("HOME", "XDG_CACHE_HOME", "JXAI_CACHE", "TFDS_DATA_DIR", "JXAI_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor.cache, "kept", lambda: None)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what Python makes of `~` in a container whose user is in no list
    assert cache.folder() is None and "no home" in doctor._cache()["programs"]
    assert doctor._home("/a/b") == "/a/b" and prepared.home()
