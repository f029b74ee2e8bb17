"""A pace that all threads and processes of this machine keep together: what a venue allows, it allows an address."""

import fcntl
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

LONGEST_S = 3600.0
"""Nobody is made to wait longer, whatever the file says: a clock that was set back must not stop everything."""


class Pace:
    """Turns at least `interval_s` apart, whoever takes them.

    Args:
        path: the file that holds when the next turn is, in s since the epoch; without it the next turn is now.
        clock_s: the wall clock, which the processes of a machine have in common.
    """

    def __init__(self, path: Path, interval_s: float, clock_s: Callable[[], float] = time.time) -> None:
        self._path, self._interval_s, self._clock_s = path, interval_s, clock_s
        path.parent.mkdir(parents=True, exist_ok=True)

    def reserve(self) -> float:
        """Take the next turn: how long until it comes, in s."""
        with self._next() as (file, next_s, now_s):
            _write(file, next_s + self._interval_s)
            return next_s - now_s

    def postpone(self, for_s: float) -> None:
        """Let no turn come for so long; those that are taken already come when they were to."""
        with self._next() as (file, next_s, now_s):
            _write(file, max(next_s, now_s + min(for_s, LONGEST_S)))

    def wait(self, stop: threading.Event) -> bool:
        """Wait for a turn; False: `stop` was set before it came."""
        return not stop.wait(self.reserve())

    @contextmanager
    def _next(self) -> Iterator[tuple[TextIO, float, float]]:
        """(the file, locked, when the next turn is, the time now)."""
        with self._path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now_s = self._clock_s()
            yield file, min(max(now_s, _read_s(file)), now_s + LONGEST_S), now_s


def _read_s(file: TextIO) -> float:
    file.seek(0)
    try:
        next_s = float(file.read())
    except ValueError:  # nothing yet, or what a crash has left of it
        return 0.0
    return next_s if math.isfinite(next_s) else 0.0


def _write(file: TextIO, next_s: float) -> None:
    file.truncate(0)
    file.write(f"{next_s:.6f}")
    file.flush()
