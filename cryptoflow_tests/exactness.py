"""Whether both tables hold exactly what Kafka holds: no trade lost, none twice."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, timedelta
from itertools import product
from typing import Any

import pytest
from cassandra.cluster import Session

from cryptoflow.model.candle import CandleRow, merged, row_uuid
from cryptoflow.model.window import LONGER_S, as_utc, floor_window
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
    """The rows of `candles` of a minute by what they are of."""
    rows = (row for row in session.execute("SELECT * FROM candles") if row.window_seconds == 60)
    return {
        (row.market, row.fromcoin, row.tocurrency, int(row.window_start.replace(tzinfo=UTC).timestamp())): row
        for row in rows
    }


def check_tables(place: Workplace, truth: Mapping[Key, Mapping[str, Any]], until_s: float = math.inf) -> None:
    """Both tables hold the true candles, of windows that begin before a time: no row missing, none extra."""
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        found = {key: row for key, row in read_candles(session).items() if key[3] < until_s}
        check_longer(session)
        rows = session.execute("SELECT * FROM trademsgs1minutewindow")
        sides = [row for row in rows if row.window_start.replace(tzinfo=UTC).timestamp() < until_s]
    assert found.keys() == truth.keys()
    for key, row in found.items():
        _check_candle(key, row, truth[key])
    expected_sides = {
        (*key, side): figures for key, candle in truth.items() for side, figures in candle["sides"].items()
    }
    assert len(sides) == len(expected_sides)
    for row in sides:
        _check_side(row, expected_sides)


def check_longer(session: Session, lengths_s: Iterable[int] = LONGER_S.values()) -> None:
    """The table has the longer candles of all minutes in it, and no others."""
    columns = ", ".join(CandleRow._fields)
    rows = [CandleRow(*row) for row in session.execute(f"SELECT {columns} FROM candles")]
    rows = [row._replace(date=as_utc(row.date), window_start=as_utc(row.window_start)) for row in rows]
    parts: dict[tuple[object, ...], list[CandleRow]] = defaultdict(list)
    for row, length_s in product(rows, lengths_s):
        if row.window_seconds == 60:
            parts[*row[:3], length_s, floor_window(row.window_start, length_s)].append(row)
    found: dict[tuple[object, ...], CandleRow] = {
        (*row[:4], row.window_start): row for row in rows if row.window_seconds > 60
    }
    assert found.keys() == parts.keys()
    for key, members in parts.items():
        true = merged(members, found[key].window_seconds)
        same = {name: getattr(true, name) for name in ("date", "open", "high", "low", "close", "trades")}
        assert {name: getattr(found[key], name) for name in same} == same, key
        assert found[key][10:15] == pytest.approx(true[10:15], rel=1e-15), key


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
