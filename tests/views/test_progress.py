"""Progress: what `each` tells, that it changes nothing and compiles once, and what a notebook, a terminal and a file show of it."""

import io
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jxai
from jxai import batching
from jxai.attribution import smoothgrad
from jxai.views import Progress, progress

F = jax.tree_util.Partial(lambda w, x: jnp.tanh(x.reshape(-1)) @ w, jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)))
X = np.random.default_rng(1).normal(size=(23, 2, 2, 3)).astype(np.float32)
TARGETS = np.arange(23) % 3


def test_each_tells_how_far_it_is_and_computes_the_same(monkeypatch):
    given = dict(key=jax.random.key(0), batch_size=2, num_samples=3)
    expected = jxai.each(smoothgrad, F, X, TARGETS, **given)
    monkeypatch.setattr(batching, "_BLOCKS", 4)
    told, before = [], batching._run._cache_size()
    found = jxai.each(smoothgrad, F, X, TARGETS, on_progress=told.append, **given)
    assert [(t.done, t.total, t.what) for t in told] == [(0, 23, "smoothgrad"), *((done, 23, "smoothgrad") for done in (6, 12, 18, 23))]
    assert batching._run._cache_size() == before + 1  # one program for all blocks
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert all(a.seconds <= b.seconds and b.fresh == b.done for a, b in zip(told, told[1:]))
    again = jxai.each(smoothgrad, F, X[6:12], TARGETS[6:12], index=np.arange(6, 12), on_progress=told.append, **given)
    np.testing.assert_array_equal(again, found[6:12])


def test_each_tells_nothing_under_a_trace():
    with pytest.raises(ValueError, match="on_progress=.* says nothing under a trace"):
        jax.jit(lambda x: jxai.each(smoothgrad, F, x, 0, key=jax.random.key(0), num_samples=2, on_progress=print))(X)
    with pytest.raises(ValueError, match="on_progress=True must be a function of a Progress"):
        jxai.each(smoothgrad, F, X, 0, key=jax.random.key(0), num_samples=2, on_progress=True)


def states():
    yield Progress(0, 4, 0, 0.0, "sobol<b>")
    for done in (2, 4):
        yield Progress(done, 4, done, 2.0 * done, "sobol<b>")
    yield Progress(4, 4, 4, 9.0, "")


def test_a_file_gets_lines(monkeypatch, capsys):
    monkeypatch.setattr(progress._Lines, "every", -1.0)
    bar = jxai.ProgressBar()
    for state in states():
        bar(state)
    assert capsys.readouterr().err.splitlines() == ["0/4 examples, compiling", "2/4 examples, 0.50 examples/s, 0:04 left", "4/4 examples, 0.50 examples/s"]
    bar(Progress(1, 2, 1, 1.0, ""))  # a loop that begins after it
    assert capsys.readouterr().err == "1/2 examples, 1.00 examples/s, 0:01 left\n"


def test_a_terminal_gets_a_bar(monkeypatch):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    with jxai.ProgressBar() as bar:
        for state in states():
            bar(state)
    assert "4/4" in shown.getvalue() and "examples/s" in shown.getvalue()


def test_a_notebook_gets_one_output_that_moves(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []

    class Handle:
        def update(self, html):
            shown.append(("update", html.data))

    monkeypatch.setattr(display, "display", lambda html, display_id: shown.append(("display", html.data)) or Handle())
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress._Notebook, "every", -1.0)
    bar = jxai.ProgressBar()
    for state in states():
        bar(state)
    assert [kind for kind, _ in shown] == ["display", "update", "update"]
    assert "<b>" not in shown[0][1] and "sobol&lt;b&gt;" in shown[1][1]
    assert re.search(r"<progress value='4' max='4'.*4 of 4", shown[-1][1])


def test_where_the_program_runs(monkeypatch):
    assert not progress.in_notebook()
    fake = type(sys)("IPython")
    fake.get_ipython = lambda: type("Shell", (), {"kernel": 1})()
    monkeypatch.setitem(sys.modules, "IPython", fake)
    assert progress.in_notebook()
    fake.get_ipython = lambda: None
    assert not progress.in_notebook()


def test_a_training_tells_its_steps_and_its_numbers(capsys):
    with jxai.ProgressBar() as bar:
        bar(Progress(20, 40, 20, 4.0, "loss 0.25", "steps", {"loss": 0.25}))
        bar(Progress(40, 40, 40, 8.0, "loss 0.125", "steps", {"loss": 0.125}))
    first, last = capsys.readouterr().err.splitlines()
    assert first == "20/40 steps, 5.00 steps/s, 0:04 left, loss 0.25" and last == "40/40 steps, 5.00 steps/s, loss 0.125"
