"""Reads what is known of hours. All of it raises a CassandraError where there are no tables, or they can't be read."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
from cassandra.cluster import Session

from cryptoflow.errors import CassandraError
from cryptoflow.model.candle import CandleRow
from cryptoflow.model.trade import Pair
from cryptoflow.model.verdict import NO_TRADE, NOT_AFTER, SUSPECT, Range
from cryptoflow.model.window import as_utc, utc_midnight
from cryptoflow.tables.reader import select
from cryptoflow.tables.schema import HOURS, HourRow, pair_of

_OF_A_DAY = f"SELECT * FROM hours WHERE {' AND '.join(f'{name} = ?' for name in HOURS.partition)}"
"""All columns, as a table of an earlier version has not yet those that came later."""


def of_hour(session: Session, hour: datetime) -> list[HourRow]:
    """What is known of an hour (aware UTC), by pair."""
    date = utc_midnight(hour)
    pairs = [pair for pair, dates in _dates(session).items() if date in dates]
    return [row for pair in pairs for row in _select(session, f"{_OF_A_DAY} AND hour = ?", [*pair, date, hour])]


def of_day(session: Session, pair: Pair, date: datetime) -> list[HourRow]:
    """What is known of the hours of a pair on a date (UTC midnight), the newest first."""
    return _select(session, _OF_A_DAY, [*pair, date])


def newest(
    session: Session, last_n: int, market: str | None = None, coins: tuple[str, str] | None = None
) -> list[HourRow]:
    """What is known of the newest hours of each pair, `last_n` of each at most."""
    return [
        row
        for pair, dates in sorted(_dates(session).items())
        if market in (None, pair[0]) and coins in (None, pair[1:])
        for row in islice(_back(session, pair, dates), last_n)
    ]


def since(session: Session, start: datetime) -> list[HourRow]:
    """What is known of the hours that begin at `start` (aware) or later, pair by pair, the newest first."""
    first = utc_midnight(start)
    found = (
        row
        for pair, dates in sorted(_dates(session).items())
        for row in _back(session, pair, [date for date in dates if date >= first])
    )
    return [row for row in found if row.hour >= start]


def of_candles(session: Session, candles: Iterable[CandleRow]) -> list[HourRow]:
    """What is known of the days of the candles; nothing, where version 0.2.0 has made the tables."""
    days = {(pair_of(candle), utc_midnight(candle.window_start)) for candle in candles}
    with suppress(CassandraError):
        return [row for pair, date in sorted(days) for row in of_day(session, pair, date)]
    return []


def ranges_of(row: HourRow) -> list[Range]:
    """The column `missing` of an hour."""
    return msgspec.json.decode(row.missing, type=list[Range]) if row.missing else []


def is_pending(row: HourRow) -> bool:
    """Whether an hour is suspect only as no later trade has come yet, which would prove its end."""
    begins = [first for first, _ in ranges_of(row)]
    return row.verdict == SUSPECT and row.reason in (NOT_AFTER, NO_TRADE) and None not in begins


def _back(session: Session, pair: Pair, dates: Iterable[datetime]) -> Iterator[HourRow]:
    for date in sorted(dates, reverse=True):
        yield from of_day(session, pair, date)


def _dates(session: Session) -> dict[Pair, list[datetime]]:
    """The dates that have hours of each pair."""
    dates: dict[Pair, list[datetime]] = defaultdict(list)
    for key in select(session, f"SELECT DISTINCT {', '.join(HOURS.partition)} FROM hours"):
        dates[key.market, key.fromcoin, key.tocurrency].append(as_utc(key.date))
    return dates


def _select(session: Session, cql: str, values: Sequence[object]) -> list[HourRow]:
    return [_hour(row) for row in select(session, cql, values)]


def _hour(row: Any) -> HourRow:
    values: Iterable[Any] = (getattr(row, name, None) for name in HourRow._fields)
    found = HourRow(*values)
    return found._replace(
        date=as_utc(found.date), hour=as_utc(found.hour), repaired_at=found.repaired_at and as_utc(found.repaired_at)
    )
