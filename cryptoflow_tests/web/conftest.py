"""A server of the page over real services."""

import uuid
from collections.abc import Iterator

import pytest

from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow_tests.watching import Watched, watching


@pytest.fixture(scope="module")
def shared_server(kafka_bootstrap: str, cassandra_port: int) -> Iterator[Watched]:
    """One for all tests of a file: to make tables takes seconds, and its threads draw random numbers beside others."""
    name = uuid.uuid4().hex
    kafka = KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=f"test-{name}")
    with watching(kafka, CassandraSettings(port=cassandra_port, keyspace=f"test_{name}")) as server:
        yield server
