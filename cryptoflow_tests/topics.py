"""Topics as tests read them."""

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.settings import KafkaSettings

POLL_RECORDS = 5_000
"""What a poll gives at most; the default of 500 makes it less than half as fast."""


def read_topic(kafka: KafkaSettings, topic: str) -> list[Any]:
    """Every record that the topic holds now."""
    return list(each_record(kafka, topic))


def each_record(kafka: KafkaSettings, topic: str) -> Iterator[Any]:
    """Every record that the topic holds now, one by one: there may be millions."""
    ends = end_offsets(kafka, topic)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=POLL_RECORDS,
    )
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in ends])
        left = sum(ends.values())
        while left > 0:
            for records in consumer.poll(timeout_ms=1000).values():
                left -= len(records)
                yield from records
    finally:
        consumer.close(autocommit=False)
