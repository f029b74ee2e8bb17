"""The streamer's protocol: what each frame is, what is answered, what ends the connection."""

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import FeedDisconnectedError, UnauthorizedError
from cryptoflow.model.trade import MAX_AHEAD_S, Trade, read_trade, write_trade
from cryptoflow.venues.cryptocompare import (
    Heartbeat,
    LoadComplete,
    Protocol,
    Ticker,
    Unsubscribed,
    UnsubscribedAll,
    Welcome,
    judge,
    judge_status,
)
from cryptoflow.venues.events import Other, Refused, Subscribed, Unreadable
from cryptoflow.venues.reading import hide

NOW_S = 1_753_190_420.0
SUBSCRIPTIONS = ("0~Coinbase~BTC~USD", "0~Coinbase~BTC~USDT")
FRAME: dict[str, Any] = {
    "TYPE": "0", "M": "Coinbase", "FSYM": "BTC", "TSYM": "USD", "F": "1", "ID": "852793745",
    "TS": 1753190418, "Q": 0.34637342, "P": 119283.1, "TOTAL": 41316.495295202,
}  # fmt: skip

texts = st.text(st.characters(exclude_categories=["Cs", "Z", "C"], exclude_characters="~"), min_size=1, max_size=20)
amounts = st.floats(1e-9, 1e12)
trades = st.builds(
    Trade,
    texts, texts, texts, st.integers(0, 15).map(str), texts, st.integers(0, int(NOW_S)),
    amounts, amounts, amounts,
    sequence=st.none() | st.integers(0, 2**53),
    rest_ns=st.integers(0, 999_999_999),
)  # fmt: skip


def receive(frame: object, protocol: Protocol | None = None, *, binary: bool = False) -> object:
    """The one thing that a frame is; a trade's record is the frame itself."""
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    trades, events = (protocol or Protocol(SUBSCRIPTIONS)).receive(data, NOW_S, binary=binary)
    assert all(record == data for _, record in trades)
    found: list[object] = [trade for trade, _ in trades]
    found += events
    assert len(found) == 1
    return found[0]


@given(trades)
def test_a_trade_comes_out_as_it_was_sent(trade: Trade) -> None:
    assert receive(write_trade(trade)) == trade


@given(st.binary(max_size=300))
def test_no_bytes_break_the_protocol(data: bytes) -> None:
    event = receive(data)
    assert isinstance(event, Unreadable)
    assert (event.frame, bool(event.reason)) == (data, True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*FRAME, "MESSAGE", "SUB", "TIMEMS"]), json_values))
def test_a_frame_with_any_fields_missing_or_wrong_is_told_not_thrown(changes: dict[str, Any]) -> None:
    frame = FRAME | changes
    event = receive(frame)
    if isinstance(event, Trade):
        assert event == read_trade(json.dumps(frame))


def test_every_real_frame_is_read(shared: Path) -> None:
    lines = (shared / "data/cryptocompare/messages.jsonl").read_text().splitlines()
    frames = [record["msg"] for record in map(json.loads, lines) if "msg" in record]
    kinds = {"0": Trade, "20": Welcome, "16": Subscribed, "3": LoadComplete, "17": Unsubscribed,
             "18": UnsubscribedAll, "999": Heartbeat}  # fmt: skip
    readable = [frame for frame in frames if frame["TYPE"] in kinds]
    assert len(readable) >= 10
    for frame in readable:
        assert type(receive(frame)) is kinds[frame["TYPE"]]


def test_every_recorded_trade_is_read(shared: Path) -> None:
    for name in ("binance-futures-btcusdt", "binance-spot-btcusdt-midnight"):
        frames = gzip.decompress((shared / f"replay/{name}.jsonl.gz").read_bytes()).splitlines()
        assert {type(receive(frame)) for frame in frames} == {Trade}


def test_the_welcome_is_answered_with_the_subscriptions_once() -> None:
    protocol = Protocol(SUBSCRIPTIONS)
    assert protocol.frames_to_send() == []
    receive({"TYPE": "20", "MESSAGE": "STREAMERWELCOME", "SOCKET_ID": "x", "SERVER_NAME": 8}, protocol)
    (frame,) = protocol.frames_to_send()
    assert json.loads(frame) == {"action": "SubAdd", "subs": list(SUBSCRIPTIONS)}
    assert protocol.frames_to_send() == []


def test_leaving_removes_the_subscriptions_that_were_accepted() -> None:
    protocol = Protocol(SUBSCRIPTIONS)
    receive({"TYPE": "16", "MESSAGE": "SUBSCRIBECOMPLETE", "SUB": SUBSCRIPTIONS[0]}, protocol)
    protocol.leave()
    (frame,) = protocol.frames_to_send()
    assert json.loads(frame) == {"action": "SubRemove", "subs": [SUBSCRIPTIONS[0]]}


def test_leaving_before_anything_was_accepted_asks_for_nothing() -> None:
    protocol = Protocol(SUBSCRIPTIONS)
    protocol.leave()
    assert protocol.frames_to_send() == []


def test_events_carry_what_the_feed_said() -> None:
    assert receive({"TYPE": "16", "MESSAGE": "SUBSCRIBECOMPLETE", "SUB": "0~A~B~C"}) == Subscribed("0~A~B~C")
    assert receive({"TYPE": "999", "MESSAGE": "HEARTBEAT", "TIMEMS": 1582817678330}) == Heartbeat(1582817678330)
    assert receive({"TYPE": "2", "MARKET": "Coinbase", "FLAGS": 1}) == Ticker()
    assert receive({"TYPE": "30", "MESSAGE": "news"}) == Other("30")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        b'{"TYPE":' * 100_000,
        b"[]",
        b"0",
        b'{"M":"Coinbase"}',
        b'{"TYPE":0}',
        b'\xff\xfe{"TYPE":"0"}',
        b'{"TYPE":"999"}',
    ],
)
def test_what_is_no_frame_of_the_protocol_is_unreadable(frame: bytes) -> None:
    assert isinstance(receive(frame), Unreadable)


@pytest.mark.parametrize(
    ("change", "part"),
    [({"P": 0}, "$.P"), ({"Q": -1}, "$.Q"), ({"TS": 1753190418654}, "$.TS"), ({"M": "a~b"}, "$.M"),
     ({"F": 1}, "$.F"), ({"TSNS": 10**9}, "$.TSNS"), ({"ID": ""}, "$.ID")],
)  # fmt: skip
def test_a_trade_outside_its_limits_is_unreadable_and_the_reason_names_the_field(
    change: dict[str, Any], part: str
) -> None:
    event = receive(FRAME | change)
    assert isinstance(event, Unreadable)
    assert part in event.reason


def test_a_frame_that_is_not_utf_8_is_unreadable() -> None:
    event = receive(json.dumps(FRAME).encode().replace(b"Coinbase", b"Coin\xffase"))
    assert isinstance(event, Unreadable)
    assert "utf-8" in event.reason.lower()


def test_a_binary_frame_is_unreadable_whatever_it_holds() -> None:
    frame = msgspec.json.encode(FRAME)
    assert receive(frame, binary=True) == Unreadable(frame, "binary frame")


@given(st.integers(-10_000, 10_000))
def test_a_trade_from_the_future_is_unreadable(ahead_s: int) -> None:
    event = receive(FRAME | {"TS": int(NOW_S) + ahead_s})
    assert isinstance(event, Unreadable) == (ahead_s > MAX_AHEAD_S)
    if isinstance(event, Unreadable):
        assert event.reason == "exchange time is in the future"


@pytest.mark.parametrize(("kind", "message"), [("401", "UNAUTHORIZED"), ("500", "INVALID_API_KEY")])
def test_a_refused_key_ends_it_with_the_feeds_own_words_and_the_way_out(kind: str, message: str) -> None:
    frame = {
        "TYPE": kind,
        "MESSAGE": message,
        "PARAMETER": "format",
        "INFO": "We only support a valid api_key.",
    }
    with pytest.raises(UnauthorizedError) as caught:
        receive(frame)
    for part in (message, "format", "We only support a valid api_key.", "CRYPTOCOMPARE_API_KEY"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("429", "RATE_LIMIT_OPENING_SOCKETS_TOO_FAST"), ("429", "TOO_MANY_SOCKETS_MAX_1_PER_CLIENT"),
     ("500", "FORCE_DISCONNECT")],
)  # fmt: skip
def test_a_socket_that_is_turned_away_is_worth_another_try(kind: str, message: str) -> None:
    with pytest.raises(FeedDisconnectedError, match=message):
        receive({"TYPE": kind, "MESSAGE": message, "INFO": "limit"})


@pytest.mark.parametrize(
    ("kind", "message"),
    [("429", "TOO_MANY_SUBSCRIPTIONS_MAX_600_PER_SOCKET"), ("500", "INVALID_SUB"), ("500", "INVALID_JSON"),
     ("500", "SUBSCRIPTION_ALREADY_ACTIVE"), ("500", "SOMETHING_NEW")],
)  # fmt: skip
def test_a_refused_request_leaves_the_socket_up(kind: str, message: str) -> None:
    assert receive({"TYPE": kind, "MESSAGE": message, "INFO": "why"}) == Refused(None, message, "why")


@pytest.mark.parametrize("where", ["PARAMETER", "INFO", "SUB"])
@pytest.mark.parametrize("sub", SUBSCRIPTIONS)
def test_a_refused_subscription_is_named_wherever_the_feed_names_it(where: str, sub: str) -> None:
    event = receive({"TYPE": "500", "MESSAGE": "INVALID_SUB", where: f"We do not know {sub} here"})
    assert isinstance(event, Refused)
    assert event.sub == sub


@pytest.mark.parametrize("frame", ["401", "429", "500"])
def test_the_key_never_comes_back_out_of_an_error_frame(frame: str) -> None:
    key = "s3cret/+key"
    echo = {
        "TYPE": frame,
        "MESSAGE": f"BAD {key}",
        "PARAMETER": "api_key=s3cret%2F%2Bkey",
        "INFO": f"key {key}",
    }
    try:
        said = repr(receive(echo, Protocol(SUBSCRIPTIONS, key)))
    except (UnauthorizedError, FeedDisconnectedError) as error:
        said = repr(error)
    assert "s3cret" not in said


@given(st.text(), st.text(min_size=1, alphabet="abcXYZ019/+ "))
def test_hiding_leaves_no_copy_and_nothing_is_hidden_without_a_key(text: str, key: str) -> None:
    assert key not in hide(f"{text}{key}{text}", key).replace("***", "\0")
    assert hide(text, None) == text


def test_a_handshake_refused_for_the_key_is_final_and_any_other_is_not() -> None:
    assert {type(judge_status(status)) for status in (401, 403)} == {UnauthorizedError}
    assert {type(judge_status(status)) for status in (404, 429, 500, 503)} == {FeedDisconnectedError}


def test_a_refused_key_tells_that_the_free_plan_is_over_and_names_the_sources_that_need_none() -> None:
    judged = judge("401", "UNAUTHORIZED"), judge("500", "INVALID_API_KEY"), judge_status(401), judge_status(403)
    for refused in judged:
        assert isinstance(refused, UnauthorizedError)
        assert "free plan has ended" in str(refused)
        assert "`--source coinbase,binance,kraken`" in str(refused)
