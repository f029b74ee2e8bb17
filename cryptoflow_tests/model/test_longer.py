"""Longer candles out of shorter ones: what is exact, and how exact the sums are."""

import random
from collections import defaultdict
from datetime import datetime
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import CandleRow, candle_row, candles_of, merged
from cryptoflow.model.trade import NS_PER_S, Trade
from cryptoflow.model.window import DAY_S, LONGER_S, floor_window

NOON_S = 1_610_107_200  # 2021-01-08 12:00:00 UTC
PAIR = ("Coinbase", "BTC", "USD")
SUMS = ("quantity", "volume", "buy_quantity", "sell_quantity")
HALF_ULP = Fraction(1, 2**53)
"""How far the nearest double is from a number, by that number, at most."""

bases_s = st.sampled_from([1, 60, 300, 1200])
lots = st.decimals(0, 10**4, places=8).map(float)
doubles = st.floats(0, 1e9, allow_subnormal=False)


def streams(amounts: st.SearchStrategy[float]) -> st.SearchStrategy[list[Trade]]:
    """Trades of two days, many of them in the same hour."""
    seconds = st.one_of(st.integers(0, 3600), st.integers(-DAY_S, DAY_S)).map(lambda second: NOON_S + second)
    trade = st.builds(
        lambda side, number, time_s, rest_ns, quantity, price, total: Trade(
            *PAIR, side, str(number), time_s, quantity, price, total, rest_ns=rest_ns
        ),
        st.sampled_from("124"),
        st.integers(0, 10**6),
        seconds,
        st.sampled_from([0, NS_PER_S - 1]),
        amounts,
        st.decimals("0.00000001", 10**6, places=8).map(float),
        amounts,
    )
    return st.lists(trade, min_size=1, max_size=60, unique_by=lambda each: each.id)


def rows_of(trades: list[Trade], window_s: int) -> dict[datetime, CandleRow]:
    return {candle.window_start: candle_row(candle) for candle in candles_of(trades, window_s).values()}


def step_by_step(trades: list[Trade], base_s: int) -> dict[int, dict[datetime, CandleRow]]:
    """The longer candles of all lengths that are multiples of the shortest, each out of those of the one before."""
    rows, found = rows_of(trades, base_s), {}
    for length_s in LONGER_S.values():
        if length_s > base_s and not length_s % base_s:
            parts = defaultdict(list)
            for row in rows.values():
                parts[floor_window(row.window_start, length_s)].append(row)
            rows = found[length_s] = {start: merged(members, length_s) for start, members in parts.items()}
    return found


@given(streams(lots), bases_s)
def test_of_amounts_as_venues_send_them_longer_candles_are_those_of_the_trades(
    trades: list[Trade], base_s: int
) -> None:
    for length_s, found in step_by_step(trades, base_s).items():
        assert found == rows_of(trades, length_s)


@given(streams(doubles), bases_s)
def test_whatever_the_amounts_only_sums_are_rounded_once_more_for_each_step(trades: list[Trade], base_s: int) -> None:
    for steps, (length_s, found) in enumerate(step_by_step(trades, base_s).items(), 1):
        true = rows_of(trades, length_s)
        assert found.keys() == true.keys()
        for start, row in found.items():
            sums = {name: getattr(row, name) for name in (*SUMS, "vwap")}
            assert true[start]._replace(**sums) == row
            members = [trade for trade in trades if floor_window_of(trade, length_s) == start]
            exact = sum(Fraction(repr(trade.quantity)) for trade in members)
            assert abs(Fraction(repr(row.quantity)) - exact) <= (steps + 2) * HALF_ULP * exact
            for name in SUMS:
                difference = abs(Fraction(sums[name]) - Fraction(getattr(true[start], name)))
                assert difference <= (steps + 2) * 2 * HALF_ULP * Fraction(sums[name])


def floor_window_of(trade: Trade, window_s: int) -> datetime:
    [start] = rows_of([trade], window_s)
    return start


@given(streams(lots), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_never_matters(trades: list[Trade], rng: random.Random) -> None:
    rows = list(rows_of(trades, 60).values())
    start = floor_window(rows[0].window_start, DAY_S)
    members = [row for row in rows if floor_window(row.window_start, DAY_S) == start]
    once = merged(members, DAY_S)
    rng.shuffle(members)
    assert merged(members, DAY_S) == once
