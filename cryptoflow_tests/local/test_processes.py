"""Processes are found again, ended, never confused, and die with their parent when tied to it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cryptoflow.errors import ServiceError
from cryptoflow.local import processes
from cryptoflow.local.processes import Process

SLEEP = ("/bin/sleep", "300")

TIE_FROM_A_THREAD = """
import sys, threading
from pathlib import Path
from cryptoflow.local import processes

def start():
    processes.start(("/bin/sleep", "300"), Path(sys.argv[1]), 1, tied=True)

thread = threading.Thread(target=start)
thread.start()
thread.join()
print(processes.running(Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = processes.start(SLEEP, tmp_path, port=1)
    yield process
    processes.stop(process, timeout_s=0)


def test_what_runs_is_found_again_until_it_is_stopped(sleeper: Process, tmp_path: Path) -> None:
    assert processes.running(tmp_path) == sleeper
    processes.stop(sleeper)
    assert processes.running(tmp_path) is None
    assert not psutil.pid_exists(sleeper.pid)


def test_it_is_out_of_reach_of_the_terminal(sleeper: Process) -> None:
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_what_was_killed_does_not_run(sleeper: Process, tmp_path: Path) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    psutil.Process(sleeper.pid).wait(10)
    assert processes.running(tmp_path) is None


def test_a_pid_that_another_program_got_is_not_ours(sleeper: Process, tmp_path: Path) -> None:
    processes.stop(replace(sleeper, created_s=sleeper.created_s - 60))
    assert processes.running(tmp_path) == sleeper


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = processes.start(("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"), tmp_path, 1)
    processes.await_health("it", stubborn, tmp_path, lambda: "ready" in (tmp_path / "log").read_text(), 10)
    processes.stop(stubborn, timeout_s=0.2)
    assert processes.running(tmp_path) is None


def test_one_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    failing = processes.start(("/bin/sh", "-c", "echo no such luck; exit 3"), tmp_path, 1)
    with pytest.raises(ServiceError, match=r"(?s)It ended while it started.*no such luck"):
        processes.await_health("It", failing, tmp_path, lambda: False, 30)


def test_one_that_is_never_healthy_is_told(sleeper: Process, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"It did not answer on port 1 in 0\.3 s"):
        processes.await_health("It", sleeper, tmp_path, lambda: False, 0.3)


def test_a_long_log_makes_room_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * (processes.LOG_LIMIT_BYTES + 1))
    processes.stop(processes.start(SLEEP, tmp_path, port=1))
    assert (tmp_path / "log").stat().st_size == 0
    assert (tmp_path / "log.1").stat().st_size == processes.LOG_LIMIT_BYTES + 1


def test_what_is_tied_outlives_the_thread_that_asked_and_dies_with_the_process(tmp_path: Path) -> None:
    command = (sys.executable, "-c", TIE_FROM_A_THREAD, str(tmp_path))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        tied = psutil.Process(int(parent.stdout.readline()))
        assert tied.is_running()
        parent.kill()
    assert psutil.wait_procs([tied], timeout=10)[1] == [] or tied.status() == psutil.STATUS_ZOMBIE


def test_what_is_tied_to_a_parent_that_is_gone_does_not_start(tmp_path: Path) -> None:
    launcher = Path(processes.__file__).with_name("launcher.py")
    command = (sys.executable, str(launcher), "1", "9", str(tmp_path), "/bin/echo", "started")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the parent is gone" in done.stderr


def test_a_free_port_is_no_port_of_outgoing_connections() -> None:
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(processes.free_port() < first_outgoing for _ in range(20))


def test_a_free_port_is_none_of_those_that_are_listened_on_soon() -> None:
    assert processes.free_port(*range(20_000, 31_000)) >= 31_000
