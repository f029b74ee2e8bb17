"""What every part of a run is told, tells, and watches while it streams."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptoflow.errors import AlreadyRunningError
from cryptoflow.feeds.client import FeedClient, FeedStats
from cryptoflow.runtime.locks import exclusive, owner_of
from cryptoflow.runtime.stop import SHUTDOWN_S, Deadline, Stop

POLL_S = 0.25
"""How often a streaming part looks after itself, in s."""

Figures = Mapping[str, float]
"""Figures by their names, units in the names."""

CLOSING_S = 25.0
"""What a part that was told to stop keeps of its time for what comes after the drain: the last batch and Spark's end.

What is not drained by then stays in Kafka for the next run.
"""

PEER_WAIT_S = 60.0
"""How long a part whose own time is over waits for the other to end."""


@dataclass
class Control:
    """How long a part runs, who can stop it, and whom it tells.

    Attributes:
        stop: set to end the part cleanly before its time.
        timeout_s: how long it streams, counted from when it does; 0: until it is stopped.
        report: called every `report_every_s` with the newest figures.
        peer_over: whether the other part of the same run is over, if it has one: an aggregation then has nothing
            more to expect, and an ingester whose aggregation failed is not to go on by itself.
        owner: the run's id, by which others who want to do the same work know who does it.
        is_ending: whether the run of that id is about to end.
    """

    stop: Stop = field(default_factory=Stop)
    timeout_s: float = 0
    report: Callable[[Figures], None] = lambda figures: None
    peer_over: Callable[[], bool] | None = None
    report_every_s: float = 1.0
    owner: str = ""
    is_ending: Callable[[str], bool] = lambda owner: False

    @contextmanager
    def alone(self, lock: Path, work: str) -> Iterator[None]:
        """Hold `lock` for the block, so that nobody else does the same `work`; waits for a run that is ending.

        Raises:
            AlreadyRunningError: another run holds it and goes on.
        """
        deadline = Deadline(SHUTDOWN_S)
        with ExitStack() as stack:
            while not self._taken(lock, stack):
                holder = owner_of(lock)
                if self.stop.is_set() or deadline.passed or not self.is_ending(holder):
                    raise AlreadyRunningError(f"Another run {work} already, {holder}: terminate that one first.")
                self.stop.wait(POLL_S)
            yield

    def _taken(self, lock: Path, stack: ExitStack) -> bool:
        try:
            stack.enter_context(exclusive(lock, wait=False, owner=self.owner))
        except BlockingIOError:
            return False
        return True

    def supervise(self, check: Callable[[], None], figures: Callable[[], Figures]) -> None:
        """Block until it is time to end; `check` raises what has gone wrong meanwhile."""
        self._watch(check, figures, self.stop, Deadline(self.timeout_s))

    def await_peer(self, check: Callable[[], None], figures: Callable[[], Figures]) -> None:
        """Block until the other part is over too, but not for ever."""
        if self.peer_over:
            self._watch(check, figures, threading.Event(), Deadline(PEER_WAIT_S))

    def drain_overdue(self) -> bool:
        """Whether to drain no longer: somebody wants the part to stop, and its time is nearly over."""
        return self.stop.deadline.left_s() < CLOSING_S

    def _watch(
        self,
        check: Callable[[], None],
        figures: Callable[[], Figures],
        stop: threading.Event,
        deadline: Deadline,
    ) -> None:
        next_report = Deadline(self.report_every_s)
        while not stop.wait(deadline.left_s(POLL_S)) and not deadline.passed:
            check()
            if next_report.passed:
                self.report(figures())
                next_report = Deadline(self.report_every_s)
                if self.peer_over and self.peer_over():
                    return


class FeedThread:
    """A feed client in a thread of its own, for whoever has something else to watch as well."""

    def __init__(self, client: FeedClient) -> None:
        self._client = client
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feed")

    def __enter__(self) -> "FeedThread":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._client.run(self._stop)
        except BaseException as error:  # noqa: BLE001 - raised again by `check`, where somebody looks
            self._error = error

    def check(self) -> None:
        """Raise what ended the client, if anything has."""
        if self._error:
            raise self._error

    def end(self) -> FeedStats:
        """Leave the feed and close; the stats are complete then."""
        self._stop.set()
        self._thread.join()
        self.check()
        return self._client.stats


def feed_figures(stats: FeedStats) -> dict[str, float]:
    """A client's figures."""
    return {
        "frames": stats.frames,
        "trades": stats.trades,
        "duplicates": stats.duplicates,
        "unreadable": stats.unreadable,
        "connects": stats.connects,
        "gaps": stats.gap_count,
        "refused_subscriptions": len(stats.refused),
    }
