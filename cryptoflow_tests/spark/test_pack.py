"""Laws of the blocks: all trades of a pair go into one bucket, and of every record it is told what became of it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.trade import NS_PER_S, Trade, write_trade
from cryptoflow.spark import folded
from cryptoflow.spark.arrow import to_table
from cryptoflow.spark.batch import candles_in
from cryptoflow.spark.decode import Frames
from cryptoflow.spark.folded import LeftOut
from cryptoflow.spark.pack import BLOCKS, Rules
from cryptoflow_tests.spark.streaming import NOON_S, a_trade

HOUR_S = 3600


def some(values: Sequence[bytes], first: int = 0) -> Frames:
    """Frames of partition 1 from an offset on, received at noon."""
    rows = np.arange(first, first + len(values))
    return Frames(values, np.full(len(rows), NOON_S * 1_000_000), np.ones(len(rows), np.int32), rows)


values = st.lists(
    st.one_of(
        st.builds(
            lambda number, coin, ahead_s: write_trade(a_trade(number, from_coin=coin, time_s=NOON_S + ahead_s)),
            st.integers(0, 9),
            st.sampled_from(["A", "B", "C", "D", "E"]),
            st.sampled_from([-7200, -120, 0, 59, 61, 3599, 3601]),
        ),
        st.binary(max_size=3),
    ),
    min_size=1,
    max_size=30,
)


@given(values, st.integers(1, 5), st.integers(1, 40))
def test_of_each_record_it_is_told_what_became_of_it_and_a_pair_has_one_bucket(
    given: list[bytes], buckets: int, at_once: int
) -> None:
    parts = [some(given[first : first + at_once], first) for first in range(0, len(given), at_once)]
    rules = Rules(60, 60.0, (NOON_S - 600) * NS_PER_S, {1: 2}, buckets)
    blocks = list(rules.blocks(parts))
    assert all(block.schema == BLOCKS for block in blocks)
    rows = [row for block in blocks for row in block.to_pylist()]
    bucket_of: dict[str, set[int]] = {}
    offsets = []
    for row in rows:
        for trade in [] if row["trades"] is None else to_table(row["trades"]).to_pylist():
            bucket_of.setdefault(trade["pair"], set()).add(row["bucket"])
            offsets.append(trade["offset"])
    assert all(len(each) == 1 for each in bucket_of.values())
    counts, left_out = candles_in(parts, rules)[1:]
    assert counts.rows == sum(row["rows"] for row in rows) == max(0, len(given) - 2)
    assert counts.late == sum(each.trades for each in left_out)
    # What comes before what is new is in no count, and in candles all the same.
    assert len([offset for offset in offsets if offset >= 2]) + counts.late + counts.unreadable == counts.rows
    assert max(Counter(offsets).values(), default=1) == 1


def test_trades_of_finished_windows_and_those_ahead_are_left_out_where_they_are_new() -> None:
    times_s = [NOON_S - 2, NOON_S - 1, NOON_S, NOON_S + 1, NOON_S + 61]
    log = [*(write_trade(a_trade(number, time_s=time_s)) for number, time_s in enumerate(times_s)), b"x"]
    found, counts, left_out = candles_in([some(log)], Rules(60, 60, NOON_S * NS_PER_S, {1: 1}))
    assert [each.candle.trades for each in found] == [2]
    # trade 0 comes before what is new
    assert (counts.rows, counts.unreadable, counts.late) == (5, 1, 2)
    assert counts.newest_us == (NOON_S + 60) * 1_000_000
    assert {(each.hour_s, each.first_offset) for each in left_out} == {(NOON_S - HOUR_S, 1), (NOON_S, 4)}


def test_copies_are_counted_and_it_is_told_before_which_place_none_of_the_trades_lies() -> None:
    trades = [a_trade(1), a_trade(2, time_s=NOON_S + 60), a_trade(2, time_s=NOON_S + 60), a_trade(3)]
    found, counts, _ = candles_in([some(list(map(write_trade, trades)))], Rules(60, 60))
    assert {each.candle.window_start.minute: (each.candle.trades, each.copies, each.first) for each in found} == {
        0: (2, 2, {1: 0}),
        1: (1, 2, {1: 1}),
    }
    assert counts.duplicates == 1


def test_what_is_left_out_of_several_blocks_is_one_of_each_pair_hour_and_partition() -> None:
    rules = Rules(60, 60, (NOON_S + HOUR_S) * NS_PER_S)
    late: list[Trade] = [a_trade(number, time_s=NOON_S + number) for number in range(4)]
    rows = [
        row
        for first in (0, 2)
        for block in rules.folded(rules.blocks([some(list(map(write_trade, late[first : first + 2])), first)]))
        for row in block.to_pylist()
    ]
    told = folded.read(rows, 60)
    assert told.left_out == [LeftOut("Kraken~BTC~USD", NOON_S, 1, 0, 3, 4, (NOON_S + 3) * NS_PER_S)]
    assert (told.counts.late, told.counts.rows) == (4, 4)
