"""Reads candles, and what the aggregation counted, from the tables."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import groupby, islice, takewhile
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraError
from cryptoflow.model.candle import CandleRow, DirectionRow
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import DAY_S, as_utc, utc_midnight
from cryptoflow.tables.schema import (
    BATCHES,
    CANDLES,
    COUNTS,
    MARKS,
    TRADE_WINDOWS,
    BatchRecord,
    MarkRow,
)

DAYS_BACK = 7
"""How many dates `latest` tries one by one before it asks the table which dates there are."""

LIST_PAUSE = 50.0
"""The partitions are listed again after so many times what that took: at most 2 % of the time is spent on it."""

LONGEST_LIST_PAUSE_S = 60.0
"""A new pair shows within a minute, whatever it takes."""

PairSide = tuple[str, str, str, str]
"""(market, from coin, to currency, BUY or SELL)."""


class Series(NamedTuple):
    """What candles are a series of."""

    market: str
    from_coin: str
    to_currency: str
    window_s: int


class Totals(NamedTuple):
    """The sums of the batches' records; times are aware UTC, None where there is no batch."""

    batches: int
    input_rows: int
    late: int
    duplicates: int
    unreadable: int
    rows_written: int
    watermark: datetime | None
    finished_at: datetime | None


def latest(
    session: Session,
    market: str,
    from_coin: str,
    to_currency: str,
    window_s: int,
    last_n: int,
    now: datetime,
) -> list[CandleRow]:
    """The `last_n` newest candles of a pair on a market, newest first.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    series = Series(market, from_coin, to_currency, window_s)
    days = max(DAYS_BACK, math.ceil(last_n * window_s / DAY_S))
    found = _newest(session, series, dates_back(now, window_s, days), last_n)
    if len(found) == last_n:
        return found
    return _newest(session, series, known_series(session).get(series, []), last_n)


def latest_of_all(
    session: Session,
    window_s: int,
    last_n: int = 1,
    market: str | None = None,
    coins: tuple[str, str] | None = None,
) -> list[CandleRow]:
    """The `last_n` newest candles of each pair on each market, or of those of `market`, or of `coins`.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    return [
        candle
        for series, dates in series_of(session, window_s, market, coins).items()
        for candle in _newest(session, series, dates, last_n)
    ]


class LatestCandles:
    """The newest candles of each pair on each market, for who looks again and again.

    A known pair's newest candle is there at once. Which pairs there are is asked as often as it costs next to nothing:
    a list of all partitions takes the longer, the more years the table holds.

    Args:
        market, coins: only of these, as in `latest_of_all`.
        clock: any monotonic one, in s.
    """

    def __init__(
        self,
        session: Session,
        window_s: int,
        last_n: int = 1,
        market: str | None = None,
        coins: tuple[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session, self._window_s, self._last_n, self._clock = session, window_s, last_n, clock
        self._market, self._coins = market, coins
        self._known: dict[Series, list[datetime]] = {}
        self._next_list_s = clock()

    def newest(self, now: datetime) -> list[CandleRow]:
        """The candles, newest first in each series, as seen at the time `now` (aware); errors as `latest_of_all`."""
        if self._clock() >= self._next_list_s or not self._known:
            self._list()
        open_date = utc_midnight(now + timedelta(seconds=self._window_s))
        return [
            candle
            for series, dates in self._known.items()
            for candle in _newest(
                self._session, series, [open_date, *dates] if open_date > dates[0] else dates, self._last_n
            )
        ]

    def _list(self) -> None:
        begun_s = self._clock()
        self._known = series_of(self._session, self._window_s, self._market, self._coins)
        now_s = self._clock()
        self._next_list_s = now_s + min(LIST_PAUSE * (now_s - begun_s), LONGEST_LIST_PAUSE_S)


def series_of(
    session: Session, window_s: int, market: str | None = None, coins: tuple[str, str] | None = None
) -> dict[Series, list[datetime]]:
    """As `known_series`, of windows of that length and, where given, of that market and those coins only."""
    return {
        series: dates
        for series, dates in known_series(session).items()
        if series.window_s == window_s
        and market in (None, series.market)
        and coins in (None, (series.from_coin, series.to_currency))
    }


def known_series(session: Session) -> dict[Series, list[datetime]]:
    """The dates (aware UTC, newest first) of each series in the table, by name.

    It lists the table's partition keys: one for each series and day, so five pairs make 1,800 a year.
    """
    rows = select(session, f"SELECT DISTINCT {', '.join(CANDLES.partition)} FROM candles")
    keys = sorted((Series(*row[:4]), as_utc(row[4])) for row in rows)
    return {
        series: [date for _, date in reversed(list(group))] for series, group in groupby(keys, key=lambda key: key[0])
    }


def dates_back(now: datetime, window_s: int, days: int) -> list[datetime]:
    """The dates that may hold the newest candles, newest first: from the day after the open window's on."""
    # a day ahead: an exchange's clock may be ahead of ours, and an open window's end belongs to the next day
    newest = utc_midnight(now + timedelta(days=1, seconds=window_s))
    return [newest - timedelta(days=day) for day in range(days + 2)]


def totals(session: Session, query_id: str | None = None) -> Totals:
    """The sums over the batches of the query, or of all queries; batches are kept for 30 days.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    sums = ", ".join(f"sum({name})" for name in COUNTS)
    cql = f"SELECT count(*), {sums}, max(watermark), max(finished_at) FROM batches"
    if query_id is None:
        [row] = select(session, cql)
    else:
        [row] = select(session, f"{cql} WHERE query_id = ?", [query_id])
    *counts, watermark, finished_at = row
    return Totals._make([*counts, watermark and as_utc(watermark), finished_at and as_utc(finished_at)])


def newest_candle(session: Session, window_s: int) -> datetime | None:
    """The start of the newest window that has a candle; None: there is none; errors as `totals`."""
    series = {series: dates for series, dates in known_series(session).items() if series.window_s == window_s}
    newest = (candle for each, dates in series.items() for candle in _newest(session, each, dates, 1))
    return max((candle.window_start for candle in newest), default=None)


def waiting_trades(session: Session) -> int:
    """Trades that wait for a repair, at most; errors as `totals`."""
    return sum(row.trades or 0 for row in select(session, "SELECT trades FROM marks"))


def marks(session: Session) -> list[MarkRow]:
    """The hours that wait for a repair, and why, the oldest first; errors as `totals`."""
    return sorted(map(_mark, select(session, f"SELECT {', '.join(MARKS.columns)} FROM marks")))


def ready_hours(marks: Iterable[MarkRow], finished: datetime) -> list[datetime]:
    """The marked hours that can be repaired when windows are finished by `finished`, the oldest first."""
    return sorted({mark.hour for mark in marks if mark.until <= finished})


def marks_of(session: Session, hour: datetime) -> dict[MarkRow, int]:
    """The marks of an hour (aware UTC), each with the time in us that it was written at; errors as `totals`."""
    cql = f"SELECT {', '.join(MARKS.columns)}, writetime(until) FROM marks WHERE hour = ?"
    return {_mark(row[:-1]): row[-1] for row in select(session, cql, [hour])}


def _mark(row: Sequence[Any]) -> MarkRow:
    mark = MarkRow(*row)
    return mark._replace(hour=as_utc(mark.hour), until=as_utc(mark.until))


def candle_rows(session: Session, window_s: int, start: datetime, end: datetime) -> list[CandleRow]:
    """The rows of `candles` of the windows that begin from `start` on and before `end`; as `candle_trades`."""
    where = " AND ".join(f"{name} = ?" for name in CANDLES.partition)
    cql = f"SELECT {', '.join(CANDLES.columns)} FROM candles WHERE {where} AND window_start >= ? AND window_start < ?"
    rows = (
        CandleRow(*row)
        for series, dates in known_series(session).items()
        if series.window_s == window_s
        for date in _dates_of(window_s, start, end).intersection(dates)
        for row in select(session, cql, [*series, date, start, end])
    )
    return [row._replace(date=as_utc(row.date), window_start=as_utc(row.window_start)) for row in rows]


def direction_rows(session: Session, window_s: int, start: datetime, end: datetime) -> list[DirectionRow]:
    """The rows of `trademsgs1minutewindow` of those windows."""
    columns = ", ".join(TRADE_WINDOWS.columns)
    cql = f"SELECT {columns} FROM trademsgs1minutewindow WHERE date = ? AND window_end > ? AND window_end <= ?"
    dates = _dates_of(window_s, start, end)
    rows = (DirectionRow(*row) for date in dates for row in select(session, cql, [date, start, end]))
    length = timedelta(seconds=window_s)
    return [
        row._replace(date=as_utc(row.date), window_start=as_utc(row.window_start), window_end=as_utc(row.window_end))
        for row in rows
        if row.window_end - row.window_start == length
    ]


def tables_id(session: Session) -> str:
    """The id of the tables in the session's keyspace; it changes when they are dropped and made anew.

    Raises:
        CassandraError: there are no such tables yet, or the cluster refuses to read.
    """
    cql = "SELECT id FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?"
    for row in select(session, cql, [session.keyspace or "", CANDLES.name]):
        return str(row.id)
    raise CassandraError(_no_tables(session.keyspace))


def time_to_live_s(session: Session) -> int:
    """How long a candle is kept, in s; 0: for ever; errors as `totals`."""
    cql = "SELECT default_time_to_live FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?"
    return next((int(row[0]) for row in select(session, cql, [session.keyspace or "", CANDLES.name])), 0)


def query_ids(session: Session) -> list[str]:
    """The queries that have a batch on record; errors as `totals`."""
    return sorted(row.query_id for row in select(session, "SELECT DISTINCT query_id FROM batches"))


def batches_since(session: Session, query_id: str, since: datetime) -> Iterator[BatchRecord]:
    """The query's batches that finished at `since` (aware) or later, the newest first; errors as `totals`."""
    records = map(_batch, select(session, f"{_BATCHES} WHERE query_id = ?", [query_id]))
    return takewhile(lambda batch: batch.finished_at is None or batch.finished_at >= since, records)


def candle_trades(session: Session, window_s: int, start: datetime, end: datetime) -> dict[tuple[Pair, datetime], int]:
    """The trades of each candle whose window begins from `start` on and before `end`, by pair and window start.

    Args:
        start: aware, the start of a window; of two dates at most, as is `end`.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    where = " AND ".join(f"{name} = ?" for name in CANDLES.partition)
    cql = f"SELECT window_start, trades FROM candles WHERE {where} AND window_start >= ? AND window_start < ?"
    return {
        (series[:3], as_utc(row.window_start)): row.trades
        for series, dates in known_series(session).items()
        if series.window_s == window_s
        for date in _dates_of(window_s, start, end).intersection(dates)
        for row in select(session, cql, [*series, date, start, end])
    }


def side_trades(session: Session, window_s: int, start: datetime, end: datetime) -> dict[PairSide, int]:
    """The trades in `trademsgs1minutewindow` by pair and direction, of the windows as in `candle_trades`."""
    cql = (
        "SELECT market, fromcoin, tocurrency, direction, counttxns, window_start, window_end"
        " FROM trademsgs1minutewindow WHERE date = ? AND window_end > ? AND window_end <= ?"
    )
    found: Counter[PairSide] = Counter()
    for date in _dates_of(window_s, start, end):
        for row in select(session, cql, [date, start, end]):
            if row.window_end - row.window_start == timedelta(seconds=window_s):
                found[row.market, row.fromcoin, row.tocurrency, row.direction] += row.counttxns
    return dict(found)


def _dates_of(window_s: int, start: datetime, end: datetime) -> set[datetime]:
    """The dates of the windows from `start` to `end`: a window's is that of its end."""
    return {utc_midnight(start + timedelta(seconds=window_s)), utc_midnight(end)}


_BATCHES = f"SELECT {', '.join(BATCHES.columns)} FROM batches"


def _batch(row: Sequence[Any]) -> BatchRecord:
    batch = BatchRecord(*row)
    return batch._replace(
        watermark=batch.watermark and as_utc(batch.watermark),
        finished_at=batch.finished_at and as_utc(batch.finished_at),
    )


def _newest(session: Session, series: Series, dates: Iterable[datetime], last_n: int) -> list[CandleRow]:
    return list(islice(_walk(session, series, dates, last_n), last_n))


def _walk(session: Session, series: Series, dates: Iterable[datetime], last_n: int) -> Iterator[CandleRow]:
    where = " AND ".join(f"{name} = ?" for name in CANDLES.partition)
    cql = f"SELECT {', '.join(CANDLES.columns)} FROM candles WHERE {where} LIMIT ?"
    for date in dates:
        for row in select(session, cql, [*series, date, last_n]):
            candle = CandleRow(*row)
            yield candle._replace(date=as_utc(candle.date), window_start=as_utc(candle.window_start))


def select(session: Session, cql: str, values: Sequence[object] = ()) -> Iterable[Any]:
    """The rows of a query.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    with tables_needed(session):
        return session.execute(session.prepare(cql), values)  # type: ignore[no-any-return]


@contextmanager
def tables_needed(session: Session) -> Iterator[None]:
    """Tells where tables are from, in a CassandraError, if the block finds none."""
    try:
        yield
    except InvalidRequest:
        raise CassandraError(_no_tables(session.keyspace)) from None


def _no_tables(keyspace: str | None) -> str:
    where = f"the keyspace {keyspace}" if keyspace else "that keyspace"
    return (
        f"Cassandra has no candles in {where} yet; `cryptoflow run --mode kafka` writes them, "
        "CASSANDRA_KEYSPACE names another keyspace."
    )
