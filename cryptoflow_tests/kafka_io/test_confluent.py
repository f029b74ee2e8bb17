"""librdkafka's settings, and what is said when it gets no answer."""

import socket
from pathlib import Path

import pytest

from cryptoflow.errors import KafkaError, KafkaUnreachableError
from cryptoflow.kafka_io import confluent
from cryptoflow.kafka_io.confluent import ConfluentDelivery, librdkafka_config
from cryptoflow.settings import KafkaSettings

SECRET = "a'b=c;d e"


def login(ca_file: Path) -> KafkaSettings:
    ca_file.touch()
    return KafkaSettings(
        bootstrap_servers="a:1,b:2",
        security_protocol="SASL_SSL",
        ca_file=str(ca_file),
        sasl_mechanism="SCRAM-SHA-512",
        username="me",
        password=SECRET,
        delivery_timeout_s=20,
    )


def test_tls_login_and_timeouts_are_those_of_the_settings(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    config = librdkafka_config(login(ca_file), 300)
    assert config["bootstrap.servers"] == "a:1,b:2"
    assert (config["security.protocol"], config["ssl.ca.location"]) == ("SASL_SSL", str(ca_file))
    assert [config[f"sasl.{name}"] for name in ("mechanism", "username", "password")] == ["SCRAM-SHA-512", "me", SECRET]
    assert (config["message.timeout.ms"], config["request.timeout.ms"]) == (20_000, 19_980)
    assert config["enable.idempotence"] is True


def test_a_plain_connection_sends_no_login() -> None:
    config = librdkafka_config(KafkaSettings(username="me", password="x"), 300)
    assert not [name for name in config if name.startswith(("sasl", "ssl"))]


def test_settings_that_it_refuses_are_told_without_the_password(tmp_path: Path) -> None:
    settings = login(tmp_path / "empty.pem")
    with pytest.raises(KafkaError, match=r"Kafka at a:1,b:2 refused the producer: .*ssl\.ca\.location") as caught:
        ConfluentDelivery(settings, 300)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_something_that_listens_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confluent, "ANSWER_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{mute.getsockname()[1]}")
        with pytest.raises(KafkaUnreachableError, match=r"does not answer.*KAFKA_SECURITY_PROTOCOL"):
            ConfluentDelivery(settings, 300)
