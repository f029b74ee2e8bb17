"""Catch-up by cryptoflow: its process, and what its two tables hold afterwards."""

import json
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.compare import Key, Row, Rows, rows_of
from benchmarks.environment import program_env
from benchmarks.measured import Run, run
from cryptoflow.local.processes import free_port
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, home
from cryptoflow.tables.connection import connect

NO_SIDE = (0, 0.0, 0.0, 0.0)

MINUTE_S = 60


def catch_up(kafka: KafkaSettings, cassandra: CassandraSettings) -> tuple[Run, Rows]:
    """What cryptoflow took for the topic's candles, with a home of its own, and the candles.

    Args:
        cassandra: its keyspace is new.

    Raises:
        ProgramError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "jars").symlink_to(home() / "jars")
        groups = {"kafka": kafka, "cassandra": cassandra, "spark": SparkSettings(ui_port=free_port())}
        given = {name: settings.model_dump() for name, settings in groups.items()} | {"home": folder}
        took = run([sys.executable, "-m", "benchmarks.cryptoflow_job", json.dumps(given)], program_env())
    return took, rows(cassandra)


def rows(cassandra: CassandraSettings) -> Rows:
    """What the two tables hold, put together."""
    with connect(cassandra) as session:
        sides = {(*_key(row), row.direction): _side(row) for row in session.execute(_select("trademsgs1minutewindow"))}
        minutes = (row for row in session.execute(_select("candles")) if row.window_seconds == MINUTE_S)
        return rows_of(_lists(minutes, sides))


def _select(table: str) -> str:
    return f"SELECT * FROM {table}"


def _lists(candles: Iterable[Any], sides: dict[tuple[Any, ...], tuple[Any, ...]]) -> Iterable[list[Any]]:
    for candle in candles:
        key = _key(candle)
        both = (*sides.get((*key, "BUY"), NO_SIDE), *sides.get((*key, "SELL"), NO_SIDE))
        yield [*key, *(getattr(candle, name) for name in Row._fields[: -len(both)]), *both]


def _key(row: Any) -> Key:
    start: datetime = row.window_start.replace(tzinfo=UTC)
    return row.market, row.fromcoin, row.tocurrency, int(start.timestamp())


def _side(row: Any) -> tuple[Any, ...]:
    return row.counttxns, row.totalquantity, row.totalvol, row.avgprice
