"""How far a training is."""

from __future__ import annotations

import sys
import time
from typing import Self

from jxai.train import Progress


class Bar:
    """Progress on the error stream: a bar on a terminal, else a line every ten seconds."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.bars = Bars(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"), console=Console(stderr=True))
        self.bars.disable = not self.bars.console.is_terminal
        self.task, self.said = self.bars.add_task("compiling", total=None), 0.0
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, progress: Progress) -> None:
        self.bars.update(self.task, completed=progress.done, total=progress.total, description=progress.what)
        if self.bars.disable and (time.monotonic() - self.said > 10 or progress.done == progress.total):
            self.said = time.monotonic()
            print(f"{progress.done}/{progress.total} steps, {progress.what}", file=sys.stderr, flush=True)
