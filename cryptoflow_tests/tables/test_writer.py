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
from cryptoflow.tables.schema import BATCHES, CANDLES, MARKS, TRADE_WINDOWS, BatchRecord, MarkRow
from cryptoflow.tables.writer import TableWriter

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
    TableWriter(session, settings).put_candles([candle], 1)
    [stored] = session.execute("SELECT * FROM candles")
    row = candle_row(candle)
    naive = {"date": MIDNIGHT.replace(tzinfo=None), "window_start": MIDNIGHT.replace(tzinfo=None)}
    assert stored._asdict() == row._asdict() | naive
    sides = {row.direction: row for row in session.execute("SELECT * FROM trademsgs1minutewindow")}
    for made in direction_rows(candle):
        assert (sides[made.direction].uuid, sides[made.direction].avgprice) == (made.uuid, made.avgprice)


def test_written_twice_the_rows_are_the_same_byte_for_byte(session: Session, settings: CassandraSettings) -> None:
    candles = [a_candle(MIDNIGHT + number * MINUTE) for number in range(250)]
    writer = TableWriter(session, settings)
    writer.put_candles(candles, 1)
    once = both_tables(session)
    writer.put_candles(candles[::-1], 1)
    assert both_tables(session) == once
    assert [len(rows) for rows in once] == [250, 500]


def test_a_newer_state_of_a_candle_replaces_the_older(session: Session, settings: CassandraSettings) -> None:
    writer = TableWriter(session, settings)
    writer.put_candles([a_candle(open=2)], 1)
    writer.put_candles([a_candle(open=3)], 2)
    assert [row.open for row in session.execute("SELECT open FROM candles")] == [3]


def test_pairs_and_markets_do_not_overwrite_each_other(session: Session, settings: CassandraSettings) -> None:
    candles = [a_candle(from_coin=coin, market=market) for coin in ("BTC", "ETH") for market in ("A", "B")]
    TableWriter(session, settings).put_candles(candles, 1)
    assert [len(rows) for rows in both_tables(session)] == [4, 8]


def test_a_side_without_trades_has_no_row(session: Session, settings: CassandraSettings) -> None:
    only_buys = Candle("M", "A", "B", MIDNIGHT, 60, 1, 1, 1, 1, 2, 1.0, 1.0, Side(1, 1.0, 1.0, 1.0), Side())
    TableWriter(session, settings).put_candles([only_buys], 1)
    rows = session.execute("SELECT direction FROM trademsgs1minutewindow")
    assert [row.direction for row in rows] == ["BUY"]


def test_an_older_state_of_a_candle_never_wins_whenever_it_comes(session: Session, settings: CassandraSettings) -> None:
    writer = TableWriter(session, settings)
    writer.put_candles([a_candle(open=3)], 20)
    newer = both_tables(session)
    for timestamp in (19, 1):
        writer.put_candles([a_candle(open=2)], timestamp)
        assert both_tables(session) == newer


def test_rows_of_any_table_come_back_as_they_were_put(session: Session, settings: CassandraSettings) -> None:
    writer = TableWriter(session, settings)
    batch = BatchRecord("q", 7, input_rows=9, late=1, duplicates=2, unreadable=3, rows_written=3, watermark=MIDNIGHT)
    mark = MarkRow(MIDNIGHT, "M", "A", "B", "an-id", 1, 5, 9, "trades", 4, MIDNIGHT + MINUTE, "late")
    writer.put(BATCHES, [batch], 1)
    writer.put(MARKS, [mark], 1)
    [stored] = session.execute("SELECT * FROM batches")
    assert stored._asdict() == batch._asdict() | {"watermark": MIDNIGHT.replace(tzinfo=None)}
    [stored] = session.execute("SELECT * FROM marks")
    naive = {"hour": MIDNIGHT.replace(tzinfo=None), "until": (MIDNIGHT + MINUTE).replace(tzinfo=None)}
    assert stored._asdict() == mark._asdict() | naive


def test_rows_are_removed_unless_they_were_written_later(session: Session, settings: CassandraSettings) -> None:
    writer = TableWriter(session, settings)
    candles = [a_candle(MIDNIGHT + number * MINUTE) for number in range(150)]
    writer.put_candles(candles, 10)
    writer.put_candles(candles[:1], 30)
    for table, left in ((CANDLES, 1), (TRADE_WINDOWS, 2)):
        rows = list(session.execute(f"SELECT * FROM {table.name}"))
        writer.remove(table, rows, 9)
        assert len(rows_of(session, table.name)) == len(rows)
        writer.remove(table, rows, 20)
        assert len(rows_of(session, table.name)) == left
    # An older one that comes late does not bring the row back.
    writer.put_candles(candles, 15)
    assert [len(rows) for rows in both_tables(session)] == [1, 2]


def test_a_refused_row_is_an_error(session: Session, settings: CassandraSettings) -> None:
    writer = TableWriter(session, settings)
    session.execute("DROP TABLE trademsgs1minutewindow")
    with pytest.raises(CassandraError, match="refused a request"):
        writer.put_candles([a_candle()], 1)


FAR_ZONES = ("Pacific/Kiritimati", "Pacific/Pago_Pago")

WRITE_AROUND_MIDNIGHT = """
import sys
from datetime import UTC, datetime, timedelta
from cryptoflow.settings import CassandraSettings, load
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.schema import BATCHES, CANDLES, MARKS, TRADE_WINDOWS, BatchRecord, MarkRow
from cryptoflow.tables.writer import TableWriter
from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import Trade
times_s = range(1610063935, 1610064115, 20)  # from 2021-01-07 23:58:55
trades = [Trade("Coinbase", "BTC", "USD", "2", str(time_s), time_s, 1.0, 100.0, 100.0) for time_s in times_s]
settings = load(CassandraSettings)
with connect(settings) as session:
    ensure_schema(session, settings)
    TableWriter(session, settings).put_candles(list(candles_of(trades, 60).values()), 1)
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
    assert TableWriter(session, settings).put_candles(candles, 1) == 30_000
    assert time.monotonic() - started < 15
