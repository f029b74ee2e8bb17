"""Laws of the trade: read and written alike, its side from its bits, and the reason of each broken frame."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import (
    BUY,
    MAX_AMOUNT,
    MAX_TIME_S,
    NS_PER_S,
    SELL,
    Trade,
    direction,
    kafka_key,
    read_trade,
    write_trade,
)

FRAME = {
    "TYPE": "0", "M": "Coinbase", "FSYM": "BTC", "TSYM": "USD", "F": "1", "ID": "155073843", "TS": 1618335983,
    "Q": 0.00480162, "P": 63239.88, "TOTAL": 303.6538726056, "RTS": 1618335983, "TSNS": 471000000,
    "RTSNS": 615000000, "CCSEQ": 852777369,
}  # fmt: skip

OPTIONAL = {"RTS", "TSNS", "RTSNS", "CCSEQ"}

names = st.from_regex(r"[^~\s]{1,64}", fullmatch=True)
amounts = st.floats(0, MAX_AMOUNT)
trades = st.builds(
    Trade,
    market=names,
    from_coin=names,
    to_currency=names,
    flags=st.integers(0, 31).map(str),
    id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128),
    time_s=st.integers(0, MAX_TIME_S - 1),
    quantity=amounts,
    price=st.floats(0, MAX_AMOUNT, exclude_min=True),
    total=amounts,
    received_s=st.none() | st.integers(0, MAX_TIME_S),
    sequence=st.none() | st.integers(0, 2**53),
    rest_ns=st.integers(0, NS_PER_S - 1),
    received_ns=st.none() | st.integers(0, NS_PER_S - 1),
)


def frame(**changes: Any) -> bytes:
    return json.dumps(FRAME | changes).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in FRAME.items() if key != name}).encode()


def recorded(folder: Path) -> Iterator[dict[str, Any]]:
    """The trades of the recorded frames."""
    for line in (folder / "data" / "cryptocompare" / "messages.jsonl").read_text().splitlines():
        message = json.loads(line).get("msg", {})
        if message.get("TYPE") == "0":
            yield message


@given(trades)
def test_what_is_written_is_read_again(trade: Trade) -> None:
    assert read_trade(write_trade(trade)) == trade
    assert read_trade(write_trade(trade).decode()) == trade


@given(trades)
def test_a_written_trade_is_a_frame_of_the_feed(trade: Trade) -> None:
    written = json.loads(write_trade(trade))
    assert written["TYPE"] == "0"
    assert FRAME.keys() - written.keys() <= OPTIONAL
    assert written.keys() <= FRAME.keys()


def test_every_field_comes_from_its_place() -> None:
    assert read_trade(frame()) == Trade(
        "Coinbase", "BTC", "USD", "1", "155073843", 1618335983, 0.00480162, 63239.88, 303.6538726056,
        received_s=1618335983, sequence=852777369, rest_ns=471000000, received_ns=615000000,
    )  # fmt: skip


def test_recorded_frames_are_read_and_written_alike(shared: Path) -> None:
    found = list(recorded(shared))
    assert len(found) == 3
    for message in found:
        trade = read_trade(json.dumps(message))
        assert json.loads(write_trade(trade)) == message
        assert (trade.pair, trade.direction) == (("Coinbase", "BTC", "USD"), "SELL")
        assert trade.event_time_ns == message["TS"] * NS_PER_S + message["TSNS"]


@pytest.mark.parametrize(
    ("flags", "side"),
    [(0, None), (1, "SELL"), (2, "BUY"), (3, None), (4, None), (9, "SELL"), (10, "BUY"), (12, None)],
)
def test_the_side_is_told_by_the_bits(flags: int, side: str | None) -> None:
    assert direction(flags) == side
    assert read_trade(frame(F=str(flags))).direction == side


@pytest.mark.parametrize("flags", range(32))
def test_a_side_is_exactly_one_of_two_bits(flags: int) -> None:
    sells, buys = bool(flags & SELL), bool(flags & BUY)
    expected = None if sells == buys else "SELL" if sells else "BUY"
    assert direction(flags) == expected


@given(trades)
def test_a_trade_is_told_from_its_duplicates_by_market_pair_and_id(trade: Trade) -> None:
    assert trade.identity == (trade.market, trade.from_coin, trade.to_currency, trade.id)
    again = msgspec.structs.replace(trade, price=1.0, flags="2", time_s=0, received_s=5)
    assert again.identity == trade.identity


@given(trades, trades)
def test_only_trades_of_one_pair_on_one_market_have_one_kafka_key(one: Trade, other: Trade) -> None:
    assert (kafka_key(one.pair) == kafka_key(other.pair)) == (one.pair == other.pair)


def test_the_kafka_key_is_as_promised() -> None:
    assert kafka_key(read_trade(frame()).pair) == b"Coinbase~BTC~USD"


def test_optional_fields_may_be_missing() -> None:
    trade = read_trade(json.dumps({name: FRAME[name] for name in FRAME.keys() - OPTIONAL}))
    assert (trade.received_s, trade.sequence, trade.received_ns) == (None, None, None)
    assert trade.event_time_ns == trade.time_s * NS_PER_S


def test_whole_numbers_are_amounts_too_and_unknown_fields_are_ignored() -> None:
    trade = read_trade(frame(P=63240, Q=1, NEW={"a": [1]}))
    assert (trade.price, trade.quantity) == (63240.0, 1.0)


@pytest.mark.parametrize("name", sorted(FRAME.keys() - OPTIONAL))
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(UnreadableFrameError, match=f"`{name}`"):
        read_trade(without(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TYPE", "2"), ("TYPE", 0), ("TYPE", None),
        ("M", ""), ("M", "a~b"), ("M", "a b"), ("M", "Coinbase\n"), ("M", "x" * 65), ("M", 5),
        ("FSYM", ""), ("FSYM", "B~TC"), ("TSYM", "\tUSD"), ("TSYM", None),
        ("F", 1), ("F", ""), ("F", "-1"), ("F", "BUY"), ("F", "1" * 10),
        ("ID", ""), ("ID", 155073843), ("ID", "7" * 129),
        ("TS", -1), ("TS", 1618335983000), ("TS", 1618335983.5), ("TS", "1618335983"),
        ("TSNS", -1), ("TSNS", NS_PER_S), ("TSNS", None),
        ("P", 0), ("P", -1.5), ("P", "63239.88"), ("P", 1e19), ("P", None),
        ("Q", -0.1), ("Q", "1"), ("Q", 1e19), ("TOTAL", -1), ("TOTAL", 1e300), ("TOTAL", []),
        ("RTS", "now"), ("RTSNS", 0.5), ("CCSEQ", "1"),
    ],
)  # fmt: skip
def test_a_broken_field_is_named(name: str, value: object) -> None:
    with pytest.raises(UnreadableFrameError, match=rf"`\$\.{name}`$"):
        read_trade(frame(**{name: value}))


@pytest.mark.parametrize(
    "broken",
    [
        b"", b" ", b"{", frame()[:-1], b"[]", b"null", b'"0"', b"0", b"trade", b"\xff\xfe", b"\x00", frame() + b"}",
        frame(P=float("nan")), frame(Q=float("inf")), frame(ID="\ud800"), '{"TYPE": "0", "M": "\ud800"}',
        frame().replace(b"Coinbase", b"Coin\xed\xa0\x80"), b"{" * 10_000, b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_told(broken: bytes | str) -> None:
    with pytest.raises(UnreadableFrameError, match=r"\w"):
        read_trade(broken)


@given(st.binary() | st.text())
def test_garbage_is_unreadable_and_nothing_worse(garbage: bytes | str) -> None:
    with pytest.raises(UnreadableFrameError):
        read_trade(garbage)
