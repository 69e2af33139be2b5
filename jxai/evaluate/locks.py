"""Who writes a run: locks on one file of its folder, a byte for the whole, one for its record and one for each block; the system frees them when their process dies."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import random
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_HELD = (errno.EACCES, errno.EAGAIN)
_RECORD = 2**31 - 2
"""The byte of who changes the run's record; no run has as many blocks."""
_HOLDER = 200
"""Bytes for the name of the process that is alone."""


class Claims:
    """What a process holds of a run, until `writing` ends or the process does.

    Args:
      file: the run's file of locks, open to write; None where there are no locks. shared: whether others work on it, too.
    """

    def __init__(self, file: BinaryIO | None, shared: bool):
        self._file, self.shared = file, shared

    def take(self, block: int) -> bool:
        """Whether this process has the block for itself now; always, where there are no locks."""
        return self._file is None or not self.shared or _lock(self._file, 1 + block)

    def give(self, block: int) -> None:
        """Frees a block."""
        if self._file is not None and self.shared:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 1 + block)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other process changes what all of them go by, the run's record."""
        locked = self._file is not None and self.shared
        if locked:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, _RECORD)
        try:
            yield
        finally:
            if locked:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _RECORD)

    def order(self, count: int) -> list[int]:
        """The blocks as this process goes through them: processes that share begin at different places, so that they seldom meet, locks or none."""
        start = random.SystemRandom().randrange(count) if self.shared and count else 0
        return [*range(start, count), *range(start)]


@contextlib.contextmanager
def writing(path: str | Path, shared: bool) -> Iterator[Claims]:
    """Writes into a run's folder alone, or together with others that share it.

    Args:
      path: the run's folder, which is made where it is missing. shared: whether other processes may write, too; all have to say so.

    Raises:
      ValueError: another process writes there and does not share, or this one does not. OSError: it cannot be written.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file, free, fault = None, False, "this system has none"
        if fcntl is not None:
            file = stack.enter_context(open(os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o666), "rb+", buffering=0))
            try:
                free, fault = _lock(file, 0, shared), ""
            except OSError as error:
                fault = str(error)
        if file is None or fault:
            warnings.warn(
                f"{path} takes no file locks ({fault}): nothing tells whether another process writes there, and several may make a block twice", stacklevel=2
            )
            yield Claims(None, shared)
            return
        if not free:
            raise ValueError(_taken(path, file, shared))
        _sign(file, "" if shared else f"process {os.getpid()} on {socket.gethostname()}")
        yield Claims(file, shared)


def _lock(file: BinaryIO, byte: int, shared: bool = False) -> bool:
    """Whether the byte is free for this process, which then holds it; OSError where there are no locks."""
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def _sign(file: BinaryIO, name: str) -> None:
    file.truncate(0)
    os.pwrite(file.fileno(), name.encode()[:_HOLDER], 0)


def _taken(path: Path, file: BinaryIO, shared: bool) -> str:
    holder = os.pread(file.fileno(), _HOLDER, 0).decode(errors="replace")
    if shared:
        return f"{path} is written by {holder or 'another process'}, which does not share it: wait for it, or begin all of them with shared=True (--shared)"
    who = holder or "other processes"
    return f"{path} is written by {who} now: wait, choose another folder, or let processes share the work, each with shared=True (--shared)"
