"""The laws of comparing a minute with the venue's own."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import CandleRow
from cryptoflow.model.parity import Bar, Compared, Parity, Share, compared, disagreement, share_of

START_S = 1_790_000_040
MOMENT = datetime.fromtimestamp(START_S, UTC)


def ours(quantity: float = 1.5, trades: int = 3, **prices: float) -> CandleRow:
    made = {"open": 100.1, "high": 101.0, "low": 99.5, "close": 100.2} | prices
    day = MOMENT.replace(hour=0, minute=0, second=0)
    sums = {"vwap": 100.0, "quantity": quantity, "volume": 150.0, "buy_quantity": 1.0, "sell_quantity": 0.5}
    return CandleRow("Kraken", "BTC", "USD", 60, day, MOMENT, **made, **sums, trades=trades)


def theirs(quantity: str = "1.5", trades: int | None = 3, **prices: str) -> Bar:
    made: dict[str, Any] = {"open": "100.10", "high": "101", "low": "99.5", "close": "100.2000"} | prices
    amounts = {name: Decimal(text) for name, text in made.items()}
    return Bar(START_S, **amounts, quantity=Decimal(quantity), trades=trades)


def test_the_same_is_exact_also_where_the_venue_does_not_count() -> None:
    for trades in (3, None):
        assert compared(START_S, ours(), theirs(trades=trades)) == Compared(START_S, Parity.EXACT)


@pytest.mark.parametrize(
    ("mine", "their", "said"),
    [
        (ours(trades=4), theirs(), "+1 trades"),
        (ours(quantity=1.25, trades=2), theirs(), "-1 trades; -0.25 traded"),
        (ours(close=100.3, low=99.4), theirs(), "other low, close"),
        (ours(quantity=1.50000001), theirs(), "+1e-08 traded"),
    ],
)
def test_what_differs_is_told(mine: CandleRow, their: Bar, said: str) -> None:
    found = compared(START_S, mine, their)
    assert (found.parity, str(found)) == (Parity.OFF, said)


def test_an_empty_minute_has_no_candle_here_and_a_flat_one_or_none_there() -> None:
    assert compared(START_S, None, theirs("0", 0)).parity is Parity.EXACT
    assert compared(START_S, None, theirs("0", None)).parity is Parity.EXACT
    lacking = compared(START_S, None, theirs())
    assert (lacking.parity, lacking.trades, lacking.quantity, lacking.prices) == (Parity.OFF, -3, -1.5, ())
    assert compared(START_S, ours(), theirs("0", 0)).trades == 3


@given(st.lists(st.integers(1, 10**16), min_size=1, max_size=30))
def test_an_exact_sum_is_exact_however_large_and_one_unit_more_is_not_where_a_double_can_tell(
    units: list[int],
) -> None:
    total = sum(units)
    held = float(Fraction(total, 10**8))
    for more in (0, 1, -1):
        found = compared(START_S, ours(quantity=held), theirs(str(Decimal(total + more).scaleb(-8))))
        can_tell = math.ulp(held) < 1e-9
        assert found.parity is Parity.EXACT if not more else not can_tell or found.parity is Parity.OFF


def test_the_share_is_of_what_could_be_compared_and_100_percent_means_all() -> None:
    minutes = [Compared(0, parity) for parity in (Parity.EXACT, Parity.EXACT, Parity.OFF, Parity.PENDING, Parity.NONE)]
    assert share_of(minutes) == Share(2, 1, 1, 1)
    assert share_of(minutes).text == "66.66 %"
    assert (Share(5, 0, 3, 9).text, Share(0, 0, 3, 9).text, Share(0, 0, 3, 9).of_compared) == ("100 %", "-", None)
    assert Share(10**6, 1).text == "99.99 %"


EXACT, NONE = Compared(START_S, Parity.EXACT), Compared(START_S, Parity.NONE)
OFF, PENDING = Compared(START_S + 60, Parity.OFF, -2), Compared(START_S, Parity.PENDING)


@pytest.mark.parametrize(
    ("minutes", "said"),
    [
        ([EXACT, EXACT], ""),
        ([EXACT, OFF, NONE], "the venue's own candles differ in 1 minute, first at 14:15: -2 trades"),
        ([OFF, OFF], "the venue's own candles differ in 2 minutes, first at 14:15: -2 trades"),
        ([EXACT, NONE], None),
        ([EXACT, OFF, PENDING], None),
    ],
)
def test_an_hour_agrees_if_all_of_it_does_and_what_waits_is_not_judged(
    minutes: list[Compared], said: str | None
) -> None:
    assert disagreement(minutes) == said
