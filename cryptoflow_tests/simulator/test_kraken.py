"""Laws of the simulated Kraken: what it says is what the real one was seen to say."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import BadParameterError, ConfigError
from cryptoflow.simulator.coinbase import time_of
from cryptoflow.simulator.kraken import full_name, short_name, since_of
from cryptoflow.simulator.rest import Answer
from cryptoflow.simulator.venue import Exchange
from cryptoflow_tests.simulator.asking import START_S, admitted, asked, exchange, frames, said, told

SUB = "0~Kraken~BTC~USD"
PAIR = ("Kraken", "BTC", "USD")

REAL_TRADE = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":59121.8,"qty":0.00022946,'
    b'"ord_type":"market","trade_id":72823289,"timestamp":"2024-08-12T19:38:30.575191Z"}]}'
)
DOCUMENTED_ROW = ["30243.40000", "0.34507674", 1688669597.8277369, "b", "m", "", 61044952]
TRADES = "/0/public/Trades?pair=XBTUSD"
OHLC = "/0/public/OHLC?pair=XBTUSD"


def kraken(trades: int = 200, **changes: Any) -> Exchange:
    return exchange("kraken", trades, **changes)


def subscribe(*symbols: str, **more: Any) -> dict[str, Any]:
    params = {"channel": "trade", "symbol": list(symbols)} | more.pop("params", {})
    return {"method": "subscribe", "params": params} | more


def rows(venue: Exchange, target: str) -> tuple[list[Any], str]:
    """The rows of an answer, and its `last`."""
    answer = told(venue, target)
    assert answer["error"] == []
    found = dict(answer["result"])
    last = found.pop("last")
    (listed,) = found.values()
    return listed, last


# The websocket


def test_the_first_frame_is_the_status() -> None:
    (first,) = admitted(kraken()).opened()
    status = msgspec.json.decode(first)
    assert (status["channel"], status["type"]) == ("status", "update")
    assert status["data"][0].keys() == {"api_version", "connection_id", "system", "version"}
    assert status["data"][0]["system"] == "online"


def test_a_trade_is_written_as_the_real_one() -> None:
    venue = kraken()
    (trade,) = venue.decode(REAL_TRADE)
    assert (trade.pair, trade.id, trade.buy) == (PAIR, 72823289, False)
    again, real = msgspec.json.decode(venue.encode([trade])), msgspec.json.decode(REAL_TRADE)
    assert list(again["data"][0]) == list(real["data"][0])
    assert {**again["data"][0], "ord_type": "market"} == real["data"][0]


def test_the_side_is_the_takers_and_amounts_are_numbers() -> None:
    venue = kraken()
    tape = venue.tape(PAIR)
    for event in frames(venue, 100, SUB):
        for row in msgspec.json.decode(event.frame)["data"]:
            assert row["side"] == ("buy" if tape.trade(row["trade_id"] - tape.offset).buy else "sell")
            assert isinstance(row["price"], float)
            assert isinstance(row["qty"], float)


def test_trades_of_one_order_come_in_one_frame() -> None:
    several = [event for event in frames(kraken(), 600, SUB) if event.trades > 1]
    assert several
    for event in several:
        data = msgspec.json.decode(event.frame)["data"]
        assert len({row["timestamp"] for row in data}) == 1
        assert tuple(row["trade_id"] for row in data) == event.ids


def test_each_symbol_has_an_ack_of_its_own_and_a_snapshot_only_if_asked_for() -> None:
    session = admitted(kraken())
    one, two = said(session, subscribe("BTC/USD", "ETH/USD", req_id=1))
    assert one.pop("time_in") <= one.pop("time_out")
    assert one == {
        "method": "subscribe",
        "result": {"channel": "trade", "snapshot": False, "symbol": "BTC/USD"},
        "success": True,
        "req_id": 1,
    }
    assert two["result"]["symbol"] == "ETH/USD"
    assert list(session.subscriptions) == [SUB, "0~Kraken~ETH~USD"]


def test_a_snapshot_is_the_last_fifty_trades_oldest_first() -> None:
    venue = kraken(400)
    ack, snapshot = said(admitted(venue), subscribe("BTC/USD", params={"snapshot": True}))
    assert ack["result"]["snapshot"] is True
    assert snapshot["type"] == "snapshot"
    ids = [row["trade_id"] for row in snapshot["data"]]
    newest = venue.last(SUB, 1)[0].id
    assert ids == list(range(newest - 49, newest + 1))


def test_what_the_venue_lacks_is_refused_by_symbol_and_the_others_go_on() -> None:
    session = admitted(kraken(faults={"refused_subscriptions": ("0~Kraken~ETH~USD",)}))
    refused, accepted, other = said(session, subscribe("XBT/USD", "BTC/USD", "ETH/USD"))
    assert refused.keys() == {"error", "method", "success", "symbol", "time_in", "time_out"}
    assert (refused["error"], refused["success"]) == ("Currency pair not supported XBT/USD", False)
    assert accepted["success"] is True
    assert other["error"] == "Currency pair not supported ETH/USD"
    assert list(session.subscriptions) == [SUB]


def test_a_second_subscription_is_refused_and_the_first_stays() -> None:
    session = admitted(kraken())
    said(session, subscribe("BTC/USD"))
    assert said(session, subscribe("BTC/USD"))[0]["error"] == "Already subscribed"
    assert list(session.subscriptions) == [SUB]


def test_leaving_is_acknowledged_by_symbol() -> None:
    session = admitted(kraken())
    said(session, subscribe("BTC/USD"))
    left, unknown = said(session, subscribe("BTC/USD", "ETH/USD") | {"method": "unsubscribe"})
    assert (left["method"], left["result"], left["success"]) == (
        "unsubscribe",
        {"channel": "trade", "symbol": "BTC/USD"},
        True,
    )
    assert unknown["success"] is False
    assert not list(session.subscriptions)


def test_a_ping_gets_its_pong() -> None:
    (pong,) = said(admitted(kraken()), {"method": "ping", "req_id": 101})
    assert pong.keys() == {"method", "req_id", "time_in", "time_out"}
    assert (pong["method"], pong["req_id"]) == ("pong", 101)


def test_heartbeats_come_after_the_first_subscription_and_only_when_nothing_else_does() -> None:
    session = admitted(kraken())
    assert session.beat(idle=True) == []
    said(session, subscribe("BTC/USD"))
    assert session.beat(idle=False) == []
    assert session.beat(idle=True) == [b'{"channel":"heartbeat"}']


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(msgspec.json.encode))
def test_whatever_is_sent_gets_an_error_and_breaks_nothing(frame: bytes) -> None:
    (answer,) = said(admitted(kraken(1)), frame)
    assert (answer["error"], answer["method"], answer["success"]) == ("Malformed request", "error", False)


def test_too_many_frames_get_a_word_and_the_socket_stays() -> None:
    (said_,) = admitted(kraken()).too_fast()
    assert msgspec.json.decode(said_)["error"] == "Exceeded msg rate"


def test_maintenance_is_told_as_a_status() -> None:
    venue = kraken()
    session = admitted(venue)
    assert session.goodbye() == []
    venue.maintained = True
    assert msgspec.json.decode(session.goodbye()[0])["data"][0]["system"] == "maintenance"
    assert msgspec.json.decode(venue.outage(maintenance=True).body) == {"error": ["EService:Unavailable"]}
    assert venue.outage(maintenance=False).status == 503


# The REST


@pytest.mark.parametrize(
    ("pair", "full", "short"),
    [
        (("BTC", "USD"), "XXBTZUSD", "XBTUSD"),
        (("ETH", "EUR"), "XETHZEUR", "ETHEUR"),
        (("BTC", "USDT"), "XBTUSDT", "XBTUSDT"),
        (("SOL", "USD"), "SOLUSD", "SOLUSD"),
        (("DOGE", "USD"), "XDGUSD", "XDGUSD"),
    ],
)
def test_pairs_have_the_names_of_the_rest(pair: tuple[str, str], full: str, short: str) -> None:
    assert (full_name(("Kraken", *pair)), short_name(("Kraken", *pair))) == (full, short)


@given(st.integers(0, 4 * 10**9))
def test_since_may_be_seconds_with_decimals_or_nanoseconds(seconds: int) -> None:
    assert since_of(str(seconds)) == since_of(f"{seconds}.0") == seconds * 10**9
    assert since_of(f"{seconds}.123456789") == seconds * 10**9 + 123456789
    assert since_of("1616666442304882029") == 1616666442304882029


@pytest.mark.parametrize("text", ["", "x", "-1", "1e999999999", "nan", "inf"])
def test_what_is_no_since_is_refused(text: str) -> None:
    with pytest.raises(BadParameterError):
        since_of(text)


def test_a_row_has_the_documented_form() -> None:
    (row,), last = rows(kraken(), f"{TRADES}&count=1")
    assert [type(value) for value in row] == [type(value) for value in DOCUMENTED_ROW]
    assert last.isdecimal()
    assert row[2] == pytest.approx(int(last) / 10**9, abs=1e-6)


@pytest.mark.parametrize("count", [11, 100, 1000])
def test_pages_up_from_the_last_time_tell_every_trade_and_the_last_one_twice(count: int) -> None:
    venue = kraken(900)
    tape = venue.tape(PAIR)
    since, got = "0", []
    while True:
        page, last = rows(venue, f"{TRADES}&since={since}&count={count}")
        got += [row[6] for row in page]
        if last == since:
            break
        since = last
    assert sorted(set(got)) == [number + tape.offset for number in range(tape.first, tape.next)]
    assert len(got) > len(set(got))
    assert len(got) - len(set(got)) <= 9 * (len(got) // count + 2)


def test_an_exclusive_since_leaves_out_what_shares_the_pages_last_time() -> None:
    venue = kraken(900, faults={"exclusive_since": True})
    tape = venue.tape(PAIR)
    since, got = "0", []
    while True:
        page, last = rows(venue, f"{TRADES}&since={since}&count=13")
        if not page:
            break
        got += [row[6] for row in page]
        since = last
    assert len(got) == len(set(got))
    missing = {number + tape.offset for number in range(tape.first, tape.next)} - set(got)
    assert missing
    assert all(tape.time_ns(id_ - tape.offset) == tape.time_ns(id_ - 1 - tape.offset) for id_ in missing)


def test_rest_and_websocket_tell_the_same() -> None:
    venue = kraken()
    sent = {
        row["trade_id"]: row for event in frames(venue, 500, SUB) for row in msgspec.json.decode(event.frame)["data"]
    }
    for row in rows(venue, f"{TRADES}&count=200")[0]:
        trade = sent[row[6]]
        assert (float(row[0]), float(row[1]), row[3]) == (trade["price"], trade["qty"], trade["side"][0])
        assert row[4] == trade["ord_type"][0]
        # A JSON number has no more than a double holds: a quarter of a microsecond.
        assert -250 < since_of(str(row[2])) - time_of(trade["timestamp"]) < 1250


def test_candles_are_720_and_the_open_one_flat_ones_included() -> None:
    venue = kraken(4000, history_s=80_000, faults={"quiet_pairs": ("BTC-USD",), "quiet_every_s": 100})
    bars, last = rows(venue, OHLC)
    assert len(bars) == 721
    assert [after[0] - before[0] for before, after in pairwise(bars)] == [60] * 720
    assert last == bars[-2][0] == venue.now_ns() // 10**9 // 60 * 60 - 60
    assert all(len(bar) == 8 for bar in bars)
    flat = [bar for bar in bars if bar[7] == 0]
    assert len(flat) > 100
    assert {(bar[5], bar[6]) for bar in flat} == {("0.00000", "0.00000000")}


def test_a_candle_is_what_its_trades_come_to() -> None:
    venue = kraken(4000)
    bars, _ = rows(venue, f"{OHLC}&since={venue.now_ns() // 10**9 - 300}")
    start_s, opened, high, low, close, vwap, volume, count = bars[2]
    trades = [row for row in rows(venue, f"{TRADES}&since={start_s}")[0] if row[2] < start_s + 60]
    prices, amounts = [float(row[0]) for row in trades], [float(row[1]) for row in trades]
    assert (float(opened), float(high), float(low), float(close)) == (prices[0], max(prices), min(prices), prices[-1])
    assert count == len(trades)
    assert float(volume) == pytest.approx(sum(amounts), abs=1e-8)
    weighed = sum(price * amount for price, amount in zip(prices, amounts, strict=True))
    assert float(vwap) == pytest.approx(weighed / sum(amounts), abs=0.006)


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/0/public/Trades?pair=XBTXBT", 200, "EQuery:Unknown asset pair"),
        ("/0/public/Trades", 200, "EGeneral:Invalid arguments"),
        (f"{TRADES}&count=0x", 200, "EGeneral:Invalid arguments:count"),
        (f"{TRADES}&count=1001", 200, "EGeneral:Invalid arguments:count"),
        (f"{TRADES}&since=never", 200, "EGeneral:Invalid arguments:since"),
        (f"{OHLC}&interval=7", 200, "EGeneral:Invalid arguments:interval"),
        ("/0/public/Nothing", 404, "EGeneral:Unknown method"),
    ],
)
def test_a_wrong_request_is_answered_as_the_venue_does(target: str, status: int, error: str) -> None:
    answer = asked(kraken(), target)
    assert (answer.status, msgspec.json.decode(answer.body)) == (status, {"error": [error]})


def test_a_request_too_many_is_answered_by_200_and_counts_for_its_pair_and_address() -> None:
    venue = kraken(history_s=600)

    def errors(target: str, client: str = "a", now_s: float = 100.0) -> list[str]:
        answer: Answer = asked(venue, target, client, now_s)
        assert answer.status == 200
        found: list[str] = msgspec.json.decode(answer.body)["error"]
        return found

    assert [errors(f"{TRADES}&count=1") for _ in range(16)] == [[]] * 15 + [["EGeneral:Too many requests"]]
    assert errors("/0/public/Trades?pair=ETHUSD&count=1") == []
    assert errors(f"{TRADES}&count=1", "b") == []
    assert errors(f"{TRADES}&count=1", now_s=103.1) == []
    assert errors(f"{TRADES}&count=1", now_s=103.1) == ["EGeneral:Too many requests"]
    assert venue.tally.broken["requests"] == 2


def test_pairs_and_times_are_told() -> None:
    venue = kraken()
    assert told(venue, "/0/public/AssetPairs")["result"].keys() == {"XXBTZUSD", "XETHZUSD"}
    assert told(venue, "/0/public/AssetPairs?pair=XBTUSD")["result"]["XXBTZUSD"]["wsname"] == "XBT/USD"
    assert told(venue, "/0/public/AssetPairs?pair=NOUSD")["error"] == ["EQuery:Unknown asset pair"]
    assert told(venue, "/0/public/Time")["result"]["unixtime"] >= START_S
    assert told(venue, "/0/public/SystemStatus")["result"]["status"] == "online"


def test_an_unknown_venue_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="bitstamp"):
        exchange("bitstamp")  # type: ignore[arg-type]
