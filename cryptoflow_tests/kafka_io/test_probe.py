"""Whether Kafka is there is told in time, and nothing is left behind."""

import socket
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from cryptoflow.errors import ConfigError
from cryptoflow.kafka_io.probe import has_brokers
from cryptoflow.local.processes import free_port
from cryptoflow.settings import KafkaSettings

TIMEOUT_MS = 1000


@pytest.fixture
def silent() -> Iterator[str]:
    """HOST:PORT of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def belongings() -> tuple[int, int]:
    """How many threads this process has, and how many sockets."""
    return threading.active_count(), len(psutil.Process().net_connections("inet"))


def test_a_broker_is_seen(kafka_bootstrap: str) -> None:
    assert has_brokers(KafkaSettings(bootstrap_servers=kafka_bootstrap), 10_000)


def test_one_of_several_brokers_is_enough(kafka_bootstrap: str) -> None:
    servers = f"127.0.0.1:{free_port()},{kafka_bootstrap}"
    assert has_brokers(KafkaSettings(bootstrap_servers=servers), 10_000)


def test_no_broker_is_told_in_time() -> None:
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    begun_s = time.monotonic()
    assert not has_brokers(settings, TIMEOUT_MS)
    assert time.monotonic() - begun_s < 5


def test_what_listens_but_is_no_broker_is_none(silent: str) -> None:
    begun_s = time.monotonic()
    assert not has_brokers(KafkaSettings(bootstrap_servers=silent), TIMEOUT_MS)
    assert time.monotonic() - begun_s < 5


def test_nothing_is_left_behind(kafka_bootstrap: str, silent: str) -> None:
    before = belongings()
    for servers in (kafka_bootstrap, silent, f"127.0.0.1:{free_port()}"):
        has_brokers(KafkaSettings(bootstrap_servers=servers), TIMEOUT_MS)
    assert belongings() == before


def test_a_setting_that_cannot_be_used_is_told(kafka_bootstrap: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, security_protocol="SASL_PLAINTEXT")
    with pytest.raises(ConfigError, match="KAFKA_USERNAME"):
        has_brokers(settings, TIMEOUT_MS)
