"""What long work says of itself, and how it ends at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from jxai.views.progress import Progress


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
    """Progress on the error stream, by a bar or by lines (`jxai.ProgressBar`). Ctrl-C ends what it reports on, at its next word at the latest."""

    def __enter__(self) -> Self:
        from jxai.views.progress import ProgressBar

        self.bar = ProgressBar()
        self.told, sys.unraisablehook = sys.unraisablehook, self._tell
        return super().__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.bar.close()
        finally:
            sys.unraisablehook = self.told
            super().__exit__(kind, error, trace)

    def __call__(self, progress: Progress) -> None:
        self.check()
        self.bar(progress)

    def _tell(self, unraisable) -> None:
        if not (self.came and unraisable.exc_type is KeyboardInterrupt):  # that one is raised again at the next word
            self.told(unraisable)


@contextlib.contextmanager
def said(what: str, after: float = 2.0, every: float = 30.0) -> Iterator[None]:
    """A word on the error stream where the block takes longer than a moment (what is wrong shows within it), and again every so often."""
    from jxai.views.progress import duration

    ended, start = threading.Event(), time.monotonic()

    def tell() -> None:
        wait = after
        while not ended.wait(wait):
            print(f"{what}, {duration(time.monotonic() - start)}", file=sys.stderr, flush=True)
            wait = every

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
