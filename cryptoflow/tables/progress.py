"""How far the aggregation of a topic has come: read by whoever starts, written with the rows it stands for.

What is written is fenced: only the newest holder of the lease can, so a stale one learns that it is. Lightweight
transactions see to it, so no clock matters.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import BatchStatement, SimpleStatement

from cryptoflow.errors import LeaseLostError
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.window import EPOCH, as_utc, utc_hour
from cryptoflow.tables.reader import tables_needed


class Progress(msgspec.Struct, frozen=True):
    """How far the aggregation of a topic into the tables has come; times are aware UTC."""

    finished: datetime
    """Windows that end by then are finished: the stream writes them no more, and repairs may."""
    offsets: Offsets
    """Of what comes before them, all that belongs to a finished window is in its candle, or marked for repair."""
    begins: Offsets
    """Nothing before them belongs to a window that is not finished."""
    origin: datetime = EPOCH
    """Windows that begin before it may have trades that the topic never held, or holds no more."""
    newest: datetime = EPOCH
    """The end of the newest window that has a candle."""
    query: str = ""
    """What was computed, as a fingerprint."""
    tables: str = ""
    """The id of the tables that the rows were written to."""
    checkpoint: str = ""
    """The name of the stream's checkpoint; of use only if its newest batch is `batch_id`."""
    batch_id: int = -1


class Place(NamedTuple):
    """What progress is of."""

    window_s: int
    topic: str
    topic_id: str


def _serial(cql: str) -> SimpleStatement:
    return SimpleStatement(cql, consistency_level=ConsistencyLevel.SERIAL)


_NOW = "now_finished, now_offsets, now_begins, origin, newest, query, tables, checkpoint, batch_id"


def read(session: Session, place: Place) -> Progress | None:
    """How far it has come; None where nothing was ever committed.

    Raises:
        CassandraError: there are no tables yet.
    """
    cql = f"SELECT {_NOW} FROM progress WHERE window_seconds = %s AND topic_id = %s LIMIT 1"
    with tables_needed(session):
        row = session.execute(_serial(cql), [place.window_s, place.topic_id]).one()
    return _progress(row) if row and row.now_finished else None


def _progress(row: Any) -> Progress:
    return Progress(
        finished=as_utc(row.now_finished),
        offsets=dict(row.now_offsets or {}),
        begins=dict(row.now_begins or {}),
        origin=as_utc(row.origin or EPOCH),
        newest=as_utc(row.newest or EPOCH),
        query=row.query or "",
        tables=row.tables or "",
        checkpoint=row.checkpoint or "",
        batch_id=-1 if row.batch_id is None else row.batch_id,
    )


def newest_of_others(session: Session, place: Place, tables: str) -> datetime:
    """The end of the newest window that has a candle out of another topic in the same tables; the epoch if none has."""
    rows = session.execute("SELECT DISTINCT window_seconds, topic_id, newest, tables FROM progress")
    others = (
        as_utc(row.newest)
        for row in rows
        if row.newest and row.tables == tables and row.window_seconds == place.window_s
        and row.topic_id != place.topic_id
    )  # fmt: skip
    return max(others, default=EPOCH)


def claim(session: Session, place: Place, fence: int) -> None:
    """Let nobody with a lower fence write any more.

    Raises:
        LeaseLostError: a higher one has come already.
    """
    key = [place.window_s, place.topic_id]
    made = "INSERT INTO progress (window_seconds, topic_id, topic, fence) VALUES (%s, %s, %s, %s) IF NOT EXISTS"
    raised = "UPDATE progress SET topic = %s, fence = %s WHERE window_seconds = %s AND topic_id = %s IF fence <= %s"
    if session.execute(made, [*key, place.topic, fence]).was_applied:
        return
    if not session.execute(raised, [place.topic, fence, *key, fence]).was_applied:
        raise _superseded()


def write(session: Session, place: Place, fence: int, done: Progress) -> None:
    """Commit progress, now and for its hour.

    Raises:
        LeaseLostError: another holder of the lease has claimed it.
    """
    batch = BatchStatement(serial_consistency_level=ConsistencyLevel.SERIAL)
    columns = ", ".join(f"{name} = %s" for name in _NOW.split(", "))
    cql = f"UPDATE progress SET {columns} WHERE window_seconds = %s AND topic_id = %s IF fence = %s"
    now = [done.finished, done.offsets, done.begins, done.origin, done.newest, done.query, done.tables]
    key = [place.window_s, place.topic_id]
    batch.add(SimpleStatement(cql), [*now, done.checkpoint, done.batch_id, *key, fence])
    cql = (
        "INSERT INTO progress (window_seconds, topic_id, hour, finished, offsets, begins)"
        " VALUES (%s, %s, %s, %s, %s, %s)"
    )
    batch.add(SimpleStatement(cql), [*key, utc_hour(done.finished), done.finished, done.offsets, done.begins])
    if not session.execute(batch).was_applied:
        raise _superseded()


def read_offsets(session: Session, place: Place, tables: str) -> Offsets:
    """How far a topic is read that is followed and not aggregated; nowhere where that was for other tables."""
    cql = "SELECT now_offsets, tables FROM progress WHERE window_seconds = %s AND topic_id = %s LIMIT 1"
    row = session.execute(_serial(cql), [place.window_s, place.topic_id]).one()
    return dict(row.now_offsets or {}) if row and row.tables == tables else {}


def write_offsets(session: Session, place: Place, fence: int, offsets: Offsets, tables: str) -> None:
    """Commit how far a topic is read that is followed and not aggregated.

    Raises:
        LeaseLostError: another holder of the lease has claimed it.
    """
    cql = "UPDATE progress SET now_offsets = %s, tables = %s WHERE window_seconds = %s AND topic_id = %s IF fence = %s"
    statement = SimpleStatement(cql, serial_consistency_level=ConsistencyLevel.SERIAL)
    if not session.execute(statement, [offsets, tables, place.window_s, place.topic_id, fence]).was_applied:
        raise _superseded()


def _superseded() -> LeaseLostError:
    return LeaseLostError(
        "This run's work was taken over by another run while it did not answer: it ends. Nothing is lost."
    )


class Bounds(NamedTuple):
    """Where in the log the trades of a stretch of time lie, but for those that are marked."""

    begins: Mapping[int, int] | None
    """None: it is not on record, the log's time index has to do."""
    ends: Mapping[int, int] | None


def bounds(session: Session, place: Place, start: datetime, end: datetime) -> Bounds:
    """Where the trades of the windows from `start` to `end`, all finished, lie."""
    key = [place.window_s, place.topic_id]
    before = _first(
        session,
        "SELECT begins AS found FROM progress WHERE window_seconds = %s AND topic_id = %s AND hour < %s"
        " ORDER BY hour DESC LIMIT 1",
        [*key, utc_hour(start)],
    )
    after = _first(
        session,
        "SELECT offsets AS found FROM progress WHERE window_seconds = %s AND topic_id = %s AND hour >= %s"
        " ORDER BY hour ASC LIMIT 1",
        [*key, end],
    )
    return Bounds(before, after)


def _first(session: Session, cql: str, values: list[object]) -> Mapping[int, int] | None:
    found: Iterator[Any] = iter(session.execute(cql, values))
    return next((dict(row.found) for row in found if row.found is not None), None)
