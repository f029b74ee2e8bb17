"""A program run as a process of its own: how long, how much of the cores, how much memory."""

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

POLL_S = 0.2
"""How often the processes are looked at; what ends within it, or grows and shrinks, is not seen."""

TIMEOUT_S = 3600.0
QUIET_CORES = 0.3
QUIET_S = 3.0
"""A machine is quiet if it used no more cores than that for so long; Kafka and Cassandra alone use less."""

TOLD_LINES = 20
"""Of what a failed program wrote, in the error."""


@dataclass(frozen=True)
class Run:
    """What a program took, from its start to its exit, with all the processes that it started."""

    seconds: float
    cpu_s: float
    """Of all cores together; less than `seconds` times the cores where others used them too."""
    peak_bytes: int
    """Resident memory of all processes together, at most; what they share counts for each."""
    others_cores: float
    """Cores that everything else on the machine used meanwhile, Kafka and Cassandra included."""
    told: str = ""
    """What it wrote."""


class ProgramError(Exception):
    """The program failed; the end of what it wrote is the message."""


def run(command: Sequence[str], env: Mapping[str, str]) -> Run:
    """Run a program to its end.

    Raises:
        ProgramError: it ended with another code than 0, or not within an hour.
    """
    begun_s, busy_s = time.perf_counter(), machine_busy_s()
    process = subprocess.Popen(
        command, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with watched(process.pid) as watch:
        try:
            told, _ = process.communicate(timeout=TIMEOUT_S)
        finally:
            end(process.pid)
        seconds, all_s = time.perf_counter() - begun_s, machine_busy_s() - busy_s
    if process.returncode:
        raise ProgramError("\n".join(told.splitlines()[-TOLD_LINES:]))
    return Run(seconds, watch.cpu_s, watch.peak_bytes, max(all_s - watch.cpu_s, 0) / seconds, told)


def machine_busy_s() -> float:
    """Seconds that the machine's cores have worked since it started, all together."""
    times = psutil.cpu_times()._asdict()
    return sum(float(times[name]) for name in ("user", "nice", "system", "irq", "softirq") if name in times)


def await_quiet(patience_s: float) -> None:
    """Block until the machine has nothing else to do, but not longer than `patience_s`."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        busy_s = machine_busy_s()
        time.sleep(QUIET_S)
        if machine_busy_s() - busy_s <= QUIET_CORES * QUIET_S:
            return


@dataclass
class Watch:
    """Looks at a process and its descendants."""

    root: psutil.Process
    peak_bytes: int = 0
    spent_s: dict[psutil.Process, float] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float:
        """Of all processes seen, those that have ended included."""
        return sum(self.spent_s.values())

    def look(self) -> None:
        """Take the newest figures."""
        self.peak_bytes = max(self.peak_bytes, sum(map(self._look_at, family(self.root))))

    def _look_at(self, process: psutil.Process) -> int:
        with suppress(psutil.Error), process.oneshot():
            times = process.cpu_times()
            self.spent_s[process] = times.user + times.system
            return int(process.memory_info().rss)
        return 0


@contextmanager
def watched(pid: int) -> Iterator[Watch]:
    """Looks for the block, from a thread of its own; the figures are complete after it."""
    watch, over = Watch(psutil.Process(pid)), threading.Event()

    def look() -> None:
        while not over.wait(POLL_S):
            watch.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def family(root: psutil.Process) -> list[psutil.Process]:
    """A process and its descendants, as far as they are there."""
    with suppress(psutil.NoSuchProcess):
        return [root, *root.children(recursive=True)]
    return []


def end(pid: int) -> None:
    """Kill a process of ours, if it is still there, and its descendants."""
    with suppress(psutil.NoSuchProcess):
        for process in family(psutil.Process(pid)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
