"""Marks of hours that wait for a repair: they lack trades, or an audit found rows that the log does not explain."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cassandra.cluster import Session

from cryptoflow.kafka_io.records import topic_id
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import HOUR, NS_PER_US, ceil_window, utc_time
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables.lease import wall_clock_us
from cryptoflow.tables.schema import MARKS, MarkRow
from cryptoflow.tables.writer import TableWriter

if TYPE_CHECKING:  # the audit needs no Spark
    from cryptoflow.spark.folded import LeftOut

LATE, AHEAD, AUDIT = "late", "ahead of its time", "audit"
FINISHED, JOINED = "finished", "numbers join"
"""Why an hour is marked: trades came too late, or too early; an audit found rows that the log does not explain; it is
finished, and without a verdict; by what is known of the hours beside it, the log has all of its trades."""

EVERY_PAIR: Pair = ("", "", "")
"""What a mark is of that is of no pair by itself."""

NOWHERE = -1
"""The partition of a mark that names no place of the log: the repair reads the hour's own stretch in any case."""


def mark_of(trades: "LeftOut", topic: str, source: str, newest: datetime, window_s: int) -> MarkRow:
    """The mark of trades that are in no candle.

    Args:
        source: the id of the topic.
        newest: the end of the newest window that has a candle: what is not of a later one is late.
    """
    market, from_coin, to_currency = trades.pair.split("~")
    until = utc_time(trades.newest_ns + NS_PER_US)
    return MarkRow(
        hour=datetime.fromtimestamp(trades.hour_s, UTC),
        market=market,
        fromcoin=from_coin,
        tocurrency=to_currency,
        topic_id=source,
        partition=trades.partition,
        first_offset=trades.first_offset,
        last_offset=trades.last_offset,
        topic=topic,
        trades=trades.trades,
        until=ceil_window(until, window_s),
        reason=LATE if until <= newest else AHEAD,
    )


def whole_mark(hour: datetime, pair: Pair, topic: str, source: str, reason: str) -> MarkRow:
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
        until=hour + HOUR,
        reason=reason,
    )


def mark_pairs(
    session: Session, settings: CassandraSettings, hours: Iterable[tuple[datetime, Pair]], kafka: KafkaSettings
) -> None:
    """Have hours repaired, each of a pair.

    Raises:
        CassandraError, KafkaError: they refuse it, or are gone.
    """
    source = topic_id(kafka)
    reserved = [row.reserved for row in session.execute("SELECT reserved FROM leases") if row.reserved]
    # Later than whatever took an earlier mark of theirs away, also where this machine's clock is behind.
    timestamp = max([wall_clock_us(), *(each + 1 for each in reserved)])
    marks = [whole_mark(hour, pair, kafka.topic, source, AUDIT) for hour, pair in hours]
    TableWriter(session, settings).put(MARKS, marks, timestamp)
