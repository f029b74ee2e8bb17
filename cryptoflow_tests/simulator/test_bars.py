"""Laws of the candles that a venue tells."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.simulator.bars import Bar, Bars, merged
from cryptoflow.simulator.generator import QUANTITY_DECIMALS, Walk
from cryptoflow.simulator.market import Clock, Tape

START_S = 1_790_000_040
"""The begin of a minute."""


def tape(gap_s: float = 0.5, seed: int = 0, pair: tuple[str, str] = ("BTC", "USD"), lost_ids: float = 0.0) -> Tape:
    """Trades of 40 minutes, all made."""
    walk = Walk(("Kraken", *pair), seed)
    clock = Clock(START_S * 10**9, int(gap_s * 10**9), int(gap_s * 10**9), 1000)
    live_ns = (START_S + 2400) * 10**9
    return Tape(walk, clock, live_ns, START_S * 10**9, lost_ids=lost_ids, start_id=10**9)


def told(of: Tape, minutes: int = 40, width_s: int = 60, off: float = 0.0, visible: int | None = None) -> list[Bar]:
    end_s = START_S + minutes * 60
    return Bars(of, off).range(START_S, end_s, width_s, of.next if visible is None else visible)


def plain(of: Tape) -> dict[int, dict[str, Any]]:
    """The same from the trades' texts, one by one, in decimals."""
    trades = defaultdict(list)
    for number in of.between(of.first, of.next):
        trade = of.trade(number)
        trades[trade.time_ns // 10**9 // 60 * 60].append(trade)
    return {
        start_s: {
            "open": Decimal(rows[0].price_text),
            "high": max(Decimal(row.price_text) for row in rows),
            "low": min(Decimal(row.price_text) for row in rows),
            "close": Decimal(rows[-1].price_text),
            "quantity": sum(Decimal(row.quantity_text) for row in rows),
            "volume": sum(Decimal(row.quantity_text) * Decimal(row.price_text) for row in rows),
            "trades": len(rows),
            "buy_quantity": sum(Decimal(row.quantity_text) for row in rows if row.buy),
            "buy_volume": sum(Decimal(row.quantity_text) * Decimal(row.price_text) for row in rows if row.buy),
        }
        for start_s, rows in trades.items()
    }


def decimals(bar: Bar, price_decimals: int) -> dict[str, Any]:
    scales = {
        "open": price_decimals, "high": price_decimals, "low": price_decimals, "close": price_decimals,
        "quantity": QUANTITY_DECIMALS, "buy_quantity": QUANTITY_DECIMALS, "trades": 0,
        "volume": price_decimals + QUANTITY_DECIMALS, "buy_volume": price_decimals + QUANTITY_DECIMALS,
    }  # fmt: skip
    return {name: Decimal(getattr(bar, name)).scaleb(-scale) for name, scale in scales.items()}


@given(
    st.integers(0, 2**32),
    st.sampled_from([("BTC", "USD"), ("BTC", "JPY"), ("JPY", "USD"), ("SHIB", "EUR")]),
    st.sampled_from([0.0, 0.3]),
)
def test_a_candle_is_what_its_trades_come_to_exactly(seed: int, pair: tuple[str, str], lost_ids: float) -> None:
    of = tape(5, seed, pair, lost_ids)
    expected = plain(of)
    bars = [bar for bar in told(of) if bar.trades]
    assert {bar.start_s: decimals(bar, of.price_decimals) for bar in bars} == expected


@pytest.mark.parametrize("width_s", [60, 300, 600, 2400])
def test_longer_candles_are_merged_minutes(width_s: int) -> None:
    of = tape()
    minutes = told(of)
    bars = told(of, width_s=width_s)
    step = width_s // 60
    assert bars == [merged(minutes[at : at + step]) for at in range(0, 40, step)]
    assert [bar.start_s for bar in bars] == list(range(START_S, START_S + 2400, width_s))
    assert sum(bar.trades for bar in bars) == sum(bar.trades for bar in minutes) == of.next - of.first


def test_a_quiet_minute_is_flat_at_the_close_before() -> None:
    bars = told(tape(gap_s=97))
    assert [bar.trades for bar in bars].count(0) > 10
    close = bars[0].close
    for bar in bars:
        if not bar.trades:
            assert bar[1:5] == (close,) * 4
            assert bar.quantity == bar.volume == 0
        close = bar.close


def test_there_are_no_candles_before_the_first_trade() -> None:
    of = tape()
    assert [bar.start_s for bar in Bars(of, 0).range(START_S - 600, START_S + 120, 60, of.next)] == [
        START_S,
        START_S + 60,
    ]


def test_what_is_not_told_yet_is_in_no_candle_and_comes_later() -> None:
    of = tape()
    bars = Bars(of, 0)
    middle = of.at((START_S + 150) * 10**9)
    early = bars.range(START_S, START_S + 300, 60, middle)
    assert [bar.trades for bar in early] == [bar.trades for bar in told(of, 2)] + [
        middle - of.at((START_S + 120) * 10**9),
        0,
        0,
    ]
    assert bars.range(START_S, START_S + 300, 60, of.next) == told(of, 5)


def test_an_off_candle_counts_one_trade_more_and_is_so_each_time() -> None:
    right, wrong = told(tape()), told(tape(), off=0.5)
    off = [bar for bar, other in zip(wrong, right, strict=True) if bar != other]
    assert 8 < len(off) < 32
    assert {bar.trades - right[(bar.start_s - START_S) // 60].trades for bar in off} == {1}
    assert all(bar.quantity > right[(bar.start_s - START_S) // 60].quantity for bar in off)
    assert told(tape(), off=0.5) == wrong
