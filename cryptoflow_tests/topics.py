"""Topics as tests read them."""

from typing import Any

from kafka import KafkaConsumer, TopicPartition

from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.settings import KafkaSettings


def read_topic(kafka: KafkaSettings, topic: str) -> list[Any]:
    """Every record that the topic holds now."""
    ends = end_offsets(kafka, topic)
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        consumer.assign([TopicPartition(topic, partition) for partition in ends])
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            records += [record for polled in consumer.poll(timeout_ms=1000).values() for record in polled]
        return records
    finally:
        consumer.close(autocommit=False)
