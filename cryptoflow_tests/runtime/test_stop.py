"""Laws of ending: deadlines, signals, and parents that are gone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError
from cryptoflow.runtime import stop as stop_module
from cryptoflow.runtime.stop import (
    MAX_TIMEOUT_S,
    TIED_TO,
    Deadline,
    Stop,
    checked_timeout_s,
    ended_in_time,
    stop_on_signals,
    stop_with_parents,
)

WAIT_S = 20

TIED = """
import sys, threading
from cryptoflow.runtime.stop import stop_with_parents
stop = threading.Event()
stop_with_parents(stop)
print("ready", flush=True)
print("stopped" if stop.wait(20) else "not stopped", flush=True)
"""

STUBBORN = """
import subprocess, threading
from cryptoflow.runtime import stop as stop_module
stop_module.SHUTDOWN_S = 0.1
child = subprocess.Popen(["sleep", "60"])
with stop_module.stop_on_signals() as stop, stop_module.ended_in_time(stop):
    stop_module.stop_with_parents(stop)
    print(child.pid, flush=True)
    threading.Event().wait(60)
"""

VANISHING = """
import psutil, subprocess, threading
from cryptoflow.runtime import stop as stop_module
stop_module.SHUTDOWN_S = 0.1
children = psutil.Process.children
def children_and_one_more(process, recursive=False):
    gone = subprocess.Popen(["sleep", "60"])
    found = children(process, recursive)  # with the newest
    gone.kill()
    gone.wait()  # after it was found and before its turn comes
    return found
psutil.Process.children = children_and_one_more
left = subprocess.Popen(["sleep", "60"])
with stop_module.stop_on_signals() as stop, stop_module.ended_in_time(stop):
    print(left.pid, flush=True)
    stop.set()
    threading.Event().wait(20)
"""

FULL_PIPE = """
import os, subprocess, sys, threading
from cryptoflow.runtime import stop as stop_module
stop_module.SHUTDOWN_S = 0.1
reading, writing = os.pipe()
os.dup2(writing, 2)
with stop_module.stop_on_signals() as stop, stop_module.ended_in_time(stop):
    threading.Thread(target=lambda: [sys.stderr.write("x" * 100_000) for _ in range(100)], daemon=True).start()
    print("ready", flush=True)
    stop.set()
    threading.Event().wait(20)
"""

MULTIPROCESSING_PARENT = """
import multiprocessing, os, sys, threading

def child():
    from cryptoflow.runtime.stop import stop_with_parents
    stop = threading.Event()
    stop_with_parents(stop)
    print(os.getpid(), flush=True)
    print("stopped" if stop.wait(20) else "not stopped", flush=True)

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    process = multiprocessing.Process(target=child)
    process.start()
    process.join()
"""


def plain_env() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != TIED_TO}


@contextmanager
def python(program: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `program`; it is gone after the block."""
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=plain_env() | env) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@given(st.floats(0, MAX_TIMEOUT_S) | st.integers(0, 10**6))
def test_zero_and_any_positive_number_of_seconds_is_a_timeout(timeout_s: float) -> None:
    assert checked_timeout_s(timeout_s) == timeout_s


@given(st.floats(max_value=0, exclude_max=True) | st.floats(MAX_TIMEOUT_S, exclude_min=True) | st.just(float("nan")))
def test_no_other_number_is_a_timeout(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match=r"^timeout_s can't be .*: give a positive number of seconds, or 0 for"):
        checked_timeout_s(timeout_s)


def test_any_timeout_can_be_waited_for() -> None:
    event = threading.Event()
    event.set()
    assert event.wait(Deadline(checked_timeout_s(MAX_TIMEOUT_S)).left_s())
    assert event.wait(Deadline(0).left_s())


@given(st.floats(0.001, MAX_TIMEOUT_S), st.floats(0, MAX_TIMEOUT_S))
def test_what_is_left_is_never_negative_nor_above_what_is_asked(timeout_s: float, at_most_s: float) -> None:
    deadline = Deadline(timeout_s)
    assert 0 <= deadline.left_s(at_most_s) <= at_most_s
    assert deadline.left_s() <= timeout_s


@pytest.mark.parametrize("none", [None, 0, 0.0])
def test_without_a_timeout_it_never_comes(none: float | None) -> None:
    deadline = Deadline(none)
    assert not deadline.passed
    assert deadline.left_s() == MAX_TIMEOUT_S
    assert deadline.left_s(3) == 3


def test_it_comes_when_nothing_is_left() -> None:
    deadline = Deadline(0.02)
    assert not deadline.passed
    begun_s = time.monotonic()
    threading.Event().wait(deadline.left_s() + 0.001)
    assert deadline.passed
    assert deadline.left_s() == 0
    assert time.monotonic() - begun_s >= 0.02


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event_and_interrupts_nothing(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(WAIT_S)
        os.kill(os.getpid(), number)  # a second one changes nothing
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_handlers_are_back_after_an_error() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ConfigError), stop_on_signals():
        raise ConfigError("x")
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_it_is_an_event_that_nobody_sets() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stop_on_signals() as stop:
            seen.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(WAIT_S)
    assert seen == [False]


def test_the_event_is_set_when_the_process_of_the_environment_dies() -> None:
    with python("input()") as parent, python(TIED, **{TIED_TO: str(parent.pid)}) as tied:
        assert line(tied) == "ready"
        parent.kill()
        parent.wait(WAIT_S)
        assert line(tied) == "stopped"


def test_the_event_is_set_at_once_when_that_process_is_gone_already() -> None:
    with python("") as gone:
        gone.wait(WAIT_S)
    with python(TIED, **{TIED_TO: str(gone.pid)}) as tied:
        assert [line(tied), line(tied)] == ["ready", "stopped"]


def test_an_orphan_that_does_not_end_cleanly_is_ended_anyway() -> None:
    with python("input()") as parent, python(STUBBORN, **{TIED_TO: str(parent.pid)}) as tied:
        child = psutil.Process(int(line(tied)))
        assert tied.poll() is None
        parent.kill()
        parent.wait(WAIT_S)
        assert tied.wait(WAIT_S) == 1
        assert psutil.wait_procs([child], timeout=WAIT_S)[1] == [] or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_does_not_obey_a_signal_in_time_is_ended_with_its_children(number: signal.Signals) -> None:
    with python(STUBBORN) as stubborn:
        child = psutil.Process(int(line(stubborn)))
        stubborn.send_signal(number)
        assert stubborn.wait(WAIT_S) == 1
        assert psutil.wait_procs([child], timeout=WAIT_S)[1] == [] or child.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_is_gone_by_then_keeps_nobody_from_the_forced_end() -> None:
    with python(VANISHING) as process:
        left = psutil.Process(int(line(process)))
        assert process.wait(WAIT_S) == 1
        assert psutil.wait_procs([left], timeout=WAIT_S)[1] == [] or left.status() == psutil.STATUS_ZOMBIE


def test_an_error_output_that_nobody_reads_keeps_nobody_from_the_forced_end() -> None:
    with python(FULL_PIPE) as process:
        assert line(process) == "ready"
        assert process.wait(WAIT_S) == 1


def test_what_obeys_in_time_goes_on_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "SHUTDOWN_S", 0.1)
    stop = Stop()
    with ended_in_time(stop):
        stop.set()
    threading.Event().wait(0.1 + 2 * stop_module.POLL_S)  # this process would be gone


def test_the_time_to_end_counts_from_the_first_call() -> None:
    stop = Stop()
    assert stop.deadline.left_s() == MAX_TIMEOUT_S
    stop.set()
    first = stop.deadline
    stop.set()
    assert stop.deadline is first
    assert 0 < first.left_s() <= stop_module.SHUTDOWN_S


def test_the_event_is_set_when_the_parent_of_multiprocessing_is_killed() -> None:
    with python(MULTIPROCESSING_PARENT) as parent:
        child = psutil.Process(int(line(parent)))
        parent.kill()
        assert line(parent) == "stopped"
        assert psutil.wait_procs([child], timeout=WAIT_S)[1] == [] or child.status() == psutil.STATUS_ZOMBIE


def test_without_parents_nobody_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TIED_TO, raising=False)
    stop = threading.Event()
    before = threading.active_count()
    stop_with_parents(stop)
    assert (threading.active_count(), stop.is_set()) == (before, False)
