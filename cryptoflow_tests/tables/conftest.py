"""A real Cassandra with a keyspace of the test's own."""

import uuid
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session

from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import connect, ensure_schema


@pytest.fixture
def settings(cassandra_port: int, keyspace: str) -> CassandraSettings:
    return CassandraSettings(port=cassandra_port, keyspace=keyspace, retry_for_s=5)


@pytest.fixture
def bare_session(settings: CassandraSettings) -> Iterator[Session]:
    """Connected; neither keyspace nor tables are promised."""
    with connect(settings) as session:
        yield session


@pytest.fixture
def session(bare_session: Session, settings: CassandraSettings) -> Session:
    """With the tables in place."""
    ensure_schema(bare_session, settings)
    return bare_session


@pytest.fixture(scope="package")
def shared_settings(cassandra_port: int) -> CassandraSettings:
    """Tables that several tests share, for those whose rows don't meet: making them takes seconds."""
    return CassandraSettings(port=cassandra_port, keyspace=f"test_{uuid.uuid4().hex}", retry_for_s=5)


@pytest.fixture(scope="package")
def shared_session(shared_settings: CassandraSettings) -> Iterator[Session]:
    with connect(shared_settings) as session:
        ensure_schema(session, shared_settings)
        yield session
