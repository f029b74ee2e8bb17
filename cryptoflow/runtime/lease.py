"""The lease of a run's part: a lock that its process holds while it works, so that its death is seen at once.

HOME/runs/RUN_ID/PART.lease, held by the kernel for the process whose pid stands in it. Dagster's default launcher has
no other way to tell a run whose process was killed from one that lives.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import psutil

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.processes import CLOCK_STEP_S
from cryptoflow.runtime.locks import exclusive, held, owner_of

SUFFIX = ".lease"


class Holder(msgspec.Struct, frozen=True):
    """A process, told by its pid and the time it was created, in s since the epoch."""

    pid: int
    created_s: float


@contextmanager
def lease(home: Path, run_id: str, part: str) -> Iterator[None]:
    """Hold the lease of a part of a run.

    Raises:
        PrerequisiteError: HOME can't be written.
    """
    process = psutil.Process()
    holder = msgspec.json.encode(Holder(process.pid, process.create_time())).decode()
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(_path(home, run_id, part), owner=holder))
        except OSError as error:
            raise PrerequisiteError(
                f"{home} can't be written ({error.strerror}): make room there, or set CRYPTOFLOW_HOME elsewhere."
            ) from error
        yield


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


def end_holders(home: Path, run_id: str) -> None:
    """Kill the processes that still hold a lease of the run, with their children."""
    for path in _leases(home, run_id):
        if held(path) and (text := owner_of(path)):
            _kill(msgspec.json.decode(text, type=Holder))


def _kill(holder: Holder) -> None:
    try:
        process = psutil.Process(holder.pid)
        # In another container the pid is another process here.
        if abs(process.create_time() - holder.created_s) < CLOCK_STEP_S:
            for each in [*process.children(recursive=True), process]:
                each.kill()
    except psutil.NoSuchProcess:
        return


def _leases(home: Path, run_id: str) -> list[Path]:
    return list((home / "runs" / run_id).glob(f"*{SUFFIX}"))
