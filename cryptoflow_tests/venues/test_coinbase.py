"""Coinbase Exchange: its frames, one by one."""

import json
from typing import Any

import pytest

from cryptoflow.errors import FeedDisconnectedError
from cryptoflow.venues import VENUES
from cryptoflow.venues.coinbase import product_id
from cryptoflow.venues.events import Alive, Event, Left, Other, Reached, Refused, Subscribed
from cryptoflow.venues.session import Session

SUBS = ["0~Coinbase~BTC~USD", "0~Coinbase~ETH~USD"]
NOW_S = 1_788_000_000.0
MATCH = (
    b'{"type":"match","trade_id":1081862675,"maker_order_id":"f07e510f","taker_order_id":"e6f50944","side":"sell",'
    b'"size":"0.00000001","price":"80691.53","product_id":"BTC-USD","sequence":134905860111,'
    b'"time":"2026-08-25T03:35:57.198335Z"}'
)


def session() -> Session:
    return VENUES["coinbase"].session(SUBS)


def events(frame: object, at_work: Session | None = None) -> list[Event]:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    trades, found = (at_work or session()).receive(data, NOW_S)
    assert not trades
    return [*found]


def subscriptions(*products: str) -> dict[str, Any]:
    named = [{"name": name, "product_ids": [*products]} for name in ("matches", "heartbeat")] if products else []
    return {"type": "subscriptions", "channels": named}


@pytest.mark.parametrize("kind", [b"match", b"last_match"])
def test_the_makers_sale_is_the_takers_purchase_also_of_the_last_match_before_the_subscription(kind: bytes) -> None:
    [(trade, _)], _ = session().receive(MATCH.replace(b'"match"', b'"' + kind + b'"'), NOW_S)
    assert (trade.direction, trade.id, trade.price, trade.quantity) == ("BUY", "1081862675", 80691.53, 1e-8)
    assert trade.event_time_ns == 1_787_628_957_198_335_000
    [(trade, _)], _ = session().receive(MATCH.replace(b'"sell"', b'"buy"'), NOW_S)
    assert trade.direction == "SELL"


def test_each_product_is_asked_for_by_itself() -> None:
    asked = [json.loads(frame) for frame in session().frames_to_send()]
    assert asked == [
        {"type": "subscribe", "product_ids": [product], "channels": ["matches", "heartbeat"]}
        for product in ("BTC-USD", "ETH-USD")
    ]


def test_each_answer_lists_all_that_is_accepted_and_what_is_new_is_told() -> None:
    at_work = session()
    assert events(subscriptions("BTC-USD"), at_work) == [Subscribed(SUBS[0])]
    assert events(subscriptions("ETH-USD", "BTC-USD"), at_work) == [Subscribed(SUBS[1])]
    assert events(subscriptions("ETH-USD", "BTC-USD"), at_work) == [Alive()]


def test_leaving_asks_once_and_is_over_when_nothing_is_listed() -> None:
    at_work = session()
    events(subscriptions("BTC-USD"), at_work)
    at_work.frames_to_send()
    at_work.leave()
    [frame] = at_work.frames_to_send()
    assert json.loads(frame) == {
        "type": "unsubscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]
    }  # fmt: skip
    assert events(subscriptions(), at_work) == [Left()]


def test_a_heartbeat_tells_how_far_the_ids_have_come_unless_it_says_zero() -> None:
    beat = {
        "type": "heartbeat",
        "last_trade_id": 90,
        "product_id": "BTC-USD",
        "sequence": 1,
        "time": "2026-08-25T03:35:57Z",
    }
    assert events(beat) == [Reached(("Coinbase", "BTC", "USD"), 90, 1_787_628_957_000_000_000)]
    assert events(beat | {"last_trade_id": 0}) == [Alive()]


@pytest.mark.parametrize(("reason", "sub"), [("ETH-USD is not a valid product", SUBS[1]), ("who knows", None)])
def test_a_product_that_coinbase_lacks_is_refused_by_its_name(reason: str, sub: str | None) -> None:
    error = {"type": "error", "message": "Failed to subscribe", "reason": reason}
    assert events(error) == [Refused(sub, "Failed to subscribe", reason)]


def test_a_client_that_is_too_slow_is_told_that_the_socket_ends() -> None:
    with pytest.raises(FeedDisconnectedError, match="ErrSlowConsume"):
        events({"type": "error", "message": "ErrSlowConsume", "reason": "read faster"})


def test_other_types_are_none_of_ours() -> None:
    assert events({"type": "ticker", "product_id": "BTC-USD", "price": "1"}) == [Other("ticker")]


def test_names_of_pairs() -> None:
    assert product_id(("Coinbase", "BTC", "USD")) == "BTC-USD"
