"""Laws of the simulated Coinbase: what it says is what the real one was seen to say."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import SocketLeftError
from cryptoflow.simulator.coinbase import time_of, time_text
from cryptoflow.simulator.events import Kind
from cryptoflow.simulator.rest import Request
from cryptoflow.simulator.venue import Exchange
from cryptoflow_tests.simulator.asking import START_S, admitted, asked, exchange, frames, said, told

SUB = "0~Coinbase~BTC~USD"
SUBSCRIBE = {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]}

REAL_MATCH = (
    b'{"type":"match","trade_id":1081862675,"maker_order_id":"f07e510f-4edf-469d-b844-4f670f1e93f1",'
    b'"taker_order_id":"e6f50944-3e2a-439e-ae49-308300ba8296","side":"sell","size":"0.00000001","price":"80691.53",'
    b'"product_id":"BTC-USD","sequence":134905860111,"time":"2026-08-25T03:35:57.198335Z"}'
)
REAL_HEARTBEAT = (
    b'{"type":"heartbeat","last_trade_id":278953096,"product_id":"ETH-USD","sequence":29716844241,'
    b'"time":"2022-05-20T21:22:34.751219Z"}'
)
PATH = "/products/BTC-USD"


def coinbase(trades: int = 200, **changes: Any) -> Exchange:
    return exchange("coinbase", trades, **changes)


def all_pages(venue: Exchange, limit: int) -> list[dict[str, Any]]:
    """Every trade of the REST, paged down from the newest."""
    rows: list[dict[str, Any]] = []
    after = ""
    while True:
        answer = venue.tell(Request(f"{PATH}/trades?limit={limit}{after}", "::1"))
        page = msgspec.json.decode(answer.body)
        if not page:
            return rows
        rows += page
        assert answer.headers["CB-BEFORE"] == str(page[0]["trade_id"])
        assert answer.headers["CB-AFTER"] == str(page[-1]["trade_id"])
        after = "&after=" + answer.headers["CB-AFTER"]


# The websocket


@given(st.integers(0, 4 * 10**18))
def test_a_time_is_read_back_to_the_microsecond(time_ns: int) -> None:
    assert time_of(time_text(time_ns)) == time_ns // 1000 * 1000


def test_a_match_and_a_heartbeat_have_the_real_ones_fields() -> None:
    venue = coinbase()
    match = msgspec.json.decode(frames(venue, 1)[0].frame)
    assert list(match) == list(msgspec.json.decode(REAL_MATCH))
    assert [type(value) for value in match.values()] == [
        type(value) for value in msgspec.json.decode(REAL_MATCH).values()
    ]
    session = admitted(venue)
    said(session, SUBSCRIBE)
    (beat,) = session.beat(idle=False)
    assert list(msgspec.json.decode(beat)) == list(msgspec.json.decode(REAL_HEARTBEAT))


def test_the_real_match_is_read_and_written_again_as_it_was() -> None:
    (trade,) = coinbase().decode(REAL_MATCH)
    assert (trade.pair, trade.id, trade.buy) == (("Coinbase", "BTC", "USD"), 1081862675, True)
    again, real = msgspec.json.decode(coinbase().encode([trade])), msgspec.json.decode(REAL_MATCH)
    same = ("type", "trade_id", "side", "size", "price", "product_id", "time")
    assert {name: again[name] for name in same} == {name: real[name] for name in same}


def test_the_side_is_the_makers() -> None:
    venue = coinbase()
    for event in frames(venue, 100):
        match = msgspec.json.decode(event.frame)
        tape = venue.tape(venue.pairs[match["product_id"]])
        taken = tape.trade(event.ids[0] - tape.offset)
        assert match["side"] == ("sell" if taken.buy else "buy")


def test_a_subscription_gets_the_last_match_first_and_then_all_channels() -> None:
    venue = coinbase()
    session = admitted(venue)
    answers = said(session, SUBSCRIBE)
    assert [answer["type"] for answer in answers] == ["last_match", "subscriptions"]
    assert answers[0]["trade_id"] == venue.last(SUB, 1)[0].id
    assert answers[1]["channels"] == [
        {"name": "matches", "product_ids": ["BTC-USD"]},
        {"name": "heartbeat", "product_ids": ["BTC-USD"]},
    ]
    assert list(session.subscriptions) == [SUB]
    both = said(session, {"type": "subscribe", "channels": [{"name": "matches", "product_ids": ["ETH-USD"]}]})
    assert [answer["type"] for answer in both] == ["last_match", "subscriptions"]
    assert said(session, SUBSCRIBE)[0]["type"] == "subscriptions"


def test_a_last_match_may_come_twice() -> None:
    answers = said(admitted(coinbase(faults={"duplicate_last_match": True})), SUBSCRIBE)
    assert [answer["type"] for answer in answers] == ["last_match", "last_match", "subscriptions"]
    assert answers[0] == answers[1]


def test_an_unsubscription_leaves_only_what_it_names() -> None:
    session = admitted(coinbase())
    said(session, SUBSCRIBE)
    (left,) = said(session, SUBSCRIBE | {"type": "unsubscribe", "channels": ["matches"]})
    assert left["channels"] == [{"name": "heartbeat", "product_ids": ["BTC-USD"]}]
    assert not list(session.subscriptions)
    assert session.subscribed


@pytest.mark.parametrize(
    ("asked_for", "reason"),
    [
        ({"product_ids": ["BTC-USD", "XBT-USD"]}, "XBT-USD is not a valid product"),
        ({"channels": ["trades"]}, "trades is not a valid channel"),
        ({"product_ids": []}, "matches needs product_ids"),
        ({"channels": []}, " is not a valid channel"),
    ],
)
def test_a_subscription_that_is_wrong_in_part_is_refused_as_a_whole(asked_for: dict[str, Any], reason: str) -> None:
    session = admitted(coinbase())
    assert said(session, SUBSCRIBE | asked_for) == [
        {"type": "error", "message": "Failed to subscribe", "reason": reason}
    ]
    assert not session.subscribed


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(msgspec.json.encode))
def test_whatever_is_sent_gets_an_error_and_breaks_nothing(frame: bytes) -> None:
    session = admitted(coinbase(1))
    (answer,) = said(session, frame)
    assert answer["type"] == "error"
    assert answer["message"]


def test_a_product_that_the_faults_name_is_none() -> None:
    session = admitted(coinbase(faults={"refused_subscriptions": (SUB,)}))
    assert said(session, SUBSCRIBE)[0]["reason"] == "BTC-USD is not a valid product"
    assert said(session, SUBSCRIBE | {"product_ids": ["ETH-USD"]})[-1]["type"] == "subscriptions"


def test_a_heartbeat_tells_the_last_id_of_each_product_whether_it_was_sent_or_not() -> None:
    venue = coinbase()
    session = admitted(venue)
    said(session, SUBSCRIBE | {"product_ids": ["BTC-USD", "ETH-USD"]})
    frames(venue, 50)
    for beat in map(msgspec.json.decode, session.beat(idle=False)):
        subscription = "0~Coinbase~" + beat["product_id"].replace("-", "~")
        assert beat["last_trade_id"] == venue.last(subscription, 1)[0].id


def test_a_heartbeat_may_hide_the_id() -> None:
    session = admitted(coinbase(faults={"zero_last_trade_id": True}))
    said(session, SUBSCRIBE)
    assert msgspec.json.decode(session.beat(idle=False)[0])["last_trade_id"] == 0


def test_ids_step_by_one_and_the_sequence_by_more() -> None:
    matches = [msgspec.json.decode(event.frame) for event in frames(coinbase(), 400)]
    bitcoin = [match for match in matches if match["product_id"] == "BTC-USD"]
    ids = [match["trade_id"] for match in bitcoin]
    steps = [after["sequence"] - before["sequence"] for before, after in pairwise(bitcoin)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert min(steps) > 0
    assert sum(step > 1 for step in steps) > len(steps) / 2


def test_too_many_frames_end_the_socket_with_a_word() -> None:
    with pytest.raises(SocketLeftError) as left:
        admitted(coinbase()).too_fast()
    assert msgspec.json.decode(left.value.frames[0])["message"] == "ErrSlowRead"


# The REST


@pytest.mark.parametrize("limit", [7, 100, 1000])
def test_pages_down_tell_every_trade_once_newest_first(limit: int) -> None:
    venue = coinbase(1000)
    rows = all_pages(venue, limit)
    tape = venue.tape(("Coinbase", "BTC", "USD"))
    assert [row["trade_id"] for row in rows] == [
        number + tape.offset for number in range(tape.next - 1, tape.first - 1, -1)
    ]


def test_rest_and_websocket_tell_the_same() -> None:
    venue = coinbase()
    matches = {event.ids[0]: msgspec.json.decode(event.frame) for event in frames(venue, 500, SUB)}
    for row in told(venue, f"{PATH}/trades?limit=200"):
        match = matches[row["trade_id"]]
        assert (row["time"], row["side"]) == (match["time"], match["side"])
        assert (float(row["price"]), float(row["size"])) == (float(match["price"]), float(match["size"]))
        assert list(row) == ["time", "trade_id", "price", "size", "side"]


def test_before_starts_at_the_head_and_after_at_the_cursor() -> None:
    venue = coinbase(600)
    newest = venue.last(SUB, 1)[0].id
    before = told(venue, f"{PATH}/trades?limit=5&before={newest - 100}")
    assert [row["trade_id"] for row in before] == list(range(newest, newest - 5, -1))
    assert [row["trade_id"] for row in told(venue, f"{PATH}/trades?before={newest - 3}")] == [
        newest,
        newest - 1,
        newest - 2,
    ]
    after = told(venue, f"{PATH}/trades?limit=3&after={newest - 100}")
    assert [row["trade_id"] for row in after] == [newest - 101, newest - 102, newest - 103]


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("/products/XBT-USD/trades", 404, "NotFound"),
        ("/nothing", 404, "NotFound"),
        (f"{PATH}/trades?after=x", 400, "Invalid after"),
        (f"{PATH}/trades?after=0", 400, "Invalid after"),
        (f"{PATH}/candles?granularity=61", 400, "Unsupported granularity"),
        (f"{PATH}/candles?start=yesterday", 400, "Invalid start"),
        (
            f"{PATH}/candles?granularity=60&start=0&end=18060",
            400,
            "granularity too small for the requested time range. Count of aggregations requested exceeds 300",
        ),
    ],
)
def test_a_wrong_request_is_answered_as_the_venue_does(target: str, status: int, message: str) -> None:
    answer = asked(coinbase(), target)
    assert (answer.status, msgspec.json.decode(answer.body)) == (status, {"message": message})


def test_candles_are_newest_first_without_the_empty_ones_and_the_last_is_open() -> None:
    venue = coinbase(2000, history_s=3600, faults={"quiet_pairs": ("ETH-USD",), "quiet_every_s": 100})
    rows = told(venue, f"{PATH}/candles?granularity=60")
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert rows[0][0] == venue.now_ns() // 10**9 // 60 * 60
    tape = venue.tape(("Coinbase", "BTC", "USD"))
    minute = rows[5][0]
    trades = [tape.trade(number) for number in tape.between(tape.at(minute * 10**9), tape.at((minute + 60) * 10**9))]
    prices = [float(trade.price_text) for trade in trades]
    assert rows[5][1:5] == [min(prices), max(prices), prices[0], prices[-1]]
    assert rows[5][5] == pytest.approx(sum(float(trade.quantity_text) for trade in trades))
    quiet = told(venue, "/products/ETH-USD/candles?granularity=60")
    assert 0 < len(quiet) < len(rows)


def test_a_stretch_of_candles_has_both_its_ends() -> None:
    venue = coinbase(4000)
    start_s = START_S // 60 * 60 - 600
    rows = told(venue, f"{PATH}/candles?granularity=60&start={start_s}&end={start_s + 300}")
    assert [row[0] for row in rows] == list(range(start_s + 300, start_s - 1, -60))
    assert rows == told(
        venue, f"{PATH}/candles?start={time_text(start_s * 10**9)}&end={time_text((start_s + 300) * 10**9)}"
    )


def test_ten_requests_a_second_are_let_through_and_fifteen_at_once() -> None:
    venue = coinbase()
    statuses = [asked(venue, PATH, now_s=100.0).status for _ in range(17)]
    assert statuses == [200] * 15 + [429] * 2
    assert asked(venue, PATH, "another", 100.0).status == 200
    assert asked(venue, PATH, now_s=100.2).status == 200
    refused = asked(venue, PATH, now_s=100.2)
    assert refused.status == 200
    assert asked(venue, PATH, now_s=100.2).body == b'{"message":"Public rate limit exceeded"}'
    assert venue.tally.broken["requests"] == venue.tally.refused["requests"] == 3
    assert venue.tally.requests[PATH] == 21


def test_a_lag_hides_the_newest_trades_from_the_rest_only() -> None:
    venue = coinbase(1000, faults={"rest_lag_s": 5})
    newest = venue.last(SUB, 1)[0]
    rows = told(venue, f"{PATH}/trades?limit=1")
    assert rows[0]["trade_id"] < newest.id
    assert venue.now_ns() - time_of(rows[0]["time"]) > 5 * 10**9


def test_products_are_those_that_are_traded() -> None:
    venue = coinbase(pairs=("BTC-EUR", "SOL-USD"))
    assert [product["id"] for product in told(venue, "/products")] == ["BTC-EUR", "SOL-USD"]
    assert told(venue, "/products/SOL-USD")["base_currency"] == "SOL"
    assert Kind.TRADE is frames(venue, 1)[0].kind
