"""Reads stretches of the tables for who looks at them: the newest rows first, a day's partition at a time."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from cassandra.cluster import Session

from cryptoflow.model.candle import CandleRow, DirectionRow
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import EPOCH, as_utc, utc_midnight
from cryptoflow.tables.reader import Series, select
from cryptoflow.tables.schema import CANDLES, HOURS, TRADE_WINDOWS, HourRow, Table

Row = TypeVar("Row", CandleRow, HourRow, DirectionRow)


class Span(NamedTuple):
    """A stretch of time, aware: from `start` on, before `end`."""

    start: datetime
    end: datetime

    def dates(self, window_s: int) -> "Span":
        """The first and the last date (each in it) that windows which begin in the stretch can have."""
        length = timedelta(seconds=window_s)
        return Span(utc_midnight(self.start + length), utc_midnight(self.end + length))


ALWAYS = Span(EPOCH, datetime(9999, 1, 1, tzinfo=UTC))
"""All that there is."""


def candles(session: Session, series: Series, dates: Iterable[datetime], span: Span, limit: int) -> list[CandleRow]:
    """The newest `limit` candles whose windows begin in the stretch, newest first.

    Args:
        dates: those of the partitions that may hold some, newest first; others of them are not read.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    cql = _newest(CANDLES, "window_start")
    values = ([*series, date, *span, limit] for date in _within(dates, span.dates(series.window_s)))
    return list(islice(_rows(session, CandleRow, cql, values), limit))


def hours(session: Session, pair: Pair, dates: Iterable[datetime], span: Span, limit: int) -> list[HourRow]:
    """What is known of the newest `limit` hours that begin in the stretch, newest first; as `candles`."""
    cql = _newest(HOURS, "hour")
    values = ([*pair, date, *span, limit] for date in _within(dates, span.dates(0)))
    return list(islice(_rows(session, HourRow, cql, values), limit))


def windows(session: Session, dates: Iterable[datetime], limit: int) -> list[DirectionRow]:
    """The newest `limit` rows of `trademsgs1minutewindow` of those dates, newest first; errors as `candles`."""
    cql = f"SELECT {', '.join(TRADE_WINDOWS.columns)} FROM {TRADE_WINDOWS.name} WHERE date = ? LIMIT ?"
    return list(islice(_rows(session, DirectionRow, cql, ([date, limit] for date in dates)), limit))


def hour_dates(session: Session) -> dict[Pair, list[datetime]]:
    """The dates, newest first, that have hours of each pair; errors as `candles`."""
    found: dict[Pair, list[datetime]] = {}
    for market, from_coin, to_currency, date in select(
        session, f"SELECT DISTINCT {', '.join(HOURS.partition)} FROM hours"
    ):
        found.setdefault((market, from_coin, to_currency), []).append(as_utc(date))
    return {pair: sorted(dates, reverse=True) for pair, dates in found.items()}


class Reached(NamedTuple):
    """How far the aggregation of a topic has come."""

    finished: datetime
    """Windows that end by then are finished; aware UTC."""
    offsets: Offsets


def reached(session: Session, window_s: int, topic: str) -> Reached | None:
    """How far the aggregation of a topic of that name has come; None: nothing was ever committed."""
    cql = "SELECT DISTINCT window_seconds, topic_id, topic, now_finished, now_offsets FROM progress"
    rows = (row for row in select(session, cql) if (row.window_seconds, row.topic) == (window_s, topic))
    found = [Reached(as_utc(row.now_finished), dict(row.now_offsets or {})) for row in rows if row.now_finished]
    return max(found, default=None, key=lambda each: each.finished)


def _newest(table: Table, time: str) -> str:
    where = " AND ".join(f"{name} = ?" for name in table.partition)
    return f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {where} AND {time} >= ? AND {time} < ? LIMIT ?"


def _within(dates: Iterable[datetime], span: Span) -> Iterator[datetime]:
    return (date for date in dates if span.start <= date <= span.end)


def _rows(session: Session, kind: type[Row], cql: str, values: Iterable[Sequence[object]]) -> Iterator[Row]:
    return map(kind._make, map(_aware, chain.from_iterable(select(session, cql, each) for each in values)))


def _aware(row: Iterable[object]) -> list[object]:
    return [as_utc(value) if isinstance(value, datetime) else value for value in row]
