"""Longer candles in a real Cassandra: those of the trades, whoever makes them, in whatever order and how often."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cassandra.cluster import Session

from cryptoflow.model.candle import Candle, CandleRow, candle_row, candles_of
from cryptoflow.model.trade import Trade
from cryptoflow.model.window import DAY_S, LONGER_S
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import lease
from cryptoflow.tables.connection import connect
from cryptoflow.tables.lease import AGGREGATE, REPAIR, Lease
from cryptoflow.tables.longer import LongerCandles
from cryptoflow.tables.schema import CANDLES
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.exactness import check_longer
from cryptoflow_tests.repairing import BTC, ETH, a_trade

MIDNIGHT_S = 1_610_064_000
"""2021-01-08, UTC."""


@pytest.fixture
def session(shared_session: Session) -> Session:
    """Without leases and candles."""
    for table in ("leases", "candles", "trademsgs1minutewindow"):
        shared_session.execute(f"TRUNCATE {table}")
    return shared_session


@pytest.fixture
def settings(shared_settings: CassandraSettings) -> CassandraSettings:
    return shared_settings


class Maker:
    """Who writes minutes and makes the longer candles, as a commit and a repair do."""

    def __init__(self, session: Session, settings: CassandraSettings, held: Lease, base_s: int = 60) -> None:
        self._lease, self._writer = held, TableWriter(session, settings)
        self._longer = LongerCandles(session, settings, base_s, held, self._writer)

    def commit(self, candles: Sequence[Candle], removed: Sequence[Candle] = ()) -> None:
        timestamp = self._lease.timestamp()
        self._writer.put_candles(candles, timestamp)
        self._writer.remove(CANDLES, list(map(candle_row, removed)), timestamp)
        self._longer.make(
            {candle.key: candle_row(candle) for candle in candles} | {candle.key: None for candle in removed}, timestamp
        )


@contextmanager
def held(session: Session, name: str = AGGREGATE) -> Iterator[Lease]:
    with lease.held(session, name, Holder.current("", Path("/a/home")), "aggregates") as lease_:
        yield lease_


def trades_of_days(count: int, seed: int = 1, days: int = 2) -> list[Trade]:
    """In order; their days begin and end with one."""
    rng = random.Random(seed)
    times_s = [0, DAY_S - 1, DAY_S, *(int(DAY_S * days * rng.betavariate(2, 3)) for _ in range(count))]
    return [a_trade(number, MIDNIGHT_S + at, rng.choice([BTC, ETH])) for number, at in enumerate(sorted(times_s))]


def minutes_of(trades: Sequence[Trade], window_s: int = 60) -> list[Candle]:
    return list(candles_of(trades, window_s).values())


def check(session: Session, trades: Sequence[Trade], base_s: int = 60) -> None:
    """The table has exactly the candles of the trades, of all lengths."""
    lengths_s = [base_s, *(each for each in LONGER_S.values() if each > base_s and not each % base_s)]
    true = {row[:6]: row for length_s in lengths_s for row in map(candle_row, candles_of(trades, length_s).values())}
    rows = [CandleRow(*row) for row in session.execute(f"SELECT {', '.join(CandleRow._fields)} FROM candles")]
    found = [row._replace(date=_utc(row.date), window_start=_utc(row.window_start)) for row in rows]
    assert {row[:6]: row for row in found} == true


def _utc(naive: datetime) -> datetime:
    return naive.replace(tzinfo=UTC)


@pytest.mark.parametrize("base_s", [60, 1200])
def test_batch_by_batch_they_are_the_candles_of_the_trades_so_far(
    session: Session, settings: CassandraSettings, base_s: int
) -> None:
    trades = trades_of_days(400)
    with held(session) as lease_:
        maker, done = Maker(session, settings, lease_, base_s), 0
        for end in (1, 2, 30, 31, 200, 403):
            so_far = minutes_of(trades[:end], base_s)
            touched = {candle.key for candle in minutes_of(trades[done:end], base_s)}
            maker.commit([candle for candle in so_far if candle.key in touched])
            check(session, trades[:end], base_s)
            done = end


def test_what_a_crash_left_without_them_is_mended_by_who_comes_next(
    session: Session, settings: CassandraSettings
) -> None:
    trades = trades_of_days(200, days=1)
    with held(session) as lease_:
        TableWriter(session, settings).put_candles(minutes_of(trades[:150]), lease_.timestamp())
        last_of_days = {(each.pair, each.window_start.date()): each for each in minutes_of(trades)}
        assert len(last_of_days) < len(minutes_of(trades))
        Maker(session, settings, lease_).commit(list(last_of_days.values()))
        check_longer(session)


def test_of_removed_minutes_nothing_longer_is_left(session: Session, settings: CassandraSettings) -> None:
    trades = trades_of_days(100, days=1)
    minutes = minutes_of(trades)
    with held(session) as lease_:
        maker = Maker(session, settings, lease_)
        maker.commit(minutes)
        maker.commit([], minutes[::2])
        check_longer(session)
        maker.commit([], minutes[1::2])
    assert list(session.execute("SELECT * FROM candles")) == []


def test_a_later_stamp_of_what_is_stored_does_not_keep_it(session: Session, settings: CassandraSettings) -> None:
    # A repair's stamps may be half a minute ahead of the aggregation's.
    trades = trades_of_days(50, days=1)
    with held(session) as lease_:
        maker = Maker(session, settings, lease_)
        maker.commit(minutes_of(trades[:40]))
        longer = [
            CandleRow(*row)._replace(close=1.0)
            for row in session.execute(f"SELECT {', '.join(CandleRow._fields)} FROM candles")
            if row.window_seconds > 60
        ]
        TableWriter(session, settings).put(CANDLES, longer, lease_.timestamp() + 40_000_000)
        Maker(session, settings, lease_).commit(minutes_of(trades))
        check(session, trades)


def test_a_stale_holders_older_minutes_make_no_older_candle(session: Session, settings: CassandraSettings) -> None:
    trades = trades_of_days(100, days=1)
    with held(session) as lease_:
        older = lease_.timestamp()
        maker = Maker(session, settings, lease_)
        maker.commit(minutes_of(trades))
        writer = TableWriter(session, settings)
        partial = minutes_of(trades[:60])
        writer.put_candles(partial, older)
        LongerCandles(session, settings, 60, lease_, writer).make({candle.key: None for candle in partial}, older)
        check(session, trades)


def test_an_aggregation_and_a_repair_at_once_leave_what_both_have_written(
    session: Session, settings: CassandraSettings
) -> None:
    #  aggregation   minutes of the afternoon, again and again as they grow
    #  repair        those of the morning, and again
    morning = [each for each in trades_of_days(150, days=1) if each.time_s < MIDNIGHT_S + DAY_S // 2]
    afternoon = [each for each in trades_of_days(150, 2, days=1) if each.time_s >= MIDNIGHT_S + DAY_S // 2]
    afternoon = [a_trade(10**6 + number, each.time_s, each.pair) for number, each in enumerate(afternoon)]
    faults: list[BaseException] = []

    def work(name: str, trades: Sequence[Trade]) -> Callable[[], None]:
        def run() -> None:
            try:
                with connect(settings) as own, held(own, name) as lease_:
                    maker, done = Maker(own, settings, lease_), 0
                    for end in range(1, len(trades), 3):
                        so_far = {candle.key: candle for candle in minutes_of(trades[:end])}
                        maker.commit([so_far[each.key] for each in minutes_of(trades[done:end])])
                        done = end
            except BaseException as fault:  # noqa: BLE001 - raised below
                faults.append(fault)

        return run

    threads = [threading.Thread(target=work(AGGREGATE, afternoon)), threading.Thread(target=work(REPAIR, morning))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    check_longer(session)


def test_what_was_removed_at_a_later_stamp_hides_nothing_that_comes(
    session: Session, settings: CassandraSettings
) -> None:
    #  repair         removes the day's only minute, with stamps half a minute ahead
    #  aggregation                                     |the next minute
    [first, *others] = minutes_of(trades_of_days(0, days=1))
    with held(session) as lease_:
        maker = Maker(session, settings, lease_)
        maker.commit([first])
        with held(session, REPAIR) as repairing:
            repairing.catch_up()
            Maker(session, settings, repairing).commit([], [first])
        maker.commit(others)
        check_longer(session)


@contextmanager
def time_to_live(session: Session, ttl_s: int) -> Iterator[None]:
    """Candles live so long."""
    session.execute(f"ALTER TABLE candles WITH default_time_to_live = {ttl_s}")
    try:
        yield
    finally:
        session.execute("ALTER TABLE candles WITH default_time_to_live = 0")


def test_a_candle_of_which_minutes_have_expired_keeps_their_trades(
    session: Session, settings: CassandraSettings
) -> None:
    #  minutes   |-- expired --|--- there ---|x|   x: comes late
    *minutes, late = minutes_of([trade for trade in trades_of_days(200, days=1) if trade.pair == BTC])
    of_day = sum(candle.trades for candle in minutes)
    with time_to_live(session, 2 * DAY_S), held(session) as lease_:
        Maker(session, settings, lease_).commit(minutes)
        expired = [candle_row(candle) for candle in minutes[: len(minutes) // 2]]
        TableWriter(session, settings).remove(CANDLES, expired, lease_.timestamp())
        Maker(session, settings, lease_).commit([late])
        rows = session.execute("SELECT window_seconds, trades FROM candles")
        trades = {row.window_seconds: row.trades for row in rows}
        assert trades[DAY_S] == of_day + late.trades


def test_none_are_made_that_would_outlive_their_minutes(session: Session, settings: CassandraSettings) -> None:
    with time_to_live(session, 3600), held(session) as lease_:
        Maker(session, settings, lease_).commit(minutes_of(trades_of_days(10)))
        assert {row.window_seconds for row in session.execute("SELECT * FROM candles")} == {60, 300, 900, 3600}


def test_none_are_made_where_none_are_wanted(session: Session, settings: CassandraSettings) -> None:
    minutes = minutes_of(trades_of_days(10))
    with held(session) as lease_:
        Maker(session, settings.model_copy(update={"longer_windows": "none"}), lease_).commit(minutes)
        assert len(list(session.execute("SELECT * FROM candles"))) == len(minutes)
        Maker(session, settings.model_copy(update={"longer_windows": "1h"}), lease_).commit(minutes)
        assert {row.window_seconds for row in session.execute("SELECT * FROM candles")} == {60, 3600}
        check_longer(session, [3600])
