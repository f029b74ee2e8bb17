"""The laws of the query: it reads what the client reads, and its candles are the reference's."""

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import get_args, get_type_hints

import msgspec
import pytest
from msgspec.structs import fields
from pyspark.sql import DataFrame, SparkSession

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.candle import Candle, Side, candles_of
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade, read_trade, write_trade
from cryptoflow.spark import query
from cryptoflow.testing import SimulatorConfig, frames
from cryptoflow_tests.spark.streaming import NOON_S, SETTINGS, Streaming, a_trade

PLAIN = {name: json.dumps(value) for name, value in json.loads(write_trade(a_trade(7, time_ns=5))).items()}
PLAIN |= {"RTS": str(NOON_S), "CCSEQ": "5", "RTSNS": "6"}
"""A trade's frame: the JSON of each of its fields."""

TEXTS = ("TYPE", "M", "FSYM", "TSYM", "F", "ID")

NUMBERS = (
    "0", "1", "-1", "0.0", "-0", "-0.0", "1.0", "1.5", "1e0", "1e5", "16e8", "1.6e9", "1600000000.0", "1e-400", "1e400",
    "1e18", "1.1e18", "1000000000000000001", "4102444799", "4102444800", "1600000000000", "999999999", "1000000000",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551616", "1" + "0" * 30, "0." + "0" * 300 + "1",
)  # fmt: skip
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "+1", "01", ".5", "5.", "0x10", "1 2", "", '"unterminated', "'1'")
STRINGS = (
    '""', '"0"', '"1"', '"NaN"', '"Infinity"', '"1.5"', '"x"', '"9"', '"15"', '"999999999"', '"1000000000"', '"-1"',
    '" 1"', '"1 "', r'"1\n"', r'"1\r"', r'"1\u2028"', r'"1\u0085"', '"a~b"', '"a b"', r'"a\tb"', r'"a\u00a0b"',
    r'"a\u001cb"', r'"a\u2003b"', r'"a\u200bb"', r'"a\u0000b"', r'"\ud83d\ude00"', '"é"', r'"\u0661"',
    *(f'"{letter * length}"' for letter in "x😀" for length in (64, 65, 128, 129)),
)  # fmt: skip
OTHERS = ("null", "true", "[]", '["1"]', "{}", '{"a":1}')

JSON_BYTES = b'{}[]",:0123456789eE.-+ntf \\~'


def frame(**changed: str) -> bytes:
    return ("{" + ",".join(f'"{name}":{value}' for name, value in (PLAIN | changed).items()) + "}").encode()


def without(name: str) -> bytes:
    return json.dumps({field: json.loads(value) for field, value in PLAIN.items() if field != name}).encode()


def changed_fields() -> Iterator[bytes]:
    """Each field missing, and with every kind of value; an unknown field too."""
    for name in (*PLAIN, "X"):
        yield without(name)
        # That Spark takes a number or an object for its text is among the differences below.
        values = (*NO_NUMBERS, *STRINGS, "null") if name in TEXTS else (*NUMBERS, *NO_NUMBERS, *STRINGS, *OTHERS)
        yield from (frame(**{name: value}) for value in values if (name, value) != ("TSNS", "null"))


def mangled_texts() -> Iterator[bytes]:
    plain = frame()
    for before, after in (
        ("", " "), ("", "\n"), (" ", ""), ("\t\r\n", ""), ("", "x"), ("", ","), ("", "}"), ("[", "]"), ("\ufeff", ""),
        ("//c\n", ""), ("/*c*/", ""), ("", "\0"), ("", "{}"), ("", plain.decode()), ("x", ""),
    ):  # fmt: skip
        yield before.encode() + plain + after.encode()
    yield from (b"", b"null", b"0", b'"x"', b"{}", b"[]", b"[0]", b"\xff\xfe", bytes(range(256)), b"\0" * 10)
    yield from (plain[:-1], plain.replace(b'"', b"'"), plain.replace(b",", b",,"), plain.replace(b":", b" : "))
    yield from (plain[:-1] + b",}", plain.replace(b'"M"', b"M"), plain.replace(b'"P"', b'"p"'))
    yield from (
        plain[:-1] + b',"P":-1}',
        plain[:-1] + b',"ID":"8"}',
        plain[:-1] + b',"TYPE":"1"}',
        plain[:-1] + b',"":1}',
    )
    yield from (plain.replace(b'"M"', rb'"\u004d"'), b'{"P":"x",' + plain[1:], plain[:-1] + b',"P":"x"}')
    yield from (plain[:-1] + b',"fault":"x"}', plain[:-1] + b',"whole":false}', plain[:-1] + b',"frame":{}}')
    yield from (plain[:-1] + b',"X":' + b"[" * depth + b"]" * depth + b"}" for depth in (100, 5000))
    yield from (
        plain.replace(b"Kraken", name) for name in (b"K\xffn", b"K\nn", b"K\x7fn", b"K\xc0\xafn", b"\xed\xa0\x80")
    )
    yield from (plain.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-32-be"))


def random_damage(count: int) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(count):
        damaged = bytearray(frame())
        for _ in range(rng.choice([1, 1, 2])):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randrange(2)] = bytes(rng.choices(JSON_BYTES, k=rng.randrange(2)))
        yield bytes(damaged)


LONG_NUMBER = b"0.1" + b"0" * 1200
ONLY_THE_CLIENT = (
    frame().replace(b'"P":2.0', b'"P":' + LONG_NUMBER),  # Jackson's limit is 1000 digits
    frame()[:-1] + b',"X":' + LONG_NUMBER + b"}",
    frame()[:-1] + b',"X":"\xff"}',  # which no websocket lets through in a text frame
)
"""What the client takes and the query does not: it goes to the dead letters."""

ONLY_THE_QUERY = (
    *(frame(**{name: value}) for name, value in [("TYPE", "0"), ("M", "1"), ("F", "1"), ("ID", "7"), ("ID", "true")]),
    *(frame(**{name: value}) for name in ("M", "ID") for value in ("[]", '{"a":1}')),
    frame(ID=r'"\ud800"'),
    frame(TSNS="null"),
    b'{"M":1,' + frame()[1:],
)
"""What the query takes and the client does not: it gets into the topic by other producers only."""


def frame_rows(spark: SparkSession, values: Iterable[bytes], received_s: int = NOON_S) -> DataFrame:
    rows = [(number, bytearray(value), datetime.fromtimestamp(received_s, UTC)) for number, value in enumerate(values)]
    return spark.createDataFrame(rows, "number int, value binary, timestamp timestamp")


def readable_ones(spark: SparkSession, values: list[bytes], received_s: int = NOON_S) -> list[bytes]:
    rows = query.parsed(frame_rows(spark, values, received_s)).where("readable").select("number").collect()
    return [values[number] for number in sorted(row.number for row in rows)]


def the_client_takes(value: bytes) -> bool:
    try:
        trade = read_trade(value)
    except UnreadableFrameError:
        return False
    return trade.time_s <= NOON_S + MAX_AHEAD_S


def test_the_query_takes_exactly_the_frames_that_the_client_takes(spark: SparkSession) -> None:
    values = [*changed_fields(), *mangled_texts(), *random_damage(600)]
    values += frames(SimulatorConfig(max_trades=100, start_time_s=NOON_S), ["0~Kraken~BTC~USD", "0~Gemini~ETH~EUR"])
    taken = [value for value in values if the_client_takes(value)]
    assert 300 < len(taken) < len(values) - 300
    assert readable_ones(spark, values) == taken


def test_the_known_differences_between_the_query_and_the_client_are_these(spark: SparkSession) -> None:
    values = [*ONLY_THE_CLIENT, *ONLY_THE_QUERY]
    assert tuple(value for value in values if the_client_takes(value)) == ONLY_THE_CLIENT
    assert tuple(readable_ones(spark, values)) == ONLY_THE_QUERY


def test_no_frame_makes_the_query_fail(spark: SparkSession) -> None:
    values = [*changed_fields(), *mangled_texts(), *ONLY_THE_CLIENT, *ONLY_THE_QUERY]
    rows = query.trades(frame_rows(spark, values), "true", NOON_S * NS_PER_S).collect()
    assert {row.side for row in rows} == {0, 1, 3}
    assert all(row.price > 0 for row in rows)


def test_a_trade_too_far_ahead_of_its_receive_time_is_unreadable(spark: SparkSession) -> None:
    edge = write_trade(a_trade(1, time_s=NOON_S + MAX_AHEAD_S))
    beyond = write_trade(a_trade(2, time_s=NOON_S + MAX_AHEAD_S + 1))
    assert readable_ones(spark, [edge, beyond]) == [edge]


def test_trades_before_the_first_window_are_left_out_and_late_where_the_condition_says_so(spark: SparkSession) -> None:
    times_s = [NOON_S - 2, NOON_S - 1, NOON_S, NOON_S + 1]
    values = [write_trade(a_trade(number, time_s=time_s)) for number, time_s in enumerate(times_s)]
    rows = query.trades(frame_rows(spark, [*values, b"x"]), "number >= 1", NOON_S * NS_PER_S)
    assert {row.ID for row in rows.collect()} == {"2", "3"}
    counts = rows._jdf.queryExecution().observedMetrics().apply(query.OBSERVATION)
    # rows, unreadable, late: trade 0 is before the condition's first row
    assert [counts.getLong(place) for place in range(3)] == [5, 1, 1]


def test_the_frames_schema_is_made_from_the_trade() -> None:
    kinds = {"string": str, "double": float, "bigint": int}
    found = {field.name: kinds[field.dataType.simpleString()] for field in query.FRAME_SCHEMA}
    hints = get_type_hints(Trade)
    kind_of = {name: next((part for part in get_args(hint) if part), hint) for name, hint in hints.items()}
    declared = {info.encode_name: kind_of[info.name] for info in fields(Trade)}
    assert found == {"TYPE": str} | declared
    assert len(found) == len(fields(Trade)) + 1


IDS = ("9", "10", "x9", "X", "007", "7", "1e3", "1" * 30, "2" * 30, "3" * 120, "-3", "1.5", "٣", "é")
PAIRS = (("BTC", "USD"), ("ETH", "USD"), ("BTC", "EUR"))


def generated(count: int, rng: random.Random) -> list[Trade]:
    """Trades of three pairs in three windows, many of them in one nanosecond."""
    return [
        a_trade(
            number,
            id=IDS[number] if number < len(IDS) else str(number),
            from_coin=pair[0],
            to_currency=pair[1],
            time_s=NOON_S + rng.choice([0, 0, 59, 60, 61, 179]),
            time_ns=rng.choice([0, 0, 1, NS_PER_S - 1]),
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


def sums(of: Candle | Side) -> tuple[float, float]:
    return of.quantity, of.volume


def test_candles_are_the_references_whatever_order_the_trades_come_in(streaming: Callable[[], Streaming]) -> None:
    rng = random.Random(5)
    trades = generated(300, rng)
    run = streaming()
    run.stream.start()
    copies = [shuffled_with_duplicates(trades, market, rng) for market in "ABC"]
    for part in (slice(500), slice(500, None)):
        run.send(trade for copy in copies for trade in copy[part])
        run.await_written()

    assert run.total("duplicates") == 150
    expected = candles_of([msgspec.structs.replace(t, market=m) for m in "ABC" for t in trades], SETTINGS.window_s)
    assert {same_prices(candle) for candle in run.candles.values()} == set(map(same_prices, expected.values()))
    for key, candle in run.candles.items():
        exact = exact_sums([t for t in trades if t.pair[1:] == key[1:3] and in_window(t, candle)])
        assert [
            *sums(candle),
            *sums(candle.buy),
            *sums(candle.sell),
            candle.buy.price_sum,
            candle.sell.price_sum,
        ] == exact
        assert sums(candle) == pytest.approx(sums(expected[key]), rel=1e-15)


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
