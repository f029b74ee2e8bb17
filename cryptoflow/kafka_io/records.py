"""What a topic is and holds: its identity, its records, and when Kafka received them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from cryptoflow.errors import KafkaError, UnreadableFrameError
from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, admin_client, client_config, our_errors
from cryptoflow.kafka_io.offsets import described
from cryptoflow.model.trade import MAX_AHEAD_S, Trade, read_trade
from cryptoflow.model.window import EPOCH, epoch_ns
from cryptoflow.settings import KafkaSettings

RECORDS_AT_ONCE = 5000
"""Records handed over at a time: a few MB."""


def topic_id(settings: KafkaSettings, topic: str | None = None) -> str:
    """The id that Kafka gave a topic when it was made, by default that of trades; a topic made anew has another.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic.
    """
    topic = topic or settings.topic
    with admin_client(settings, f"to describe {topic}") as admin:
        return str(described(admin, topic)["topic_id"])


def first_times_ms(settings: KafkaSettings, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """When Kafka received the oldest record that it still has of each partition; as `times_ms`."""
    return times_ms(settings, topic, dict.fromkeys(partitions, 0))


class Cut(NamedTuple):
    """What of a topic Kafka has deleted."""

    until_ms: int
    """All records that were received later are there, but for those of emptied partitions; 0: all are."""
    emptied: bool
    """Whether a partition has none left of those that it had."""

    def whole_from(self, ahead_s: float) -> datetime:
        """From which exchange time on all trades are there; the epoch: Kafka has deleted none.

        Args:
            ahead_s: by how much they were ahead of the time at which they were received, at most.
        """
        if not (self.emptied or self.until_ms):
            return EPOCH
        later = datetime.now(UTC) if self.emptied else EPOCH + timedelta(milliseconds=self.until_ms + 1)
        return later + timedelta(seconds=ahead_s)


def cut_of(settings: KafkaSettings, topic: str, begins: Mapping[int, int]) -> Cut:
    """What Kafka has deleted before the first offsets that it has; it is only asked if there is any. As `times_ms`."""
    shortened = [partition for partition, offset in begins.items() if offset]
    oldest_ms = first_times_ms(settings, topic, shortened)
    return Cut(max(oldest_ms.values(), default=0), len(oldest_ms) < len(shortened))


def times_ms(settings: KafkaSettings, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
    """When Kafka received the first record from each offset on that it still has, in ms since the epoch.

    Args:
        offsets: by partition.

    Returns:
        By partition; those that have no such record are left out.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: a record did not come in time.
    """
    if not offsets:
        return {}
    with open_consumer(settings, topic, max_poll_records=1) as consumer:
        places = [TopicPartition(topic, partition) for partition in offsets]
        ends = consumer.end_offsets(places)
        begins = consumer.beginning_offsets(places)
        starts = {place: max(begins[place], offsets[place.partition]) for place in places}
        return {
            place.partition: int(record.timestamp)
            for place, start in starts.items()
            for record in records_in(consumer, place, start, min(start + 1, ends[place]))
        }


def records_between(
    settings: KafkaSettings, topic: str, begin: Mapping[int, int], end: Mapping[int, int]
) -> Iterator[Any]:
    """kafka-python's records between the offsets `begin` and `end`, partition by partition, each in its order.

    A record that Kafka has deleted is left out.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: records did not come in time.
    """
    with open_consumer(settings, topic, max_poll_records=RECORDS_AT_ONCE) as consumer:
        for partition, stop in end.items():
            yield from records_in(consumer, TopicPartition(topic, partition), begin.get(partition, 0), stop)


def trades_of(frames: Iterable[tuple[int, bytes | None]], start: datetime, end: datetime) -> Iterator[Trade]:
    """The readable trades with exchange time from `start` on and before `end`, by the aggregation's own rules.

    Args:
        frames: each with when it was received, in ms since the epoch, before it.
    """
    start_ns, end_ns = epoch_ns(start), epoch_ns(end)
    for received_ms, frame in frames:
        try:
            trade = read_trade(frame or b"")
        except UnreadableFrameError:
            continue
        if start_ns <= trade.event_time_ns < end_ns and trade.time_s <= received_ms // 1000 + MAX_AHEAD_S:
            yield trade


@contextmanager
def open_consumer(settings: KafkaSettings, topic: str, **options: Any) -> Iterator[Any]:
    """A consumer without a group; it has no partition yet.

    Args:
        options: kafka-python's, where they are others than here.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the broker refuses.
    """
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"} | options
    with our_errors(settings, f"to read {topic}"):
        consumer = KafkaConsumer(**client_config(settings), **options)
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False)


def records_in(consumer: Any, place: TopicPartition, begin: int, end: int) -> Iterator[Any]:
    """The records of a partition between two offsets, in order; a KafkaError if they do not come in time."""
    for records in polled(consumer, place, begin, end):
        yield from (record for record in records if record.offset < end)


def polled(
    consumer: Any, place: TopicPartition, begin: int, end: int, timeout_s: float = ANSWER_TIMEOUT_S
) -> Iterator[list[Any]]:
    """What a consumer gives of a partition between two offsets, and past them; a KafkaError if that takes too long."""
    consumer.assign([place])
    consumer.seek(place, begin)
    while consumer.position(place) < end:
        if records := consumer.poll(timeout_ms=int(timeout_s * 1000)).get(place):
            yield records
        elif consumer.position(place) < end:  # else what was left is the end of a transaction, which is no record
            raise KafkaError(f"Partition {place.partition} of {place.topic} did not give its records in time.")
