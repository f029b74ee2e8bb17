"""Laws of the counting behind the checks; what it reads from Kafka and Cassandra is tested with the checks."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.trade import MAX_AHEAD_S, Trade, write_trade
from cryptoflow.model.window import window
from cryptoflow.pipeline.audit import (
    Comparison,
    DeadLetters,
    Span,
    TradeCount,
    finished_span,
    gaps,
    subscribed_pairs,
    trades_in,
)

START_S = 1_610_107_200  # 2021-01-08 12:00:00 UTC
START = datetime.fromtimestamp(START_S, UTC)
SPAN = Span(START, START + timedelta(hours=1))
BTC, ETH = ("Coinbase", "BTC", "USD"), ("Kraken", "ETH", "EUR")

windows_s = st.integers(1, 100_000)


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


def record(trade: Trade | None, received_s: int = START_S + 3600) -> SimpleNamespace:
    return SimpleNamespace(value=trade and write_trade(trade), timestamp=received_s * 1000)


@given(st.lists(trades))
def test_each_trade_counts_once_on_the_side_it_came_with_first(given: Sequence[Trade]) -> None:
    count = TradeCount()
    for trade in given:
        count.add(trade)
    first = {trade.identity: trade for trade in reversed(given)}.values()
    assert count.by_pair() == Counter(trade.pair for trade in first)
    assert count.by_side() == Counter((*trade.pair, trade.direction) for trade in first if trade.direction)


@given(st.lists(trades))
def test_trades_of_the_span_are_all_taken_and_no_others(given: Sequence[Trade]) -> None:
    found = list(trades_in(SPAN, map(record, given)))
    assert found == [trade for trade in given if START_S <= trade.time_s < START_S + 3600]


def test_what_the_query_can_not_read_is_no_trade() -> None:
    trade = a_trade(BTC, "1", "1", START_S + 1)
    records = [record(None), SimpleNamespace(value=b"{}", timestamp=0), record(trade, START_S - MAX_AHEAD_S)]
    assert list(trades_in(SPAN, records)) == []
    assert list(trades_in(SPAN, [record(trade, START_S + 1 - MAX_AHEAD_S)])) == [trade]


@given(st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)), windows_s)  # noqa: DTZ001
def test_a_finished_span_is_an_hour_of_whole_windows_up_to_the_watermark(watermark: datetime, window_s: int) -> None:
    #   |------|------|------|--- watermark
    #          |---- span ---|
    span = finished_span(watermark, window_s)
    length = span.end - span.start
    assert timedelta(hours=1) <= length < timedelta(hours=1, seconds=window_s)
    assert span.end <= watermark < span.end + length
    for edge in span:
        assert window(int(edge.timestamp()) * 10**9, window_s)[0] == edge


def test_a_span_of_minutes_is_the_hour_of_the_clock() -> None:
    assert finished_span(datetime(2021, 1, 8, 13, 59, 59, tzinfo=UTC), 60) == SPAN
    assert finished_span(datetime(2021, 1, 8, 13, tzinfo=UTC), 60) == SPAN


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


def test_the_subscribed_pairs_are_those_of_trades_once_each() -> None:
    subscriptions = ["0~Coinbase~BTC~USD", "2~Coinbase~ETH~USD", "0~Kraken~ETH~EUR", "0~Coinbase~BTC~USD", "0~odd"]
    assert subscribed_pairs(subscriptions) == [BTC, ETH]


def test_of_no_frames_none_is_unreadable() -> None:
    assert DeadLetters(0, 0, 0).share == 0
    assert DeadLetters(100, 20, 5).share == 0.25
