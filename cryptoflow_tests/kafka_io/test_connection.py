"""What clients are opened with, and what is said when nobody answers."""

import gc
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cryptoflow.errors import ConfigError, KafkaUnreachableError
from cryptoflow.kafka_io import connection
from cryptoflow.kafka_io.connection import client_config, knock
from cryptoflow.kafka_io.offsets import beginning_offsets, end_offsets, offsets_for_times
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.settings import KafkaSettings

CALLS: list[Callable[[KafkaSettings], object]] = [
    make_topics,
    TradeProducer,
    lambda settings: end_offsets(settings, settings.topic),
    lambda settings: beginning_offsets(settings, settings.topic),
    lambda settings: offsets_for_times(settings, settings.topic, {0: 0}),
]


@pytest.fixture
def dead_server() -> str:
    """HOST:PORT where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("call", CALLS)
def test_a_broker_that_is_not_there_is_told_at_once_with_the_way_out(
    call: Callable[[KafkaSettings], object], dead_server: str
) -> None:
    started = time.monotonic()
    with pytest.raises(KafkaUnreachableError) as caught:
        call(KafkaSettings(bootstrap_servers=dead_server))
    assert time.monotonic() - started < 1
    assert str(caught.value) == (
        f"Kafka at {dead_server} does not answer; start it with `cryptoflow services up` "
        "or set KAFKA_BOOTSTRAP_SERVERS."
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # kafka-python leaves sockets to the garbage collector
def test_something_that_listens_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.ANSWER_TIMEOUT_S < 10
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(KafkaUnreachableError, match=r"does not answer.*KAFKA_SECURITY_PROTOCOL"):
            end_offsets(KafkaSettings(bootstrap_servers=f"127.0.0.1:{mute.getsockname()[1]}"), "any")
    assert 0.4 < time.monotonic() - started < 2
    gc.collect()


def test_one_broker_of_several_is_enough(dead_server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        knock(KafkaSettings(bootstrap_servers=f"{dead_server},localhost:{port}"))


def test_tls_and_login_reach_every_client(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    config = client_config(
        KafkaSettings(
            bootstrap_servers="a:1,b:2",
            security_protocol="SASL_SSL",
            ca_file=str(ca_file),
            sasl_mechanism="SCRAM-SHA-512",
            username="me",
            password="secret",
        )
    )
    assert config["bootstrap_servers"] == ["a:1", "b:2"]
    assert (config["security_protocol"], config["ssl_cafile"]) == ("SASL_SSL", str(ca_file))
    assert [config[key] for key in ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password")] == [
        "SCRAM-SHA-512", "me", "secret",
    ]  # fmt: skip


def test_a_plain_connection_sends_no_login() -> None:
    assert not [key for key in client_config(KafkaSettings(username="me", password="x")) if "sasl" in key]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (KafkaSettings(security_protocol="SASL_PLAINTEXT", username="me"), "KAFKA_PASSWORD"),
        (KafkaSettings(security_protocol="SSL", ca_file="/no/such/file"), "KAFKA_CA_FILE"),
    ],
)
def test_a_setting_that_lacks_is_named(settings: KafkaSettings, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        client_config(settings)
