"""Hours that lack trades: computed anew from the log, and their rows written where they differ.

A repair touches finished windows only, so it stands beside the live aggregation; and only those of which the log
provably holds all trades.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import NamedTuple

import msgspec
from cassandra.cluster import Session

from cryptoflow.kafka_io.log import open_log
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import EPOCH, HOUR, utc_hour
from cryptoflow.pipeline.correct import Corrector, RepairedHour
from cryptoflow.pipeline.part import POLL_S, Part, RunContext, live
from cryptoflow.pipeline.recompute import Made, Recomputer
from cryptoflow.pipeline.repair_plan import Plan, Planner, is_shared
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.metrics import RepairMetrics
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.tables import hours, lease, progress, reader
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.schema import MarkRow, pair_of


class Wanted(msgspec.Struct, frozen=True):
    """Which hours to repair; of all pairs, or of those that are named."""

    hours: Sequence[datetime] | None = None
    """Aware UTC, whole; None: all that are marked."""
    market: str | None = None
    coins: tuple[str, str] | None = None

    def has(self, pair: Pair) -> bool:
        """Whether a pair is one of them."""
        return self.market in (None, pair[0]) and self.coins in (None, pair[1:])


class Summary(msgspec.Struct):
    """What a repair did, and what waits."""

    repaired: list[RepairedHour] = []
    waiting: list[datetime] = []
    """Hours that can't be repaired yet: the windows concerned are not finished."""
    finished: datetime | None = None
    """By when windows were finished at last; None: no aggregation of the topic into the tables is on record."""


MOST_HOURS = 24
"""Read in one go: the candles of all of them are held in memory."""

OnHour = Callable[[datetime, Sequence[RepairedHour]], None]
"""Told of an hour that is repaired."""


def hours_between(start: datetime, end: datetime) -> list[datetime]:
    """The whole hours that a stretch of time touches; aware UTC."""
    first = utc_hour(start)
    return [first + HOUR * number for number in range(max(0, math.ceil((end - first) / HOUR)))]


def repair(
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    settings: SparkSettings,
    run: RunContext,
    wanted: Wanted,
    on_hour: OnHour = lambda hour, done: None,
) -> Summary:
    """Repair hours, the oldest first, until done or told to stop; `on_hour` is told of each as it is done.

    Raises:
        KafkaError, CassandraError: they are not there, gone for too long, or refuse something.
        AlreadyRunningError: another repair works on the keyspace.
        LeaseLostError: another one took over while this one did not answer.
    """
    with connect(cassandra) as session, open_log(kafka) as log, ExitStack() as stack:
        ensure_schema(session, cassandra)
        work = f"repairs {cassandra.keyspace}"
        held = stack.enter_context(lease.held(session, lease.REPAIR, run.holder(), work, run.waits()))
        recomputer = Recomputer(kafka, settings, run.home, stack)
        corrector = Corrector(session, cassandra, settings.window_s, held)
        place = Place(settings.window_s, kafka.topic, log.topic_id)
        planner = Planner(session, kafka, log, log.beside(kafka.history_topic), place)
        work_at = Repair(session, place, planner, recomputer, corrector)
        live(RepairPart(work_at, held, lambda: work_at.run(wanted, run.stop.is_set, on_hour)), run)
        return work_at.summary


class RepairPart(Part[RepairMetrics]):
    """A repair at work: it goes on aside, hour by hour."""

    def __init__(self, repair: "Repair", held: lease.Lease, work: Callable[[], None]) -> None:
        self._repair, self._lease = repair, held
        self._aside = Aside("repair", work, repair.cancel)

    def start(self) -> None:
        """Begin with the first hour."""
        self._aside.start()

    def check(self) -> None:
        """See that the lease is held."""
        self._lease.alive()

    def over(self) -> bool:
        """Whether all hours are done."""
        return self._aside.done()

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Finish the hour at hand."""
        while not self.over() and not overdue():
            self._lease.alive()
            self._aside.wait(POLL_S)

    def stop(self) -> None:
        """Give the hour at hand up."""
        self._aside.cancel()

    def metrics(self) -> RepairMetrics:
        """How far it has come."""
        return self._repair.metrics()


class _Planned(NamedTuple):
    """An hour that can be repaired."""

    plan: Plan
    marks: Mapping[MarkRow, int]
    """Those that are worked off by it, each with the time that it was written at."""


class Repair:
    """Repairs hours, the oldest first.

    Attributes:
        summary: what it has done so far.
    """

    def __init__(
        self, session: Session, place: Place, planner: Planner, recomputer: Recomputer, corrector: Corrector
    ) -> None:
        self._session, self._place = session, place
        self._planner, self._recomputer, self._corrector = planner, recomputer, corrector
        self._hours_left = self._hours_done = 0
        self.summary = Summary()

    def metrics(self) -> RepairMetrics:
        """How far it has come."""
        return RepairMetrics(hours=self._hours_done, hours_left=self._hours_left, trades_read=self._recomputer.read)

    def cancel(self) -> None:
        """Give the hour at hand up, and begin no other."""
        self._recomputer.cancel()

    def run(self, wanted: Wanted, stopped: Callable[[], bool], on_hour: OnHour) -> None:
        """Repair the hours that are wanted."""
        to_do = deque(self._wanted(wanted))
        while to_do and not stopped():
            planned = self._together(to_do, wanted)
            self._hours_left = len(planned) + len(to_do)
            made = self._recomputer.candles([each.plan for each in planned])
            for each, found in zip(planned, made, strict=True):
                on_hour(each.plan.hour, self._corrected(each, found, wanted))
                if stopped():
                    return

    def _together(self, to_do: deque[datetime], wanted: Wanted) -> list[_Planned]:
        """Take the next hours that are read in one go; those that can't be repaired yet are noted as waiting."""
        found: list[_Planned] = []
        while to_do and len(found) < MOST_HOURS:
            planned = self._planned(to_do[0], wanted)
            if planned and found and not is_shared([each.plan for each in found], planned.plan):
                break  # it is planned anew when it is read, as Kafka may delete records meanwhile
            if planned:
                found.append(planned)
            else:
                self.summary.waiting.append(to_do[0])
            to_do.popleft()
        return found

    def _wanted(self, wanted: Wanted) -> Sequence[datetime]:
        """The hours to repair; marked ones that can't be yet are noted as waiting."""
        at = self._at()
        if wanted.hours is not None:
            return wanted.hours
        marks = [mark for mark in reader.marks(self._session) if wanted.has(pair_of(mark))]
        ready = reader.ready_hours(marks, at.finished if at else EPOCH)
        self.summary.waiting = sorted({mark.hour for mark in marks} - set(ready))
        return ready

    def _at(self) -> Progress | None:
        at = progress.read(self._session, self._place)
        self.summary.finished = at.finished if at else None
        return at

    def _planned(self, hour: datetime, wanted: Wanted) -> _Planned | None:
        """The plan of an hour; None: none of its windows is finished."""
        marks = {mark: us for mark, us in reader.marks_of(self._session, hour).items() if wanted.has(pair_of(mark))}
        at = self._at()
        if at is None or at.finished <= hour:
            return None
        plan = self._planner.plan(hour, at, hours.of_hour(self._session, hour), list(marks))
        return _Planned(plan, {mark: us for mark, us in marks.items() if mark.until <= plan.end})

    def _corrected(self, planned: _Planned, made: Mapping[Pair, Made], wanted: Wanted) -> list[RepairedHour]:
        # What was found in an hour before may have settled the rows of this one.
        known = {pair_of(row): row for row in hours.of_hour(self._session, planned.plan.hour)}
        done = self._corrector.correct(planned.plan, made, known, planned.marks, wanted.has)
        self.summary.repaired += done
        self._hours_done, self._hours_left = self._hours_done + 1, self._hours_left - 1
        return done
