"""Uncertainty runs in processes of their own: killed wherever they are, shared by several, and flat in memory."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import runs
from test_processes import MODEL, environment

from jxai.evaluate import Run

pytestmark = pytest.mark.slow
WORDS = ["digits", "--model", "own:make", "--scores", "max_softmax,energy,knn,grad_norm", "--knn.num_neighbours", "5"]
WORDS += ["--against", "noise", "digits+contrast:3", "--fit-limit", "200", "--limit", "150", "--block", "8", "--batch-size", "4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("uncertain_processes")
    (path / "own.py").write_text(MODEL)
    finish(start(path, "whole"))
    return path


def start(place, out, *more, words=WORDS):
    command = [sys.executable, "-m", "jxai", "uncertainty", *words, "--out", out, *more]
    return subprocess.Popen(command, cwd=place, env=environment(1), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-2000:]
    return out


def count(place, out):
    return len(list((place / out).rglob("blocks/[0-9]*.npz")))


def test_killed_anywhere_it_loses_a_block_at_most_and_ends_in_the_same_bits(place):
    random, there = np.random.default_rng(0), 0
    for goal in np.sort(random.integers(1, 80, 4)):
        process = start(place, "killed")
        while count(place, "killed") < max(goal, there + 1) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        now = count(place, "killed")
        assert now >= there
        there = now
    stamps = {path: path.stat().st_mtime_ns for path in (place / "killed").rglob("blocks/[0-9]*.npz")}
    finish(start(place, "killed"))
    assert all(path.stat().st_mtime_ns == at for path, at in stamps.items()) and runs.same(Run(place / "killed"), Run(place / "whole"))
    tables = [(place / out / "report" / "summary.csv").read_text().replace(out, "") for out in ("killed", "whole")]
    assert tables[0] == tables[1]


def test_two_processes_share_it_and_one_may_be_killed(place):
    pair = [start(place, "shared", "--shared") for _ in range(2)]
    while count(place, "shared") < 30:
        time.sleep(0.002)
    pair[0].send_signal(signal.SIGKILL)
    pair[0].communicate()
    finish(pair[1])
    assert runs.same(Run(place / "shared"), Run(place / "whole"))


def test_a_second_process_that_does_not_say_so_is_refused(place):
    first = start(place, "alone")
    while count(place, "alone") < 3:
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)  # at work, however long the other takes to start
    second = start(place, "alone")
    _, err = second.communicate(timeout=200)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.returncode == 2 and err.splitlines()[-1].startswith("jxai: error: ")


MEMORY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import own
from jxai import data, evaluate
evaluate.uncertainty(own.make(), data.Noise((8, 8, 1), int(sys.argv[3])), sys.argv[2], scores=("max_softmax", "energy", "grad_norm"), block=32, batch_size=8, keep_pictures=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_is_flat_in_the_number_of_examples(place):
    peaks = []
    for n in (500, 8000):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, place, f"memory{n}", str(n)], cwd=place, env=environment(1), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < peaks[0] + 30 * 1024, peaks
    assert os.path.isdir(Path(place) / "memory8000" / "blocks")
