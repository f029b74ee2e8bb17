"""Whether both tables hold exactly what Kafka holds: no trade lost, none twice."""

from collections.abc import Mapping
from datetime import UTC, timedelta
from typing import Any

import pytest
from cassandra.cluster import Session

from cryptoflow.model.candle import row_uuid
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables.connection import connect
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.truth import Key


def cassandra(place: Workplace) -> CassandraSettings:
    """The place's Cassandra."""
    return CassandraSettings(port=int(place.env["CASSANDRA_PORT"]), keyspace=place.env["CASSANDRA_KEYSPACE"])


def kafka(place: Workplace) -> KafkaSettings:
    """The place's Kafka."""
    return KafkaSettings(bootstrap_servers=place.env["KAFKA_BOOTSTRAP_SERVERS"], topic=place.env["KAFKA_TOPIC"])


def read_candles(session: Session) -> dict[Key, Any]:
    """The rows of `candles` by what they are of."""
    rows = session.execute("SELECT * FROM candles")
    return {
        (row.market, row.fromcoin, row.tocurrency, int(row.window_start.replace(tzinfo=UTC).timestamp())): row
        for row in rows
    }


def check_tables(place: Workplace, truth: Mapping[Key, Mapping[str, Any]]) -> None:
    """Both tables hold the true candles: no row missing, none extra."""
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        found = read_candles(session)
        sides = list(session.execute("SELECT * FROM trademsgs1minutewindow"))
    assert found.keys() == truth.keys()
    for key, row in found.items():
        _check_candle(key, row, truth[key])
    expected_sides = {
        (*key, side): figures for key, candle in truth.items() for side, figures in candle["sides"].items()
    }
    assert len(sides) == len(expected_sides)
    for row in sides:
        _check_side(row, expected_sides)


def _check_candle(key: Key, row: Any, true: Mapping[str, Any]) -> None:
    expected = {name: value for name, value in true.items() if name != "sides"}
    assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-12), key
    assert row.vwap == pytest.approx(row.volume / row.quantity, rel=1e-12)
    assert row.window_seconds == 60


def _check_side(row: Any, expected: Mapping[tuple[Any, ...], Any]) -> None:
    start = row.window_start.replace(tzinfo=UTC)
    end = start + timedelta(minutes=1)
    side = (row.market, row.fromcoin, row.tocurrency, int(start.timestamp()), row.direction)
    figures = (row.counttxns, row.avgprice, row.totalquantity, row.totalvol)
    assert figures == pytest.approx(expected[side], rel=1e-12), side
    assert row.window_end.replace(tzinfo=UTC) == end
    assert row.date.replace(tzinfo=UTC) == end.replace(hour=0, minute=0, second=0)
    assert row.uuid == row_uuid(row.market, row.fromcoin, row.tocurrency, start, 60, row.direction)
