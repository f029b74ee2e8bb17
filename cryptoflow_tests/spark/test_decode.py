"""The laws of the decoder: it takes what the client takes, and tells when, whose and which each trade is."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import BUY, MAX_AHEAD_S, NS_PER_S, SELL, Trade, read_trade, write_trade
from cryptoflow.spark.decode import FRAMES, REFUSED, TOO_FAR_AHEAD, TRADES, Frames, refused, trades
from cryptoflow.testing import SimulatorConfig, frames
from cryptoflow_tests.spark.streaming import NOON_S, a_trade

AHEAD_S = 60.0
US_PER_S = 1_000_000

PLAIN = {name: json.dumps(value) for name, value in json.loads(write_trade(a_trade(7, rest_ns=5))).items()}
PLAIN |= {"RTS": str(NOON_S), "CCSEQ": "5", "RTSNS": "6"}
"""A trade's frame: the JSON of each of its fields."""

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
        yield from (frame(**{name: value}) for value in (*NUMBERS, *NO_NUMBERS, *STRINGS, *OTHERS))


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
    yield from (
        frame(P="0.1" + "0" * 1200),
        plain[:-1] + b',"X":"\xff"}',
        frame(ID=r'"\ud800"'),
        b'{"M":1,' + plain[1:],
    )


def random_damage(count: int) -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(count):
        damaged = bytearray(frame())
        for _ in range(rng.choice([1, 1, 2])):
            place = rng.randrange(len(damaged))
            damaged[place : place + rng.randrange(2)] = bytes(rng.choices(JSON_BYTES, k=rng.randrange(2)))
        yield bytes(damaged)


def batch(values: Sequence[bytes | None], received_us: int = NOON_S * US_PER_S) -> pa.RecordBatch:
    """Frames as Spark hands them over, received at one time; the offsets count from 10."""
    count = len(values)
    columns = [
        pa.array(values, pa.binary()),
        pa.array([received_us] * count, pa.int64()).cast(pa.timestamp("us", "UTC")),
        pa.array([3] * count, pa.int32()),
        pa.array(range(10, 10 + count), pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FRAMES)


def decoded(*batches: pa.RecordBatch, ahead_s: float = AHEAD_S) -> list[dict[str, Any]]:
    made = [trades(Frames.of(each), ahead_s) for each in batches]
    assert [each.num_rows for each in made] == [each.num_rows for each in batches]
    assert all(each.schema == TRADES for each in made)
    return [row for each in made for row in each.to_pylist()]


def only(trade: Trade, received_us: int = NOON_S * US_PER_S, ahead_s: float = AHEAD_S) -> dict[str, Any]:
    [row] = decoded(batch([write_trade(trade)], received_us), ahead_s=ahead_s)
    return row


def the_client_takes(value: bytes | None) -> bool:
    try:
        trade = read_trade(value or b"")
    except UnreadableFrameError:
        return False
    return trade.time_s <= NOON_S + MAX_AHEAD_S


def check_shared_out(values: Sequence[bytes | None]) -> list[bool]:
    """Each frame is either readable or refused with a reason, as the client's reader says."""
    taken = list(map(the_client_takes, values))
    assert [row["readable"] for row in decoded(batch(values))] == taken
    assert [row["readable"] for row in decoded(*(batch([value]) for value in values))] == taken
    [letters] = refused([Frames.of(batch(values))])
    assert letters.schema == REFUSED
    rows = letters.to_pylist()
    wanted = [(value, 3, 10 + place) for place, value in enumerate(values) if not taken[place]]
    assert [(row["value"], row["partition"], row["offset"]) for row in rows] == wanted
    assert all(row["reason"] for row in rows)
    return taken


def test_the_decoder_takes_exactly_the_frames_that_the_client_takes() -> None:
    values = [*changed_fields(), *mangled_texts(), *random_damage(2000)]
    values += frames(SimulatorConfig(max_trades=100, start_time_s=NOON_S), ["0~Kraken~BTC~USD", "0~Gemini~ETH~EUR"])
    assert 300 < sum(check_shared_out(values)) < len(values) - 300


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40), st.text(max_size=40).map(str.encode)), max_size=8))
def test_no_bytes_make_it_fail(values: list[bytes | None]) -> None:
    check_shared_out([*values, frame()])


@given(st.text(min_size=1, max_size=128))
def test_no_id_makes_it_fail(id: str) -> None:
    check_shared_out([write_trade(a_trade(1, id=id))])


def test_a_batch_of_nothing_readable_gives_a_row_for_each_frame() -> None:
    assert check_shared_out([None, b"", b"{}", b"\xff"]) == [False] * 4


def test_an_empty_batch_gives_an_empty_one() -> None:
    assert check_shared_out([]) == []
    assert decoded(batch([]), batch([frame()]), batch([]))[0]["readable"]


def test_a_trade_more_than_an_hour_ahead_of_its_receive_time_is_refused() -> None:
    edge = write_trade(a_trade(1, time_s=NOON_S + MAX_AHEAD_S))
    beyond = write_trade(a_trade(2, time_s=NOON_S + MAX_AHEAD_S + 1))
    assert check_shared_out([edge, beyond]) == [True, False]
    [letters] = refused([Frames.of(batch([edge, beyond]))])
    assert letters.to_pylist() == [{"value": beyond, "reason": TOO_FAR_AHEAD, "partition": 3, "offset": 11}]


@given(
    st.integers(NOON_S - 4000, NOON_S + MAX_AHEAD_S),
    st.integers(0, NS_PER_S - 1),
    st.integers(0, US_PER_S - 1),
    st.sampled_from([0.5, 1.0, 60.0, 299.0]),
)
def test_a_trade_ahead_of_its_time_is_told_and_moves_the_watermark_only_so_far(
    time_s: int, rest_ns: int, received_us: int, ahead_s: float
) -> None:
    # received      latest that is allowed
    #     |---- ahead_s ----|            exchange time x: event_us is x before the edge, the edge behind it
    received_us += NOON_S * US_PER_S
    row = only(a_trade(1, time_s=time_s, rest_ns=rest_ns), received_us, ahead_s)
    exchange_us, latest_us = row["time_ns"] // 1000, received_us + int(ahead_s * US_PER_S)
    assert row["time_ns"] == time_s * NS_PER_S + rest_ns
    assert row["readable"]
    assert row["ahead"] == (exchange_us > latest_us)
    assert row["event_us"] == min(exchange_us, latest_us)


def test_it_tells_pair_side_and_place() -> None:
    trade = a_trade(7, market="M", from_coin="A", to_currency="B", flags="9", rest_ns=5)
    row = only(trade)
    told = {name: row[name] for name in ("pair", "id", "price", "quantity", "total", "side")}
    assert told == {"pair": "M~A~B", "id": "7", "price": 2.0, "quantity": 1.0, "total": 2.0, "side": 1}
    assert (row["partition"], row["offset"]) == (3, 10)


@given(st.integers(0, 999_999_999).map(str))
def test_the_side_is_that_of_the_trade(flags: str) -> None:
    trade = a_trade(1, flags=flags)
    assert {BUY: "BUY", SELL: "SELL"}.get(only(trade)["side"]) == trade.direction


def test_pairs_are_not_mixed_up_over_batches() -> None:
    some = [a_trade(number, from_coin=coin, to_currency="USD") for number, coin in enumerate(["A", "B", "A", "C"])]
    rows = decoded(*(batch([write_trade(trade)]) for trade in some))
    assert [row["pair"] for row in rows] == ["~".join(trade.pair) for trade in some]
