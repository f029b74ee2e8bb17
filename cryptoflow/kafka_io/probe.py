"""Whether Kafka is there: one question, and nothing left behind."""

from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from cryptoflow.kafka_io.connection import client_config, listens
from cryptoflow.settings import KafkaSettings


def has_brokers(settings: KafkaSettings, timeout_ms: int) -> bool:
    """Whether a broker answers a metadata request in time.

    Raises:
        ConfigError: as `client_config`.
    """
    config = client_config(settings)
    # Only those that listen: kafka-python leaks a socket for each connection that is refused.
    config["bootstrap_servers"] = [each for each in config["bootstrap_servers"] if listens(each, timeout_ms / 1000)]
    return bool(config["bootstrap_servers"]) and _answers(config, timeout_ms)


def _answers(config: dict[str, Any], timeout_ms: int) -> bool:
    # An admin client that can't connect leaves its thread and sockets behind: they are kept here, to close.
    made: list[KafkaNetClient] = []

    def make(**configs: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**configs))
        return made[0]

    limits = {"bootstrap_timeout_ms": timeout_ms, "request_timeout_ms": timeout_ms}
    try:
        with KafkaAdminClient(**config | limits, kafka_client=make) as admin:
            return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        for client in made:
            client.close()
