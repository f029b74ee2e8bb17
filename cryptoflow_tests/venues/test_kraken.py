"""Kraken v2: its frames, one by one."""

import json
from decimal import Decimal

import pytest

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedRefusedError
from cryptoflow.model.trade import NS_PER_S
from cryptoflow.venues import VENUES
from cryptoflow.venues.events import Alive, Event, Left, Other, Refused, Subscribed, Unreadable
from cryptoflow.venues.kraken import rest_pair, symbol
from cryptoflow.venues.past import Answer, Request, Wanted
from cryptoflow.venues.session import Session
from cryptoflow_tests.venues.speaking import Deal, Rest, kraken_rest, pages

SUBS = ["0~Kraken~BTC~USD", "0~Kraken~DOGE~EUR", "0~Kraken~XBT~USD"]
KRAKEN = VENUES["kraken"]
NOW_S = 1_788_000_000.0
NOW_NS = int(NOW_S) * NS_PER_S
PAIR = ("Kraken", "BTC", "USD")
UPDATE = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":59121.8,"qty":0.00022946,'
    b'"ord_type":"market","trade_id":72823289,"timestamp":"2024-08-12T19:38:30.575191Z"}]}'
)


def session() -> Session:
    return KRAKEN.session(SUBS)


def events(frame: object, at_work: Session | None = None) -> list[Event]:
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    trades, found = (at_work or session()).receive(data, NOW_S)
    assert not trades
    return [*found]


def answer(method: str, name: str) -> dict[str, object]:
    return {"method": method, "result": {"channel": "trade", "symbol": name}, "success": True}


def test_the_side_is_the_takers_and_numbers_keep_their_digits() -> None:
    [(trade, record)], _ = session().receive(UPDATE, NOW_S)
    assert (trade.direction, trade.id, trade.sequence) == ("SELL", "72823289", 72823289)
    assert trade.event_time_ns == 1_723_491_510_575_191_000
    assert b'"Q":0.00022946,"P":59121.8,"TOTAL":13.566088228,' in record


def test_a_frame_has_many_trades_and_a_bad_one_hides_no_other() -> None:
    data = json.loads(UPDATE)["data"][0]
    batch = [data | {"trade_id": number, "price": 0 if number == 2 else number} for number in (3, 1, 2, 4)]
    trades, [bad] = session().receive(
        json.dumps({"channel": "trade", "type": "snapshot", "data": batch}).encode(), NOW_S
    )
    assert [trade.id for trade, _ in trades] == ["3", "1", "4"]
    assert isinstance(bad, Unreadable)
    assert json.loads(bad.frame) == {"channel": "trade", "data": [batch[2]]}


def test_all_symbols_are_asked_for_at_once_and_answered_one_by_one() -> None:
    at_work = session()
    [frame] = at_work.frames_to_send()
    params = {"channel": "trade", "symbol": ["BTC/USD", "DOGE/EUR", "XBT/USD"], "snapshot": True}
    assert json.loads(frame) == {"method": "subscribe", "params": params}
    assert events(answer("subscribe", "BTC/USD"), at_work) == [Subscribed(SUBS[0])]
    refusal = {
        "error": "Currency pair not supported XBT/USD",
        "method": "subscribe",
        "success": False,
        "symbol": "XBT/USD",
    }
    assert events(refusal, at_work) == [Refused(SUBS[2], "Currency pair not supported XBT/USD", "")]
    assert events(answer("subscribe", "DOGE/EUR"), at_work) == [Subscribed(SUBS[1])]
    at_work.leave()
    [frame] = at_work.frames_to_send()
    left = {"channel": "trade", "symbol": ["BTC/USD", "DOGE/EUR"]}
    assert json.loads(frame) == {"method": "unsubscribe", "params": left}
    assert events(answer("unsubscribe", "DOGE/EUR"), at_work) == [Other("unsubscribe")]
    assert events(answer("unsubscribe", "BTC/USD"), at_work) == [Left()]


@pytest.mark.parametrize("error", ["Exceeded msg rate", "EAPI:Rate limit exceeded", "EService:Unavailable"])
def test_a_symbol_that_is_turned_away_for_now_is_asked_for_again(error: str) -> None:
    at_work = session()
    at_work.frames_to_send()
    turned_away = {"error": error, "method": "subscribe", "success": False, "symbol": "DOGE/EUR"}
    for _ in range(2):
        assert events(turned_away, at_work) == [Other("asked again")]
        [frame] = at_work.frames_to_send()
        params = {"channel": "trade", "symbol": ["DOGE/EUR"], "snapshot": True}
        assert json.loads(frame) == {"method": "subscribe", "params": params}
    assert events(answer("subscribe", "DOGE/EUR"), at_work) == [Subscribed(SUBS[1])]


@pytest.mark.parametrize("name", ["error", "Error"])
def test_a_request_that_is_turned_away_for_now_without_a_symbol_is_for_another_socket(name: str) -> None:
    with pytest.raises(FeedDisconnectedError, match="Exceeded msg rate"):
        session().receive(json.dumps({name: "Exceeded msg rate", "success": False}).encode(), NOW_S)


def test_other_frames_are_known() -> None:
    assert events({"channel": "heartbeat"}) == [Alive()]
    assert events({"channel": "status", "type": "update", "data": [{"system": "online"}]}) == [Other("status")]
    assert events({"channel": "trade", "type": "update", "data": []}) == [Other("trade")]
    assert events({"method": "pong", "req_id": 101}) == [Other("pong")]
    assert events({"error": "Malformed request", "method": "error"}) == [Refused(None, "Malformed request", "")]


def test_the_past_is_asked_for_by_rests_own_names() -> None:
    assert symbol(PAIR) == "BTC/USD"
    assert [rest_pair(("Kraken", *pair)) for pair in (("BTC", "USD"), ("DOGE", "BTC"), ("ETH", "USDT"))] == [
        "XBTUSD",
        "XDGXBT",
        "ETHUSDT",
    ]
    by_time, by_id = Wanted(PAIR, 65_000_000_000, 2**62), Wanted(PAIR, 65_000_000_000, 2**62, 7, 8)
    targets = [KRAKEN.ask(wanted).target for wanted in (by_time, by_id)]
    begin = "/0/public/Trades?pair=XBTUSD&since="
    assert targets == [f"{begin}5000000000&count=1000", f"{begin}64000000000&count=1000"]


@pytest.mark.parametrize("time_s", ["NaN", "sNaN", "Infinity", "-1", "4102444800", "1e999999999"])
def test_a_row_without_a_time_is_unreadable_and_hides_no_other(time_s: str) -> None:
    rows = [["1", "1", time, "b", "m", "", number] for number, time in enumerate((1688669597.5, time_s), 1)]
    body = json.dumps({"error": [], "result": {"XXBTZUSD": rows, "last": "1688669597500000000"}}).encode()
    page = KRAKEN.read(KRAKEN.ask(Wanted(PAIR, 0, 2**62)), Answer(body))
    assert [trade.id for trade, _ in page.trades] == ["1"]
    assert [each.reason for each in page.unreadable] == [f"{Decimal(time_s)} is no time"]


def test_rests_time_is_cut_to_what_the_websocket_tells_of_the_same_trade() -> None:
    body = (
        b'{"error":[],"result":{"XXBTZUSD":[["30243.40000","0.34507674",1688669597.8277369,"b","m","",61044952]],'
        b'"last":"1688671969993150842"}}'
    )
    page = KRAKEN.read(KRAKEN.ask(Wanted(PAIR, 0, 2**62)), Answer(body))
    [(trade, record)] = page.trades
    assert (trade.event_time_ns, trade.direction, trade.id) == (1_688_669_597_827_736_000, "BUY", "61044952")
    assert b'"P":30243.40000,' in record
    assert page.next is None  # it is all there is


def test_the_trade_before_a_stretch_is_looked_for_further_and_further_back() -> None:
    past = [Deal(1, NOW_NS - 7200 * NS_PER_S, "1", "1", buy=True), Deal(2, NOW_NS, "1", "1", buy=True)]
    asked: list[int] = []
    answer = kraken_rest(past)

    def fetch(request: Request) -> Answer:
        asked.append((NOW_NS - int(dict(request.query)["since"])) // NS_PER_S)
        return answer(request)

    found = list(pages(KRAKEN, Wanted(PAIR, NOW_NS, NOW_NS), fetch))
    assert asked == [60, 3600, 86_400]
    assert [trade.id for page in found for trade, _ in page.trades] == ["2"]
    assert [trade.id for page in found for trade, _ in page.beyond] == ["1"]


def inclusive(rest: Rest) -> Rest:
    """The same where `since` has the trades of that very time, too."""

    def answer(request: Request) -> Answer:
        query = {**dict(request.query), "since": str(int(dict(request.query)["since"]) - 1)}
        return rest(request._replace(query=tuple(query.items())))

    return answer


@pytest.mark.parametrize("including", [False, True])
@pytest.mark.parametrize("more", [0, 1, 400])
def test_trades_of_one_time_beyond_a_page_are_left_behind_and_named(more: int, including: bool) -> None:
    wanted = Wanted(PAIR, NOW_NS, NOW_NS + NS_PER_S)
    crowd = 1000 + more
    past = [Deal(7, NOW_NS - 1000, "1", "1", buy=True)]
    past += [Deal(8 + number, NOW_NS, "1", "1", buy=True) for number in range(crowd)]
    past += [Deal(8 + crowd + number, NOW_NS + 1000 * (1 + number), "1", "1", buy=True) for number in range(5)]
    rest = inclusive(kraken_rest(past)) if including else kraken_rest(past)
    found = list(pages(KRAKEN, wanted, rest))
    ids = {int(trade.id) for page in found for trade, _ in page.trades}
    assert ids == {*range(8, 1008), *range(8 + crowd, 8 + crowd + 5)}
    said = {page.lost for page in found if page.lost}
    first, last = 1008, 1007 + more
    assert said == (
        {
            f"Kraken has more trades of one time than an answer holds: the {more} with ids from {first} to {last}, "
            "as far as there are any, can't be asked for."
        }
        if more
        else set()
    )


def test_an_answer_that_goes_back_is_no_answer() -> None:
    wanted = Wanted(PAIR, NOW_NS, NOW_NS + NS_PER_S)
    past = [Deal(number, NOW_NS - NS_PER_S + number, "1", "1", buy=True) for number in range(1000)]
    request = KRAKEN.ask(wanted)
    for last in ('"last":"1"', '"other":"2"'):
        body = kraken_rest(past)(request).body.replace(b'"last":"%d"' % past[-1].time_ns, last.encode())
        with pytest.raises(FeedDisconnectedError, match="an answer that goes on at"):
            KRAKEN.read(request, Answer(body))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("EAPI:Rate limit exceeded", FeedBusyError),
        ("EGeneral:Too many requests", FeedBusyError),
        ("EService:Unavailable", FeedDisconnectedError),
        ("EQuery:Unknown asset pair", FeedRefusedError),
    ],
)
def test_errors_come_with_a_status_of_200(said: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=said) as caught:
        KRAKEN.read(KRAKEN.ask(Wanted(PAIR, 0, 1)), Answer(json.dumps({"error": [said]}).encode()))
    assert type(caught.value) is error
