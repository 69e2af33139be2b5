"""Runs of concepts in processes of their own: killed by SIGKILL, and several at once; and the memory that references take."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from concept_runs import bytes_of, collected

from jxai import cli
from jxai.concepts import strongest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_compilation")]

ROOT, HERE = str(Path(cli.__file__).parents[2]), str(Path(__file__).parent)
OPTIONS = {"by": "relevance", "composite": "epsilon", "limit": 90, "devices": jax.devices()[:1]}
RUN = """
import os, signal, sys
import jax
from concept_runs import collected
options = dict(by="relevance", composite="epsilon", limit=90, devices=jax.devices()[:1])
"""
KILLED = RUN + "collected(sys.argv[1], on_progress=lambda progress: progress.fresh >= 16 and os.kill(os.getpid(), signal.SIGKILL), **options)"
SHARED = RUN + "collected(sys.argv[1], shared=True, **options)"
MEMORY = """
import resource
import numpy as np
from jxai.concepts.ranking import ranked
def blocks(n):
    for start in range(0, n, 100):
        value = np.random.default_rng(start).normal(size=(100, 512)).astype(np.float32)
        yield np.arange(start, start + 100), value, value.astype(np.int32)
peaks = []
for n in (2_000, 100_000):  # 100 000 examples are 400 MB
    ranked(blocks(n), 512, 40)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(*peaks)
"""


def start(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, HERE]), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    return collected(tmp_path_factory.mktemp("concepts") / "whole", **OPTIONS)


def test_a_process_that_is_killed_leaves_the_bytes_of_an_undisturbed_run(whole, tmp_path):
    killed = start(KILLED, tmp_path / "run")
    _, err = killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, err[-2000:]
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "blocks").glob("[0-9]*.npz")}
    assert 2 <= len(there) < 12
    run = collected(tmp_path / "run", **OPTIONS)
    assert bytes_of(run) == bytes_of(whole) and all(path.stat().st_mtime_ns == at for path, at in there.items())
    assert all((a == b).all() for a, b in zip(strongest(run, 9), strongest(whole, 9)))


def test_two_processes_share_a_run(whole, tmp_path):
    both = [start(SHARED, tmp_path / "run") for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-2000:]
    assert bytes_of(collected(tmp_path / "run", **OPTIONS)) == bytes_of(whole)


def test_memory_is_flat_in_the_number_of_examples():
    process = start(MEMORY)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    small, large = map(float, out.split())
    assert large - small < 60, (small, large)
