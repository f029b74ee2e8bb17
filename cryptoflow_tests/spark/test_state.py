"""Laws of the stream's state: whatever comes in whatever parts, its candles are the reference's, and it stays small."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import Candle, CandleKey, candles_of
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade
from cryptoflow.spark import folded, pack
from cryptoflow.spark.batch import candles_in
from cryptoflow.spark.folded import Counts, Folded
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.state import State
from cryptoflow_tests.spark.streaming import NOON_S, a_trade
from cryptoflow_tests.spark.test_fold import frames

RULES = Rules(60, MAX_AHEAD_S + 1)
EARLY_US = (NOON_S - 3600) * 1_000_000

IDS = st.one_of(
    st.integers(0, 30).map(str),
    st.sampled_from(["007", "07", "7 ", "x", "x~1", "-1", "+1", "1e3", "é", "9" * 18, "9" * 19, str(2**63)]),
)

trades = st.lists(
    st.builds(
        lambda pair, id, time_s, rest_ns, price, flags: a_trade(
            0,
            market=pair[0],
            from_coin=pair[1],
            id=id,
            time_s=NOON_S + time_s,
            rest_ns=rest_ns,
            price=price,
            quantity=price / 3,
            total=price / 7,
            flags=flags,
        ),
        st.sampled_from([("Coinbase", "BTC"), ("Kraken", "BTC"), ("Kraken", "ETH")]),
        IDS,
        st.integers(0, 180),
        st.sampled_from([0, 1, 999_999_999]),
        st.floats(1e-8, 1e6),
        st.sampled_from(["1", "2", "4", "9"]),
    ),
    max_size=40,
)


class Streamed:
    """A state that takes trades some at a time, what it has told last, and the newest of each candle.

    Args:
        begin: the offset of the first of the trades.
    """

    def __init__(self, rules: Rules = RULES, begin: int = 0) -> None:
        self._rules = rules
        self.state, self.counts, self.end, self.told = State(), Counts(), begin, Folded()
        self.candles: dict[CandleKey, Candle] = {}
        self.left_out: list[folded.LeftOut] = []

    def take(self, trades: Sequence[Trade], at_once: int, watermark_us: int = EARLY_US) -> "Streamed":
        self.told = Folded()
        if not trades:
            return self
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(pack, "BLOCK_TRADES", 3 * at_once)
            blocks = list(self._rules.blocks(frames(trades, at_once, self.end)))
        self.end += len(trades)
        rows = [row for block in blocks for row in block.to_pylist()]
        state, row = self._rules.streamed(State.read(self.state.written()), rows, watermark_us)
        self.state, self.told = state, folded.read([row], RULES.window_s)
        self.candles |= {each.candle.key: each.candle for each in self.told.found}
        self.counts = self.counts.plus(self.told.counts)
        self.left_out += self.told.left_out
        return self


@given(trades, st.integers(1, 9), st.integers(1, 9))
def test_trades_that_come_in_parts_make_the_candles_that_they_make_at_once(
    given: list[Trade], size: int, at_once: int
) -> None:
    streamed = Streamed()
    for first in range(0, len(given), size):
        streamed.take(given[first : first + size], at_once)
    whole = Streamed().take(given, at_once)
    assert streamed.candles == whole.candles
    assert streamed.counts == whole.counts
    assert same_prices(streamed.candles) == same_prices(candles_of(given, 60))
    assert streamed.counts.duplicates == len(given) - len({trade.identity for trade in given})
    assert streamed.counts.rows == len(given)


@given(trades, st.integers(0, 40), st.integers(1, 9))
def test_a_stream_without_its_state_counts_no_duplicate_that_was_counted_before(
    given: list[Trade], counted: int, at_once: int
) -> None:
    # offsets   0 ........... counted ........ end
    # before    |-- counted --|
    # then      |--- read ----|-- counted ------|
    rules = RULES._replace(counted={0: counted})
    before = given[:counted]
    streams = [Streamed().take(before, at_once), Streamed(rules).take(given, at_once)]
    batches = [candles_in(frames(before, at_once), RULES), candles_in(frames(given, at_once), rules)]
    for found in (streams, batches):
        assert sum(each.counts.rows for each in found) == len(given)
        assert sum(each.counts.duplicates for each in found) == len(given) - len({trade.identity for trade in given})


def same_prices(candles: dict[CandleKey, Candle]) -> dict[CandleKey, tuple[object, ...]]:
    return {
        key: (each.open, each.high, each.low, each.close, each.trades, each.buy.trades, each.sell.trades)
        for key, each in candles.items()
    }


@given(trades, st.integers(-10, 200))
def test_what_is_at_or_before_the_watermark_is_late_and_told_with_its_place(
    given: list[Trade], watermark_s: int
) -> None:
    watermark_us = (NOON_S + watermark_s) * 1_000_000
    streamed = Streamed().take(given, 5, watermark_us)
    in_time = [trade for trade in given if trade.event_time_ns // 1000 > watermark_us]
    assert same_prices(streamed.candles) == same_prices(candles_of(in_time, 60))
    assert streamed.counts.late == len(given) - len(in_time) == sum(each.trades for each in streamed.left_out)
    for each in streamed.left_out:
        late = [
            place for place, trade in enumerate(given) if trade not in in_time and "~".join(trade.pair) == each.pair
        ]
        assert (each.first_offset, each.last_offset, each.trades) == (late[0], late[-1], len(late))
        assert each.newest_ns == max(given[place].event_time_ns for place in late)


DELAY_S = 181
"""No trade below is as late: a batch's are of three minutes, the next one's begin half a minute later."""

batches = st.lists(st.tuples(trades, st.lists(st.integers(1, 40), max_size=9), st.booleans()), max_size=8)
"""Each with the places, from the end, of trades that come again, and whether the state is lost before it."""


@given(batches, st.integers(1, 9))
def test_wherever_the_state_is_lost_the_candles_are_the_same_and_each_record_is_counted_once(
    given: list[tuple[list[Trade], list[int], bool]], at_once: int
) -> None:
    # log         |--- batch ---|--- batch ---|--- batch ---|
    # finished    |----|                      x state lost
    # read anew        |---- open windows ----|--- batch ---|
    log: list[Trade] = []
    first: dict[int, int] = {}  # of the trades of a window, the place in the log
    stream, counts, candles, watermark_us = Streamed(), Counts(), dict[CandleKey, Candle](), 0
    for number, (some, again, lost) in enumerate(given):
        counted, finished_s = len(log), watermark_us // 1_000_000 // 60 * 60
        log += [_moved(trade, 30 * number) for trade in some]
        log += [trade for trade in (log[-place] for place in again if place <= counted) if _is_in_time(trade, number)]
        if lost:
            rules = RULES._replace(finished_ns=finished_s * NS_PER_S, counted={0: counted})
            is_open = [at for start_s, at in first.items() if start_s >= finished_s]
            stream = Streamed(rules, min(is_open, default=counted))
        stream.take(log[stream.end :], at_once, 0 if lost else watermark_us)
        counts, candles = counts.plus(stream.told.counts), candles | stream.candles
        for each in stream.told.found:
            start_s = int(each.candle.window_start.timestamp())
            first[start_s] = min(each.first_offset, first.get(start_s, each.first_offset))
        watermark_us = max(watermark_us, counts.newest_us - DELAY_S * 1_000_000)
    whole = Streamed().take(log, 9)
    assert candles == whole.candles
    assert counts == whole.counts


def _moved(trade: Trade, by_s: int) -> Trade:
    """A trade of a later time; its id is not known from elsewhere, whose window may be forgotten by then."""
    time_s = trade.time_s + by_s
    return msgspec.structs.replace(trade, time_s=time_s, id=f"{trade.id}{time_s}")


def _is_in_time(trade: Trade, batch: int) -> bool:
    return trade.time_s >= NOON_S + 30 * batch


def test_a_window_is_kept_until_no_trade_of_it_can_come_in_time() -> None:
    streamed = Streamed()
    for minute in range(10):
        some = [a_trade(number, time_s=NOON_S + 60 * minute) for number in range(1000 * minute, 1000 * minute + 1000)]
        streamed.take(some, 100, (NOON_S + 60 * (minute - 5)) * 1_000_000)
    starts_s = streamed.state.sums["start_s"].to_pylist()
    assert starts_s == [NOON_S + 60 * minute for minute in range(4, 10)]
    assert len(streamed.state.numbers) == len(starts_s)
    again = [a_trade(number, time_s=NOON_S + 60 * (number // 1000)) for number in (4500, 9999, 10_000)]
    assert streamed.take(again, 100, (NOON_S + 60 * 4) * 1_000_000 - 1).counts.duplicates == 2


def test_ids_that_count_on_make_a_state_of_a_few_numbers_and_others_are_kept_as_they_are() -> None:
    streamed = Streamed().take([a_trade(number, time_s=NOON_S + number // 100) for number in range(6000)], 1000)
    assert streamed.state.numbers.to_pylist() == [
        {"pair": "Kraken~BTC~USD", "start_s": NOON_S, "first": 0, "last": 5999}
    ]
    streamed.take([a_trade(0, id=id) for id in ("05", "5", "x", "x")], 1000)
    assert sorted(streamed.state.texts["id"].to_pylist()) == ["05", "x"]
    assert streamed.counts.duplicates == 2
    assert sum(map(len, streamed.state.written())) < 8000
