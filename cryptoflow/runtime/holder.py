"""Who holds a lease: a process, told so that people find it, and its neighbours on the machine see that it died."""

import os
import socket
from pathlib import Path
from typing import Self

import msgspec

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_SPACE = Path("/proc/self/ns/pid")


class Holder(msgspec.Struct, frozen=True):
    """A process that works for a run.

    What only Linux tells is empty, or 0, elsewhere; such a process is never found to be gone.
    """

    run: str
    host: str
    home: str
    pid: int
    started_ticks: int
    """When it was started, in the kernel's ticks since the boot: setting the clock does not change that."""
    boot: str
    """The id of the machine's boot."""
    pid_space: str
    """The namespace that its pid is of: containers of one machine have their own."""

    @classmethod
    def current(cls, run: str, home: Path) -> Self:
        """This process, at work for `run`."""
        pid = os.getpid()
        started = _started_ticks(pid)
        host = socket.gethostname()
        return cls(run, host, str(home.absolute()), pid, started or 0, _boot(), _pid_space())

    def describe(self) -> str:
        """It, for people: the run, the host and the home."""
        return f"{self.run or 'a run without an id'} on {self.host}, home {self.home}"

    def is_gone(self) -> bool:
        """Whether its process has provably ended; False of another machine or container, where that can't be seen."""
        if not self.boot or (self.boot, self.pid_space) != (_boot(), _pid_space()):
            return False
        started = _started_ticks(self.pid)
        return _ended(self.pid) if started is None else started != self.started_ticks


def _boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _pid_space() -> str:
    try:
        return str(PID_SPACE.readlink())
    except OSError:
        return ""


def _started_ticks(pid: int) -> int | None:
    """When the process was started; 0: it is dead and only its parent has not looked yet; None: it can't be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()  # the name before may hold anything
    return 0 if state in "ZX" else int(rest[18])


def _ended(pid: int) -> bool:
    """Whether there is no such process, rather than one of another user that is hidden."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)
    return False
