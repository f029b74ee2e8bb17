"""What every part of a run is told, tells, and watches while it streams."""

import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass, field

from cryptoflow.feeds.client import FeedClient, FeedStats
from cryptoflow.runtime.holder import Holder
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
    _end: Deadline | None = None

    def waits(self) -> Callable[[Holder], bool]:
        """Whether to wait for the holder of a lease: his run is about to end, and this one has time."""
        deadline = Deadline(SHUTDOWN_S)
        return lambda holder: not (self.stop.is_set() or deadline.passed) and self.is_ending(holder.run)

    def await_work(
        self,
        work: Callable[[], None],
        check: Callable[[], None],
        figures: Callable[[], Figures],
        cancel: Callable[[], None],
    ) -> None:
        """Do `work` aside, telling the figures; it is canceled when the part has to end before it is done.

        That the other part is over is no reason: what it left is to be worked off.

        Raises:
            Exception: what `work` or `check` raises.
        """
        with futures.ThreadPoolExecutor(1, "work") as pool:
            working = pool.submit(work)
            try:
                self._watch(check, figures, _Done(working, self.drain_overdue), Deadline(None), with_peer=False)
            finally:
                canceled = not working.done()
                if canceled:
                    cancel()
        if not canceled:
            working.result()

    def begin(self) -> Deadline:
        """Count the timeout from now on, unless it is counted already; gives its end."""
        self._end = self._end or Deadline(self.timeout_s)
        return self._end

    def is_over(self) -> bool:
        """Whether it is time to end, and the other part has nothing more to bring."""
        over = self.stop.is_set() or self.begin().passed
        return over and (self.peer_over is None or self.peer_over())

    def supervise(self, check: Callable[[], None], figures: Callable[[], Figures]) -> None:
        """Block until it is time to end; `check` raises what has gone wrong meanwhile."""
        self._watch(check, figures, self.stop, self.begin())

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
        with_peer: bool = True,
    ) -> None:
        next_report = Deadline(self.report_every_s)
        while not stop.wait(deadline.left_s(POLL_S)) and not deadline.passed:
            check()
            if next_report.passed:
                self.report(figures())
                next_report = Deadline(self.report_every_s)
                if with_peer and self.peer_over and self.peer_over():
                    return


class _Done(threading.Event):
    """Set when a work is done, or is to be given up."""

    def __init__(self, working: "futures.Future[None]", overdue: Callable[[], bool]) -> None:
        super().__init__()
        self._overdue = overdue
        working.add_done_callback(lambda done: self.set())

    def wait(self, timeout: float | None = None) -> bool:
        """As an event's."""
        return super().wait(timeout) or self._overdue()


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
