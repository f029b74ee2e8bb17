"""Machines of their own for whole programs: process ids, host name, network and clock; files and processors are shared.

Linux's namespaces make them. Of this machine's ports only those are in reach that a cable leads to.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Self

import psutil

from cryptoflow.local import launcher
from cryptoflow_tests.cable import Cable
from cryptoflow_tests.running import Workplace

UNSHARE = (shutil.which("unshare") or "", "--pid", "--mount-proc", "--uts", "--net", "--fork", "--kill-child")
"""util-linux: all of it ends with the process that it starts."""

INIT = """
import fcntl, os, socket, struct, subprocess, sys
outside, name, ports, *command = sys.argv[1:]
socket.sethostname(name)
SIOCSIFFLAGS, UP_LOOPBACK_RUNNING = 0x8914, 0x49  # linux/sockios.h, net/if.h
with socket.socket() as loopback:
    fcntl.ioctl(loopback, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", UP_LOOPBACK_RUNNING))
servers = [socket.create_server(("127.0.0.1", int(port))) for port in ports.split(",")]
with socket.socket(fileno=int(outside)) as to:
    socket.send_fds(to, [b"up"], [server.fileno() for server in servers])
for server in servers:
    server.close()
child = subprocess.Popen(command)
while (ended := os.wait())[0] != child.pid:  # orphans are the first process's to bury
    pass
sys.exit(os.waitstatus_to_exitcode(ended[1]))
"""
"""The first process of a machine: gives it a name and a network, and hands the sockets that listen there outside."""

CLOCK = """
import time
import time_machine

time_machine.travel(time.time() + {ahead_s}, tick=True).start()
"""
"""Run by each Python of a machine before anything else. No library that a JVM would heed too is of use here: Debian's
libfaketime 0.9.10 breaks Python's waits; and whatever the project stamps, Python does."""

START_TIMEOUT_S = 30.0


def why_not() -> str:
    """Why there can be no such machines here; empty if there can."""
    if not UNSHARE[0]:
        return "there is no unshare (of util-linux) here"
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"no namespaces can be made here: {done.stderr.strip()}" if done.returncode else ""


def set_clock(place: Workplace, ahead_s: float) -> None:
    """Have all Python programs that work for a place go by a clock that is wrong."""
    run_first(place, CLOCK.format(ahead_s=ahead_s))


def run_first(place: Workplace, code: str) -> None:
    """Have all Python programs that work for a place run some lines before anything else."""
    (place.folder / "sitecustomize.py").write_text(code)
    place.env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(place.folder), os.environ.get("PYTHONPATH"))))


class Machine:
    """`python -m COMMAND...` on a machine of its own, for the length of a `with` block at most.

    Args:
        place: its files and its environment.
        name: the host's.
        cables: the kind of each that leads from a port there to the same port here.
    """

    def __init__(self, place: Workplace, name: str, cables: Mapping[int, type[Cable]], *command: str) -> None:
        self.place, self.name, self._kinds, self._command = place, name, cables, command
        self.log = place.folder / f"{name}.log"

    def __enter__(self) -> Self:
        here, there = socket.socketpair()
        with here, ExitStack() as undo:
            self._process = self._start(there)
            undo.callback(self._end)
            servers = self._servers(here)
            undo.pop_all()
        self.cables = {
            port: kind(port, server) for (port, kind), server in zip(self._kinds.items(), servers, strict=True)
        }
        return self

    def _start(self, there: socket.socket) -> "subprocess.Popen[bytes]":
        ports = ",".join(map(str, self._kinds))
        init = (sys.executable, "-IS", "-c", INIT, str(there.fileno()), self.name, ports)
        tied = (sys.executable, "-IS", launcher.__file__, str(os.getpid()), str(int(signal.SIGKILL)))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRYPTO")}
        with there, self.log.open("w") as log:
            return subprocess.Popen(
                [*tied, self.place.folder, *UNSHARE, *init, sys.executable, "-m", *self._command],
                env=inherited | self.place.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )

    def _servers(self, here: socket.socket) -> list[socket.socket]:
        """The sockets that listen there."""
        here.settimeout(START_TIMEOUT_S)
        _, found, _, _ = socket.recv_fds(here, 8, len(self._kinds))
        if not found:
            raise RuntimeError(f"{self.name} did not come up: {self.output()}")
        return [socket.socket(fileno=each) for each in found]

    def __exit__(self, *error: object) -> None:
        self._end()
        for cable in self.cables.values():
            cable.pull()

    def _end(self) -> None:
        left = self._processes()
        self._process.kill()
        self._process.wait()
        psutil.wait_procs(left)

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout_s: float) -> int:
        """Wait for the command's end; gives its exit code.

        Raises:
            TimeoutError: it goes on; with what it has said.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} goes on after {timeout_s:g} s:\n{self.output()}") from None

    def interrupt(self) -> None:
        """What Ctrl-C of the command does."""
        [first] = psutil.Process(self._process.pid).children()
        first.children()[0].send_signal(signal.SIGINT)

    def stand_still(self) -> None:
        """SIGSTOP to all of its processes."""
        while running := list(filter(_is_running, self._processes())):
            for each in running:
                with suppress(psutil.NoSuchProcess):
                    each.suspend()

    def go_on(self) -> None:
        """SIGCONT to all of them."""
        for each in self._processes():
            with suppress(psutil.NoSuchProcess):
                each.resume()

    def _processes(self) -> list[psutil.Process]:
        """All in it: whoever is left alone there becomes the first one's child."""
        if self._process.poll() is not None:
            return []
        return psutil.Process(self._process.pid).children(recursive=True)


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    return False
