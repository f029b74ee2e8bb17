"""A part of a run: what it is told, what it can do, and its life from start to stop."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from cryptoflow.feeds.events import ClientEvent
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.metrics import PartMetrics
from cryptoflow.runtime.stop import SHUTDOWN_S, Deadline, Stop

POLL_S = 0.25
"""How often a part is looked after, in s."""

CLOSING_S = 25.0
"""What a part that was told to stop keeps of its time for what comes after the drain: the last batch and Spark's end.

What is not drained by then stays in Kafka for the next run.
"""

PEER_WAIT_S = 60.0
"""How long a part whose own time is over waits for the one that feeds it."""


@dataclass(frozen=True)
class RunContext:
    """What a part knows of its run: where and for whom it works, for how long, and whom it tells.

    Attributes:
        home: CRYPTOFLOW_HOME.
        run_id: by which others who want to do the same work know who does it.
        timeout_s: how long it goes on, counted from when it has started; 0: until it is stopped.
        stop: set to end it cleanly before its time.
        peer_over: whether the other part of the same run is over, if there is one: an aggregation then has nothing
            more to expect, and an ingester whose aggregation failed is not to go on by itself.
        is_ending: whether the run of an id is about to end.
        report: called every `report_every_s` with the newest metrics.
        on_event: called with what happens to the feed's socket.
    """

    home: Path
    run_id: str = ""
    timeout_s: float = 0
    stop: Stop = field(default_factory=Stop)
    peer_over: Callable[[], bool] | None = None
    is_ending: Callable[[str], bool] = lambda run_id: False
    report: Callable[[PartMetrics], None] = lambda metrics: None
    report_every_s: float = 1.0
    on_event: Callable[[ClientEvent], None] = lambda event: None

    def holder(self) -> Holder:
        """This process, as it holds leases for the run."""
        return Holder.current(self.run_id, self.home)

    def waits(self) -> Callable[[Holder], bool]:
        """Whether to wait for the holder of a lease: his run is about to end, and this one has time."""
        deadline = Deadline(SHUTDOWN_S)
        return lambda holder: not (self.stop.is_set() or deadline.passed) and self.is_ending(holder.run)


Measured = TypeVar("Measured", bound=PartMetrics, covariant=True)


class Part(Protocol[Measured]):
    """A part of a run. Its methods are called from one thread, and raise what has gone wrong."""

    fed_by_peer: bool = False
    """Whether the other part of the run feeds it, so that its last trades come when that is over."""

    def start(self) -> None:
        """Begin; its time counts from then."""

    def check(self) -> None:
        """See that the work goes on, and tell those who would replace a part that does not."""

    def over(self) -> bool:
        """Whether it has done all that it had to; never, if it goes on as long as trades come."""
        return False

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Take no more, and finish what was taken unless that is `overdue`, which has to be asked all the time."""

    def stop(self) -> None:
        """End, whatever it is at; also where it has failed, or not begun."""

    def metrics(self) -> Measured:
        """What it has measured so far."""


def live(part: Part[Measured], run: RunContext) -> Measured:
    """Have a part work for its time and drain; gives its last metrics.

    Raises:
        Exception: what the part raises.
    """
    life = _Life(part, run)
    try:
        part.start()
        life.watch(run.stop, Deadline(run.timeout_s))
        if part.fed_by_peer and run.peer_over:
            life.watch(threading.Event(), Deadline(PEER_WAIT_S))
        part.drain(life.overdue)
        return part.metrics()
    finally:
        part.stop()


class _Life:
    """Looks after a part, and tells its metrics now and then."""

    def __init__(self, part: Part[PartMetrics], run: RunContext) -> None:
        self._part, self._run = part, run
        self._next_report = Deadline(run.report_every_s)

    def watch(self, stop: threading.Event, deadline: Deadline) -> None:
        """Look after it until it is time to drain: one of the two, it has done its work, or its peer is over."""
        while not stop.wait(deadline.left_s(POLL_S)) and not (deadline.passed or self._part.over()):
            self._part.check()
            if self._reported() and self._run.peer_over and self._run.peer_over():
                return

    def overdue(self) -> bool:
        """Whether to drain no longer: somebody wants the part to stop, and its time is nearly over."""
        self._reported()
        return self._run.stop.deadline.left_s() < CLOSING_S

    def _reported(self) -> bool:
        if not self._next_report.passed:
            return False
        self._run.report(self._part.metrics())
        self._next_report = Deadline(self._run.report_every_s)
        return True
