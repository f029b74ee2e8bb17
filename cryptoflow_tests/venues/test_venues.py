"""Laws of every venue with a feed of its own."""

import json
import re
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedError, FeedRefusedError
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade, read_trade
from cryptoflow.venues import CRYPTOCOMPARE
from cryptoflow.venues.base import Venue
from cryptoflow.venues.events import Left, Received, Subscribed, Unreadable
from cryptoflow.venues.past import Answer, Request, Wanted
from cryptoflow.venues.session import Session
from cryptoflow_tests.venues.speaking import COINBASE, TONGUES, Deal, Tongue, coinbase_match, dumped, pages

NOW_S = 1_753_190_420.0
START_NS = 1_753_190_000 * NS_PER_S

each_venue = pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.venue.name)

amounts = st.decimals("0.00000001", "99999999", places=8).map(lambda amount: f"{amount:f}")
deals = st.builds(
    Deal,
    st.integers(0, 2**63 - 1),
    st.integers(0, int(NOW_S) * 1000).map(lambda time_ms: time_ms * 1_000_000),
    amounts,
    amounts,
    st.booleans(),
)


def session(tongue: Tongue) -> Session:
    return tongue.venue.session([tongue.sub])


def received(tongue: Tongue, frame: bytes) -> Received:
    return session(tongue).receive(frame, NOW_S)


def known(tongue: Tongue, deal: Deal) -> tuple[Any, ...]:
    """What is to come out of a deal: its record's fields, exact."""
    price, quantity = Fraction(deal.price), Fraction(deal.quantity)
    time_ns = deal.time_ns - deal.time_ns % tongue.resolution_ns
    return tongue.pair, str(deal.id), time_ns, "BUY" if deal.buy else "SELL", price, quantity, price * quantity


def told(tongue: Tongue, trade: Trade, record: bytes) -> tuple[Any, ...]:
    """The same of what came out."""
    exact = json.loads(record, parse_float=Fraction, parse_int=Fraction)
    assert read_trade(record) == trade
    assert trade.sequence == (int(trade.id) if tongue.venue.consecutive else None)
    return trade.pair, trade.id, trade.event_time_ns, trade.direction, exact["P"], exact["Q"], exact["TOTAL"]


@each_venue
@given(deals)
def test_a_trade_comes_out_with_the_takers_side_its_id_and_all_its_digits(tongue: Tongue, deal: Deal) -> None:
    [recorded], events = received(tongue, tongue.frame(deal))
    assert told(tongue, *recorded) == known(tongue, deal)
    assert not events


@each_venue
@given(st.binary(max_size=200))
def test_no_bytes_break_a_session_and_none_are_unaccounted(tongue: Tongue, frame: bytes) -> None:
    trades, events = received(tongue, frame)
    assert not trades
    assert len(events) == 1
    assert all(event.frame == frame and event.reason for event in events if isinstance(event, Unreadable))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "type", "channels", "product_id", "product_ids", "trade_id", "last_trade_id", "side", "size", "price", "time",
    "message", "reason", "stream", "data", "e", "s", "t", "p", "q", "T", "m", "id", "result", "error", "code", "msg",
    "channel", "symbol", "qty", "timestamp", "method", "success", "E", "u", "status",
]  # fmt: skip
WORDS = st.sampled_from(["match", "heartbeat", "subscriptions", "error", "trade", "subscribe", "unsubscribe", "buy"])


@each_venue
@given(st.dictionaries(st.sampled_from(NAMES), json_values | WORDS, max_size=8))
def test_whatever_the_fields_a_frame_is_told_not_thrown(tongue: Tongue, fields: dict[str, Any]) -> None:
    trades, events = received(tongue, json.dumps(fields).encode())
    assert len(trades) + len(events) > 0


@each_venue
@given(deals, st.data())
def test_a_trade_with_any_field_missing_or_wrong_is_told_not_thrown(
    tongue: Tongue, deal: Deal, data: st.DataObject
) -> None:
    frame = json.loads(tongue.frame(deal))
    trade = frame.get("data", frame)
    trade = trade[0] if isinstance(trade, list) else trade
    name = data.draw(st.sampled_from(sorted(trade)))
    if data.draw(st.booleans()):
        del trade[name]
    else:
        trade[name] = data.draw(json_values)
    trades, events = received(tongue, json.dumps(frame).encode())
    assert len(trades) + len(events) > 0


@each_venue
@pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity", "1e400", "1e999999999", "1e19"])
def test_a_price_outside_its_limits_is_unreadable(tongue: Tongue, price: str) -> None:
    deal = Deal(7, START_NS, "1.5", "2", buy=True)
    frame = tongue.frame(deal).replace(b'"1.5"', f'"{price}"'.encode()).replace(b":1.5,", f":{price},".encode())
    trades, [event] = received(tongue, frame)
    assert not trades
    assert isinstance(event, Unreadable)
    assert event.reason


@each_venue
@given(st.integers(-10_000, 10_000))
def test_a_trade_from_the_future_is_unreadable(tongue: Tongue, ahead_s: int) -> None:
    trades, events = received(tongue, tongue.frame(Deal(1, (int(NOW_S) + ahead_s) * NS_PER_S, "1", "1", buy=True)))
    assert bool(trades) == (ahead_s <= MAX_AHEAD_S)
    assert [event.reason for event in events if isinstance(event, Unreadable)] == (
        [] if trades else ["exchange time is in the future"]
    )


@each_venue
def test_a_trade_of_a_pair_that_nobody_asked_for_is_unreadable(tongue: Tongue) -> None:
    coin = f"0~{tongue.pair[0]}~ETH~EUR"
    trades, [event] = tongue.venue.session([coin]).receive(tongue.frame(Deal(1, START_NS, "1", "1", buy=True)), NOW_S)
    assert not trades
    assert isinstance(event, Unreadable)
    assert "is not subscribed" in event.reason


@each_venue
def test_a_binary_frame_is_unreadable_whatever_it_holds(tongue: Tongue) -> None:
    frame = tongue.frame(Deal(1, START_NS, "1", "1", buy=True))
    assert session(tongue).receive(frame, NOW_S, binary=True) == ((), (Unreadable(frame, "binary frame"),))


@each_venue
def test_the_subscription_is_asked_for_at_once_and_told_once_when_it_is_accepted(tongue: Tongue) -> None:
    at_work = session(tongue)
    assert len(at_work.frames_to_send()) == 1
    assert at_work.frames_to_send() == []
    assert [*at_work.receive(tongue.accepted, NOW_S)[1]] == [Subscribed(tongue.sub)]
    assert Subscribed(tongue.sub) not in at_work.receive(tongue.accepted, NOW_S)[1]


@each_venue
def test_leaving_asks_once_and_is_over_when_the_venue_says_so(tongue: Tongue) -> None:
    at_work = session(tongue)
    at_work.frames_to_send()
    at_work.receive(tongue.accepted, NOW_S)
    at_work.leave()
    assert len(at_work.frames_to_send()) == 1
    assert [*at_work.receive(tongue.left, NOW_S)[1]] == [Left()]


@each_venue
def test_leaving_before_anything_was_accepted_asks_for_nothing(tongue: Tongue) -> None:
    at_work = session(tongue)
    at_work.frames_to_send()
    at_work.leave()
    assert at_work.frames_to_send() == []


@each_venue
def test_a_venue_takes_the_trades_of_its_own_market_and_nothing_else(tongue: Tongue) -> None:
    others = [f"2~{tongue.pair[0]}~BTC~USD", "0~Bitstamp~BTC~USD", "nonsense", f"0~{tongue.pair[0]}~BTC"]
    assert tongue.venue.takes(tongue.sub)
    assert not any(tongue.venue.takes(other) for other in others)


@st.composite
def shelves(draw: st.DrawFn) -> list[Deal]:
    """A pair's past: ids and times rise, up to four times are equal, some ids are missing."""
    id_, time_ns, deals = 100, START_NS, list[Deal]()
    for gap_ms, step in draw(st.lists(st.tuples(st.sampled_from([0, 1, 7, 5000]), st.sampled_from([1, 1, 1, 5])))):
        equal = all(deal.time_ns == time_ns for deal in deals[-4:])
        id_, time_ns = id_ + step, time_ns + (gap_ms or equal) * 1_000_000
        deals.append(Deal(id_, time_ns, "1.5", "0.25", buy=bool(id_ % 3)))
    return deals


def small(venue: Venue, page: int) -> Venue:
    """The venue, with fewer trades in an answer."""
    made: Venue = type("Small", (type(venue),), {"page": page})()
    return made


def asked(tongue: Tongue, past: list[Deal], wanted: Wanted, page: int) -> tuple[set[int], int]:
    """The ids that come out, and how many requests that took."""
    count, answer = 0, tongue.rest(past)

    def fetch(request: Request) -> Answer:
        nonlocal count
        count += 1
        assert count < 200
        return answer(request)

    found = [each for got in pages(small(tongue.venue, page), wanted, fetch) for each in got.trades]
    by_id = {deal.id: deal for deal in past}
    assert all(told(tongue, *each) == known(tongue, by_id[int(each[0].id)]) for each in found)
    return {int(trade.id) for trade, _ in found}, count


@each_venue
@given(shelves(), st.integers(95, 200), st.integers(0, 60), st.integers(5, 12))
def test_a_gap_is_read_by_its_ids_to_the_last_trade(
    tongue: Tongue, past: list[Deal], first: int, more: int, page: int
) -> None:
    before_ns = max((deal.time_ns for deal in past if deal.id < first), default=START_NS)
    after_ns = min((deal.time_ns for deal in past if deal.id > first + more), default=before_ns + 10**15)
    wanted = Wanted(tongue.pair, before_ns, after_ns, first, first + more)
    found, requests = asked(tongue, past, wanted, page)
    assert found == {deal.id for deal in past if first <= deal.id <= first + more}
    near = [deal for deal in past if before_ns - 2 * NS_PER_S <= deal.time_ns <= after_ns]
    assert requests <= 2 + 2 * len(near) // (page - 4)


@each_venue
@given(shelves(), st.integers(-10, 300), st.integers(0, 300), st.integers(5, 12))
def test_a_stretch_of_time_is_read_to_the_last_trade(
    tongue: Tongue, past: list[Deal], from_s: int, more_s: int, page: int
) -> None:
    from_ns = START_NS + from_s * NS_PER_S
    to_ns = from_ns + more_s * NS_PER_S
    found, requests = asked(tongue, past, Wanted(tongue.pair, from_ns, to_ns), page)
    assert found == {deal.id for deal in past if from_ns <= deal.time_ns <= to_ns}
    assert requests <= 12 + 2 * len(found) // (page - 4)


@pytest.mark.parametrize(
    "tongue", [tongue for tongue in TONGUES if tongue.venue.consecutive], ids=lambda it: it.venue.name
)
@given(shelves(), st.integers(-10, 300), st.integers(0, 300), st.integers(5, 12))
def test_the_trades_next_to_a_stretch_of_time_come_with_it(
    tongue: Tongue, past: list[Deal], from_s: int, more_s: int, page: int
) -> None:
    from_ns = START_NS + from_s * NS_PER_S
    to_ns = from_ns + more_s * NS_PER_S
    got = list(pages(small(tongue.venue, page), Wanted(tongue.pair, from_ns, to_ns), tongue.rest(past)))
    beyond = {int(trade.id) for each in got for trade, _ in each.beyond}
    found = [deal for deal in past if from_ns <= deal.time_ns <= to_ns]
    before = [deal.id for deal in past if deal.time_ns < from_ns][-1:]
    after = [deal.id for deal in past if deal.time_ns > to_ns][:1]
    assert not beyond & {deal.id for deal in found}
    if tongue.venue.name == "binance" and [*(deal.id for deal in found), *after][:1] != [last + 1 for last in before]:
        before = []  # it is asked for by the id before the first one of the stretch: not across a hole
    if found or after:
        assert {*before, *after} <= beyond


@each_venue
@given(st.text(min_size=1, max_size=5))
def test_what_rest_is_asked_for_is_a_target_whatever_the_pair_is_called(tongue: Tongue, coin: str) -> None:
    def shape(name: str) -> list[str]:
        pair = (tongue.pair[0], name, "USD")
        targets = [tongue.venue.ask(Wanted(pair, START_NS, START_NS, 1, 2)).target, tongue.venue.listing(pair)]
        return [*filter(None, targets)] + ([tongue.venue.bars_target(pair, 0, 60)] if tongue.venue.most_bars else [])

    for target, plain in zip(shape(coin), shape("COIN"), strict=True):
        before, after = plain.split("COIN")
        assert target.startswith(before)
        assert target.endswith(after)
        assert re.fullmatch(r"[-+.%_~A-Za-z0-9]+", target.removeprefix(before).removesuffix(after))


def dense(count: int) -> list[Deal]:
    return [Deal(1000 + number, START_NS + number * 10**7, "1.5", "0.25", buy=True) for number in range(count)]


@each_venue
def test_a_long_stretch_takes_a_request_for_each_page_and_few_more(tongue: Tongue) -> None:
    past = dense(3000)
    found, requests = asked(tongue, past, Wanted(tongue.pair, past[0].time_ns, past[1999].time_ns), 100)
    assert found == set(range(1000, 3000))
    assert requests <= 20 + 4  # Coinbase seeks the end


def test_coinbase_finds_the_end_of_a_stretch_in_a_few_looks_however_uneven_the_market_is() -> None:
    """Half a year of a market that is five times as busy by day as by night, and rises in trade."""
    tongue, first, times_ns, time_ns = COINBASE, 10**9, [START_NS], START_NS
    for number in range(400_000):
        busy = (5 if (time_ns - START_NS) // (12 * 3600 * NS_PER_S) % 2 else 1) * (1 + number / 100_000)
        time_ns += int(120 * 10**6 / busy) * 1000
        times_ns.append(time_ns)

    def answer(request: Request) -> Answer:
        query = dict(request.query)
        end = min(int(query.get("after", 2**63)) - first, len(times_ns))
        picked = range(max(0, end - int(query["limit"])), max(0, end))[::-1]
        return Answer(dumped([coinbase_match(Deal(first + at, times_ns[at], "1", "1", buy=True)) for at in picked]))

    looks = []
    for at in range(0, len(times_ns), 49_973):
        request, count = tongue.venue.ask(Wanted(tongue.pair, times_ns[at], times_ns[at])), 1
        while not (page := tongue.venue.read(request, answer(request))).trades:
            assert page.next
            request, count = page.next, count + 1
        looks.append(count)
    assert max(looks) <= 15  # by halves alone it takes 21
    assert sum(looks) / len(looks) < 9


def test_coinbase_is_not_asked_for_ever_where_it_sends_the_newest_page_whatever_is_asked_for() -> None:
    tongue, past = COINBASE, dense(3000)
    newest = Answer(dumped([coinbase_match(deal) for deal in past[:-1001:-1]]))
    page = tongue.venue.read(tongue.venue.ask(Wanted(tongue.pair, START_NS, past[0].time_ns)), newest)
    assert page.next
    with pytest.raises(FeedDisconnectedError, match="newer ones came"):
        tongue.venue.read(page.next, newest)


@each_venue
@given(shelves(), st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_answer_breaks_a_reader(tongue: Tongue, past: list[Deal], body: bytes) -> None:
    for wanted in (Wanted(tongue.pair, START_NS, START_NS + NS_PER_S, 100, 200), Wanted(tongue.pair, START_NS, 2**62)):
        request = tongue.venue.ask(wanted)
        with suppress(FeedDisconnectedError, FeedRefusedError):
            assert not tongue.venue.read(request, Answer(body)).trades


@each_venue
@pytest.mark.parametrize("number", ["9" * 5000, "-1", "1_0", "٣", "1.5", ""])
def test_no_number_that_an_answer_goes_on_by_breaks_a_reader(tongue: Tongue, number: str) -> None:
    request = tongue.venue.ask(Wanted(tongue.pair, START_NS, START_NS + NS_PER_S, 1000, 1004))
    good = tongue.rest(dense(3))(request)
    body = re.sub(rb'"last":"\d+"', f'"last":"{number}"'.encode(), good.body)
    found = tongue.venue.read(request, Answer(body, 200, {**good.headers, "cb-after": number}))
    assert len(found.trades) == 3
    with pytest.raises(FeedBusyError) as caught:
        tongue.venue.read(request, Answer(b"", 429, {"retry-after": number}))
    assert caught.value.retry_after_s is None


@each_venue
def test_a_row_that_can_not_be_read_hides_no_other(tongue: Tongue) -> None:
    past = dense(5)
    request = tongue.venue.ask(Wanted(tongue.pair, START_NS, START_NS + NS_PER_S, 1000, 1004))
    body = tongue.rest([*past[:2], past[2]._replace(price="0"), *past[3:]])(request).body
    page = tongue.venue.read(request, Answer(body))
    assert {int(trade.id) for trade, _ in page.trades} == {1000, 1001, 1003, 1004}
    assert len(page.unreadable) == 1


@each_venue
@pytest.mark.parametrize(
    ("status", "headers", "error", "retry_after_s"),
    [
        (429, {"retry-after": "7"}, FeedBusyError, 7.0),
        (418, {}, FeedBusyError, None),
        (503, {}, FeedDisconnectedError, None),
        (404, {}, FeedRefusedError, None),
        (400, {}, FeedRefusedError, None),
    ],
)
def test_what_a_refused_request_means(
    tongue: Tongue, status: int, headers: dict[str, str], error: type[FeedError], retry_after_s: float | None
) -> None:
    request = tongue.venue.ask(Wanted(tongue.pair, 0, 1, 1, 2))
    with pytest.raises(error, match=f"HTTP {status} no") as caught:
        tongue.venue.read(request, Answer(b"no", status, headers))
    assert type(caught.value) is error
    assert getattr(caught.value, "retry_after_s", None) == retry_after_s


def test_a_request_is_a_plain_value_that_goes_on_where_it_was_kept() -> None:
    tongue = TONGUES[0]
    request = small(tongue.venue, 10).ask(Wanted(tongue.pair, 0, 2**62, 1000, 1099))
    kept = Request(Wanted(*request.wanted), request.path, request.query, request.state)
    assert kept == request
    assert kept.target == "/products/BTC-USD/trades?limit=10&after=1100"


def test_cryptocompare_gives_no_past_trades() -> None:
    with pytest.raises(FeedRefusedError, match="no past trades"):
        CRYPTOCOMPARE.ask(Wanted(("Kraken", "BTC", "USD"), 0, 1))
