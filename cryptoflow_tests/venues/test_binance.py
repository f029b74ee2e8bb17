"""Binance spot: its frames, one by one."""

import json

import pytest

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedRefusedError
from cryptoflow.venues import VENUES
from cryptoflow.venues.events import Closing, Event, Left, Other, Refused, Subscribed
from cryptoflow.venues.past import Answer, Wanted
from cryptoflow.venues.session import Session

SUBS = ["0~Binance~BTC~USDT", "0~Binance~ETH~USDT", "0~Binance~N O~USDT"]
BINANCE = VENUES["binance"]
NOW_S = 1_788_000_000.0
TRADE = (
    b'{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",'
    b'"T":1723161255342,"m":true,"M":true}'
)
COMBINED = b'{"stream":"btcusdt@trade","data":' + TRADE + b"}"


def events(frame: object, at_work: Session | None = None) -> list[Event]:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    trades, found = (at_work or BINANCE.session(SUBS)).receive(data, NOW_S)
    assert not trades
    return [*found]


@pytest.mark.parametrize("frame", [TRADE, COMBINED], ids=["raw", "combined"])
def test_a_buyer_who_made_the_market_means_that_the_taker_sold(frame: bytes) -> None:
    [(trade, record)], _ = BINANCE.session(SUBS).receive(frame, NOW_S)
    assert (trade.direction, trade.id, trade.sequence) == ("SELL", "3735683259", 3735683259)
    assert trade.event_time_ns == 1_723_161_255_342_000_000
    assert b'"P":61837.63000000,' in record
    [(trade, _)], _ = BINANCE.session(SUBS).receive(frame.replace(b'"m":true', b'"m":false'), NOW_S)
    assert trade.direction == "BUY"


def test_times_in_microseconds_are_known_by_their_size() -> None:
    [(trade, _)], _ = BINANCE.session(SUBS).receive(TRADE.replace(b'"T":1723161255342', b'"T":1723161255342987'), NOW_S)
    assert trade.event_time_ns == 1_723_161_255_342_987_000


def test_all_streams_are_asked_for_at_once_and_accepted_at_once() -> None:
    at_work = BINANCE.session(SUBS[:2])
    [frame] = at_work.frames_to_send()
    assert json.loads(frame) == {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@trade"], "id": 1}
    assert events({"result": None, "id": 1}, at_work) == [Subscribed(sub) for sub in SUBS[:2]]
    at_work.leave()
    [frame] = at_work.frames_to_send()
    assert json.loads(frame) == {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@trade"], "id": 2}
    assert events({"result": None, "id": 2}, at_work) == [Left()]


def test_a_refused_request_is_halved_until_the_fault_is_alone() -> None:
    at_work, told = BINANCE.session(SUBS), []
    waiting = [json.loads(frame) for frame in at_work.frames_to_send()]
    while waiting:
        request = waiting.pop(0)
        bad = any(" " in stream for stream in request["params"])
        error = {"error": {"code": 2, "msg": "Invalid request"}, "id": request["id"]}
        told += events(error if bad else {"result": None, "id": request["id"]}, at_work)
        waiting += [json.loads(frame) for frame in at_work.frames_to_send()]
    assert [event for event in told if not isinstance(event, Other)] == [
        Subscribed(SUBS[0]),
        Subscribed(SUBS[1]),
        Refused(SUBS[2], "Invalid request (code 2)", ""),
    ]


def test_many_streams_are_asked_for_in_requests_that_binance_takes_and_left_when_all_are() -> None:
    subs = [f"0~Binance~COIN{number}~FDUSD" for number in range(1000)]
    at_work, streams, told = BINANCE.session(subs), set[str](), list[Event]()
    for method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        frames = at_work.frames_to_send()
        assert max(map(len, frames)) < 4096
        for frame in frames:
            request = json.loads(frame)
            assert request["method"] == method
            streams ^= {*request["params"]}
            told += events({"result": None, "id": request["id"]}, at_work)
        assert len(streams) == (1000 if method == "SUBSCRIBE" else 0)
        at_work.leave()
    assert told[:1000] == [Subscribed(sub) for sub in subs]
    assert [event for event in told[1000:] if event != Other("answer")] == [told[-1]] == [Left()]


def test_an_error_without_a_request_is_told() -> None:
    assert events({"code": 2, "msg": "Invalid request: x"}) == [Refused(None, "Invalid request: x (code 2)", "")]


@pytest.mark.parametrize(
    "frame",
    [{"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1}}, {"e": "serverShutdown", "E": 1}],
)
def test_a_server_that_is_about_to_shut_down_closes_the_socket(frame: dict[str, object]) -> None:
    assert events(frame) == [Closing()]


def test_other_events_are_none_of_ours() -> None:
    assert events({"stream": "x", "data": {"e": "blockTrade", "E": 1}}) == [Other("blockTrade")]
    assert events({"result": None, "id": 99}) == [Other("answer")]


def test_the_streams_address_has_a_path_unless_it_is_given() -> None:
    assert BINANCE.socket_url(BINANCE.url) == "wss://stream.binance.com:9443/stream"
    assert BINANCE.socket_url("ws://127.0.0.1:9/ws?timeUnit=MICROSECOND") == "ws://127.0.0.1:9/ws?timeUnit=MICROSECOND"
    assert BINANCE.socket_url("wss://data-stream.binance.vision/") == "wss://data-stream.binance.vision/stream"


def test_where_binance_does_no_business_nothing_is_tried_again() -> None:
    assert isinstance(BINANCE.judge_status(503), FeedDisconnectedError)
    refusal = BINANCE.judge_status(451)
    assert type(refusal) is FeedRefusedError
    assert "BINANCE_URL" in str(refusal)


@pytest.mark.parametrize(
    ("status", "body", "lists"),
    [(200, b'{"symbols":[]}', True), (400, b'{"code":-1121,"msg":"Invalid symbol."}', False), (404, b"no", True)],
)
def test_an_invalid_symbol_alone_is_a_pair_that_it_lacks(status: int, body: bytes, lists: bool) -> None:
    assert BINANCE.lists(Answer(body, status)) == lists


@pytest.mark.parametrize(
    ("status", "error"), [(429, FeedBusyError), (418, FeedBusyError), (503, FeedDisconnectedError)]
)
def test_trouble_says_nothing_of_a_pair(status: int, error: type[FeedDisconnectedError]) -> None:
    with pytest.raises(error):
        BINANCE.lists(Answer(b"", status))


def test_the_past_is_asked_for_by_its_official_paths() -> None:
    pair = ("Binance", "BTC", "USDT")
    by_id = BINANCE.ask(Wanted(pair, 0, 1, 28457, 28500))
    assert by_id.target == "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=28457&limit=44"
    by_time = BINANCE.ask(Wanted(pair, 1_499_865_549_590_000_001, 2**62))
    assert by_time.target == "/api/v3/aggTrades?symbol=BTCUSDT&startTime=1499865549591&limit=1"
