"""Writing candles into a real Cassandra: upserts, replays, midnight."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraError
from cryptoflow.model.candle import Candle, Side, candle_row, direction_rows
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.schema import BatchRecord
from cryptoflow.tables.writer import CandleWriter

MIDNIGHT = datetime(2021, 1, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def a_candle(start: datetime = MIDNIGHT, from_coin: str = "BTC", market: str = "Coinbase", open: float = 2) -> Candle:
    buy, sell = Side(4, 2.5, 8.25, 6.1), Side(3, 1.5, 6.0, 5.0)
    return Candle(market, from_coin, "USD", start, 60, open, 4, 1, 3, 9, 5.1, 20.3, buy, sell)


def rows_of(session: Session, table: str) -> list[bytes]:
    return sorted(repr(tuple(row)).encode() for row in session.execute(f"SELECT * FROM {table}"))


def both_tables(session: Session) -> list[list[bytes]]:
    return [rows_of(session, "candles"), rows_of(session, "trademsgs1minutewindow")]


def test_rows_come_back_as_they_were_made(session: Session, settings: CassandraSettings) -> None:
    candle = a_candle()
    CandleWriter(session, settings).write([candle], BatchRecord("q", 1))
    [stored] = session.execute("SELECT * FROM candles")
    row = candle_row(candle)
    naive = {"date": MIDNIGHT.replace(tzinfo=None), "window_start": MIDNIGHT.replace(tzinfo=None)}
    assert stored._asdict() == row._asdict() | naive
    sides = {row.direction: row for row in session.execute("SELECT * FROM trademsgs1minutewindow")}
    for made in direction_rows(candle):
        assert (sides[made.direction].uuid, sides[made.direction].avgprice) == (made.uuid, made.avgprice)


def test_written_twice_the_rows_are_the_same_byte_for_byte(session: Session, settings: CassandraSettings) -> None:
    candles = [a_candle(MIDNIGHT + number * MINUTE) for number in range(250)]
    writer = CandleWriter(session, settings)
    writer.write(candles, BatchRecord("q", 1))
    once = both_tables(session)
    writer.write(candles[::-1], BatchRecord("q", 1))
    assert both_tables(session) == once
    assert [len(rows) for rows in once] == [250, 500]


def test_a_newer_state_of_a_candle_replaces_the_older(session: Session, settings: CassandraSettings) -> None:
    writer = CandleWriter(session, settings)
    writer.write([a_candle(open=2)], BatchRecord("q", 1))
    writer.write([a_candle(open=3)], BatchRecord("q", 2))
    assert [row.open for row in session.execute("SELECT open FROM candles")] == [3]


def test_pairs_and_markets_do_not_overwrite_each_other(session: Session, settings: CassandraSettings) -> None:
    candles = [a_candle(from_coin=coin, market=market) for coin in ("BTC", "ETH") for market in ("A", "B")]
    CandleWriter(session, settings).write(candles, BatchRecord("q", 1))
    assert [len(rows) for rows in both_tables(session)] == [4, 8]


def test_a_side_without_trades_has_no_row(session: Session, settings: CassandraSettings) -> None:
    only_buys = Candle("M", "A", "B", MIDNIGHT, 60, 1, 1, 1, 1, 2, 1.0, 1.0, Side(1, 1.0, 1.0, 1.0), Side())
    CandleWriter(session, settings).write([only_buys], BatchRecord("q", 1))
    rows = session.execute("SELECT direction FROM trademsgs1minutewindow")
    assert [row.direction for row in rows] == ["BUY"]


def test_the_batch_is_recorded_last_and_with_its_rows(session: Session, settings: CassandraSettings) -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    batch = BatchRecord("q", 7, input_rows=9, late=1, duplicates=2, unreadable=3, watermark=MIDNIGHT)
    done = CandleWriter(session, settings, now=lambda: now).write([a_candle()], batch)
    assert done == batch._replace(rows_written=3, finished_at=now)
    [stored] = session.execute("SELECT * FROM batches")
    naive = {"watermark": MIDNIGHT.replace(tzinfo=None), "finished_at": now.replace(tzinfo=None)}
    assert stored._asdict() == done._asdict() | naive


def test_a_refused_row_is_an_error_and_leaves_no_record(session: Session, settings: CassandraSettings) -> None:
    writer = CandleWriter(session, settings)
    session.execute("DROP TABLE trademsgs1minutewindow")
    with pytest.raises(CassandraError, match="refused a request"):
        writer.write([a_candle()], BatchRecord("q", 1))
    assert session.execute("SELECT * FROM batches").one() is None


FAR_ZONES = ("Pacific/Kiritimati", "Pacific/Pago_Pago")

WRITE_AROUND_MIDNIGHT = """
import sys
from datetime import UTC, datetime, timedelta
from cryptoflow.settings import CassandraSettings, load
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.schema import BatchRecord
from cryptoflow.tables.writer import CandleWriter
from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import Trade
times_s = range(1610063935, 1610064115, 20)  # from 2021-01-07 23:58:55
trades = [Trade("Coinbase", "BTC", "USD", "2", str(time_s), time_s, 1.0, 100.0, 100.0) for time_s in times_s]
settings = load(CassandraSettings)
with connect(settings) as session:
    ensure_schema(session, settings)
    CandleWriter(session, settings).write(list(candles_of(trades, 60).values()), BatchRecord("q", 1))
"""


def test_both_sides_of_midnight_have_their_dates_in_any_time_zone(
    session: Session, settings: CassandraSettings
) -> None:
    found = set()
    for zone in FAR_ZONES:
        env = {"TZ": zone, "CASSANDRA_PORT": str(settings.port), "CASSANDRA_KEYSPACE": settings.keyspace}
        subprocess.run([sys.executable, "-c", WRITE_AROUND_MIDNIGHT], env=os.environ | env, check=True)
        rows = session.execute("SELECT date, window_end FROM trademsgs1minutewindow")
        found.add(tuple(sorted((row.date.day, row.window_end.strftime("%d %H:%M")) for row in rows)))
    assert found == {((7, "07 23:59"), (8, "08 00:00"), (8, "08 00:01"), (8, "08 00:02"))}


def test_ten_thousand_candles_take_seconds(session: Session, settings: CassandraSettings) -> None:
    candles = [a_candle(MIDNIGHT + number // 5 * MINUTE, market=f"M{number % 5}") for number in range(10_000)]
    started = time.monotonic()
    done = CandleWriter(session, settings).write(candles, BatchRecord("q", 1))
    assert done.rows_written == 30_000
    assert time.monotonic() - started < 15
