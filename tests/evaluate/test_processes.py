"""The command in processes of its own: killed, restarted, several at once; and the memory it takes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import runs

from jxai import cli
from jxai.evaluate import Run

ROOT = str(Path(cli.__file__).parents[2])
MODEL = """
import time
import jax, jax.numpy as jnp, numpy as np
W = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
def make():
    return jax.tree_util.Partial(lambda w, x: jnp.tanh(x.ravel()) @ w, jnp.asarray(W))
"""
METHODS = "gradient,smoothgrad,rise"
OPTIONS = ["--methods", METHODS, "--metrics", "sparseness,pointing_game", "--rise.num_masks", "8", "--rise.grid", "2", "--block", "4", "--batch-size", "2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    (path / "own.py").write_text(MODEL)
    return path


LIMIT = 600


def environment(devices=2, **extra):
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS") and not k.lower().endswith("_proxy")}
    cache = {"JAX_COMPILATION_CACHE_DIR": kept.get("JAX_COMPILATION_CACHE_DIR", "")}
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "PYTHONPATH": ROOT, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return {**kept, **{k: v for k, v in cache.items() if v}, **flags, **extra}


def start(place, out, *more, limit=LIMIT, devices=2):
    command = [sys.executable, "-m", "jxai", "evaluate", "digits", "--model", "own:make", "--out", out, "--limit", str(limit), *OPTIONS, *more]
    # A shell starts its background jobs, and all that they start, deaf to Ctrl-C.
    listens = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command, cwd=place, env=environment(devices), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **listens)


def finish(process, timeout=200):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-2000:]
    return out


def wait_for_blocks(place, out, count, timeout=120):
    end = time.monotonic() + timeout
    while len(list((place / out / "blocks").glob("[0-9]*.npz"))) < count:
        assert time.monotonic() < end
        time.sleep(0.01)


KILLED = """
import os, signal, sys
import runs
runs.run(sys.argv[1], on_progress=lambda progress: progress.fresh >= 8 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.usefixtures("quick_compilation")
def test_a_process_that_is_killed_leaves_its_blocks_to_the_next(whole, tmp_path):
    """One that ends by SIGKILL after its first block, and this one, which goes on."""
    here = {**environment(), "XLA_FLAGS": os.environ["XLA_FLAGS"], "PYTHONPATH": os.pathsep.join([ROOT, str(Path(__file__).parent)])}
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "run"], env=here, capture_output=True, text=True, timeout=200)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "blocks").iterdir()}
    assert [path.name for path in there] == ["000000.npz"]
    again = runs.run(tmp_path / "run")
    assert runs.same(again, whole) and all(path.stat().st_mtime_ns == written for path, written in there.items())
    assert runs.page(again) == runs.page(whole)


@pytest.fixture(scope="module")
def undisturbed(place):
    """An undisturbed run by one process with one device."""
    assert f"{LIMIT} examples are done, 0 failed" in finish(start(place, "whole", devices=1))
    return Run(place / "whole")


@pytest.mark.slow
def test_kill_9_loses_the_block_in_flight_at_most_and_changes_no_bit(place, undisturbed):
    for count in (1, 12):
        process = start(place, "killed")
        wait_for_blocks(place, "killed", count)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert len(list((place / "killed" / "blocks").glob("[0-9]*.npz"))) < LIMIT // 4, "it was done before it could be killed"
    there = {path: path.stat().st_mtime_ns for path in (place / "killed" / "blocks").glob("[0-9]*.npz")}
    assert len(there) >= 12
    finish(start(place, "killed"))
    assert runs.same(Run(place / "killed"), undisturbed)
    assert all(path.stat().st_mtime_ns == written for path, written in there.items())
    assert not [path for path in (place / "killed").rglob(".*") if path.is_file()]


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(place):
    process = start(place, "interrupted", limit=1797)
    wait_for_blocks(place, "interrupted", 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130 and "the same command goes on with interrupted" in err and "Traceback" not in err, err


@pytest.mark.slow
def test_two_commands_that_share_a_run_of_which_one_is_killed_and_restarted(place, undisturbed):
    first, second = start(place, "two", "--shared"), start(place, "two", "--shared")
    wait_for_blocks(place, "two", 1)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    assert sum(1 for _ in (place / "two" / "blocks").glob("[0-9]*.npz")) < LIMIT // 4, "it was done before it could be killed"
    restarted = start(place, "two", "--shared")
    for process in (restarted, first):
        assert f"{LIMIT} examples are done, 0 failed" in finish(process)
    assert runs.same(Run(place / "two"), undisturbed)


@pytest.mark.slow
def test_a_cluster_of_which_a_later_process_is_killed(place, undisturbed):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def process(n):
        return start(place, "cluster", "--distributed", "--coordinator", f"localhost:{port}", "--processes", "2", "--process", str(n))

    first, second = process(0), process(1)
    wait_for_blocks(place, "cluster", 1)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    assert f"{LIMIT} examples are done, 0 failed" in finish(first)
    assert runs.same(Run(place / "cluster"), undisturbed)


def peak(place, out, limit):
    """MiB of the process at its peak; the maps of a block weigh far less."""
    code = "import resource, sys; from jxai.cli import main; main(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    command = ["evaluate", "digits", "--model", "own:make", "--out", out, "--limit", str(limit), *OPTIONS, "--block", "32"]
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=place, env=environment(1), capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_examples(place):
    peak(place, "warm", 32)  # fills the compilation cache, so that both runs compile alike
    few, many = peak(place, "few", 64), peak(place, "many", 1024)
    assert many < few + 12, (few, many)
    assert np.isfinite(few)
