"""How candles look, and where they are printed."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import zip_longest

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cryptoflow.model.candle import Candle, CandleRow, candle_row

SIGNIFICANT_DIGITS = 6
"""Enough for a price's tick, from Bitcoin in dollars to coins of a millionth of a cent."""

TEXT_COLUMNS = ("market", "pair", "window (UTC)")
NUMBER_COLUMNS = ("open", "high", "low", "close", "vwap", "trades", "quantity", "buy", "sell")
WIDE_COLUMNS = ("vwap", "quantity", "buy", "sell")
"""Left out where they would squeeze the others."""

WIDE = 130
"""Columns of a terminal that has room for all."""

PIPED_WIDTH = 200
"""Columns where there is no terminal to ask: wide enough that a file or a pipe gets every digit."""


def new_console() -> Console:
    """The terminal, or what stands in its place."""
    console = Console()
    return console if console.is_terminal else Console(width=PIPED_WIDTH)


def candle_table(
    candles: Iterable[Candle | CandleRow],
    title: str | None = None,
    width: int = PIPED_WIDTH,
    verdicts: Sequence[str] = (),
) -> Table:
    """The candles, one a line in the order given; fewer columns and no date where `width` is small.

    Buy and sell are quantities; what they lack to the whole was of unknown side.

    Args:
        verdicts: what is to be said of each candle's hour; a column, if it is anything.
    """
    left_out = WIDE_COLUMNS if width < WIDE else ()
    padding = (0, 0 if left_out else 1, 0, 0)
    table = Table(title=title, title_justify="left", box=SIMPLE, padding=padding, pad_edge=False)
    for name in TEXT_COLUMNS:
        table.add_column(name, no_wrap=True)
    for name in NUMBER_COLUMNS:
        if name not in left_out:
            table.add_column(name, justify="right", no_wrap=True)
    if any(verdicts):
        table.add_column("verdict", no_wrap=True)
    for candle, verdict in zip_longest(candles, verdicts if any(verdicts) else ()):
        cells = _cells(candle_row(candle) if isinstance(candle, Candle) else candle)
        if left_out:
            cells["window (UTC)"] = cells["window (UTC)"][-len("00:00:00") :]
        said = [verdict] if any(verdicts) else []
        table.add_row(*(text for name, text in cells.items() if name not in left_out), *said)
    return table


def _cells(candle: CandleRow) -> dict[str, str]:
    numbers = {name: amount(getattr(candle, name)) for name in ("open", "high", "low", "close", "vwap")}
    return {
        "market": escape(candle.market),
        "pair": escape(f"{candle.fromcoin}-{candle.tocurrency}"),
        "window (UTC)": utc_text(candle.window_start),
        **numbers,
        "trades": f"{candle.trades:,}",
        "quantity": amount(candle.quantity),
        "buy": f"[green]{amount(candle.buy_quantity)}[/]",
        "sell": f"[red]{amount(candle.sell_quantity)}[/]",
    }


def utc_text(moment: datetime) -> str:
    """An aware time, in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def amount(value: float) -> str:
    """A price or quantity: two decimals at least, and as many as six significant digits take."""
    digits = math.floor(math.log10(abs(value))) + 1 if value else SIGNIFICANT_DIGITS
    return f"{value:,.{max(2, SIGNIFICANT_DIGITS - digits)}f}"
