"""Laws of the counting behind the checks; what it reads from Kafka and Cassandra is tested with the checks."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.trade import Trade
from cryptoflow.model.window import EPOCH
from cryptoflow.pipeline.audit import (
    Comparison,
    DeadLetters,
    Span,
    TradeCount,
    finished_span,
    gaps,
)

START_S = 1_610_107_200  # 2021-01-08 12:00:00 UTC
START = datetime.fromtimestamp(START_S, UTC)
SPAN = Span(START, START + timedelta(hours=1))
BTC, ETH = ("Coinbase", "BTC", "USD"), ("Kraken", "ETH", "EUR")


def a_trade(pair: tuple[str, str, str], flags: str, id: str, time_s: int) -> Trade:
    return Trade(*pair, flags, id, time_s, 1.0, 1.0, 1.0)


trades = st.builds(
    a_trade,
    st.sampled_from([BTC, ETH]),
    st.sampled_from(["1", "2", "3", "4", "9", "10", "12"]),
    st.sampled_from([*"abcdefgh", "1", "01"]),
    st.integers(START_S - 10, START_S + 3610),
)
counts = st.dictionaries(st.sampled_from([BTC, ETH, ("Gemini", "BTC", "USD")]), st.integers(0, 9))


@given(st.lists(trades))
def test_each_trade_counts_once_on_the_side_it_came_with_first(given: Sequence[Trade]) -> None:
    count = TradeCount()
    for trade in given:
        count.add(trade)
    first = {trade.identity: trade for trade in reversed(given)}.values()
    assert count.by_pair() == Counter(trade.pair for trade in first)
    assert count.by_side() == Counter((*trade.pair, trade.direction) for trade in first if trade.direction)


@given(st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_finished_span_is_the_last_hour_of_the_clock_up_to_the_watermark(watermark: datetime) -> None:
    span = finished_span(watermark)
    assert span is not None
    assert span.end <= watermark < span.end + timedelta(hours=1)
    assert (span.start - EPOCH) % timedelta(hours=1) == timedelta(0)
    assert span.end - span.start == timedelta(hours=1)


def test_before_the_first_trades_no_span_is_finished() -> None:
    assert finished_span(None) is finished_span(EPOCH) is None


@given(counts)
def test_equal_counts_leave_nothing_to_explain(given: dict[tuple[str, ...], int]) -> None:
    compared = Comparison(given, given, 0)
    assert (compared.unexplained, compared.differences()) == (0, {})


@given(counts, counts, st.integers(0, 30))
def test_a_loss_is_explained_by_late_trades_and_a_surplus_by_nothing(
    topic: dict[tuple[str, ...], int], table: dict[tuple[str, ...], int], late: int
) -> None:
    surplus = sum((Counter(table) - Counter(topic)).values())
    lost = sum((Counter(topic) - Counter(table)).values())
    assert Comparison(topic, table, late).unexplained == surplus + max(0, lost - late)


@given(st.sets(st.tuples(st.sampled_from([BTC, ETH]), st.integers(0, 59))))
def test_every_window_has_a_candle_or_is_missing(there: set[tuple[tuple[str, str, str], int]]) -> None:
    starts = {(pair, START + timedelta(minutes=minute)) for pair, minute in there}
    missing = {(pair, start) for pair, lacking in gaps([BTC, ETH], starts, SPAN, 60).items() for start in lacking}
    assert missing.isdisjoint(starts)
    assert len(missing | starts) == 120
    assert all(START <= start < SPAN.end for _, start in missing)


def test_of_no_frames_none_is_unreadable() -> None:
    assert DeadLetters(0, 0, 0).share == 0
    assert DeadLetters(100, 20, 5).share == 0.25
