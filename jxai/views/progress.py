"""How far a loop is, and a bar of it: in a notebook as HTML, on a terminal by rich, else a line every so often."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

_LINES, _FRAMES = 10.0, 0.1
"""Seconds between two lines, and between two states of a bar."""


class Progress(NamedTuple):
    """How far a loop over examples, or a training, is."""

    done: int
    """Examples or steps that are done, those of earlier runs and, as far as is known, of other processes included."""
    total: int
    """All of them."""
    fresh: int
    """Those that this process has done since it started."""
    seconds: float
    """Since it started."""
    what: str
    """What runs; of a training the numbers of the last step in words."""
    unit: str = "examples"
    """What is counted."""
    metrics: Mapping[str, float] | None = None
    """Of a training the numbers of the last step (of several seeds their means)."""

    @property
    def pace(self) -> str:
        """How fast it is, and how long it will take, in words."""
        if not (self.fresh and self.seconds):
            return "compiling" if self.done < self.total else ""
        left = self.seconds / self.fresh * (self.total - self.done)
        return f"{self.fresh / self.seconds:.2f} {self.unit}/s" + (f", {duration(left)} left" if left else "")


class ProgressBar:
    """A bar for `on_progress` of `jxai.each`, of runs and of `jxai.train`.

    It shows where the program runs: in a notebook as a bar in the output of its cell, on a terminal as a line that moves, and elsewhere as a line on the
    error stream every ten seconds. It ends when all is done; one whose loop was stopped ends with its `with` block, which is otherwise not needed:

        maps = jxai.each(sobol, f, images, targets, key=key, on_progress=jxai.ProgressBar())
    """

    def __init__(self) -> None:
        self._shown: Any = None
        self._last = -float("inf")
        self._ended: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __call__(self, progress: Progress) -> None:
        finished, now = progress.done >= progress.total, time.monotonic()
        if finished and self._ended == (progress.total, progress.fresh):  # that has been said
            return
        self._ended = (progress.total, progress.fresh) if finished else None
        self._shown = self._shown or _shown()
        if finished or now - self._last > self._shown.every:
            self._last = now
            self._shown.show(progress)
        if finished:
            self.close()

    def close(self) -> None:
        """Ends it; what is shown stays."""
        if self._shown is not None:
            self._shown.close()
        self._shown, self._last = None, -float("inf")


def duration(seconds: float) -> str:
    """As `1:05` or `2:00:09`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Notebook:
    """A bar in the output of the cell that runs, replaced as it moves."""

    every = 2 * _FRAMES

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, progress: Progress) -> None:
        from IPython.display import HTML, display

        bar = f"<progress value='{progress.done}' max='{progress.total}' style='width:16em;vertical-align:middle'></progress>"
        words = html.escape(f"{progress.done} of {progress.total}, {progress.what + ', ' if progress.what else ''}{progress.pace}".rstrip(", "))
        shown = HTML(f"<div style='font-size:90%'>{bar} {words}</div>")
        if self.handle is None:
            self.handle = display(shown, display_id=True)
        else:
            self.handle.update(shown)

    def close(self) -> None: ...


class _Terminal:
    every = _FRAMES

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
        self.bar = Progress(*columns, console=Console(stderr=True, highlight=False))
        self.task = self.bar.add_task("", total=None, pace="")
        self.bar.start()

    def show(self, progress: Progress) -> None:
        self.bar.update(self.task, completed=progress.done, total=progress.total, description=progress.what or "writing", pace=progress.pace)

    def close(self) -> None:
        self.bar.stop()


class _Lines:
    every = _LINES

    def show(self, progress: Progress) -> None:
        words = progress.pace, progress.what if progress.metrics else ""
        print(", ".join((f"{progress.done}/{progress.total} {progress.unit}", *filter(None, words))), file=sys.stderr, flush=True)

    def close(self) -> None: ...


def _shown() -> _Notebook | _Terminal | _Lines:
    if in_notebook():
        return _Notebook()
    try:
        return _Terminal() if sys.stderr.isatty() else _Lines()
    except ImportError:  # rich is of the command line's extra
        return _Lines()


def in_notebook() -> bool:
    """Whether the program runs in a notebook's kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")
