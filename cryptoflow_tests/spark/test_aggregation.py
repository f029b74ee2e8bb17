"""The laws of the aggregation: its candles are the reference's, of a stream as of a batch."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
import pytest
from pyspark.sql import SparkSession

from cryptoflow.model.candle import Candle, Side, candles_of, id_order
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade, write_trade
from cryptoflow.settings import SparkSettings
from cryptoflow.spark import aggregation, folded
from cryptoflow.spark.aggregation import Part, batched, definition
from cryptoflow.spark.checkpoint import fingerprint
from cryptoflow.spark.folded import Folded
from cryptoflow.spark.pack import Rules
from cryptoflow_tests.spark.streaming import NOON_S, SETTINGS, Streaming, a_trade
from cryptoflow_tests.spark.test_pack import some

IDS = ("9", "10", "x9", "X", "007", "7", "1e3", "1" * 30, "2" * 30, "3" * 120, "-3", "1.5", "٣", "é")
PAIRS = (("BTC", "USD"), ("ETH", "USD"), ("BTC", "EUR"))

ORDERED = (
    "0", "0000", "007", "7", "8", "0" * 20 + "9", "10", "0" * 30 + "9" * 18, "9" * 18,
    "0" * 9 + "1" + "0" * 18, "1" + "0" * 18, "2" + "0" * 18, str(2**63 - 1), str(2**63), "1" * 30, "2" * 30, "3" * 120,
    "9" * 128, " 1", "+1", "-3", "1.5", "1e3", "X", "x9", "é", "٣", "😀",
)  # fmt: skip
"""Ids in their order: numbers by their value, then by their text, then all others by their text."""


def of(spark: SparkSession, parts: Sequence[Part], rules: Rules) -> Folded:
    """What becomes of the trades of some parts of the log."""
    rows = [row.asDict() for row in batched(spark, parts, rules).collect()]
    return folded.read(rows, rules.window_s)


def in_one_batch(spark: SparkSession, trades: Iterable[Trade]) -> list[Candle]:
    values = list(map(write_trade, trades))
    third = math.ceil(len(values) / 3)
    thirds = (some(values[first : first + third], first) for first in range(0, len(values), third))
    read: list[Part] = [partial(list, [each]) for each in thirds]
    return [each.candle for each in of(spark, read, Rules(SETTINGS.window_s, MAX_AHEAD_S, buckets=2)).found]


def generated(count: int, rng: random.Random) -> list[Trade]:
    """Trades of three pairs in three windows, many of them in one nanosecond."""
    return [
        a_trade(
            number,
            id=IDS[number] if number < len(IDS) else str(number),
            from_coin=pair[0],
            to_currency=pair[1],
            time_s=NOON_S + rng.choice([0, 0, 59, 60, 61, 179]),
            rest_ns=rng.choice([0, 0, 1, NS_PER_S - 1]),
            price=rng.choice([60_000.12, 60_000.13, round(rng.uniform(1, 90_000), 2)]),
            quantity=round(rng.uniform(0, 10), 8),
            total=round(rng.uniform(0, 100_000), 8),
            flags=rng.choice(["1", "2", "4", "9", "10", "3", "0", "999999999"]),
        )
        for number in range(count)
        for pair in PAIRS
    ]


def shuffled_with_duplicates(trades: list[Trade], market: str, rng: random.Random) -> list[Trade]:
    copy = [msgspec.structs.replace(trade, market=market) for trade in trades]
    copy += rng.sample(copy, 50)
    rng.shuffle(copy)
    return copy


def same_prices(candle: Candle) -> tuple[object, ...]:
    return (*candle.key, candle.open, candle.high, candle.low, candle.close, candle.trades, candle.buy.trades)


def all_sums(candle: Candle) -> list[float]:
    buy, sell = candle.buy, candle.sell
    return [*sums(candle), *sums(buy), *sums(sell), buy.price_sum, sell.price_sum]


def sums(of: Candle | Side) -> tuple[float, float]:
    return of.quantity, of.volume


def in_window(trade: Trade, candle: Candle) -> bool:
    return candle.window_start.timestamp() <= trade.time_s < candle.window_end.timestamp()


def exact_sums(trades: list[Trade]) -> list[float]:
    """Sums of the doubles, rounded once: of all trades, of each side, and of each side's prices."""
    buys = [trade for trade in trades if trade.direction == "BUY"]
    sells = [trade for trade in trades if trade.direction == "SELL"]
    amounts = [
        math.fsum(getattr(t, name) for t in of) for of in (trades, buys, sells) for name in ("quantity", "total")
    ]
    return amounts + [math.fsum(trade.price for trade in of) for of in (buys, sells)]


def check_candles(found: Iterable[Candle], trades: list[Trade]) -> None:
    """The candles are the reference's of the same trades on three markets."""
    expected = candles_of([msgspec.structs.replace(t, market=m) for m in "ABC" for t in trades], SETTINGS.window_s)
    by_key = {candle.key: candle for candle in found}
    assert {same_prices(candle) for candle in by_key.values()} == set(map(same_prices, expected.values()))
    for key, candle in by_key.items():
        exact = exact_sums([t for t in trades if t.pair[1:] == key[1:3] and in_window(t, candle)])
        assert all_sums(candle) == exact
        assert sums(candle) == pytest.approx(sums(expected[key]), rel=1e-15)


def test_candles_of_a_stream_are_the_references_whatever_order_the_trades_come_in(
    streaming: Callable[[], Streaming],
) -> None:
    rng = random.Random(5)
    trades = generated(300, rng)
    run = streaming()
    run.stream.start()
    copies = [shuffled_with_duplicates(trades, market, rng) for market in "ABC"]
    for part in (slice(500), slice(500, None)):
        run.send(trade for copy in copies for trade in copy[part])
        run.await_written()
    assert run.total("duplicates") == 150
    check_candles(run.candles.values(), trades)


def test_candles_of_a_batch_are_the_references_too(spark: SparkSession) -> None:
    rng = random.Random(6)
    trades = generated(300, rng)
    check_candles(
        in_one_batch(spark, (t for market in "ABC" for t in shuffled_with_duplicates(trades, market, rng))), trades
    )


def test_a_stream_and_a_batch_give_the_same_candles_to_the_last_bit(
    spark: SparkSession, streaming: Callable[[], Streaming]
) -> None:
    trades = generated(200, random.Random(7))
    run = streaming()
    run.stream.start()
    for part in (trades[:250], trades[250:]):
        run.send(part)
        run.await_written()
    assert run.candles == {candle.key: candle for candle in in_one_batch(spark, reversed(trades))}


def test_of_trades_in_one_nanosecond_the_id_decides_as_in_the_reference(spark: SparkSession) -> None:
    assert list(ORDERED) == sorted(ORDERED, key=id_order)
    rng = random.Random(8)
    trades = []
    # Each pair has the ids of a part of the order: its open is the price of the first, its close that of the last.
    for number in range(60):
        first, last = sorted(rng.sample(range(len(ORDERED)), 2))
        part = [a_trade(0, from_coin=f"C{number}", id=ORDERED[i], price=i + 1.0) for i in range(first, last + 1)]
        trades += rng.sample(part, len(part))
    found = in_one_batch(spark, trades)
    assert {same_prices(candle) for candle in found} == set(map(same_prices, candles_of(trades, 60).values()))
    assert all((candle.open, candle.close) == (candle.low, candle.high) for candle in found)


def test_unreadable_frames_come_with_reason_and_place(spark: SparkSession) -> None:
    ahead = write_trade(a_trade(9, time_s=NOON_S + MAX_AHEAD_S + 1))
    log: list[Part] = [partial(list, [some([write_trade(a_trade(1)), b"\xff\x00", ahead])])]
    rows = aggregation.unreadable(spark, log).collect()
    assert [(bytes(row.value), row.partition, row.offset) for row in rows] == [(b"\xff\x00", 1, 1), (ahead, 1, 2)]
    assert "too far ahead" in rows[1].reason


def test_a_query_is_another_one_when_it_computes_something_else_and_only_then() -> None:
    def named(**changes: object) -> str:
        return fingerprint(definition(SETTINGS.model_copy(update=changes)))

    assert named(trigger_s=1.0, max_batch_trades=7, driver_memory="3g", shuffle_partitions=3) == named()
    others = [named(watermark_s=301.0), named(window_s=300), named(max_ahead_s=59.0)]
    assert len({*others, named()}) == 4
    assert definition(SETTINGS) == definition(SparkSettings())
