"""What every Kafka client is opened with, and its errors in our words."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, errors

from cryptoflow.errors import ConfigError, KafkaError, KafkaUnreachableError
from cryptoflow.settings import KafkaSettings

ANSWER_TIMEOUT_S = 8.0
"""For the first connection, and for each request of an admin client: together with the rest, 10 s."""

DEFAULT_PORT = 9092

_SILENCE = (
    errors.KafkaTimeoutError,
    errors.KafkaConnectionError,
    errors.NodeNotReadyError,
    errors.RequestTimedOutError,
    errors.MetadataEmptyBrokerList,
)


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments that every kafka-python client takes: brokers, TLS and login.

    Raises:
        ConfigError: the login lacks a user or password, or the CA file is not there.
    """
    config: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": "cryptoflow",
        "security_protocol": settings.security_protocol,
        "bootstrap_timeout_ms": int(ANSWER_TIMEOUT_S * 1000),
        "reconnect_backoff_max_ms": 1000,  # 30 s by default: a broker that is back would wait that long
    }
    if "SSL" in settings.security_protocol:
        config["ssl_cafile"] = _ca_file(settings)
    if "SASL" in settings.security_protocol:
        config |= _login(settings)
    return config


def _ca_file(settings: KafkaSettings) -> str | None:
    if settings.ca_file and not Path(settings.ca_file).is_file():
        raise ConfigError(f"KAFKA_CA_FILE names no file: {settings.ca_file}.")
    return settings.ca_file


def _login(settings: KafkaSettings) -> dict[str, str]:
    if not (settings.username and settings.password):
        raise ConfigError(f"{settings.security_protocol} needs KAFKA_USERNAME and KAFKA_PASSWORD.")
    return {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.username,
        "sasl_plain_password": settings.password,
    }


@contextmanager
def admin_client(settings: KafkaSettings, what: str) -> Iterator[Any]:
    """A kafka-python admin client; `what` it is for stands in the error, as in "to make topics".

    Raises:
        ConfigError: as `client_config`.
        KafkaUnreachableError: no broker answers; within 10 s.
        KafkaError: the broker refuses.
    """
    with our_errors(settings, what):
        client = KafkaAdminClient(**client_config(settings), request_timeout_ms=int(ANSWER_TIMEOUT_S * 1000))
        try:
            yield client
        finally:
            client.close()


@contextmanager
def our_errors(settings: KafkaSettings, what: str) -> Iterator[None]:
    """Turns kafka-python's errors into ours; looks first whether a broker listens at all."""
    knock(settings)
    try:
        yield
    except _SILENCE:  # a refused login too: kafka-python tries it again and again
        raise no_answer(settings) from None
    except errors.KafkaError as error:
        raise KafkaError(f"Kafka at {settings.bootstrap_servers} refused {what}: {error}") from None


def no_answer(settings: KafkaSettings) -> KafkaUnreachableError:
    """The error of brokers that listen and do not answer."""
    return KafkaUnreachableError(
        f"Kafka at {settings.bootstrap_servers} takes connections but does not answer; "
        "see that it is well, and check KAFKA_SECURITY_PROTOCOL, KAFKA_USERNAME and KAFKA_PASSWORD."
    )


def knock(settings: KafkaSettings) -> None:
    """Connect to any of the brokers, and hang up.

    kafka-python tries for its whole timeout, and leaks its sockets when it gives up.

    Raises:
        KafkaUnreachableError: none listens.
    """
    if not any(listens(server, ANSWER_TIMEOUT_S) for server in settings.bootstrap_servers.split(",")):
        raise KafkaUnreachableError(
            f"Kafka at {settings.bootstrap_servers} does not answer; start it with `cryptoflow services up` "
            "or set KAFKA_BOOTSTRAP_SERVERS."
        )


def listens(server: str, timeout_s: float) -> bool:
    """Whether anything takes connections at HOST:PORT."""
    try:
        socket.create_connection(_endpoint(server), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _endpoint(server: str) -> tuple[str, int]:
    host, colon, port = server.rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return server, DEFAULT_PORT
