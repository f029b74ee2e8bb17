"""Gemini: its frames, one by one."""

import json

import pytest

from cryptoflow.venues import VENUES
from cryptoflow.venues.events import Event, Left, Other, Refused, Subscribed, Unreadable
from cryptoflow.venues.past import Answer, Wanted
from cryptoflow.venues.session import Session

SUBS = ["0~Gemini~BTC~USD", "0~Gemini~ETH~USD", "0~Gemini~NO~USD"]
GEMINI = VENUES["gemini"]
NOW_S = 1_790_000_000.0
PAIR = ("Gemini", "BTC", "USD")
TRADE = b'{"E":1789456740173524809,"s":"btcusd","t":2840140979766812,"p":"77401.500","q":"0.0100","m":true}'


def events(frame: object, at_work: Session | None = None) -> list[Event]:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    trades, found = (at_work or GEMINI.session(SUBS)).receive(data, NOW_S)
    assert not trades
    return [*found]


@pytest.mark.parametrize(("maker", "side"), [(b"true", "SELL"), (b"false", "BUY")])
def test_a_buyer_who_made_the_market_means_that_the_taker_sold(maker: bytes, side: str) -> None:
    [(trade, record)], _ = GEMINI.session(SUBS).receive(TRADE.replace(b"true", maker), NOW_S)
    assert (trade.direction, trade.id, trade.sequence) == (side, "2840140979766812", None)
    assert trade.event_time_ns == 1_789_456_740_173_524_809
    assert b'"Q":0.0100,"P":77401.500,"TOTAL":774.0150000,' in record


def test_a_stream_that_gemini_lacks_takes_no_other_along() -> None:
    at_work, told = GEMINI.session(SUBS), list[Event]()
    waiting = [json.loads(frame) for frame in at_work.frames_to_send()]
    while waiting:
        request = waiting.pop(0)
        bad = "nousd@trade" in request["params"]
        error = {"status": 400, "error": {"code": -1013, "msg": "Invalid stream name: nousd@trade"}}
        told += events({"id": request["id"]} | (error if bad else {"status": 200}), at_work)
        waiting += [json.loads(frame) for frame in at_work.frames_to_send()]
    assert [event for event in told if not isinstance(event, Other)] == [
        Subscribed(SUBS[0]),
        Subscribed(SUBS[1]),
        Refused(SUBS[2], "Invalid stream name: nousd@trade (code -1013)", ""),
    ]
    at_work.leave()
    [frame] = at_work.frames_to_send()
    assert json.loads(frame)["params"] == ["btcusd@trade", "ethusd@trade"]
    assert events({"id": json.loads(frame)["id"], "status": 200}, at_work) == [Left()]


def test_other_frames_are_known() -> None:
    assert events({"e": "depthUpdate", "E": 1, "s": "btcusd"}) == [Other("depthUpdate")]
    assert events({"u": 1, "E": 1, "s": "btcusd", "b": "1", "B": "1", "a": "1", "A": "1"}) == [Other("bookTicker")]
    assert events({"id": 7, "status": 503}) == [Refused(None, "no reason is given (code 503)", "")]
    [event] = events(TRADE.replace(b'"t":2840140979766812,', b""))
    assert isinstance(event, Unreadable)


def test_past_trades_have_the_takers_side_or_none_and_broken_ones_are_left_out() -> None:
    row = {"timestampms": 1_420_088_400_122, "tid": 5, "price": "822.12", "amount": "12.10", "exchange": "gemini"}
    rows = [row | {"tid": 5, "type": "buy"}, row | {"tid": 4, "type": "auction"}, row | {"tid": 3, "type": "sell"},
            row | {"tid": 2, "type": "buy", "broken": True}]  # fmt: skip
    request = GEMINI.ask(Wanted(PAIR, 1_420_088_400_000_000_000, 2**62))
    assert request.target == "/v1/trades/BTCUSD?timestamp=1420088399999&limit_trades=500"
    page = GEMINI.read(request, Answer(json.dumps(rows).encode()))
    assert [(trade.id, trade.direction) for trade, _ in page.trades] == [("5", "BUY"), ("4", None), ("3", "SELL")]
    assert [each.reason for each in page.unreadable] == ["the trade was broken"]
    assert page.next is None
