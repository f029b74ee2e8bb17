"""Settings of the session's Kafka, and trades to send."""

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

with warnings.catch_warnings():
    # kafka-python reads its message formats through functions that Python 3.11 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from cryptoflow.kafka_io.connection import client_config
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.model.trade import Trade, write_trade
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.mortal import MortalKafka

Records = list[Any]


@pytest.fixture
def settings(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    """The session's Kafka and a topic that is not made yet."""
    return KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic)


def records_of(bootstrap: str, topic: str) -> Records:
    """All records of a topic, partition by partition."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    found: Records = []
    places = [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic))]
    for place, end in consumer.end_offsets(places).items():
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        while consumer.position(place) < end:
            found += [record for batch in consumer.poll(1000).values() for record in batch]
    consumer.close()
    return found


@pytest.fixture
def made(settings: KafkaSettings) -> KafkaSettings:
    """An empty topic of four partitions."""
    make_topics(settings)
    return settings


@pytest.fixture
def nowhere() -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")


def send(settings: KafkaSettings, partition: int, times_ms: list[int], value: bytes = b"x") -> None:
    """Records of these times into a partition, in that order."""
    producer = KafkaProducer(**client_config(settings))
    for time_ms in times_ms:
        producer.send(settings.topic, value, partition=partition, timestamp_ms=time_ms)
    producer.flush()
    producer.close()


@pytest.fixture
def read() -> Callable[[KafkaSettings, str], Records]:
    """Gives all records of a topic."""
    return lambda settings, topic: records_of(settings.bootstrap_servers, topic)


@pytest.fixture
def trade() -> Callable[..., tuple[Trade, bytes]]:
    """Makes a trade with the given id, and its frame."""
    base = Trade("Kraken", "BTC", "USD", "1", "0", 1_700_000_000, 1.0, 2.0, 2.0)

    def make(number: int, **changes: Any) -> tuple[Trade, bytes]:
        made = msgspec.structs.replace(base, id=str(number), **changes)
        return made, write_trade(made)

    return make


@pytest.fixture(scope="module")
def killed_kafka(tmp_path_factory: pytest.TempPathFactory, jars_home: Path) -> Iterator[MortalKafka]:
    kafka = MortalKafka(tmp_path_factory.mktemp("kafka"), jars_home)
    yield kafka
    kafka.kill()


@pytest.fixture
def mortal_kafka(killed_kafka: MortalKafka, caplog: pytest.LogCaptureFixture) -> Iterator[MortalKafka]:
    """A broker that is up, to be killed; what its end leaves behind in kafka-python is gone afterwards."""
    killed_kafka.start()
    with caplog.at_level(logging.CRITICAL, logger="kafka"):  # captured records would hold on to the sockets
        yield killed_kafka
    gc.collect()
