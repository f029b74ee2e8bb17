"""Sparklines: where the price of each pair has gone, in a line of a terminal."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from cryptoflow.model.candle import CandleRow
from cryptoflow.render import amount
from cryptoflow.tables.schema import pair_of

LEVELS = "▁▂▃▄▅▆▇█"

CANDLES = 32
"""In a sparkline, at most: it fits into 80 columns with what stands beside it."""


def sparkline(values: Sequence[float]) -> str:
    """The values as a line of blocks, from the lowest of them to the highest; in the middle where all are the same."""
    lowest, highest = min(values), max(values)
    if lowest == highest:
        return LEVELS[len(LEVELS) // 2] * len(values)
    steps = (len(LEVELS) - 1) / (highest - lowest)
    return "".join(LEVELS[round((value - lowest) * steps)] for value in values)


def change_percent(values: Sequence[float]) -> float:
    """From the first value to the last."""
    return 100 * (values[-1] - values[0]) / values[0] if values[0] else 0.0


def trends_table(candles: Iterable[CandleRow]) -> Table:
    """A line for each pair on each market.

    Args:
        candles: pair by pair, the newest first in each.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for _ in range(5):
        table.add_column(no_wrap=True)
    for (market, from_coin, to_currency), rows in groupby(candles, key=pair_of):
        closes = [row.close for row in rows][::-1]
        change = change_percent(closes)
        colour = "red" if change < 0 else "green"
        pair = escape(f"{from_coin}-{to_currency}")
        moved = f"[{colour}]{change:+.2f} %[/]"
        table.add_row(escape(market), pair, f"[{colour}]{sparkline(closes)}[/]", amount(closes[-1]), moved)
    return table
