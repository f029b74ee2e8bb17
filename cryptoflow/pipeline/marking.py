"""Marks hours for a repair that nobody knows late trades of: their rows are not what the log says."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cassandra.cluster import Session

from cryptoflow.kafka_io.records import topic_id
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables.lease import wall_clock_us
from cryptoflow.tables.reader import Pair
from cryptoflow.tables.schema import MARKS, MarkRow
from cryptoflow.tables.writer import TableWriter

AUDIT = "audit"
"""Why an hour is marked: an audit found rows that the log does not explain."""

NOWHERE = -1
"""The partition of a mark that names no place of the log: the repair reads the hour's own stretch in any case."""


def audit_mark(hour: datetime, pair: Pair, topic: str, source: str) -> MarkRow:
    """The mark of a whole hour (aware UTC); no trade waits for it, or the next audit would take the loss for known."""
    return MarkRow(
        hour,
        *pair,
        topic_id=source,
        partition=NOWHERE,
        first_offset=0,
        last_offset=NOWHERE,
        topic=topic,
        trades=0,
        until=hour + timedelta(hours=1),
        reason=AUDIT,
    )


def mark_pairs(
    session: Session, settings: CassandraSettings, hour: datetime, pairs: Iterable[Pair], kafka: KafkaSettings
) -> None:
    """Have an hour of the pairs repaired.

    Raises:
        CassandraError, KafkaError: they refuse it, or are gone.
    """
    source = topic_id(kafka)
    reserved = [row.reserved for row in session.execute("SELECT reserved FROM leases") if row.reserved]
    # Later than whatever took an earlier mark of theirs away, also where this machine's clock is behind.
    timestamp = max([wall_clock_us(), *(each + 1 for each in reserved)])
    marks = [audit_mark(hour, pair, kafka.topic, source) for pair in pairs]
    TableWriter(session, settings).put(MARKS, marks, timestamp)
