"""Laws of the simulated Binance: what it says is what the real one was seen to say."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import SocketLeftError
from cryptoflow.simulator.binance import BAN_AFTER, INTERVALS_S, text_of
from cryptoflow.simulator.venue import Arrival, Exchange
from cryptoflow_tests.simulator.asking import START_S, admitted, asked, exchange, frames, said, told

SUB = "0~Binance~BTC~USDT"
STREAM = "btcusdt@trade"

REAL_TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
    b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)
DOCUMENTED_TRADE = {
    "id": 28457,
    "price": "4.00000100",
    "qty": "12.00000000",
    "quoteQty": "48.000012",
    "time": 1499865549590,
    "isBuyerMaker": True,
    "isBestMatch": True,
}
DOCUMENTED_AGGREGATE = {
    "a": 26129,
    "p": "0.01633102",
    "q": "4.70443515",
    "f": 27781,
    "l": 27781,
    "T": 1498793709153,
    "m": True,
    "M": True,
}
API = "/api/v3/{}?symbol=BTCUSDT&"


def binance(trades: int = 200, **changes: Any) -> Exchange:
    return exchange("binance", trades, **changes)


def rows(venue: Exchange, what: str, query: str = "") -> list[Any]:
    found: list[Any] = told(venue, API.format(what) + query)
    return found


# The websocket


def test_a_trade_is_written_as_the_real_one() -> None:
    (trade,) = binance().decode(REAL_TRADE)
    assert (trade.pair, trade.id, trade.buy) == (("Binance", "BTC", "USDT"), 3735683259, False)
    assert binance().encode([trade]) == REAL_TRADE


def test_made_trades_have_the_real_ones_fields() -> None:
    trade = msgspec.json.decode(frames(binance(), 9, SUB)[0].frame)
    real = msgspec.json.decode(REAL_TRADE)
    assert list(trade) == list(real)
    assert [(name, type(value)) for name, value in trade["data"].items()] == [
        (name, type(value)) for name, value in real["data"].items()
    ]


def test_m_says_that_the_taker_sold() -> None:
    venue = binance()
    tape = venue.tape(("Binance", "BTC", "USDT"))
    for event in frames(venue, 100, SUB):
        assert msgspec.json.decode(event.frame)["data"]["m"] is not tape.trade(event.ids[0] - tape.offset).buy


@pytest.mark.parametrize(
    ("target", "streams"),
    [
        ("/ws", []),
        ("/ws/btcusdt@trade", [SUB]),
        ("/stream", []),
        ("/stream?streams=btcusdt@trade/ethusdt@trade", [SUB, "0~Binance~ETH~USDT"]),
        ("/stream?streams=btcusdt@depth/nousdt@trade/BTCUSDT@trade", []),
    ],
)
def test_streams_may_stand_in_the_address(target: str, streams: list[str]) -> None:
    assert list(admitted(binance(), target).subscriptions) == streams


def test_a_raw_client_gets_the_data_alone_and_a_combined_one_the_stream_too() -> None:
    venue = binance()
    frame = frames(venue, 1)[0].frame
    assert admitted(venue, "/stream").dress(frame) == frame
    assert msgspec.json.decode(admitted(venue, "/ws").dress(frame)) == msgspec.json.decode(frame)["data"]


def test_microseconds_are_sent_if_asked_for() -> None:
    venue = binance()
    frame = frames(venue, 1)[0].frame
    data = msgspec.json.decode(frame)["data"]
    for target in ("/ws?timeUnit=MICROSECOND", "/stream?timeUnit=microsecond"):
        sent = msgspec.json.decode(admitted(venue, target).dress(frame))
        sent = sent.get("data", sent)
        assert (sent["T"], sent["E"]) == (data["T"] * 1000, data["E"] * 1000)


@given(st.sampled_from([b"", b"Bad Gateway", b'{"data":', b'{"data":7}', b'[{"data":{}}]']))
def test_a_broken_frame_is_dressed_without_a_fault(frame: bytes) -> None:
    for target in ("/ws", "/stream", "/ws?timeUnit=MICROSECOND"):
        admitted(binance(0), target).dress(frame)


def test_subscribing_listing_and_leaving_are_answered_by_id() -> None:
    session = admitted(binance(), "/stream")
    assert said(session, {"method": "SUBSCRIBE", "params": [STREAM, "nousdt@trade"], "id": 1}) == [
        {"result": None, "id": 1}
    ]
    assert list(session.subscriptions) == [SUB]
    assert said(session, {"method": "LIST_SUBSCRIPTIONS", "id": 3}) == [{"result": [STREAM, "nousdt@trade"], "id": 3}]
    assert said(session, {"method": "UNSUBSCRIBE", "params": [STREAM], "id": "x"}) == [{"result": None, "id": "x"}]
    assert not list(session.subscriptions)
    assert said(session, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == [{"result": True, "id": 2}]
    assert said(session, {"method": "SET_PROPERTY", "params": ["combined", False], "id": 5})[0]["result"] is None
    assert said(session, {"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == [{"result": False, "id": 2}]


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (b"{", 3, "Invalid JSON: expected value"),
        (b"[]", 2, "missing field `method`"),
        ({"params": [], "id": 1}, 2, "missing field `method`"),
        ({"method": "SUB", "id": 1}, 2, "unknown variant `SUB`, expected one of `SUBSCRIBE`"),
        ({"method": "SUBSCRIBE", "params": "x", "id": 1}, 2, "Invalid request"),
        ({"method": "SUBSCRIBE", "params": [], "id": 1.5}, 2, "request ID must be an unsigned integer"),
        ({"method": "GET_PROPERTY", "params": ["colour"], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "expected Boolean"),
    ],
)
def test_a_wrong_request_is_answered_as_the_venue_does(request_: object, code: int, message: str) -> None:
    (answer,) = said(admitted(binance()), request_)
    assert answer["code"] == code
    assert message in answer["msg"]


def test_a_socket_has_1024_streams_at_most() -> None:
    venue = binance()
    session = admitted(venue, "/stream")
    many = [f"a{number}usdt@trade" for number in range(1024)]
    assert said(session, {"method": "SUBSCRIBE", "params": many, "id": 1})[0]["result"] is None
    assert said(session, {"method": "SUBSCRIBE", "params": [STREAM], "id": 19}) == [
        {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 19}
    ]
    assert venue.tally.broken["subscriptions"] == 1


def test_a_shutdown_is_told_before() -> None:
    (notice,) = admitted(binance(), "/stream").goodbye()
    told_ = msgspec.json.decode(notice)
    assert told_["stream"] == "!serverShutdown"
    assert list(told_["data"]) == ["e", "E"]
    (raw,) = admitted(binance(), "/ws").goodbye()
    assert msgspec.json.decode(raw)["e"] == "serverShutdown"


def test_too_many_frames_end_the_socket() -> None:
    with pytest.raises(SocketLeftError):
        admitted(binance()).too_fast()


def test_an_address_opens_300_sockets_in_five_minutes_at_most() -> None:
    venue = binance()

    def opened(client: str, now_s: float) -> int:
        refused = venue.door(Arrival("/ws", {}, client, 0, now_s, 0.0, 0))
        return 101 if refused is None else refused.status

    assert {opened("a", 10.0) for _ in range(300)} == {101}
    assert (opened("a", 11.0), opened("b", 11.0), opened("a", 300.0)) == (429, 101, 101)
    assert venue.tally.broken["connects"] == 1


# The REST


def test_amounts_have_eight_decimals() -> None:
    assert (text_of(6183763, 2), text_of(2_000_000, 8), text_of(1, 9)) == (
        "61837.63000000",
        "0.02000000",
        "0.000000001",
    )


def test_rows_have_the_documented_fields() -> None:
    venue = binance()
    for what, documented in (
        ("trades", DOCUMENTED_TRADE),
        ("historicalTrades", DOCUMENTED_TRADE),
        ("aggTrades", DOCUMENTED_AGGREGATE),
    ):
        row = rows(venue, what, "limit=1")[0]
        assert [(name, type(value)) for name, value in row.items()] == [
            (name, type(value)) for name, value in documented.items()
        ]


@pytest.mark.parametrize("limit", [9, 500, 1000])
def test_pages_up_by_id_tell_every_trade_once(limit: int) -> None:
    venue = binance(1000)
    tape = venue.tape(("Binance", "BTC", "USDT"))
    got: list[int] = []
    from_id = tape.first + tape.offset
    while page := rows(venue, "historicalTrades", f"fromId={from_id}&limit={limit}"):
        got += [row["id"] for row in page]
        from_id = got[-1] + 1
    assert got == [number + tape.offset for number in range(tape.first, tape.next)]


def test_rest_and_websocket_tell_the_same() -> None:
    venue = binance()
    trades = {event.ids[0]: msgspec.json.decode(event.frame)["data"] for event in frames(venue, 500, SUB)}
    for row in rows(venue, "historicalTrades", "limit=200"):
        trade = trades[row["id"]]
        assert (row["price"], row["qty"], row["time"], row["isBuyerMaker"]) == (
            trade["p"],
            trade["q"],
            trade["T"],
            trade["m"],
        )
        assert float(row["quoteQty"]) == pytest.approx(float(row["price"]) * float(row["qty"]), abs=1e-8)


@pytest.mark.parametrize("how", ["fromId", "startTime"])
def test_aggregates_follow_each_other_without_a_hole_and_are_the_trades_of_an_order_at_a_price(how: str) -> None:
    venue = binance(2000)
    tape = venue.tape(("Binance", "BTC", "USDT"))
    middle = tape.trade(tape.next - 400)
    first = rows(venue, "aggTrades", f"startTime={middle.time_ns // 10**6}&limit=1")[0]
    start = f"fromId={first['a']}" if how == "fromId" else f"startTime={first['T']}"
    aggregates = rows(venue, "aggTrades", f"{start}&limit=1000")
    assert [each["a"] for each in aggregates] == list(range(first["a"], first["a"] + len(aggregates)))
    for before, after in pairwise(aggregates):
        assert after["f"] == before["l"] + 1
    assert any(each["l"] > each["f"] for each in aggregates)
    for each in aggregates:
        trades = [tape.trade(id_ - tape.offset) for id_ in range(each["f"], each["l"] + 1)]
        assert {(t.price, t.buy, t.time_ns // 10**6) for t in trades} == {(trades[0].price, not each["m"], each["T"])}
        assert each["q"] == text_of(sum(t.quantity for t in trades), 8)


def test_the_times_of_aggregates_are_both_included() -> None:
    venue = binance(2000)
    every = rows(venue, "aggTrades", "limit=100")
    begin, end = every[20]["T"], every[60]["T"]
    between = rows(venue, "aggTrades", f"startTime={begin}&endTime={end}")
    assert between == [each for each in every if begin <= each["T"] <= end]
    assert (between[0]["T"], between[-1]["T"]) == (begin, end)


def test_klines_are_of_the_documented_form_and_right() -> None:
    venue = binance(4000)
    for interval, width_s in INTERVALS_S.items():
        for row in rows(venue, "klines", f"interval={interval}&limit=3"):
            assert len(row) == 12
            assert row[6] == row[0] + width_s * 1000 - 1
    row = rows(venue, "klines", "interval=1m&limit=3")[1]
    trades = [t for t in rows(venue, "trades", "limit=1000") if row[0] <= t["time"] <= row[6]]
    assert row[8] == len(trades)
    assert (row[1], row[4]) == (trades[0]["price"], trades[-1]["price"])
    assert float(row[2]) == max(float(t["price"]) for t in trades)
    assert float(row[5]) == pytest.approx(sum(float(t["qty"]) for t in trades), abs=1e-8)
    assert float(row[7]) == pytest.approx(sum(float(t["quoteQty"]) for t in trades), abs=1e-6)
    assert float(row[9]) == pytest.approx(sum(float(t["qty"]) for t in trades if not t["isBuyerMaker"]), abs=1e-8)


def test_quiet_minutes_are_in_the_klines_and_flat() -> None:
    venue = binance(4000, faults={"quiet_pairs": ("BTC-USDT",), "quiet_every_s": 100})
    got = rows(venue, "klines", "interval=1m&limit=60")
    assert [row[0] for row in got] == list(range(got[0][0], got[0][0] + 60_000 * len(got), 60_000))
    flat = [row for row in got if row[8] == 0]
    assert flat
    assert all(row[1] == row[2] == row[3] == row[4] and row[5] == "0.00000000" for row in flat)


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ("", range(-499, 1)),
        ("limit=3", range(-2, 1)),
        ("startTime={-10}", range(-10, 1)),
        ("startTime={-10}&limit=4", range(-10, -6)),
        ("endTime={-5}&limit=3", range(-7, -4)),
        ("startTime={-10}&endTime={-8}", range(-10, -7)),
        ("startTime={5}", range(0)),
    ],
)
def test_klines_are_of_the_stretch_asked_for(query: str, minutes: range) -> None:
    venue = binance(600, history_s=36_000)
    now_min = venue.now_ns() // 10**9 // 60
    times = {f"{{{number}}}": str((now_min + number) * 60_000) for number in range(-10, 6)}
    for name, text in times.items():
        query = query.replace(name, text)
    got = rows(venue, "klines", f"interval=1m&{query}")
    assert [row[0] // 60_000 - now_min for row in got] == list(minutes)


def test_klines_begin_with_the_first_trade_of_all() -> None:
    venue = binance(600, history_s=600)
    got = rows(venue, "klines", "interval=1m&startTime=0&limit=5")
    tape = venue.tape(("Binance", "BTC", "USDT"))
    assert got[0][0] // 1000 == tape.time_ns(tape.first) // 10**9 // 60 * 60
    assert len(got) == 5


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/api/v3/historicalTrades", 400, -1102),
        ("/api/v3/historicalTrades?symbol=BTCUSD", 400, -1121),
        ("/api/v3/historicalTrades?symbol=BTCUSDT&fromId=x", 400, -1100),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=1&startTime=1", 400, -1128),
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", 400, -1120),
        ("/api/v3/exchangeInfo?symbol=XBTUSDT", 400, -1121),
    ],
)
def test_a_wrong_query_is_answered_by_its_code(target: str, status: int, code: int) -> None:
    answer = asked(binance(), target)
    assert (answer.status, msgspec.json.decode(answer.body)["code"]) == (status, code)


def test_a_path_may_be_missing() -> None:
    venue = binance(faults={"rest_lacks": ("historicalTrades",)})
    assert asked(venue, "/api/v3/historicalTrades?symbol=BTCUSDT").status == 404
    assert asked(venue, "/api/v3/aggTrades?symbol=BTCUSDT").status == 200
    assert asked(venue, "/api/v9/what").status == 404


def test_the_weight_of_a_minute_is_told_and_kept() -> None:
    venue = binance(history_s=600)
    trades, klines = API.format("historicalTrades") + "limit=1", API.format("klines") + "interval=1m&limit=1"
    assert asked(venue, trades, now_s=60.0).headers["X-MBX-USED-WEIGHT-1M"] == "25"
    assert asked(venue, klines, now_s=61.0).headers["X-MBX-USED-WEIGHT-1M"] == "27"
    statuses = [asked(venue, trades, now_s=70.0).status for _ in range(240)]
    assert statuses == [200] * 238 + [429] * 2
    refused = asked(venue, trades, now_s=75.5)
    assert refused.headers["Retry-After"] == "45"
    assert msgspec.json.decode(refused.body)["code"] == -1003
    assert asked(venue, trades, "another", 75.5).status == 200
    assert asked(venue, trades, now_s=120.0).headers["X-MBX-USED-WEIGHT-1M"] == "25"


def test_who_does_not_heed_a_429_is_banned_for_two_minutes() -> None:
    venue = binance(history_s=600, limit_factor=0.01)
    target = API.format("historicalTrades") + "limit=1"
    statuses = [asked(venue, target, now_s=60.0).status for _ in range(BAN_AFTER + 4)]
    assert statuses == [200, 200] + [429] * BAN_AFTER + [418] * 2
    banned = asked(venue, target, now_s=100.0)
    assert (banned.status, banned.headers["Retry-After"]) == (418, "80")
    assert asked(venue, target, now_s=181.0).status == 200


def test_who_waits_is_never_banned() -> None:
    venue = binance(history_s=600, limit_factor=0.01)
    now_s = 60.0
    for _ in range(60):
        answer = asked(venue, API.format("historicalTrades") + "limit=1", now_s=now_s)
        assert answer.status in (200, 429)
        now_s += float(answer.headers.get("Retry-After", 0))
    assert venue.tally.refused["weight"] == venue.tally.broken["weight"] >= 20


def test_what_is_traded_is_told() -> None:
    venue = binance(pairs=("BTC-EUR", "SOL-USDT"))
    symbols = told(venue, "/api/v3/exchangeInfo")["symbols"]
    assert [symbol["symbol"] for symbol in symbols] == ["BTCEUR", "SOLUSDT"]
    assert told(venue, "/api/v3/exchangeInfo?symbol=SOLUSDT")["symbols"] == [symbols[1]]
    assert told(venue, "/api/v3/time")["serverTime"] >= START_S * 1000
    assert told(venue, "/api/v3/ping") == {}


@given(st.sampled_from(["BTC-USDT", "ETH-BTC", "BTC-USD", "USDT-TRY", "USDC-USDT", "DAI-USDT", "SOL-FDUSD"]))
def test_a_symbol_is_read_back(pair: str) -> None:
    venue = binance(0, pairs=(pair,))
    (symbol,) = venue.pairs
    assert venue.named(symbol) == venue.pairs[symbol]
