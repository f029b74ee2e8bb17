"""Sparklines: as long as what they show, from the lowest to the highest, whatever the values are."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cryptoflow.cli.trends import LEVELS, change_percent, sparkline, trends_table
from cryptoflow.model.candle import CandleRow

prices = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=60)


def a_row(market: str, close: float, minute: int) -> CandleRow:
    start = datetime(2026, 11, 25, 12, minute, tzinfo=UTC)
    day = start - timedelta(hours=12, minutes=minute)
    return CandleRow(market, "BTC", "USD", 60, day, start, close, close, close, close, close, 1.0, close, 1.0, 0.0, 1)


@given(prices)
def test_a_line_has_a_block_for_each_value_the_lowest_and_the_highest_at_the_edges(values: list[float]) -> None:
    line = sparkline(values)
    assert len(line) == len(values)
    assert set(line) <= set(LEVELS)
    if min(values) < max(values):
        assert line[values.index(min(values))] == LEVELS[0]
        assert line[values.index(max(values))] == LEVELS[-1]


@given(prices)
def test_no_higher_value_has_a_lower_block(values: list[float]) -> None:
    blocks = dict(zip(values, sparkline(values), strict=True))
    heights = [LEVELS.index(blocks[value]) for value in sorted(blocks)]
    assert heights == sorted(heights)


@pytest.mark.parametrize(
    ("values", "line"), [([1, 2, 3, 4, 5, 6, 7, 8], LEVELS), ([8, 1], "█▁"), ([5, 5], "▅▅"), ([7], "▅")]
)
def test_a_line_goes_as_the_values_go(values: list[float], line: str) -> None:
    assert sparkline(values) == line


@pytest.mark.parametrize(("values", "percent"), [([100, 90, 110], 10), ([100, 50], -50), ([3], 0), ([0, 5], 0)])
def test_the_change_is_from_the_first_to_the_last(values: list[float], percent: float) -> None:
    assert change_percent(values) == percent


def test_each_pair_has_a_line_with_its_last_price_and_fits_into_a_narrow_terminal() -> None:
    rows = [a_row("Coinbase", 65000 + minute, minute) for minute in reversed(range(32))]
    rows += [a_row("Kraken", 65000 - minute, minute) for minute in reversed(range(2))]
    console = Console(file=StringIO(), width=80)
    console.print(trends_table(rows))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
    assert [line[:2] + line[3:] for line in lines] == [
        ["Coinbase", "BTC-USD", "65,031.00", "+0.05", "%"],
        ["Kraken", "BTC-USD", "64,999.00", "-0.00", "%"],
    ]
    assert [len(line[2]) for line in lines] == [32, 2]
