"""Processes that write one run: strangers are refused, those that share it take each other's place when one is killed."""

import multiprocessing
import os
import random
import signal
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import runs

from jxai.data import Digits
from jxai.evaluate import Run, locks
from jxai.evaluate.locks import writing
from jxai.evaluate.loop import work

BLOCKS, LENGTH = 8, 0.25
CONFIG = {"data": {"name": "numbers"}, "keep_maps": True, "block": 1}


@pytest.fixture(scope="module")
def server():
    """Starts processes that have the library already; none has touched a device."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["jxai.evaluate"])
    return server


def padded(out, shared=True):
    """A run of blocks that take a while and are of their place alone; `made` says which were begun, and when."""

    def compute(_, places, tell):
        log(f"{places[0]} {time.monotonic()}\n")
        time.sleep(LENGTH)
        log(f"{places[0]} {time.monotonic()} {os.getpid()}\n")
        return {"index": places, "label": 3 * places}, {"map": np.full((1, 2), places[0])}

    def log(line):
        with open(f"{out}.made", "a") as file:
            file.write(line)

    with Run.writing(out, CONFIG, shared=shared) as record:
        work(record, np.arange(BLOCKS)[:, None], compute)


def made(out):
    """The numbers of the blocks as they were begun, and the longest that a process which ended a block waited for its next."""
    lines = [line.split() for line in open(f"{out}.made")]
    ended: dict = {}
    for _, at, *by in lines:
        for pid in by:
            ended.setdefault(pid, []).append(float(at))
    idle = [b - a - LENGTH for times in ended.values() for a, b in zip(times, times[1:])]
    return [int(line[0]) for line in lines if len(line) == 2], max(idle, default=0)


def killed_at(server, work, args, moment, there):
    """Two processes of one work, the first killed at some moment after there is something; the exit code of the other."""
    pair = [server.Process(target=work, args=args) for _ in range(2)]
    for process in pair:
        process.start()
    end = time.monotonic() + 120
    while not there() and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(moment)
    pair[0].kill()
    for process in pair:
        process.join(300)
    assert pair[0].exitcode == -signal.SIGKILL, "it was done before it could be killed"
    return pair[1].exitcode


@pytest.mark.parametrize("share", (0.1, *(pytest.param(s, marks=pytest.mark.slow) for s in np.random.default_rng(0).random(20).round(3))))
def test_one_of_two_is_killed_and_the_other_goes_on_at_once(server, tmp_path, share):
    padded(tmp_path / "alone", shared=False)
    two = tmp_path / "two"
    assert killed_at(server, padded, (two,), share * BLOCKS * LENGTH / 2, lambda: os.path.exists(f"{two}.made")) == 0
    table, maps = Run(two).table(), Run(two).maps("map")
    assert all(np.array_equal(table[name], column) for name, column in Run(tmp_path / "alone").table().items()) and len(maps) == BLOCKS
    begun, idle = made(two)
    assert set(begun) == set(range(BLOCKS)) and len(begun) <= BLOCKS + 1, "only the block that was in flight is made again"
    assert idle < LENGTH, "a process that has nothing to do takes an open block within a block's length"


def test_a_stranger_is_refused_and_told_who_writes(server, tmp_path):
    with writing(tmp_path / "run", shared=False):
        for shared in (False, True):
            with server.Pool(1) as pool, pytest.raises(ValueError, match=rf"is written by process {os.getpid()} on .*shared=True \(--shared\)"):
                pool.apply(padded, (tmp_path / "run", shared))
    with writing(tmp_path / "run", shared=True), server.Pool(1) as pool:
        with pytest.raises(ValueError, match="is written by other processes now"):
            pool.apply(padded, (tmp_path / "run", False))
        pool.apply(padded, (tmp_path / "run", True))
    with pytest.raises(ValueError, match="anew=True would remove what the other processes"), Run.writing(tmp_path / "run", CONFIG, anew=True, shared=True):
        pass
    assert sorted(Run(tmp_path / "run").table()["index"]) == list(range(BLOCKS))


def test_a_block_that_another_has_is_waited_for_and_not_made_again(tmp_path):
    with Run.writing(tmp_path / "run", CONFIG, shared=True) as record:
        own, looks, computed = record.claims, [], []

        def take(b):
            looks.append(b)
            if b == 1 and looks.count(1) == 2:  # the other is done meanwhile
                record.block(1).write({"index": np.array([1])}, {"map": np.ones((1, 2))})
            return (b != 1 or looks.count(1) > 1) and own.take(b)

        def compute(_, places, tell):
            computed.append(int(places[0]))
            return {"index": places}, {"map": np.zeros((1, 2))}

        record.claims = SimpleNamespace(take=take, give=own.give, order=own.order)
        work(record, np.arange(3)[:, None], compute)
    assert sorted(computed) == [0, 2] and looks.count(1) == 2 and (Run(tmp_path / "run").maps("map")[1] == 1).all()


def test_where_there_are_no_locks_it_is_said_and_the_work_is_done(monkeypatch, tmp_path):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks, "fcntl", SimpleNamespace(lockf=unsupported, LOCK_EX=2, LOCK_SH=1, LOCK_NB=4))
    with pytest.warns(UserWarning, match="takes no file locks .*Operation not supported"):
        padded(tmp_path / "run")
    assert sorted(made(tmp_path / "run")[0]) == list(range(BLOCKS))


def test_damage_is_found_by_digest_and_mended(tmp_path):
    """A bit of an explanation, another block's explanations, half a file: `maps` and the run that is taken up know, and only these are made again."""
    out = tmp_path / "run"
    padded(out, shared=False)
    run = Run(out)
    bit = bytearray(run.block(2).explanations().read_bytes())
    bit[len(bit) // 2] ^= 1
    run.block(2).explanations().write_bytes(bit)
    run.block(4).explanations().write_bytes(run.block(5).explanations().read_bytes())
    run.block(7).scores.write_bytes(run.block(7).scores.read_bytes()[:50])
    with pytest.raises(ValueError, match="000007.npz is damaged .*evaluating again mends it"):
        run.table()
    os.remove(f"{out}.made")
    padded(out, shared=False)
    assert made(out)[0] == [2, 4, 7] and run.damaged_maps() == [] and run.maps("map")[4].tolist() == [4, 4]
    run.block(4).explanations().write_bytes(run.block(5).explanations().read_bytes())
    with pytest.raises(ValueError, match="maps/000004.npz is damaged or missing; evaluating again mends it"):
        run.maps("map")


def evaluated(out):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.run(out, Digits(), shared=True, limit=400, block=4)


@pytest.mark.slow
def test_an_evaluation_of_two_of_which_one_is_killed_at_twenty_moments(server, tmp_path):
    evaluated(tmp_path / "whole")
    for n in range(20):
        blocks = tmp_path / f"{n}" / "blocks"
        assert killed_at(server, evaluated, (tmp_path / f"{n}",), random.Random(n).random(), blocks.exists) == 0
        assert runs.same(Run(tmp_path / f"{n}"), Run(tmp_path / "whole"))


def grown(out, metrics, limit):
    runs.run(out, Digits(), shared=True, metrics=metrics, limit=limit, block=4)


@pytest.mark.slow
def test_processes_that_ask_for_different_columns_at_once(server, tmp_path):
    grown(tmp_path / "whole", runs.METRICS, 80)
    for n, parts in enumerate(([runs.METRICS[:1], runs.METRICS[1:]], [runs.METRICS, runs.METRICS[:2], runs.METRICS[1:]])):
        processes = [server.Process(target=grown, args=(tmp_path / f"{n}", metrics, 80)) for metrics in parts]
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
        assert [process.exitcode for process in processes] == [0] * len(parts)
        grown(tmp_path / f"{n}", runs.METRICS, 80)
        found, whole = Run(tmp_path / f"{n}"), Run(tmp_path / "whole")
        assert not found.lacking() and {k: v.tobytes() for k, v in found.table().items()} == {k: v.tobytes() for k, v in whole.table().items()}
