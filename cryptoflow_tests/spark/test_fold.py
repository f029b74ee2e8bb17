"""Laws of the fold outside of Spark: it makes the reference's candles, and tells the numbers of their trades."""

import tracemalloc
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import MAX_AHEAD_S, Trade, write_trade
from cryptoflow.model.verdict import joined
from cryptoflow.model.window import window
from cryptoflow.spark import pack
from cryptoflow.spark.batch import candles_in
from cryptoflow.spark.decode import Frames
from cryptoflow.spark.kafka_log import TOPIC_STEP
from cryptoflow.spark.pack import Rules
from cryptoflow_tests.spark.streaming import NOON_S

PAIRS = ("Coinbase", "BTC", "USD"), ("Kraken", "ETH", "EUR")

trades = st.lists(
    st.builds(
        lambda pair, id, time_s, numbered, price: Trade(
            pair[0],
            pair[1],
            pair[2],
            "1",
            str(id),
            NOON_S + time_s,
            1.0,
            float(price),
            float(price),
            sequence=id if numbered else None,
        ),
        st.sampled_from(PAIRS),
        st.integers(0, 30),
        st.integers(0, 180),
        st.booleans(),
        st.integers(1, 9),
    ),
    max_size=40,
)


def frames(trades: Sequence[Trade], at_once: int, begin: int = 0) -> list[Frames]:
    """The trades as the log has them from an offset on, some at a time."""
    return [
        Frames(
            list(map(write_trade, part)),
            np.array([trade.time_s * 1_000_000 for trade in part]),
            np.zeros(len(part), np.int32),
            np.arange(begin + first, begin + first + len(part)),
        )
        for first in range(0, len(trades), at_once)
        for part in [trades[first : first + at_once]]
    ]


@given(trades, st.integers(1, 9))
def test_few_frames_make_the_candles_of_the_reference_with_the_numbers_of_their_trades(
    given: list[Trade], at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pack, "BLOCK_TRADES", 10)
        found = candles_in(frames(given, at_once), Rules(60, MAX_AHEAD_S + 1, numbered=True)).found
    assert {each.candle.key: each.candle for each in found} == candles_of(given, 60)
    first: dict[tuple[str, ...], Trade] = {}
    for trade in given:
        first.setdefault(trade.identity, trade)
    numbers: dict[tuple[str, str, str, datetime], list[int]] = defaultdict(list)
    for trade in first.values():
        if trade.sequence is not None:
            numbers[*trade.pair, window(trade.event_time_ns, 60)[0]].append(trade.sequence)
    for each in found:
        assert each.runs == joined((number, number) for number in numbers[each.candle.key])
    assert sum(each.copies for each in found) == len(given)


def test_a_candle_of_trades_out_of_two_topics_takes_no_memory_for_the_partitions_between_them() -> None:
    live, past = ([Trade(*PAIRS[0], "1", str(id), NOON_S, 1.0, 1.0, 1.0)] for id in range(2))
    [first], [second] = frames(live, 1), frames(past, 1)
    tracemalloc.start()
    [found] = candles_in([first, second._replace(partition=second.partition + TOPIC_STEP)], Rules(60, 9)).found
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.candle.trades == 2
    assert peak_bytes < TOPIC_STEP
