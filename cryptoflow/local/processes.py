"""Processes of local services: start, watch, find again, end.

Each has a folder with its `log` and `process.json`. A process is told by its pid and the time it was created,
so a pid that another program has since got is never taken for ours.
"""

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil

from cryptoflow.errors import ServiceError
from cryptoflow.local import launcher

LOG_LIMIT_BYTES = 10_000_000
"""At a start a longer log makes room: it becomes `log.1`, in place of the one before."""

POLL_S = 0.1
"""Between two looks at the health of a starting service; its death is noticed at once."""

CLOCK_STEP_S = 2.0
"""A process's creation time is reckoned from the boot time, which moves a little when the clock is set."""


@dataclass(frozen=True)
class Process:
    """A process that was started here, now or by an earlier command."""

    pid: int
    created_s: float
    """When it was created, in s since the epoch."""
    port: int
    """The port it serves."""
    tied_to: int | None = None
    """The pid of the process it dies with."""


def start(
    command: Sequence[str],
    folder: Path,
    port: int,
    tied: bool = False,
    farewell: signal.Signals = signal.SIGKILL,
    env: Mapping[str, str] = os.environ,
) -> Process:
    """Start a program in `folder`, its output in `folder`/log, in its own session: out of reach of Ctrl-C.

    `tied`: it gets the signal `farewell` when this process dies, even of kill -9; else it goes on until `stop`.
    SIGKILL suits a service that recovers from it, as a JVM may hang in its shutdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parent = os.getpid() if tied else 0
    argv = [sys.executable, "-IS", launcher.__file__, str(parent), str(int(farewell)), str(folder), *command]
    log = _open_log(folder)
    try:
        pid = _lasting_thread(os.getpid()).submit(_spawn, argv, log, env).result()
    finally:
        os.close(log)
    process = Process(pid, _created_s(pid), port, parent or None)
    _write(folder, process)
    return process


def running(folder: Path) -> Process | None:
    """The process that was started in `folder`, if it still runs."""
    try:
        process = Process(**json.loads((folder / "process.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):  # never started, or a file of another version
        return None
    return process if _find(process) else None


def stop(process: Process, timeout_s: float = 30.0) -> None:
    """End it: SIGTERM, and SIGKILL when it is still there after `timeout_s`.

    Raises:
        ServiceError: it survives even that.
    """
    found = _find(process)
    if found is None:
        return
    try:
        found.terminate()
        found.wait(timeout_s)
    except psutil.TimeoutExpired:
        _kill(found)
    except psutil.NoSuchProcess:
        return


def await_health(name: str, process: Process, folder: Path, healthy: Callable[[], bool], timeout_s: float) -> None:
    """Wait until `healthy()`.

    Raises:
        ServiceError: the process ended, or was not healthy in time; with the last lines of its log.
    """
    deadline_s = time.monotonic() + timeout_s
    while not healthy():
        found = _find(process)
        if found is None or _ended_within(found, POLL_S):
            raise ServiceError(f"{name} ended while it started; {last_words(folder)}")
        if time.monotonic() > deadline_s:
            raise ServiceError(f"{name} did not answer on port {process.port} in {timeout_s:g} s; {last_words(folder)}")


def last_words(folder: Path, lines: int = 12) -> str:
    """The end of the log, and where the whole is."""
    log = folder / "log"
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"the end of its log {log}:\n" + "\n".join(text.splitlines()[-lines:])


def free_port(*taken: int) -> int:
    """A port of 127.0.0.1 where nothing listens, and none of those that are to be listened on soon.

    Below the ports that the kernel gives to outgoing connections: a client that tries to reconnect to one of
    those while its server is down can end up connected to itself, and the server can't come back.
    """
    for port in random.sample([each for each in range(20_000, 32_000) if each not in taken], 100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) and _can_bind(port):
                return port
    raise ServiceError("There is no free port between 20000 and 32000 on 127.0.0.1; end some programs.")


def _can_bind(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _open_log(folder: Path) -> int:
    log = folder / "log"
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.replace(folder / "log.1")
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _spawn(argv: list[str], log: int, env: Mapping[str, str]) -> int:
    # posix_spawn, since a subprocess.Popen belongs to the object that waits for it, and these outlive it.
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    return os.posix_spawn(argv[0], argv, env, file_actions=files, setsid=True)


def _write(folder: Path, process: Process) -> None:
    new = folder / "process.json.new"
    new.write_text(json.dumps(asdict(process)))
    new.replace(folder / "process.json")


def _created_s(pid: int) -> float:
    return float(psutil.Process(pid).create_time())


def _find(process: Process) -> psutil.Process | None:
    try:
        found = psutil.Process(process.pid)
        ours = abs(found.create_time() - process.created_s) < CLOCK_STEP_S
        return found if ours and not _ended_within(found, 0) else None
    except psutil.NoSuchProcess:
        return None


def _ended_within(found: psutil.Process, timeout_s: float) -> bool:
    """Whether it ended; a child of this process is reaped by that. Another parent's zombie has ended too."""
    try:
        found.wait(timeout_s)
    except psutil.TimeoutExpired:
        return bool(found.status() == psutil.STATUS_ZOMBIE)
    return True


def _kill(found: psutil.Process) -> None:
    try:
        found.kill()
        found.wait(10)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        raise ServiceError(f"Process {found.pid} does not end, not even by SIGKILL; restart the machine.") from None


@cache
def _lasting_thread(pid: int) -> Executor:
    """A thread that lasts as long as this process, `pid`: what is tied dies with the thread that started it.

    By pid, since a child made by fork has none of its parent's threads.
    """
    return ThreadPoolExecutor(1, "services")
