"""`cryptoflow gaps`: what is known of each hour, and which trades wait for a repair."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from cryptoflow.cli.candles import MarketOption, PairOption, coins_of
from cryptoflow.render import new_console
from cryptoflow.settings import CassandraSettings, load
from cryptoflow.tables.schema import HourRow, MarkRow

LAST_HOURS = 24

WAITING = "waiting"
"""The verdict of an hour that is marked and was never looked at."""

ALL = "all"
"""The pair of a mark that is of every pair."""

NUMBERS = ("in_log", "in_candles", "duplicates", "late", "gaps")

HourKey = tuple[datetime, str, str, str]
"""(hour, market, from coin, to currency)."""

Last = Annotated[int, typer.Option(min=1, help="How many hours, the newest first.")]


class Line(NamedTuple):
    """An hour of a pair."""

    key: HourKey
    row: HourRow | None
    waiting: int
    """Trades that wait for a repair."""
    why: str


def gaps(market: MarketOption = None, pair: PairOption = None, last: Last = LAST_HOURS) -> None:
    """Show the verdict on each hour of each pair, its gaps, and what waits for a repair.

    complete: the candles have all trades. repaired: they have since a repair. quiet: there was no trade, as the numbers
    of the trades around it prove. suspect: trades are missing, or it can't be told; the reason says which.
    """
    from cryptoflow.tables import hours, reader  # here, as the driver takes a while to import
    from cryptoflow.tables.connection import connect

    coins = coins_of(pair)
    with connect(load(CassandraSettings)) as session:
        rows = hours.newest(session, last, market, coins)
        marks = reader.marks(session)
    wanted = [
        mark for mark in marks if market in (None, mark.market) and coins in (None, (mark.fromcoin, mark.tocurrency))
    ]
    _show(lines_of(rows, wanted, last), wanted)


def lines_of(rows: Iterable[HourRow], marks: Sequence[MarkRow], last: int) -> list[Line]:
    """The newest `last` hours that are known or marked, the newest first."""
    known = {(row.hour, *row[:3]): row for row in rows}
    waiting: Counter[HourKey] = Counter()
    why: dict[HourKey, str] = {}
    for mark in marks:
        waiting[mark[:4]] += mark.trades
        why[mark[:4]] = mark.reason
    hours = sorted({key[0] for key in (*known, *why)}, reverse=True)[:last]
    keys = sorted({*known, *why}, key=lambda key: (-key[0].timestamp(), key[1:]))
    return [Line(key, known.get(key), waiting[key], why.get(key, "")) for key in keys if key[0] in hours]


def _show(lines: Sequence[Line], marks: Sequence[MarkRow]) -> None:
    if not lines:
        typer.echo("No hour is known yet: each gets its verdict when it is finished.")
        return
    console = new_console()
    console.print(hours_table(lines))
    if marks:
        hours, trades = {mark.hour for mark in marks}, sum(mark.trades for mark in marks)
        what = f"{trades:,} trades of {len(hours)} hours wait for a repair" if trades else f"{len(hours)} hours wait"
        console.print(
            f"{what}: the sensor repair_marked_hours launches it, `cryptoflow repair` does it now.",
            highlight=False,
            soft_wrap=True,
        )


def hours_table(lines: Iterable[Line]) -> Table:
    """The lines as a table; times are UTC."""
    table = Table(box=None, pad_edge=False)
    for name in ("hour (UTC)", "market", "pair", "verdict", "reason"):
        table.add_column(name, no_wrap=name != "reason")
    for name in (*NUMBERS, WAITING):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*_cells(line))
    return table


def _cells(line: Line) -> list[str]:
    hour, market, from_coin, to_currency = line.key
    row = line.row
    counts: Mapping[str, int] = row._asdict() if row else {}
    return [
        f"{hour:%Y-%m-%d %H:%M}",
        market or ALL,
        f"{from_coin}-{to_currency}" if market else ALL,
        row.verdict if row else WAITING,
        row.reason if row else line.why,
        *(f"{counts.get(name, 0):,}" if row else "" for name in NUMBERS),
        f"{line.waiting:,}",
    ]
