"""Kafka and Cassandra of the benchmarks' own."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptoflow.local import lifecycle
from cryptoflow.local.processes import free_port
from cryptoflow.settings import CassandraSettings, KafkaSettings, home


@contextmanager
def services() -> Iterator[tuple[KafkaSettings, CassandraSettings]]:
    """Kafka and Cassandra, gone with all they hold after the block."""
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", topic=f"bench-{uuid.uuid4().hex}")
    cassandra = CassandraSettings(port=free_port(), keyspace="bench")
    with tempfile.TemporaryDirectory() as folder:
        started = lifecycle.up(Path(folder), lifecycle.services(kafka, cassandra), tied=True, jars_home=home())
        try:
            yield kafka, cassandra
        finally:
            lifecycle.end(started, timeout_s=0)
