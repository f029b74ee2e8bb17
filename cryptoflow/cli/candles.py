"""`cryptoflow candles`: the newest candles, read from Cassandra."""

import csv
import json
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from io import StringIO
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from cryptoflow.cli import trends
from cryptoflow.errors import ConfigError
from cryptoflow.model.candle import CandleRow
from cryptoflow.model.verdict import mark
from cryptoflow.model.window import HOUR, LONGER_S, utc_hour
from cryptoflow.render import candle_table, new_console, utc_text
from cryptoflow.settings import CassandraSettings, SparkSettings, load
from cryptoflow.tables.schema import pair_of

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from cryptoflow.tables.reader import LatestCandles

LAST_OF_ONE = 20

REFRESH_S = 1.0


class Format(StrEnum):
    """What the candles are printed as."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Query(NamedTuple):
    """Which candles are asked for; a market or coins of None: of all."""

    market: str | None
    coins: tuple[str, str] | None
    window_s: int
    last: int | None

    def run(self, session: "Session") -> list[CandleRow]:
        """The candles, newest first in each series."""
        from cryptoflow.tables.reader import latest, latest_of_all

        if self.market and self.coins:
            now = datetime.now(UTC)
            return latest(session, self.market, *self.coins, self.window_s, self.last or LAST_OF_ONE, now)
        return latest_of_all(session, self.window_s, self.last or 1, self.market, self.coins)

    def again_and_again(self, session: "Session") -> "LatestCandles":
        """The same, for who looks often."""
        return self.newest(session, self.last or (LAST_OF_ONE if self.market and self.coins else 1))

    def newest(self, session: "Session", last: int) -> "LatestCandles":
        """The `last` newest of each series, for who looks often."""
        from cryptoflow.tables.reader import LatestCandles

        return LatestCandles(session, self.window_s, last, self.market, self.coins)


MarketOption = Annotated[str | None, typer.Option(help="Of this market only, e.g. Coinbase.")]
PairOption = Annotated[str | None, typer.Option(help="Of this pair only, e.g. BTC-USD.")]
Last = Annotated[
    int | None, typer.Option(min=1, help=f"How many; {LAST_OF_ONE} of one market and pair, else 1 of each.")
]
Window = Annotated[
    str | None,
    typer.Option(help=f"Of this length: {', '.join(LONGER_S)}, or s; CRYPTOFLOW_WINDOW or 60 if left out."),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Keep the table up to date until Ctrl-C, with each pair's course above it.")
]
As = Annotated[Format, typer.Option(help="What to print.")]


def candles(
    market: MarketOption = None,
    pair: PairOption = None,
    last: Last = None,
    window: Window = None,
    watch: Watch = False,
    format: As = Format.TABLE,
) -> None:
    """Show the newest candles in Cassandra: of one pair on one market, or the newest of all.

    Candles of an hour that is suspect, or was repaired, are marked: `cryptoflow gaps` says why.
    """
    if watch and format is not Format.TABLE:
        raise ConfigError("--watch draws a table; leave --format out.")
    from cryptoflow.tables.connection import connect  # here, as the driver takes a while to import

    query = Query(market, coins_of(pair), window_s_of(window), last)
    with connect(load(CassandraSettings)) as session:
        if watch:
            _watch(session, query.again_and_again(session), query.newest(session, trends.CANDLES))
        else:
            rows = query.run(session)
            _show(rows, verdicts_of(session, rows) if format is Format.TABLE else [], format)


def verdicts_of(session: "Session", candles: Sequence[CandleRow]) -> list[str]:
    """What is to be said of the hours of each candle: that they are suspect, or were repaired."""
    from cryptoflow.tables import hours

    known = {(pair_of(row), row.hour): row.verdict for row in hours.of_candles(session, candles)}
    return [mark(known.get((pair_of(candle), hour), "") for hour in _hours_of(candle)) for candle in candles]


def _hours_of(candle: CandleRow) -> list[datetime]:
    first, length = utc_hour(candle.window_start), timedelta(seconds=candle.window_seconds)
    return [first + number * HOUR for number in range(math.ceil((candle.window_start + length - first) / HOUR))]


def window_s_of(window: str | None) -> int:
    """The length in s that an option such as 15m asks for.

    Raises:
        ConfigError: no candles are so long.
    """
    if window and (length_s := LONGER_S.get(window.lower())):
        return length_s
    if window and not window.isdecimal():
        raise ConfigError(f"No candles are of {window}: take {', '.join(LONGER_S)}, or a number of s.")
    return load(SparkSettings, {"window_s": window}).window_s


def coins_of(pair: str | None) -> tuple[str, str] | None:
    """(coin, currency) of an option such as BTC-USD.

    Raises:
        ConfigError: it is no pair.
    """
    if pair is None:
        return None
    from_coin, _, to_currency = pair.upper().partition("-")
    if not (from_coin and to_currency):
        raise ConfigError(f"{pair} is no pair; write it as BTC-USD.")
    return from_coin, to_currency


def _show(rows: Sequence[CandleRow], verdicts: Sequence[str], format: Format) -> None:
    if format is Format.JSON:
        typer.echo(json.dumps([row._asdict() for row in rows], default=datetime.isoformat, indent=2))
    elif format is Format.CSV:
        typer.echo(_csv(rows), nl=False)
    elif rows:
        console = new_console()
        console.print(candle_table(rows, width=console.width, verdicts=verdicts))
    else:
        typer.echo("There is no such candle yet.")


def _csv(rows: Sequence[CandleRow]) -> str:
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(CandleRow._fields)
    lines.writerows([v.isoformat() if isinstance(v, datetime) else v for v in row] for row in rows)
    return text.getvalue()


def _watch(session: "Session", latest: "LatestCandles", courses: "LatestCandles") -> None:
    console = new_console()
    table = _newest(session, latest, console.width)
    lines = trends.trends_table(courses.newest(datetime.now(UTC)))
    try:
        with Live(table, console=console, auto_refresh=False) as live:
            while True:
                table, lines = _refreshed(table, session, latest, console.width), _drawn(lines, courses)
                live.update(Group(lines, table), refresh=True)
                time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        return


def _newest(session: "Session", latest: "LatestCandles", width: int) -> Table:
    rows = latest.newest(datetime.now(UTC))
    return candle_table(rows, width=width, verdicts=verdicts_of(session, rows))


def _drawn(lines: Table, courses: "LatestCandles") -> Table:
    from cryptoflow.tables.connection import TRANSIENT_ERRORS

    try:
        return trends.trends_table(courses.newest(datetime.now(UTC)))
    except TRANSIENT_ERRORS:  # the caption of the table says it
        return lines


def _refreshed(table: Table, session: "Session", latest: "LatestCandles", width: int) -> Table:
    from cryptoflow.tables.connection import TRANSIENT_ERRORS

    try:
        table = _newest(session, latest, width)
    except TRANSIENT_ERRORS:
        table.caption = "Cassandra does not answer; trying again, Ctrl-C ends"
    else:
        table.caption = f"{utc_text(datetime.now(UTC))} UTC, Ctrl-C ends"
    return table
