"""How a run ends: one event for whoever asks it to, one deadline for all its steps."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

import psutil

from cryptoflow.errors import ConfigError
from cryptoflow.runtime.force import end_now

SHUTDOWN_S = 60.0
"""What a part that was told to stop may take, all steps together; what is left then is ended by force."""

POLL_S = 0.25
"""How often it is seen whether that time is over, in s."""

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


class Stop(threading.Event):
    """Set when a part is to end before its time; `deadline` counts from then, for all steps of its end."""

    def __init__(self) -> None:
        super().__init__()
        self.deadline = Deadline(None)

    def set(self) -> None:
        """Tell the part to stop; the first time counts."""
        if not self.is_set():
            self.deadline = Deadline(SHUTDOWN_S)
        super().set()


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """An event that SIGINT and SIGTERM set while the block lasts, instead of interrupting it anywhere.

    Outside the main thread, where Python delivers no signals, it is an event that nobody sets.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # A handler may interrupt the event's own code and wait for its lock for ever; the queue is made to be put into.
    signaled: SimpleQueue[bool] = SimpleQueue()

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        signaled.put(True)

    def obey() -> None:
        if signaled.get():
            stop.set()

    threading.Thread(target=obey, name="signals", daemon=True).start()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, on_signal) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        signaled.put(False)


def stop_with_parents(stop: threading.Event) -> None:
    """Set `stop` when a process this one depends on is gone: nobody could end or see it any more.

    These are the process that multiprocessing started this one from, and the one that the environment names.
    """
    if parent := multiprocessing.parent_process():
        _when_over(parent.join, stop)
    if pid := os.environ.get(TIED_TO):
        _when_over(lambda: _await_end(int(pid)), stop)


def _when_over(wait: Callable[[], None], stop: threading.Event) -> None:
    def watch() -> None:
        wait()
        stop.set()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _await_end(pid: int) -> None:
    try:
        psutil.Process(pid).wait()
    except psutil.NoSuchProcess:
        return


@contextmanager
def ended_in_time(stop: Stop) -> Iterator[None]:
    """End this process by force if the block outlasts the deadline of `stop`: a run must end even if it hangs.

    Whatever is not committed by then comes again with the next run.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            if stop.deadline.passed:
                end_now(f"The run did not end within {SHUTDOWN_S:g} s of being told to: it is ended by force.")

    threading.Thread(target=watch, name="deadline-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()
