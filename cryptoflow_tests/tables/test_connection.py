"""Reaching Cassandra, and the schema in a real one."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cassandra import ReadFailure
from cassandra.cluster import Session

from cryptoflow.errors import (
    CassandraError,
    CassandraUnreachableError,
    ConfigError,
    SchemaMismatchError,
)
from cryptoflow.model.candle import CandleRow
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.reader import Series, known_series
from cryptoflow.tables.schema import CANDLES, DEFAULT_GC_GRACE_S, GC_GRACE_S, TABLES
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.dagster_dev import awaited
from cryptoflow_tests.repairing import BTC

DAY = datetime(2021, 1, 8, tzinfo=UTC)

OLD_TABLE = """
    CREATE TABLE {keyspace}.trademsgs1minutewindow (
        date timestamp, window_start timestamp, window_end timestamp, market text, direction text,
        fromcoin text, tocurrency text, avgprice double, totalquantity double, totalvol double,
        counttxns bigint, uuid timeuuid,
        PRIMARY KEY ((date), window_end, window_start, direction, market)
    ) WITH CLUSTERING ORDER BY (window_end DESC, window_start DESC, direction ASC, market ASC)"""


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound and never accepts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def refused_connection(settings: CassandraSettings) -> str:
    started = time.monotonic()
    with pytest.raises(CassandraUnreachableError) as raised, connect(settings):
        pass
    assert time.monotonic() - started < 15
    return str(raised.value)


def test_who_does_not_listen_is_unreachable_with_the_way_out(closed_port: int) -> None:
    assert refused_connection(CassandraSettings(port=closed_port)) == (
        f"Cassandra at 127.0.0.1:{closed_port} does not answer; "
        "start it with `cryptoflow services up` or set CASSANDRA_CONTACT_POINTS."
    )


def test_who_listens_and_says_nothing_is_unreachable_in_time(silent_port: int) -> None:
    assert "does not answer" in refused_connection(CassandraSettings(port=silent_port))


def test_several_silent_hosts_take_no_longer(silent_port: int) -> None:
    hosts = "127.0.0.1,127.0.0.2,localhost"
    assert f"127.0.0.2:{silent_port}" in refused_connection(CassandraSettings(port=silent_port, contact_points=hosts))


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    assert "nowhere.invalid" in refused_connection(CassandraSettings(contact_points="nowhere.invalid"))


def test_an_unreachable_cassandra_is_said_once_and_not_logged(
    closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        refused_connection(CassandraSettings(port=closed_port))
    assert [record for record in caplog.records if record.name.startswith("cassandra")] == []


def test_a_missing_ca_file_is_a_matter_of_configuration(tmp_path: Path) -> None:
    settings = CassandraSettings(ca_file=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match="CASSANDRA_CA_FILE"), connect(settings):
        pass


def test_what_the_driver_raises_in_the_body_becomes_ours(bare_session: Session, settings: CassandraSettings) -> None:
    with pytest.raises(CassandraError, match=r"refused a request: .*nonsense"), connect(settings) as session:
        session.execute("nonsense")


def test_a_data_center_without_a_node_is_told_with_the_way_out(cassandra_port: int) -> None:
    said = refused_connection(CassandraSettings(port=cassandra_port, datacenter="nowhere"))
    assert "answers in the data center nowhere; set CASSANDRA_DATACENTER" in said


def described(session: Session, keyspace: str) -> list[tuple[str, str]]:
    rows = session.execute("SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = %s", [keyspace])
    return sorted((row.table_name, str(row.id)) for row in rows)


def test_a_second_time_nothing_is_created(session: Session, settings: CassandraSettings) -> None:
    before = described(session, settings.keyspace)
    ensure_schema(session, settings)
    assert described(session, settings.keyspace) == before
    assert [name for name, _ in before] == sorted(table.name for table in TABLES)


def test_a_session_finds_its_keyspace(session: Session, settings: CassandraSettings) -> None:
    with connect(settings) as another:
        assert another.keyspace == settings.keyspace


def test_a_keyspaces_name_is_folded_as_cql_folds_it(session: Session, settings: CassandraSettings) -> None:
    shouting = settings.model_copy(update={"keyspace": settings.keyspace.upper()})
    before = described(session, settings.keyspace)
    ensure_schema(session, shouting)
    assert described(session, settings.keyspace) == before


def test_many_at_once_create_one_schema(bare_session: Session, settings: CassandraSettings) -> None:
    def create() -> None:
        with connect(settings) as session:
            ensure_schema(session, settings)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(create) for _ in range(6)]:
            done.result()
    assert len(described(bare_session, settings.keyspace)) == len(TABLES)


def test_the_time_to_live_is_the_settings(bare_session: Session, settings: CassandraSettings) -> None:
    ensure_schema(bare_session, settings.model_copy(update={"ttl_s": 86_400}))
    cql = "SELECT * FROM system_schema.tables WHERE keyspace_name = %s"
    rows = bare_session.execute(cql, [settings.keyspace])
    found = {row.table_name: row for row in rows}
    assert found["candles"].default_time_to_live == 86_400
    assert found["candles"].compaction["class"].endswith("TimeWindowCompactionStrategy")


def gc_graces(session: Session, keyspace: str) -> dict[str, int]:
    cql = "SELECT table_name, gc_grace_seconds FROM system_schema.tables WHERE keyspace_name = %s"
    return dict(session.execute(cql, [keyspace]))


def test_tables_that_let_go_of_many_rows_are_soon_rid_of_them_those_of_earlier_versions_too(
    bare_session: Session, settings: CassandraSettings
) -> None:
    ensure_schema(bare_session, settings)
    assert {name for name, grace_s in gc_graces(bare_session, settings.keyspace).items() if grace_s == GC_GRACE_S} == {
        "batches",
        "marks",
    }
    bare_session.execute(f"ALTER TABLE marks WITH gc_grace_seconds = {DEFAULT_GC_GRACE_S}")
    bare_session.execute("ALTER TABLE candles WITH default_time_to_live = 86400")
    bare_session.execute("ALTER TABLE batches WITH gc_grace_seconds = 7200")
    ensure_schema(bare_session, settings)
    graces = gc_graces(bare_session, settings.keyspace)
    assert (graces["marks"], graces["candles"], graces["batches"]) == (GC_GRACE_S, GC_GRACE_S, 7200)
    assert graces["hours"] == DEFAULT_GC_GRACE_S


def test_candles_that_have_expired_by_the_ten_thousand_do_not_stand_before_those_that_are_there(
    bare_session: Session, settings: CassandraSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cryptoflow.tables.schema.GC_GRACE_S", 1)
    ensure_schema(bare_session, settings.model_copy(update={"ttl_s": 4}))
    writer, days = TableWriter(bare_session, settings), [DAY + number * timedelta(days=1) for number in range(8)]
    rows = [
        CandleRow(*BTC, 60, day, day + minute * timedelta(minutes=1), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
        for day in days
        for minute in range(1440)
    ]
    writer.put(CANDLES, rows, 1)
    assert set(known_series(bare_session)[Series(*BTC, 60)]) == set(days)

    def gone() -> bool | None:
        try:
            return not known_series(bare_session) or None
        except ReadFailure:  # too many are noted
            return None

    awaited(gone, "that nothing is left of expired candles", 20)


def test_the_old_programs_table_is_refused_with_the_way_out(bare_session: Session, settings: CassandraSettings) -> None:
    keyspace = settings.keyspace
    bare_session.execute(
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    bare_session.execute(OLD_TABLE.format(keyspace=keyspace))
    with pytest.raises(SchemaMismatchError) as raised:
        ensure_schema(bare_session, settings)
    message = str(raised.value)
    assert re.search(rf"{keyspace}\.trademsgs1minutewindow .*fromcoin.*tocurrency.*CASSANDRA_KEYSPACE", message)
    assert "drop" in message
    assert "market, fromcoin, tocurrency)" in message
