"""The verdicts of hours that the venues' own candles contradict, or do no more."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import groupby

from cassandra.cluster import Session

from cryptoflow.errors import AlreadyRunningError
from cryptoflow.kafka_io.log import open_log
from cryptoflow.model.parity import disagreement
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import EPOCH, utc_hour, utc_midnight
from cryptoflow.pipeline.judge import disagreed, is_doubted
from cryptoflow.pipeline.marking import mark_pairs
from cryptoflow.pipeline.parity import DayOfPair
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.stop import Deadline
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables import hours, lease
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.schema import HOURS, HourRow, pair_of
from cryptoflow.tables.writer import TableWriter

WAIT_S = 60.0
"""How long a repair at work is waited for."""

MINUTES = 60
"""Of an hour."""

Told = Mapping[tuple[Pair, datetime], str]
"""What the venue's candles say otherwise of an hour of a pair; empty: nothing."""


def told_of(days: Iterable[DayOfPair]) -> dict[tuple[Pair, datetime], str]:
    """What was found of each whole hour, where it can be told."""
    return {
        (day.pair, hour): said
        for day in days
        for hour, minutes in groupby(day.minutes, lambda minute: utc_hour(EPOCH + timedelta(seconds=minute.start_s)))
        if len(found := list(minutes)) == MINUTES and (said := disagreement(found)) is not None
    }


def put_down(
    session: Session,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    days: Iterable[DayOfPair],
    holder: Holder,
    tell: Callable[[str], None],
) -> None:
    """Have the hours' rows say what a comparison has found, and those repaired that it gives reason to doubt.

    It leaves to a later comparison the hours that have no verdict yet, and all of them where a repair, which writes
    verdicts too, goes on for longer than is waited for; then it tells so.

    Raises:
        CassandraError, KafkaError: they are not there, gone for too long, or refuse something.
    """
    told = told_of(days)
    if not list(_changed(session, told)):
        return
    with open_log(kafka) as log:
        past = log.beside(kafka.history_topic)
    deadline, work = Deadline(WAIT_S), f"repairs {cassandra.keyspace}"
    try:
        with lease.held(session, lease.REPAIR, holder, work, lambda other: not deadline.passed) as held:
            rows = [disagreed(row, said, past.topic_id if past else "") for row, said in _changed(session, told)]
            mark_pairs(session, cassandra, [(row.hour, pair_of(row)) for row in filter(is_doubted, rows)], kafka)
            TableWriter(session, cassandra).put(HOURS, rows, patiently(held.timestamp, cassandra))
    except AlreadyRunningError as error:
        tell(f"The verdicts are left as they are, until a later comparison. {error}")


def _changed(session: Session, told: Told) -> Iterator[tuple[HourRow, str]]:
    """The hours that have a verdict, and of which something else was found than what they say."""
    for pair, date in sorted({(pair, utc_midnight(hour)) for pair, hour in told}):
        for row in hours.of_day(session, pair, date):
            said = told.get((pair, row.hour))
            if said is not None and said != (row.disagreement or ""):
                yield row, said


def since_disagreed(session: Session, start: datetime, pairs: Iterable[Pair]) -> datetime | None:
    """The first hour from `start` on of which a venue's candles said otherwise, of some pairs; None: there is none."""
    wanted = set(pairs)
    found = (row.hour for row in hours.since(session, start) if row.disagreement and pair_of(row) in wanted)
    return min(found, default=None)
