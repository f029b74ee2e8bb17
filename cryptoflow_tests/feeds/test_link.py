"""Venues of their own, against real sockets: several at once, handovers, refusals, gaps by ids."""

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from cryptoflow.errors import FeedRefusedError, FeedUnreachableError, PrerequisiteError
from cryptoflow.feeds import link as link_module
from cryptoflow.feeds import pace as pace_module
from cryptoflow.feeds.client import VenuesClient
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.feeds.events import ClientEvent, Connected, Disconnected, GivenUp
from cryptoflow.feeds.gaps import Earlier, Filled, Gap
from cryptoflow.feeds.link import RENEW_BEFORE_S, Patience
from cryptoflow.feeds.pace import PairBack, PairSilent
from cryptoflow.feeds.socket import LEAVE_TIMEOUT_S
from cryptoflow.model.trade import NS_PER_S, Trade, read_trade
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues.base import Limits, Venue
from cryptoflow.venues.events import Refused, Subscribed
from cryptoflow_tests.feeds.serving import (
    PATIENCE_S,
    START_NS,
    FailingSink,
    RecordingSink,
    Running,
    Script,
    accept,
    deal,
    farewell,
    feed,
    send,
    streams,
)
from cryptoflow_tests.venues.speaking import BINANCE, COINBASE, GEMINI, KRAKEN, TONGUES, Tongue, dumped

NUMBERED = [tongue for tongue in TONGUES if tongue.venue.consecutive]


def cut_after(tongue: Tongue, *numbers: int) -> Script:
    """Accepts, sends the trades, and breaks the connection without a close frame."""

    def script(server: ServerConnection) -> None:
        accept(server, tongue)
        send(server, tongue, *numbers)
        server.socket.shutdown(socket.SHUT_RDWR)

    return script


def limited(tongue: Tongue, **limits: Any) -> Tongue:
    """The venue, with other limits."""
    kind = type(tongue.venue)
    changed: Venue = type(kind.__name__, (kind,), {"limits": replace(kind.limits, **limits), "patience_s": 0.2})()
    return replace(tongue, venue=changed)


def endpoint(tongue: Tongue, url: str, *subscriptions: str, rest_url: str | None = None) -> Endpoint:
    return Endpoint(tongue.venue, url, subscriptions or (tongue.sub,), rest_url=rest_url)


def run(
    *endpoints: Endpoint,
    sink: RecordingSink | None = None,
    reconnect_for_s: float = 5,
    strangers: Sequence[str] = (),
    earlier: Sequence[Trade] = (),
    **patience: float,
) -> Running:
    sink, events = sink or RecordingSink(), list[ClientEvent]()
    client = VenuesClient(
        endpoints,
        sink,
        reconnect_for_s=reconnect_for_s,
        patience=Patience(**{"min_delay_s": 0.05, "max_delay_s": 0.1} | patience),
        on_event=events.append,
        strangers=strangers,
        earlier=Earlier(earlier),
    )
    return Running(client, sink, events)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        threading.Event().wait(0.005)


def market(record: bytes) -> str:
    return str(json.loads(record)["M"])


def test_venues_stream_at_once_and_each_is_left_in_order() -> None:
    left: list[str] = []

    def script(tongue: Tongue) -> Script:
        def follow(server: ServerConnection) -> None:
            streams(tongue, *range(1, 101))(server)
            left.append(tongue.venue.name)

        return follow

    with ExitStack() as stack:
        at_work = run(*(endpoint(each, stack.enter_context(feed(script(each)))) for each in TONGUES))
        at_work.until(lambda stats: stats.trades == 100 * len(TONGUES))
        stats = at_work.end()
        wait_for(lambda: len(left) == len(TONGUES))
    assert (stats.connects, stats.disconnects, stats.gap_count, stats.unreadable) == (len(TONGUES), 0, 0, 0)
    assert stats.subscribed == {tongue.sub for tongue in TONGUES}
    for tongue in TONGUES:
        records = [json.loads(record) for record in at_work.sink.frames if market(record) == tongue.venue.market]
        assert [record["ID"] for record in records] == [str(number) for number in range(1, 101)]
        assert {record["F"] for record in records} == {"2"}


def test_a_venue_that_refuses_stops_no_other_and_is_there_when_it_comes_back(closed_port: int) -> None:
    with feed(streams(COINBASE, *range(1, 50))) as coinbase:
        at_work = run(
            endpoint(COINBASE, coinbase),
            endpoint(KRAKEN, f"ws://127.0.0.1:{closed_port}/v2"),
            reconnect_for_s=0.2,
        )
        at_work.until(lambda stats: stats.disconnects >= 6)  # far longer than it may be if it were alone
        with feed(streams(KRAKEN, 7, 8), port=closed_port):
            at_work.until(lambda stats: stats.trades == 51)
            at_work.end()
    lost = [event for event in at_work.events if isinstance(event, Disconnected)]
    assert {event.feed for event in lost} == {"Kraken"}
    assert str(lost[0]).startswith("No connection to Kraken: ")


def test_venues_that_are_all_away_end_the_run_with_an_address_and_its_variable(closed_port: int) -> None:
    url = f"ws://127.0.0.1:{closed_port}"
    at_work = run(endpoint(COINBASE, url), endpoint(KRAKEN, url), reconnect_for_s=0.3)
    with pytest.raises(FeedUnreachableError, match=rf"127.0.0.1:{closed_port} .*0.3 s.*(COINBASE|KRAKEN)_URL"):
        at_work.end(stop=False)


def test_a_venue_that_refuses_for_good_is_left_out_and_ends_the_run_if_it_is_alone() -> None:
    with feed(streams(KRAKEN), refuse=HTTPStatus(451)) as refusing, feed(streams(KRAKEN, 1)) as kraken:
        at_work = run(endpoint(BINANCE, refusing), endpoint(KRAKEN, kraken))
        at_work.until(lambda stats: stats.trades == 1)
        wait_for(lambda: any(isinstance(event, GivenUp) for event in at_work.events))
        at_work.end()
        [given_up] = [event for event in at_work.events if isinstance(event, GivenUp)]
        assert str(given_up).startswith("Binance is left out of this run: Binance serves nobody")
        with pytest.raises(FeedRefusedError, match="HTTP 451"):
            run(endpoint(BINANCE, refusing)).end(stop=False)


def test_a_sink_that_fails_ends_all_venues() -> None:
    codes: list[int | None] = []
    open_too = threading.Event()

    def kraken(server: ServerConnection) -> None:
        accept(server, KRAKEN)
        open_too.set()
        server.wait_closed(PATIENCE_S)
        codes.append(server.close_code)

    def coinbase(server: ServerConnection) -> None:
        assert open_too.wait(PATIENCE_S)
        accept(server, COINBASE)
        send(server, COINBASE, 1)
        server.wait_closed(PATIENCE_S)
        codes.append(server.close_code)

    with feed(kraken) as kraken_url, feed(coinbase) as coinbase_url:
        at_work = run(endpoint(KRAKEN, kraken_url), endpoint(COINBASE, coinbase_url), sink=FailingSink())
        with pytest.raises(OSError, match="the sink is broken"):
            at_work.end(stop=False)
        wait_for(lambda: len(codes) == 2)
    assert codes == [1000, 1000]


@pytest.mark.parametrize("tongue", NUMBERED, ids=lambda tongue: tongue.venue.name)
def test_a_cut_that_hides_trades_is_a_gap_with_their_ids(tongue: Tongue) -> None:
    quick = limited(tongue)
    with feed(cut_after(tongue, 1, 2), streams(tongue, 2, 6, 7)) as url:
        at_work = run(endpoint(quick, url))
        at_work.until(lambda stats: stats.gap_count == 1)
        stats = at_work.end()
    [gap] = at_work.gaps()
    assert (gap.holes, gap.missing, gap.reason) == (((3, 5),), 3, "the connection broke")
    assert (gap.from_ns, gap.to_ns) == (START_NS + 2 * NS_PER_S, START_NS + 6 * NS_PER_S)
    assert (stats.trades, stats.duplicates, stats.connects) == (4, 1, 2)


@pytest.mark.parametrize("tongue", NUMBERED, ids=lambda tongue: tongue.venue.name)
def test_the_time_between_two_runs_is_a_gap_and_what_the_log_has_is_no_new_trade(tongue: Tongue) -> None:
    with feed(streams(tongue, 1, 2)) as url:
        first = run(endpoint(tongue, url))
        first.until(lambda stats: stats.trades == 2)
        first.end()
    in_log = [read_trade(record) for record in first.sink.frames]
    with feed(streams(tongue, 2, 6)) as url, feed(streams(other(tongue))) as other_url:
        second = run(endpoint(limited(tongue), url), endpoint(other(tongue), other_url), earlier=in_log)
        second.until(lambda stats: stats.gap_count == 1)
        stats = second.end()
    assert (stats.trades, stats.duplicates) == (1, 1)
    [gap] = second.gaps()
    assert (gap.pair, gap.holes, gap.reason) == (tongue.pair, ((3, 5),), "no run was receiving")


def other(tongue: Tongue) -> Tongue:
    return COINBASE if tongue is not COINBASE else KRAKEN


def test_a_cut_that_hides_trades_is_a_gap_by_time_where_ids_do_not_step_by_one() -> None:
    with feed(cut_after(GEMINI, 10, 20), streams(GEMINI, 60, 90)) as url:
        at_work = run(endpoint(GEMINI, url))
        at_work.until(lambda stats: stats.trades == 4)
        assert at_work.end().gap_count == 1
    [gap] = at_work.gaps()
    assert (gap.holes, gap.missing, gap.reason) == ((), None, "the connection broke")
    assert (gap.from_ns, gap.to_ns) == (START_NS + 20 * NS_PER_S, START_NS + 60 * NS_PER_S)


def test_a_lost_trade_is_a_gap_without_any_outage_and_filled_when_it_comes() -> None:
    late = threading.Event()

    def script(server: ServerConnection) -> None:
        accept(server, KRAKEN)
        send(server, KRAKEN, 1, 3)
        assert late.wait(PATIENCE_S)
        send(server, KRAKEN, 2)
        farewell(server, KRAKEN)

    with feed(script) as url:
        at_work = run(endpoint(limited(KRAKEN), url))
        at_work.until(lambda stats: stats.gap_count == 1)
        late.set()
        at_work.until(lambda stats: stats.trades == 3)
        at_work.end()
    [gap, filled] = [event for event in at_work.events if isinstance(event, Gap | Filled)]
    assert isinstance(gap, Gap)
    assert (gap.holes, filled) == (((2, 2),), Filled(gap))


def test_a_heartbeat_shows_what_was_lost_though_nothing_else_comes() -> None:
    beat = {
        "type": "heartbeat", "last_trade_id": 5, "product_id": "BTC-USD", "sequence": 1, "time": "2025-07-22T13:14:20Z"
    }  # fmt: skip

    def script(server: ServerConnection) -> None:
        accept(server, COINBASE)
        send(server, COINBASE, 1, 2)
        server.send(dumped(beat), text=True)
        farewell(server, COINBASE)

    with feed(script) as url:
        at_work = run(endpoint(limited(COINBASE), url))
        at_work.until(lambda stats: stats.gap_count == 1)
        at_work.end()
    [gap] = at_work.gaps()
    assert gap.holes == ((3, 5),)


def handing_over(tongue: Tongue, notice: bytes | None) -> tuple[Script, Script]:
    """A socket that goes on until another one is there, and the one that takes its place; both bring the same."""
    taken_over = threading.Event()

    def old(server: ServerConnection) -> None:
        accept(server, tongue)
        send(server, tongue, 1, 2)
        if notice:
            server.send(notice, text=True)
        number = 3
        with contextlib.suppress(ConnectionClosed):
            while not taken_over.wait(0.01):
                send(server, tongue, number)
                number += 1
            assert number < 1000
            send(server, tongue, *range(number, 1001))
            server.recv()

    def new(server: ServerConnection) -> None:
        accept(server, tongue)
        taken_over.set()
        send(server, tongue, *range(3, 1001))
        farewell(server, tongue)

    return old, new


SHUTDOWN = b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}'


@pytest.mark.parametrize(
    ("tongue", "notice"),
    [
        (limited(BINANCE), SHUTDOWN),
        (limited(BINANCE, lifetime_s=RENEW_BEFORE_S + 0.3), None),
    ],
    ids=["shutdown", "lifetime"],
)
def test_a_socket_whose_end_is_known_is_replaced_before_and_nothing_is_lost(
    tongue: Tongue, notice: bytes | None
) -> None:
    with feed(*handing_over(tongue, notice)) as url:
        at_work = run(endpoint(tongue, url))
        at_work.until(lambda stats: stats.trades == 1000)
        stats = at_work.end()
    assert sorted(map(int, at_work.sink.ids)) == list(range(1, 1001))
    assert (stats.disconnects, stats.gap_count) == (0, 0)
    assert stats.connects >= 2


def test_a_replacement_that_can_not_be_had_leaves_the_old_socket_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RENEWED_WITHIN_S", 0.2)
    tried = threading.Event()

    def old(server: ServerConnection) -> None:
        accept(server, BINANCE)
        server.send(SHUTDOWN, text=True)
        assert tried.wait(PATIENCE_S)
        send(server, BINANCE, 1, 2, 3)
        farewell(server, BINANCE)

    def broken(server: ServerConnection) -> None:
        server.socket.shutdown(socket.SHUT_RDWR)
        tried.set()

    with feed(old, broken) as url:
        at_work = run(endpoint(limited(BINANCE), url))
        at_work.until(lambda stats: stats.trades == 3)
        assert at_work.end().disconnects == 0


def test_a_product_that_coinbase_closes_the_socket_over_is_left_out_and_the_others_go_on() -> None:
    asked: list[list[str]] = []

    def products(server: ServerConnection, count: int) -> list[str]:
        found = [product for _ in range(count) for product in json.loads(server.recv())["product_ids"]]
        asked.append(found)
        return found

    def refusing(server: ServerConnection) -> None:
        products(server, 2)
        server.send('{"type":"error","message":"Failed to subscribe","reason":"NO-USD is not a valid product"}')
        server.close(1008, "bad request")

    def accepting(server: ServerConnection) -> None:
        products(server, 1)
        server.send(COINBASE.accepted, text=True)
        send(server, COINBASE, 1)
        farewell(server, COINBASE)

    unknown = "0~Coinbase~NO~USD"
    with feed(refusing, accepting) as url:
        at_work = run(endpoint(COINBASE, url, unknown, COINBASE.sub))
        at_work.until(lambda stats: stats.trades == 1)
        stats = at_work.end()
    assert asked == [["NO-USD", "BTC-USD"], ["BTC-USD"]]
    assert stats.refused == [Refused(unknown, "Failed to subscribe", "NO-USD is not a valid product")]


def test_a_venue_that_has_none_of_the_pairs_is_told() -> None:
    def refusing(server: ServerConnection) -> None:
        server.recv()
        server.send(
            '{"error":"Currency pair not supported NO/USD","success":false,"method":"subscribe","symbol":"NO/USD"}'
        )
        server.close(1000)

    with feed(refusing) as url:
        at_work = run(endpoint(KRAKEN, url, "0~Kraken~NO~USD"))
        with pytest.raises(FeedRefusedError, match="has none of 0~Kraken~NO~USD"):
            at_work.end(stop=False)


@contextlib.contextmanager
def rest(answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    """The URL of a REST that answers by the end of the target."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = next((answer for end, answer in answers.items() if self.path.endswith(end)), (404, b""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("coin", "in_url"), [("NO", "NO"), ("没有", "%E6%B2%A1%E6%9C%89"), ("N O&", "N+O%26")])
def test_a_pair_that_binance_lacks_is_known_from_its_rest_as_its_websocket_takes_any(coin: str, in_url: str) -> None:
    quick, unknown = limited(BINANCE, rest_interval_s=0.01), f"0~Binance~{coin}~USDT"
    invalid = (400, b'{"code":-1121,"msg":"Invalid symbol."}')
    answers = {f"/api/v3/exchangeInfo?symbol={in_url}USDT": invalid, "?symbol=BTCUSDT": (200, b'{"symbols":[{}]}')}
    with rest(answers) as rest_url, feed(streams(BINANCE, 1)) as url:
        at_work = run(endpoint(quick, url, unknown, BINANCE.sub, rest_url=rest_url))
        at_work.until(lambda stats: stats.trades == 1 and bool(stats.refused))
        stats = at_work.end()
    assert stats.refused == [Refused(unknown, "Binance has no such pair", "")]


def test_pairs_are_looked_up_at_the_pace_of_all_that_ask_and_again_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    monkeypatch.setattr("cryptoflow.feeds.rest.FIRST_PAUSE_S", 0.01)
    quick, unknown = limited(BINANCE, rest_interval_s=0.01), [f"0~Binance~NO{number}~USDT" for number in range(6)]
    faults = Faults(rest_too_many=0.4, rest_errors=0.1, retry_after_s=1)
    with Simulator(SimulatorConfig(venue="binance", pairs=("BTC-USDT",), faults=faults)) as simulator:
        at_work = run(endpoint(quick, simulator.url, BINANCE.sub, *unknown, rest_url=simulator.rest_url))
        at_work.until(lambda stats: len(stats.refused) == len(unknown))
        at_work.end()
        assert simulator.tally.refused["rest_too_many"] > 0
        assert simulator.tally.refused["ban"] == 0


def test_a_rest_that_does_not_answer_keeps_no_trade_away(closed_port: int) -> None:
    with feed(streams(BINANCE, 1)) as url:
        at_work = run(endpoint(BINANCE, url, rest_url=f"http://127.0.0.1:{closed_port}"))
        at_work.until(lambda stats: stats.trades == 1)
        assert at_work.end().refused == []


def test_subscriptions_that_no_venue_has_are_told_at_once() -> None:
    with feed(streams(KRAKEN, 1)) as url:
        at_work = run(endpoint(KRAKEN, url), strangers=["0~CoinDeal~BTC~USD"])
        at_work.until(lambda stats: stats.trades == 1)
        stats = at_work.end()
    assert stats.refused == [Refused("0~CoinDeal~BTC~USD", "no venue of this run has its market", "")]
    assert at_work.events[0] == stats.refused[0]


def test_frames_are_sent_no_faster_than_the_venue_takes_them() -> None:
    came_s: list[float] = []
    subs = [f"0~Coinbase~C{number}~USD" for number in range(5)]

    def script(server: ServerConnection) -> None:
        for _ in subs:
            server.recv()
            came_s.append(time.monotonic())
        server.send(COINBASE.accepted, text=True)
        server.wait_closed(PATIENCE_S)

    with feed(script) as url:
        at_work = run(endpoint(limited(COINBASE, messages_per_s=20), url, *subs))
        wait_for(lambda: len(came_s) == 5)
        at_work.end()
    assert came_s[-1] - came_s[0] >= 4 / 20 * 0.9


def test_frames_that_answers_lead_to_keep_their_distance_too() -> None:
    """Each request of several streams that is refused leads to two of its halves."""
    came_s: list[float] = []
    subs = [f"0~Binance~C{number}~USDT" for number in range(8)]

    def script(server: ServerConnection) -> None:
        while len(came_s) < 15:
            number = json.loads(server.recv())["id"]
            came_s.append(time.monotonic())
            server.send(json.dumps({"error": {"code": 2, "msg": "no"}, "id": number}), text=True)
        server.wait_closed(PATIENCE_S)

    with feed(script) as url:
        at_work = run(endpoint(limited(BINANCE, messages_per_s=20), url, *subs))
        wait_for(lambda: len(came_s) == 15)
        at_work.end()
    assert min(later - sooner for later, sooner in zip(came_s[1:], came_s, strict=False)) >= 1 / 20 * 0.5
    assert came_s[-1] - came_s[0] >= 14 / 20 * 0.9


def test_stop_waits_for_no_frame_that_is_still_to_be_sent() -> None:
    asked = threading.Event()

    def script(server: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for _ in subs:
                server.recv()
                asked.set()

    subs = [f"0~Coinbase~C{number}~USD" for number in range(40)]
    with feed(script) as url:
        at_work = run(endpoint(limited(COINBASE, messages_per_s=2), url, *subs))
        assert asked.wait(PATIENCE_S)
        started_s = time.monotonic()
        at_work.end()
    assert time.monotonic() - started_s < LEAVE_TIMEOUT_S + 2


def test_pings_of_the_venue_are_signs_of_life() -> None:
    def script(server: ServerConnection) -> None:
        accept(server, BINANCE)
        for _ in range(10):
            assert server.ping().wait(PATIENCE_S)  # and it is answered
            threading.Event().wait(0.1)
        send(server, BINANCE, 1)
        farewell(server, BINANCE)

    with feed(script) as url:
        at_work = run(endpoint(limited(BINANCE, silent_after_s=0.4), url))
        at_work.until(lambda stats: stats.trades == 1)
        assert at_work.end().connects == 1


def test_a_message_in_pieces_is_one_frame() -> None:
    whole = KRAKEN.frame(deal(1)).decode()

    def script(server: ServerConnection) -> None:
        accept(server, KRAKEN)
        server.send(iter([whole[:10], "", whole[10:50], whole[50:]]))
        server.send(iter([b"\x00", b"\x01"]))
        send(server, KRAKEN, 2)
        farewell(server, KRAKEN)

    with feed(script) as url:
        at_work = run(endpoint(KRAKEN, url))
        at_work.until(lambda stats: stats.trades == 2)
        at_work.end()
    assert at_work.sink.ids == ["1", "2"]
    assert at_work.sink.dead == [(b"\x00\x01", "binary frame")]


def test_stop_waits_for_no_name_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def lookup(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        answer.wait(PATIENCE_S)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    at_work = run(endpoint(KRAKEN, "ws://kraken.invalid/v2"))
    assert asked.wait(PATIENCE_S)
    started_s = time.monotonic()
    at_work.end()
    assert time.monotonic() - started_s < 1
    answer.set()


def test_a_name_that_nobody_knows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    at_work = run(endpoint(KRAKEN, "ws://kraken.invalid/v2"))
    at_work.until(lambda stats: stats.disconnects >= 1)
    at_work.end()
    assert "Name or service not known" in at_work.reasons()[0]


def test_a_proxy_that_speaks_socks_ends_the_run_with_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "socks5h://user:word@127.0.0.1:9")
    at_work = run(endpoint(KRAKEN, "wss://kraken.invalid/v2"))
    with pytest.raises(PrerequisiteError, match="python-socks: install it") as caught:
        at_work.end(stop=False)
    assert caught.value.__context__ is None


def test_what_is_told_names_the_venue() -> None:
    assert str(Connected("ws.kraken.com:443")) == "Connected to the feed at ws.kraken.com:443."
    assert (
        str(Disconnected("it broke", 5.04, "Kraken")) == "No connection to Kraken: it broke; the next try is in 5.0 s."
    )
    assert str(Subscribed(KRAKEN.sub)) == "Subscribed to 0~Kraken~BTC~USD."
    assert (
        str(Refused(KRAKEN.sub, "it has no such pair", "")) == "The feed refused 0~Kraken~BTC~USD: it has no such pair."
    )


@pytest.mark.parametrize("venue", [each.venue for each in TONGUES], ids=lambda venue: venue.name)
def test_no_venues_limits_are_nearer_than_what_it_forbids(venue: Venue) -> None:
    limits: Limits = venue.limits
    connects_in_5_min = 300 / limits.min_delay_s
    assert connects_in_5_min <= {"coinbase": 8 * 300, "binance": 300, "kraken": 75, "gemini": 300}[venue.name]
    assert limits.messages_per_s <= {"coinbase": 100, "binance": 5, "kraken": 5, "gemini": 700}[venue.name]


def test_a_pair_that_falls_silent_while_others_trade_is_told_and_nothing_is_reconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace_module, "LEAST_S", 0.4)
    other, both = "0~Kraken~ETH~USD", threading.Event()
    ether = KRAKEN.frame(deal(9)).replace(b"BTC/USD", b"ETH/USD")

    def script(server: ServerConnection) -> None:
        accept(server, KRAKEN)
        server.send(ether, text=True)
        number = 0
        while not both.wait(0.02):
            number += 1
            send(server, KRAKEN, number)
        server.send(ether.replace(b'"trade_id":9', b'"trade_id":10'), text=True)
        for _ in server:
            pass

    with feed(script) as url:
        at_work = run(endpoint(KRAKEN, url, KRAKEN.sub, other))
        at_work.until(lambda stats: stats.silent_pairs == 1)
        both.set()
        wait_for(lambda: any(isinstance(event, PairBack) for event in at_work.events))
        stats = at_work.end()
    told = [event for event in at_work.events if isinstance(event, PairSilent | PairBack)]
    assert [type(event) for event in told if event.pair[1] == "ETH"] == [PairSilent, PairBack]
    assert (stats.connects, stats.disconnects) == (1, 0)


@pytest.mark.parametrize(("moves", "connects"), [(False, 1), (True, 2)])
def test_a_socket_without_trades_is_opened_anew_unless_the_venue_proves_that_there_were_none(
    moves: bool, connects: int
) -> None:
    heartbeat = {"type": "heartbeat", "product_id": "BTC-USD", "sequence": 1, "time": deal(1).time}

    def script(server: ServerConnection) -> None:
        accept(server, COINBASE)
        with contextlib.suppress(ConnectionClosed):
            for number in itertools.count(1):
                server.send(json.dumps(heartbeat | {"last_trade_id": number if moves else 7}))
                with contextlib.suppress(TimeoutError):
                    server.recv(0.05)
                    return

    with feed(script) as url:
        at_work = run(endpoint(COINBASE, url), no_trade_after_s=0.5)
        at_work.until(lambda stats: stats.heartbeats >= 40 or stats.connects > 1)
        stats = at_work.end()
    assert (stats.connects, stats.silent_pairs) == (connects, 0)


def test_recorded_disconnects_without_a_lost_trade_are_no_gap(shared: Path) -> None:
    """Trades of Binance with the places at which somebody's client lost its socket."""
    [file] = (shared / "data" / "barter-rs").glob("*.json")
    sockets: list[list[bytes]] = [[]]
    for each in json.loads(file.read_text()):
        if "Reconnecting" in each:
            sockets.append([])
        else:
            sockets[-1].append(binance_frame(each["Item"]["Ok"]))
    *cut, last = ([BINANCE.accepted, *frames] for frames in sockets)
    with feed(*(sends(frames, cut=True) for frames in cut), sends(last, cut=False)) as url:
        at_work = run(endpoint(BINANCE, url, "0~Binance~BTC~USDT", "0~Binance~SOL~USDT"))
        at_work.until(lambda stats: stats.trades == sum(map(len, sockets)))
        stats = at_work.end()
    assert (stats.connects, stats.gap_count, stats.duplicates) == (4, 0, 0)
    assert len(set(at_work.sink.ids)) == 21


def binance_frame(item: dict[str, Any]) -> bytes:
    """A trade in another program's words, as Binance had said it."""
    trade, symbol = item["kind"]["Trade"], {0: "BTCUSDT", 2: "SOLUSDT"}[item["instrument"]]
    time_ms = round(datetime.fromisoformat(item["time_exchange"]).timestamp() * 1000)
    data = {
        "e": "trade", "E": time_ms, "s": symbol, "t": int(trade["id"]), "p": f"{trade['price']:.8f}",
        "q": f"{trade['amount']:.8f}", "T": time_ms, "m": trade["side"] == "Sell", "M": True,
    }  # fmt: skip
    return dumped({"stream": f"{symbol.lower()}@trade", "data": data})


def sends(frames: Sequence[bytes], *, cut: bool) -> Script:
    """Sends the frames once it is asked for something, and then breaks the connection, or waits for the end."""

    def script(server: ServerConnection) -> None:
        server.recv()
        for frame in frames:
            server.send(frame, text=True)
        if cut:
            server.socket.shutdown(socket.SHUT_RDWR)
        else:
            farewell(server, BINANCE)

    return script
