"""What long work says of itself, and how it ends at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self


class Interrupts:
    """Ctrl-C, also where Python loses it: a `KeyboardInterrupt` in a finaliser is printed and forgotten, and one in clean-up becomes another
    error (a zip file whose member was just being opened cannot be closed).

    Within the `with` block it is remembered: `check` raises it again, and an error that leaves the block after it is it.
    """

    def __enter__(self) -> Self:
        self.came = False
        self.before = signal.getsignal(signal.SIGINT)
        if callable(self.before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if signal.getsignal(signal.SIGINT) == self._remember:
            signal.signal(signal.SIGINT, self.before)
        if self.came and isinstance(error, Exception):
            raise KeyboardInterrupt from error

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if Ctrl-C was pressed."""
        if self.came:
            raise KeyboardInterrupt

    def _remember(self, number: int, frame) -> None:
        self.came = True
        if callable(self.before):
            self.before(number, frame)


class Reporter(Interrupts):
    """Progress on the error stream: a bar on a terminal, else a line every so often. Ctrl-C ends what it reports on, at its next word at the latest."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.console = Console(stderr=True, highlight=False)
        columns = TextColumn("{task.description:<24}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("", total=None, pace="")
        self.said = -float("inf")
        self.bar.start()
        self.told, sys.unraisablehook = sys.unraisablehook, self._tell
        return super().__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.bar.stop()
        finally:
            sys.unraisablehook = self.told
            super().__exit__(kind, error, trace)

    def __call__(self, progress) -> None:
        self.check()
        pace = f"{progress.fresh / progress.seconds:.2f} images/s" if progress.fresh and progress.seconds else "compiling"
        left = progress.seconds / progress.fresh * (progress.total - progress.done) if progress.fresh else 0
        if left:
            pace += f", {_duration(left)} left"
        self.bar.update(self.task, completed=progress.done, total=progress.total, description=progress.what or "writing", pace=pace)
        if self.bar.disable and (time.monotonic() - self.said > 10 or progress.done == progress.total):
            self.said = time.monotonic()
            print(f"{progress.done}/{progress.total} images, {pace}", file=sys.stderr, flush=True)

    def _tell(self, unraisable) -> None:
        if not (self.came and unraisable.exc_type is KeyboardInterrupt):  # that one is raised again at the next word
            self.told(unraisable)


@contextlib.contextmanager
def said(what: str, after: float = 2.0, every: float = 30.0) -> Iterator[None]:
    """A word on the error stream where the block takes longer than a moment (what is wrong shows within it), and again every so often."""
    ended, start = threading.Event(), time.monotonic()

    def tell() -> None:
        wait = after
        while not ended.wait(wait):
            print(f"{what}, {_duration(time.monotonic() - start)}", file=sys.stderr, flush=True)
            wait = every

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
