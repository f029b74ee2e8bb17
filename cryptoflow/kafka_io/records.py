"""What a topic is and holds: its identity, its records, and when Kafka received them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from cryptoflow.errors import KafkaError
from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, admin_client, client_config, told
from cryptoflow.kafka_io.offsets import described
from cryptoflow.settings import KafkaSettings

RECORDS_AT_ONCE = 5000
"""Records handed over at a time: a few MB."""


def topic_id(settings: KafkaSettings) -> str:
    """The id that Kafka gave the topic of trades when it was made; a topic made anew has another.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic.
    """
    with admin_client(settings, f"to describe {settings.topic}") as admin:
        return str(described(admin, settings.topic)["topic_id"])


def first_times_ms(settings: KafkaSettings, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """When Kafka received the oldest record that it still has of each partition; as `times_ms`."""
    return times_ms(settings, topic, dict.fromkeys(partitions, 0))


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
    with _consumer(settings, topic, max_poll_records=1) as consumer:
        places = [TopicPartition(topic, partition) for partition in offsets]
        ends = consumer.end_offsets(places)
        begins = consumer.beginning_offsets(places)
        starts = {place: max(begins[place], offsets[place.partition]) for place in places}
        return {
            place.partition: int(record.timestamp)
            for place, start in starts.items()
            for record in _records(consumer, place, start, min(start + 1, ends[place]))
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
    with _consumer(settings, topic, max_poll_records=RECORDS_AT_ONCE) as consumer:
        for partition, stop in end.items():
            yield from _records(consumer, TopicPartition(topic, partition), begin.get(partition, 0), stop)


@contextmanager
def _consumer(settings: KafkaSettings, topic: str, max_poll_records: int) -> Iterator[Any]:
    """A consumer without a group; it has no partition yet."""
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "max_poll_records": max_poll_records}
    with told(settings, f"to read {topic}"):
        consumer = KafkaConsumer(**client_config(settings), **options)
        try:
            yield consumer
        finally:
            consumer.close(autocommit=False)


def _records(consumer: Any, place: TopicPartition, begin: int, end: int) -> Iterator[Any]:
    consumer.assign([place])
    consumer.seek(place, begin)
    while consumer.position(place) < end:
        records = consumer.poll(timeout_ms=int(ANSWER_TIMEOUT_S * 1000)).get(place)
        if not records:
            raise KafkaError(f"Partition {place.partition} of {place.topic} did not give its records in time.")
        yield from (record for record in records if record.offset < end)
