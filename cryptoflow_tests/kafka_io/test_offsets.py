"""A topic's offsets, on a real broker."""

import time

import pytest
from kafka import KafkaProducer

from cryptoflow.errors import KafkaError
from cryptoflow.kafka_io.connection import client_config
from cryptoflow.kafka_io.offsets import beginning_offsets, end_offsets, offsets_for_times
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.settings import KafkaSettings


@pytest.fixture
def written(settings: KafkaSettings) -> KafkaSettings:
    """Ten records in partition 1, appended at 1000, 2000 ... ms; none in the others."""
    make_topics(settings)
    producer = KafkaProducer(**client_config(settings))
    base_ms = int(time.time() * 1000) - 100_000
    for number in range(10):
        producer.send(settings.topic, b"x", partition=1, timestamp_ms=base_ms + number * 1000)
    producer.flush()
    producer.close()
    return settings


def test_the_edges_are_those_of_each_partition(written: KafkaSettings) -> None:
    assert end_offsets(written, written.topic) == {0: 0, 1: 10, 2: 0, 3: 0}
    assert beginning_offsets(written, written.topic) == {0: 0, 1: 0, 2: 0, 3: 0}


def test_a_time_is_at_the_first_record_not_older_or_at_the_end(written: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    assert offsets_for_times(written, written.topic, {0: 0, 1: 0}) == {0: 0, 1: 0}
    assert offsets_for_times(written, written.topic, {1: now_ms}) == {1: 10}
    (middle,) = offsets_for_times(written, written.topic, {1: now_ms - 96_000}).values()
    assert 0 < middle < 10


def test_a_topic_that_does_not_exist_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(KafkaError, match=f"no Kafka topic {settings.topic}"):
        end_offsets(settings, settings.topic)
