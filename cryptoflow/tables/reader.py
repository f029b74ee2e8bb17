"""Reads candles, and what the aggregation counted, from the tables."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.cluster import Session

from cryptoflow.candles import CandleRow
from cryptoflow.errors import CassandraError
from cryptoflow.tables.schema import CANDLES
from cryptoflow.windowing import utc_midnight

DAYS_BACK = 7
"""How many dates `latest` tries one by one before it asks the table which dates there are."""

COUNTERS = ("input_rows", "late", "duplicates", "unreadable", "rows_written")


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
    days_back: int = DAYS_BACK,
) -> list[CandleRow]:
    """The `last_n` newest candles of a pair on a market, newest first; of the last `days_back` days.

    Where these have none, as after a replay of an old recording, the newest of whatever there is.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    series = Series(market, from_coin, to_currency, window_s)
    found = _newest(session, series, dates_back(now, window_s, days_back), last_n)
    return found or _newest(session, series, known_series(session).get(series, []), last_n)


def latest_of_all(
    session: Session,
    window_s: int,
    last_n: int = 1,
    market: str | None = None,
    pair: tuple[str, str] | None = None,
) -> list[CandleRow]:
    """The `last_n` newest candles of each pair on each market, or of those of `market`, or of `pair`.

    Raises:
        CassandraError: there is no such table yet, or the cluster refuses to read.
    """
    return [
        candle
        for series, dates in known_series(session).items()
        if series.window_s == window_s
        and market in (None, series.market)
        and pair in (None, (series.from_coin, series.to_currency))
        for candle in _newest(session, series, dates, last_n)
    ]


def known_series(session: Session) -> dict[Series, list[datetime]]:
    """The dates (aware UTC, newest first) of each series in the table, by name.

    It lists the table's partition keys: one for each series and day, so five pairs make 1,800 a year.
    """
    rows = _select(session, f"SELECT DISTINCT {', '.join(CANDLES.partition)} FROM candles")
    keys = sorted((Series(*row[:4]), _utc(row[4])) for row in rows)
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
    sums = ", ".join(f"sum({name})" for name in COUNTERS)
    cql = f"SELECT count(*), {sums}, max(watermark), max(finished_at) FROM batches"
    if query_id is None:
        [row] = _select(session, cql)
    else:
        [row] = _select(session, f"{cql} WHERE query_id = ?", [query_id])
    *counts, watermark, finished_at = row
    return Totals._make([*counts, watermark and _utc(watermark), finished_at and _utc(finished_at)])


def _newest(session: Session, series: Series, dates: Iterable[datetime], last_n: int) -> list[CandleRow]:
    return list(islice(_walk(session, series, dates, last_n), last_n))


def _walk(session: Session, series: Series, dates: Iterable[datetime], last_n: int) -> Iterator[CandleRow]:
    where = " AND ".join(f"{name} = ?" for name in CANDLES.partition)
    cql = f"SELECT {', '.join(CANDLES.columns)} FROM candles WHERE {where} LIMIT ?"
    for date in dates:
        for row in _select(session, cql, [*series, date, last_n]):
            candle = CandleRow(*row)
            yield candle._replace(date=_utc(candle.date), window_start=_utc(candle.window_start))


def _select(session: Session, cql: str, values: Sequence[object] = ()) -> Iterable[Any]:
    try:
        return session.execute(session.prepare(cql), values)  # type: ignore[no-any-return]
    except InvalidRequest:
        raise CassandraError(_no_tables(session.keyspace)) from None


def _no_tables(keyspace: str | None) -> str:
    where = f"the keyspace {keyspace}" if keyspace else "that keyspace"
    return (
        f"Cassandra has no candles in {where} yet; `cryptoflow run --mode kafka` writes them, "
        "CASSANDRA_KEYSPACE names another keyspace."
    )


def _utc(naive: datetime) -> datetime:
    """The driver's datetimes are UTC and don't say so."""
    return naive.replace(tzinfo=UTC)
