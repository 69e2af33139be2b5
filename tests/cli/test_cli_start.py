"""What a command loads before it can start, and the programs that it keeps for the next one."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jxai import attribution, cli
from jxai.cli import cache, compiler, programs

ROOT = str(Path(cli.__file__).parents[2])

WATCHED = """
import contextlib, io, sys

HEAVY = "jax flax optax orbax scipy matplotlib skimage sklearn PIL rich numpy".split()

def loaded(*commands):
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            assert jxai.cli.main(command.split()) == 0
    print(" ".join(name for name in HEAVY if name in sys.modules))

import jxai, jxai.cli
loaded("--help", "explain --help", "evaluate --help", "certify --help", "methods --help")
loaded("methods", "methods sobol")
import jxai.bounds, jxai.removal.masks, jxai.sufficiency, jxai.metrics
loaded("metrics")
from jxai.cli import explain
loaded("models")
import jxai.evaluate
loaded()
"""


def test_a_command_loads_what_it_needs_and_no_more():
    done = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, cwd=ROOT, check=True)
    helped, methods, metrics, models, evaluate = (set(line.split()) for line in done.stdout.splitlines())
    assert helped == set()
    assert methods <= {"jax", "numpy", "optax"} and {"jax", "numpy"} <= methods
    assert metrics == methods
    assert not models & {"scipy", "matplotlib", "skimage", "sklearn", "orbax", "PIL"}
    assert evaluate == models


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """JAX as in a process that was told nothing of a cache; afterwards as it was."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    for name in ("JXAI_CACHE", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_something():
    jax.jit(lambda x: jnp.tanh(x) + 1).lower(jnp.ones(3)).compile()


def test_programs_are_kept_in_the_users_cache_folder(fresh):
    cache.keep()
    compile_something()
    assert list((fresh / "caches" / "jxai" / "xla").glob("*-cache"))


def test_the_folder_can_be_named_and_the_cache_be_switched_off(fresh, monkeypatch):
    monkeypatch.setenv("JXAI_CACHE", str(fresh / "mine"))
    cache.keep()
    compile_something()
    assert list((fresh / "mine" / "xla").glob("*-cache"))
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JXAI_CACHE", "off")
    cache.keep()
    assert jax.config.jax_compilation_cache_dir is None and not (fresh / "caches").exists()


def test_a_folder_that_jax_was_told_of_stays_with_its_limits(fresh):
    jax.config.update("jax_compilation_cache_dir", str(fresh / "told"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    cache.keep()
    assert jax.config.jax_compilation_cache_dir == str(fresh / "told") and jax.config.jax_persistent_cache_min_compile_time_secs == 7
    assert not (fresh / "caches").exists()


def test_a_folder_that_cannot_be_written_is_no_error(fresh, monkeypatch, capfd, recwarn):
    (fresh / "caches").write_text("a file where the folder would be")
    cache.keep()
    compile_something()
    monkeypatch.setattr(os, "access", lambda *_: False)
    (fresh / "caches").unlink()
    cache.keep()
    compile_something()
    assert jax.config.jax_compilation_cache_dir is None
    assert capfd.readouterr() == ("", "") and not recwarn.list


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "~/.cache/jxai/xla"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/jxai/xla"),
        ("darwin", {}, "~/Library/Caches/jxai/xla"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/jxai/xla"),
        ("win32", {}, "~/.cache/jxai/xla"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere", "JXAI_CACHE": "~/mine"}, "~/mine/xla"),
        ("linux", {"JXAI_CACHE": "OFF"}, None),
    ],
)
def test_where_a_platform_keeps_caches(monkeypatch, platform, environment, expected):
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("XDG_CACHE_HOME", "JXAI_CACHE", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache.folder() == (Path(expected).expanduser() if expected else None)


def test_a_loop_or_many_runs_are_worth_optimising(monkeypatch):
    """Which programs are compiled with XLA's whole effort, and that all compute the same."""
    given = []
    lowered = type(jax.jit(jnp.sin).lower(1.0))
    compiling = lowered.compile
    monkeypatch.setattr(lowered, "compile", lambda self, options=None: given.append(options) or compiling(self, options))

    def f(x):
        return jnp.tanh(x @ jnp.linspace(-1, 1, 15).reshape(5, 3))

    x = jnp.arange(5.0) / 5
    once = jax.jit(lambda x: attribution.gradient(f, x, 1)).trace(x)
    many = jax.jit(lambda x: attribution.integrated_gradients(f, x, 1, steps=40, chunk=4, score="logit")).trace(x)
    assert not programs.loops(once) and programs.loops(many)
    for traced, runs, effort in ((once, programs.FEW, 0), (once, programs.FEW + 1, None), (many, 1, None)):
        values = programs.compiled(traced, runs)(x)
        assert (given[-1] or {}).get("xla_backend_optimization_level") == effort
        assert jnp.allclose(values, traced.lower().compile()(x), rtol=1e-5)


def test_a_persons_own_flags_come_last_and_other_versions_get_none(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--own=1")
    compiler.hasten()
    assert os.environ["XLA_FLAGS"] == "--own=1"  # JAX is loaded here
    monkeypatch.delitem(sys.modules, "jax")
    for version, expected in (("0.12.0", ["--own=1"]), ("0.10.2", [*compiler.FLAGS, "--own=1"])):
        monkeypatch.setattr("importlib.metadata.version", lambda _, version=version: version)
        compiler.hasten()
        assert os.environ["XLA_FLAGS"].split() == expected
