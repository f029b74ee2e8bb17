"""Laws of longer candles that are open: the merge of the minutes, each with all trades that are known of it."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import CandleRow, candle_row, candles_of, merged
from cryptoflow.web.longer import Minutes, replaces
from cryptoflow_tests.watching import BTC, a_trade, utc

START = utc("2026-03-02T14:00:00")
START_NS = int(START.timestamp()) * 10**9
WINDOW_S = 300


def minute(at: int, trades: int) -> CandleRow:
    """Of the minute `at` of the window, with its first trades."""
    taken = [a_trade(number, 100.0 + number, BTC, START_NS + at * 60 * 10**9 + number) for number in range(trades)]
    [candle] = candles_of(taken, 60).values()
    return candle_row(candle)


counts = st.dictionaries(st.integers(-2, 6), st.integers(1, 5))


@given(counts, counts)
def test_of_each_minute_the_state_with_more_trades_counts(stored: dict[int, int], forming: dict[int, int]) -> None:
    minutes = Minutes()
    minutes.put([minute(at, trades) for at, trades in stored.items()], START - timedelta(minutes=2))
    most = {at: max(stored.get(at, 0), forming.get(at, 0)) for at in {*stored, *forming} if 0 <= at < 5}
    expected = merged([minute(at, trades) for at, trades in most.items()], WINDOW_S) if most else None
    assert minutes.merged(START, WINDOW_S, [minute(at, trades) for at, trades in forming.items()]) == expected


def test_minutes_from_before_are_let_go() -> None:
    minutes = Minutes()
    assert not minutes.knows(START)
    minutes.put([minute(0, 1), minute(1, 1)], START)
    assert minutes.knows(START)
    later = START + timedelta(minutes=1)
    minutes.put([minute(2, 1)], later)
    assert not minutes.knows(START)
    assert minutes.merged(START, WINDOW_S, []) == merged([minute(1, 1), minute(2, 1)], WINDOW_S)


def test_a_stored_row_is_shown_where_it_has_as_many_trades() -> None:
    assert replaces(minute(0, 2), minute(0, 2))
    assert replaces(minute(0, 3), minute(0, 2))
    assert replaces(minute(0, 1), None)
    assert not replaces(minute(0, 1), minute(0, 2))
    assert not replaces(None, minute(0, 1))
