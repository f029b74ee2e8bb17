"""The lease of a run's part: a lock that its process holds while it works, so that its death is seen at once.

HOME/runs/RUN_ID/PART.lease, held by the kernel for the process whose pid stands in it. Dagster's default launcher has
no other way to tell a run whose process was killed from one that lives. Below that stands until when the holder will
have shown progress again, on the clock that all processes of a machine share: one that lives and hangs is seen, too.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path

import msgspec
import psutil

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.processes import CLOCK_STEP_S
from cryptoflow.runtime.force import kill_family
from cryptoflow.runtime.locks import exclusive, held, owner_of

SUFFIX = ".lease"

LOOK_S = 0.1
"""Between two looks at a holder that is about to show progress, or to end."""

END_S = 5.0
"""How long a process that was killed may take to be gone."""

GAVE_UP_S = 0.0
"""Stands where a holder was ended for making no progress."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HoldingProcess(msgspec.Struct, frozen=True):
    """A process, told by its pid and the time it was created, in s since the epoch."""

    pid: int
    created_s: float
    boot_id: str = ""
    """Of the running kernel, whose monotonic clock it goes by."""


class Lease:
    """A lease at hand; made by `lease`."""

    def __init__(self, file: FileIO, place: int) -> None:
        self._file, self._place = file, place

    def promise(self, within_s: float) -> None:
        """To show progress again within so many s; 0: never, it is ended for that."""
        until_s = time.monotonic() + within_s if within_s else GAVE_UP_S
        with suppress(OSError, ValueError):  # nothing ends for want of this; and the lease may be over
            os.pwrite(self._file.fileno(), _promise_text(until_s), self._place)


@contextmanager
def lease(home: Path, run_id: str, part: str) -> Iterator[Lease]:
    """Hold the lease of a part of a run. Until its first promise it may take as long as it likes.

    Raises:
        PrerequisiteError: HOME can't be written.
    """
    process = psutil.Process()
    holder = msgspec.json.encode(HoldingProcess(process.pid, process.create_time(), _boot_id())).decode()
    path = _path(home, run_id, part)
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(path, owner=holder))
            file = stack.enter_context(FileIO(path, "r+"))
        except OSError as error:
            raise PrerequisiteError(
                f"{home} can't be written ({error.strerror}): make room there, or set CRYPTOFLOW_HOME elsewhere."
            ) from error
        yield Lease(file, len(holder))


def _promise_text(until_s: float) -> bytes:
    """As long each time, so that one write replaces the whole."""
    return b"\n%016.3f" % until_s


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def _path(home: Path, run_id: str, part: str) -> Path:
    return home / "runs" / run_id / f"{part}{SUFFIX}"


def alive(home: Path, run_id: str) -> bool:
    """Whether a part of the run works."""
    return any(held(path) for path in _leases(home, run_id))


def killed(home: Path, run_id: str) -> bool:
    """Whether a part of the run was killed, and none works."""
    return not alive(home, run_id) and any(owner_of(path) for path in _leases(home, run_id))


def ended_s(home: Path, run_id: str) -> float:
    """When a part of the run last began or ended, in s since the epoch; 0: none ever began."""
    return max((path.stat().st_mtime for path in _leases(home, run_id)), default=0.0)


def working_runs(home: Path) -> list[str]:
    """The ids of the runs of which a part works, whatever Dagster's record says of them."""
    return sorted({path.parent.name for path in home.glob(f"runs/*/*{SUFFIX}") if held(path)})


def working_parts(home: Path, run_id: str) -> dict[str, bool]:
    """The parts of the run that work, and whether each is overdue with its progress."""
    return {path.stem: _is_overdue(path, 0) for path in sorted(_leases(home, run_id)) if held(path)}


def stalled(home: Path, run_id: str, margin_s: float = 0) -> bool:
    """Whether a part of the run works and is overdue with its progress by more than `margin_s`."""
    return any(held(path) and _is_overdue(path, margin_s) for path in _leases(home, run_id))


def gave_up(home: Path, run_id: str) -> bool:
    """Whether a part of the run was ended for making no progress."""
    return any(not held(path) and _promised_s(path) == GAVE_UP_S for path in _leases(home, run_id))


def end_holders(home: Path, run_id: str) -> None:
    """Kill the processes that still hold a lease of the run, with their children."""
    for path in filter(held, _leases(home, run_id)):
        _end(path)


def end_stalled(home: Path, run_id: str, margin_s: float, wait_s: float) -> None:
    """Kill those among them that are overdue by more than `margin_s`, and still are `wait_s` later.

    Where all processes stood still, as after Ctrl-Z, the progress comes as soon as they go on.
    """
    if _comes(lambda: not stalled(home, run_id, margin_s), wait_s):
        return
    for path in _leases(home, run_id):
        if held(path) and _is_overdue(path, margin_s):
            _end(path)
            if not held(path):
                _mark(path)


def _is_overdue(path: Path, margin_s: float) -> bool:
    holder, promised_s = _holder(path), _promised_s(path)
    if holder is None or promised_s is None or holder.boot_id != _boot_id():
        return False  # it has promised nothing, or by the clock of another machine
    return time.monotonic() > promised_s + margin_s


def _holder(path: Path) -> HoldingProcess | None:
    text = owner_of(path).partition("\n")[0]
    return msgspec.json.decode(text, type=HoldingProcess) if text else None


def _promised_s(path: Path) -> float | None:
    try:
        return float(owner_of(path).partition("\n")[2])
    except ValueError:  # it has promised nothing
        return None


def _mark(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(len(owner_of(path).partition("\n")[0]))
        file.write(_promise_text(GAVE_UP_S))


def _end(path: Path) -> None:
    if (holder := _holder(path)) and _kill(holder):
        _comes(lambda: not held(path), END_S)


def _kill(holder: HoldingProcess) -> bool:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(holder.pid)
        # In another container the pid is another process here.
        if abs(process.create_time() - holder.created_s) < CLOCK_STEP_S:
            kill_family(process)
            return True
    return False


def _comes(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether the condition is met now, or is within so many s."""
    until_s = time.monotonic() + within_s
    while not (met := condition()) and time.monotonic() < until_s:
        time.sleep(LOOK_S)
    return met


def _leases(home: Path, run_id: str) -> list[Path]:
    return list((home / "runs" / run_id).glob(f"*{SUFFIX}"))
