"""Follows the topic of trades of the past, and marks their hours for repair: the holder of the tables' lease does it.

The ingester so needs no Cassandra, and whatever writes into that topic, log and tables are the only truth: a place of
the log is committed after the marks of what comes before it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from cassandra.cluster import Session
from kafka import TopicPartition

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.kafka_io.connection import our_errors
from cryptoflow.kafka_io.offsets import partitions
from cryptoflow.kafka_io.records import RECORDS_AT_ONCE, open_consumer, topic_id
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Pair, read_trade
from cryptoflow.model.window import NS_PER_US, ceil_window, utc_time
from cryptoflow.pipeline.tally import Tally
from cryptoflow.settings import HOUR_S, CassandraSettings, KafkaSettings
from cryptoflow.tables import progress
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.lease import Lease
from cryptoflow.tables.progress import Place
from cryptoflow.tables.reader import tables_id, waiting_trades
from cryptoflow.tables.schema import MARKS, MarkRow
from cryptoflow.tables.writer import TableWriter

PAST = "trades of the past"
"""Why an hour is marked: some of its trades were filled in, or fetched."""

METADATA_AGE_S = 10
"""After this time the topic's new partitions are known, in s."""

POLL_S = 0.5
"""How long new records are waited for, in s, before it is seen whether to end."""


class _Place(msgspec.Struct):
    """Where trades of one hour of a pair lie in a partition."""

    first: int
    last: int = -1
    trades: int = 0
    newest_ns: int = 0


def past_marks(records: Iterable[Any], topic: str, topic_id: str, window_s: int) -> list[MarkRow]:
    """The marks of trades of the past: one for each hour of a pair in a partition.

    Args:
        records: kafka-python's, in their order; what is no trade marks nothing.
    """
    places: dict[tuple[Pair, int, int], _Place] = {}
    for record in records:
        try:
            trade = read_trade(record.value or b"")
        except UnreadableFrameError:
            continue
        if trade.time_s > record.timestamp // 1000 + MAX_AHEAD_S:
            continue
        key = trade.pair, trade.time_s // HOUR_S, record.partition
        place = places.get(key) or places.setdefault(key, _Place(record.offset))
        place.last, place.trades = record.offset, place.trades + 1
        place.newest_ns = max(place.newest_ns, trade.event_time_ns)
    return [
        MarkRow(
            utc_time(hour * HOUR_S * NS_PER_S),
            *pair,
            topic_id=topic_id,
            partition=partition,
            first_offset=place.first,
            last_offset=place.last,
            topic=topic,
            trades=place.trades,
            until=ceil_window(utc_time(place.newest_ns + NS_PER_US), window_s),
            reason=PAST,
        )
        for (pair, hour, partition), place in places.items()
    ]


@contextmanager
def history_marks(
    session: Session, kafka: KafkaSettings, cassandra: CassandraSettings, window_s: int, lease: Lease, tally: Tally
) -> Iterator["HistoryMarks"]:
    """The marks of the topic of trades of the past, which has to exist; raises as they do."""
    topic = kafka.history_topic
    place = Place(window_s, topic, topic_id(kafka, topic))
    options = {"max_poll_records": RECORDS_AT_ONCE, "metadata_max_age_ms": METADATA_AGE_S * 1000}
    with open_consumer(kafka, topic, **options) as consumer:
        yield HistoryMarks(session, kafka, cassandra, place, lease, tally, consumer)


class HistoryMarks:
    """Marks the hours of what is new in the topic of trades of the past.

    Its place in the log is kept with the aggregation's `progress`, as that of a topic of its own. Not for several
    threads at once, but for `stop`. All of it raises:
        LeaseLostError: another one has the lease now.
        KafkaError, CassandraError: they refuse it, or are gone for too long.
    """

    def __init__(
        self,
        session: Session,
        kafka: KafkaSettings,
        cassandra: CassandraSettings,
        place: Place,
        lease: Lease,
        tally: Tally,
        consumer: Any,
    ) -> None:
        self._session, self._kafka, self._cassandra, self._place = session, kafka, cassandra, place
        self._lease, self._tally, self._consumer = lease, tally, consumer
        self._writer = TableWriter(session, cassandra)
        self._tables = tables_id(session)
        self._stopped = threading.Event()
        patiently(lambda: progress.claim(session, place, lease.fence), cassandra)
        self._at = patiently(lambda: progress.read_offsets(session, place, self._tables), cassandra)
        self._assign(consumer.partitions_for_topic(place.topic))

    def _assign(self, partitions: Iterable[int]) -> None:
        """Read these partitions; those that were read already go on."""
        known = set(self._consumer.assignment())
        places = [TopicPartition(self._place.topic, each) for each in partitions]
        self._consumer.assign(places)
        for each, begin in self._consumer.beginning_offsets([each for each in places if each not in known]).items():
            self._consumer.seek(each, max(begin, self._at.get(each.partition, 0)))

    def run(self) -> None:
        """Follow the topic until `stop`, its new partitions too."""
        with our_errors(self._kafka, f"to read {self._place.topic}"):
            while not self._stopped.is_set():
                self._turn(POLL_S)
                found = self._consumer.partitions_for_topic(self._place.topic)
                if len(found) > len(self._consumer.assignment()):
                    self._assign(found)

    def stop(self) -> None:
        """Have `run` end."""
        self._stopped.set()

    def drain(self, is_overdue: Callable[[], bool]) -> None:
        """Mark what the topic holds by now, unless that is overdue."""
        with our_errors(self._kafka, f"to read {self._place.topic}"):
            self._assign(partitions(self._kafka, self._place.topic))
            ends = self._consumer.end_offsets(self._consumer.assignment())
            while any(self._consumer.position(each) < end for each, end in ends.items()) and not is_overdue():
                self._turn(POLL_S)

    def _turn(self, wait_s: float) -> None:
        """Mark the hours of some records, and commit how far that is."""
        batches = self._consumer.poll(timeout_ms=int(wait_s * 1000))
        if not batches:
            return
        records = [record for batch in batches.values() for record in batch]
        marks = past_marks(records, self._place.topic, self._place.topic_id, self._place.window_s)
        done: Offsets = {place.partition: batch[-1].offset + 1 for place, batch in batches.items()}
        self._commit(marks, self._at | done)

    def _commit(self, marks: list[MarkRow], at: Offsets) -> None:
        if marks:
            self._writer.put(MARKS, marks, patiently(self._lease.timestamp, self._cassandra))
            self._tally.tell(waiting_trades=patiently(lambda: waiting_trades(self._session), self._cassandra))
        patiently(
            lambda: progress.write_offsets(self._session, self._place, self._lease.fence, at, self._tables),
            self._cassandra,
        )
        self._at = at
