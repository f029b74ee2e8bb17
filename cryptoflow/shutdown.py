"""How a run ends: one event for whoever asks it to, one deadline for all its steps."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from cryptoflow.errors import ConfigError

ORPHAN_TIMEOUT_S = 30.0
"""How long a run may take to end cleanly once the process it is tied to is gone, and its services most likely too."""

TIED_TO = "CRYPTOFLOW_TIED_TO"
"""Environment variable: the pid of a process without which a run is not to go on."""

MAX_TIMEOUT_S = float(threading.TIMEOUT_MAX)
"""The longest wait that a thread can be asked for, in s."""


def checked_timeout_s(timeout_s: float) -> float:
    """`timeout_s`, if it can be one: 0 (until stopped) or a positive number of seconds.

    Raises:
        ConfigError: it is negative, too large or no number.
    """
    if not 0 <= timeout_s <= MAX_TIMEOUT_S:
        raise ConfigError(f"timeout_s can't be {timeout_s}: give a positive number of seconds, or 0 for no end.")
    return timeout_s


class Deadline:
    """A moment on the monotonic clock; without `timeout_s` (None or 0) it never comes."""

    def __init__(self, timeout_s: float | None) -> None:
        self._at_s = time.monotonic() + timeout_s if timeout_s else None

    def left_s(self, at_most_s: float = MAX_TIMEOUT_S) -> float:
        """Seconds left, at least 0 and at most `at_most_s`."""
        left_s = at_most_s if self._at_s is None else self._at_s - time.monotonic()
        return max(0.0, min(left_s, at_most_s))

    @property
    def passed(self) -> bool:
        """Whether the moment has come."""
        return self._at_s is not None and time.monotonic() >= self._at_s


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set while the block lasts, instead of interrupting it anywhere.

    Outside the main thread, where Python delivers no signals, it is an event that nobody sets.
    """
    stop = threading.Event()

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, on_signal) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def stop_with_parents(stop: threading.Event) -> None:
    """Set `stop` when a process this one depends on is gone: nobody could end or see it any more.

    These are the process that multiprocessing started this one from, and the one that the environment names.
    """
    if parent := multiprocessing.parent_process():
        _when_over(parent.join, stop.set)
    if pid := os.environ.get(TIED_TO):
        _when_over(lambda: _await_end(int(pid)), lambda: _end_soon(stop))


def _when_over(wait: Callable[[], None], react: Callable[[], None]) -> None:
    def watch() -> None:
        wait()
        react()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _await_end(pid: int) -> None:
    try:
        psutil.Process(pid).wait()
    except psutil.NoSuchProcess:
        return


def _end_soon(stop: threading.Event) -> None:
    """End cleanly, or else at once: whatever is not committed by then comes again with the next run."""
    stop.set()
    threading.Event().wait(ORPHAN_TIMEOUT_S)
    os._exit(1)
