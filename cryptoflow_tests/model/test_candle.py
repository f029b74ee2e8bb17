"""The laws of candles: the reference, the rows, and what their UUIDs are."""

import csv
import gzip
import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.candle import (
    Candle,
    CandleRow,
    Side,
    candle_row,
    candles_of,
    direction_rows,
    id_order,
    row_uuid,
)
from cryptoflow.model.trade import BUY, NS_PER_S, REVERSED, SELL, UNKNOWN, Trade, read_trade
from cryptoflow.model.window import EPOCH

NOON_S = 1_610_107_200  # 2021-01-08 12:00:00 UTC

amounts = st.decimals(0, 10**4, places=8).map(float)
pairs = st.sampled_from([("Coinbase", "BTC", "USD"), ("Coinbase", "ETH", "USD"), ("Kraken", "BTC", "USD")])
ids = st.one_of(st.integers(0, 999).map(str), st.text("ab-1", min_size=1, max_size=3))
flags = st.sampled_from([SELL, BUY, UNKNOWN, SELL | REVERSED, BUY | REVERSED, SELL | BUY])


@st.composite
def trades(draw: st.DrawFn) -> Trade:
    market, from_coin, to_currency = draw(pairs)
    return Trade(
        market=market,
        from_coin=from_coin,
        to_currency=to_currency,
        flags=str(draw(flags)),
        id=draw(ids),
        time_s=draw(st.integers(NOON_S, NOON_S + 150)),
        rest_ns=draw(st.sampled_from([0, 1, NS_PER_S - 1])),
        quantity=draw(amounts),
        price=draw(st.decimals("0.00000001", 10**6, places=8).map(float)),
        total=draw(amounts),
    )


streams = st.lists(trades(), min_size=1, max_size=40, unique_by=lambda trade: trade.identity)


def a_trade(id: str = "1", flags: int = BUY, price: float = 2.0, rest_ns: int = 0, time_s: int = NOON_S) -> Trade:
    return Trade(
        market="Coinbase",
        from_coin="BTC",
        to_currency="USD",
        flags=str(flags),
        id=id,
        time_s=time_s,
        rest_ns=rest_ns,
        quantity=0.1,
        price=price,
        total=0.1 * price,
    )


def only_candle(*given: Trade) -> Candle:
    [candle] = candles_of(given, 60).values()
    return candle


@given(streams, st.randoms(use_true_random=False))
def test_neither_order_nor_duplicates_change_a_candle(stream: list[Trade], rng: random.Random) -> None:
    arrived = stream + rng.choices(stream, k=10)
    rng.shuffle(arrived)
    assert candles_of(arrived, 60) == candles_of(stream, 60)


@given(streams, st.sampled_from([1, 60, 3600]))
def test_every_trade_is_in_exactly_one_candle(stream: list[Trade], window_s: int) -> None:
    candles = candles_of(stream, window_s)
    assert sum(candle.trades for candle in candles.values()) == len(stream)
    assert all(candle.key == key for key, candle in candles.items())


@given(streams)
def test_prices_lie_between_low_and_high(stream: list[Trade]) -> None:
    for candle in candles_of(stream, 60).values():
        assert candle.low <= candle.open <= candle.high
        assert candle.low <= candle.close <= candle.high


@given(streams)
def test_sums_are_the_decimal_ones(stream: list[Trade]) -> None:
    [*candles] = candles_of(stream, 3600).values()
    exact = sum(Decimal(repr(trade.total)) for trade in stream)
    assert sum(Decimal(repr(candle.volume)) for candle in candles) == exact


@given(streams)
def test_sides_and_unknown_make_up_the_candle(stream: list[Trade]) -> None:
    unknown = sum(trade.direction is None for trade in stream)
    candles = candles_of(stream, 60).values()
    assert sum(candle.trades - candle.buy.trades - candle.sell.trades for candle in candles) == unknown


def test_the_venues_own_candles_come_out(shared: Path) -> None:
    with gzip.open(shared / "replay/binance-futures-btcusdt.jsonl.gz") as frames:
        candles = candles_of(map(read_trade, frames), 60)
    made = {candle.window_start: candle for candle in candles.values()}
    with (shared / "replay/binance-futures-btcusdt.klines.csv").open() as file:
        klines = {EPOCH + timedelta(milliseconds=int(row["open_time"])): row for row in csv.DictReader(file)}
    full = [start for start in sorted(made) if start in klines][1:]  # the recording starts within its first minute
    assert len(full) == 5
    for start in full:
        candle, kline = made[start], klines[start]
        ours = (candle.open, candle.high, candle.low, candle.close, candle.quantity, candle.volume)
        assert ours == tuple(float(kline[name]) for name in ("open", "high", "low", "close", "volume", "quote_volume"))
        assert (candle.trades, candle.buy_quantity) == (int(kline["count"]), float(kline["taker_buy_volume"]))


def test_of_one_identity_the_first_counts() -> None:
    assert only_candle(a_trade(price=3.0), a_trade(price=4.0)).close == 3.0


def test_a_duplicate_with_another_time_opens_no_second_window() -> None:
    assert len(candles_of([a_trade(), a_trade(time_s=NOON_S + 60)], 60)) == 1


def test_nanoseconds_decide_open_and_close() -> None:
    candle = only_candle(a_trade("1", price=1.0, rest_ns=2), a_trade("2", price=2.0, rest_ns=1))
    assert (candle.open, candle.close) == (2.0, 1.0)


def test_at_one_time_ids_decide_open_and_close_as_numbers() -> None:
    candle = only_candle(a_trade("10", price=10.0), a_trade("9", price=9.0), a_trade("x", price=7.0))
    assert (candle.open, candle.close) == (9.0, 7.0)


def test_ids_order_numbers_by_value_and_before_texts() -> None:
    numbers, texts = ["0", "007", "7", "10", "99999999999999999999"], ["", "-5", "1e3", "a", "b", "٣"]
    shuffled = random.Random(1).sample([*numbers, *texts], len(numbers) + len(texts))
    assert sorted(shuffled, key=id_order) == [*numbers, *texts]


def test_vwap_is_volume_by_quantity_or_the_close() -> None:
    candle = only_candle(a_trade(price=4.0))
    assert candle.vwap == candle.volume / candle.quantity
    nothing = Trade("M", "A", "B", "2", "1", NOON_S, 0.0, 5.0, 0.0)
    assert only_candle(nothing).vwap == 5.0


def test_a_side_without_trades_has_no_row() -> None:
    assert [row.direction for row in direction_rows(only_candle(a_trade(flags=SELL)))] == ["SELL"]
    assert direction_rows(only_candle(a_trade(flags=UNKNOWN))) == []


def test_a_directions_row_has_its_sides_numbers() -> None:
    candle = only_candle(a_trade("1", price=1.0), a_trade("2", price=4.0), a_trade("3", SELL, price=9.0))
    buy, sell = direction_rows(candle)
    assert (buy.avgprice, buy.totalquantity, buy.totalvol, buy.counttxns) == (2.5, 0.2, 0.5, 2)
    assert (sell.avgprice, sell.counttxns) == (9.0, 1)
    assert buy.window_end - buy.window_start == timedelta(minutes=1)
    assert buy.date == datetime(2021, 1, 8, tzinfo=UTC)


def test_a_candles_row_has_every_column_from_the_candle() -> None:
    start = datetime(2021, 1, 7, 23, 59, tzinfo=UTC)
    candle = Candle(
        "Coinbase",
        "BTC",
        "USD",
        start,
        60,
        2,
        4,
        1,
        3,
        9,
        5.0,
        20.0,
        Side(4, 2.0, 8.0, 6.0),
        Side(3, 1.5, 6.0, 5.0),
    )
    date = datetime(2021, 1, 8, tzinfo=UTC)
    assert candle_row(candle) == CandleRow(
        "Coinbase", "BTC", "USD", 60, date, start, 2, 4, 1, 3, 4.0, 5.0, 20.0, 2.0, 1.5, 9
    )


names = st.text(min_size=1, max_size=5)
keys = st.tuples(
    names,
    names,
    names,
    st.integers(0, 10**7).map(lambda minute: datetime(2000, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)),
    st.sampled_from([60, 300]),
    st.sampled_from(["BUY", "SELL"]),
)


@given(keys)
def test_a_rows_uuid_is_of_version_1_and_of_no_network_card(
    key: tuple[str, str, str, datetime, int, str],
) -> None:
    made = row_uuid(*key)  # type: ignore[arg-type]
    assert (made.version, made.variant) == (1, uuid.RFC_4122)
    assert made.node >> 40 & 1
    assert datetime(1582, 10, 15, tzinfo=UTC) + timedelta(microseconds=made.time // 10) == key[3]


@given(st.lists(keys, unique=True, max_size=20))
def test_distinct_keys_have_distinct_uuids(distinct: list[tuple[str, str, str, datetime, int, str]]) -> None:
    assert len({row_uuid(*key) for key in distinct}) == len(distinct)  # type: ignore[arg-type]


def test_a_rows_uuid_never_changes() -> None:
    start = datetime(2021, 1, 7, 23, 59, tzinfo=UTC)
    made = row_uuid("Coinbase", "BTC", "USD", start, 60, "BUY")
    assert made == uuid.UUID("4f993a00-5144-11eb-a75d-1f2a36a46203")
    east = start.astimezone(datetime.fromisoformat("2021-01-01T00:00:00+09:00").tzinfo)
    assert row_uuid("Coinbase", "BTC", "USD", east, 60, "BUY") == made
