"""The client against real sockets: subscribing, leaving, ways to lose a connection, the key's secrecy."""

import contextlib
import json
import logging
import socket
import threading
import time
import traceback
from http import HTTPStatus
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from cryptoflow.errors import ConfigError, FeedUnreachableError, UnauthorizedError
from cryptoflow.feeds.client import FeedClient
from cryptoflow.feeds.events import ClientEvent, ClocksDiffer, Connected, Disconnected
from cryptoflow.feeds.gaps import Gap
from cryptoflow.feeds.receiver import MAX_REFUSED
from cryptoflow.model.trade import Trade, write_trade
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues.events import Refused, Subscribed
from cryptoflow_tests.feeds.serving import PATIENCE_S, BlockedSink, FailingSink, RecordingSink, Running, Script, feed

SUB = "0~Kraken~BTC~USD"
KEY = "K3Y-that-must-not-leak"
START_S = 1_700_000_000


def frame(number: int, **changes: Any) -> bytes:
    trade = Trade("Kraken", "BTC", "USD", "1", str(number), START_S + number, 1.0, 2.0, 2.0)
    return json.dumps(json.loads(write_trade(trade)) | changes).encode()


def send(server: ServerConnection, *frames: bytes) -> None:
    for each in frames:
        server.send(each, text=True)


def welcome(server: ServerConnection) -> None:
    server.send('{"TYPE":"20","MESSAGE":"STREAMERWELCOME"}')
    for sub in json.loads(server.recv())["subs"]:
        server.send(json.dumps({"TYPE": "16", "MESSAGE": "SUBSCRIBECOMPLETE", "SUB": sub}))


def farewell(server: ServerConnection) -> None:
    assert json.loads(server.recv()) == {"action": "SubRemove", "subs": [SUB]}
    server.send('{"TYPE":"18","MESSAGE":"UNSUBSCRIBEALLCOMPLETE"}')


def streams(*frames: bytes) -> Script:
    """Welcomes, sends the frames, and waits for the client to leave."""

    def script(server: ServerConnection) -> None:
        welcome(server)
        send(server, *frames)
        farewell(server)

    return script


def cut_after(*frames: bytes) -> Script:
    """Welcomes, sends the frames, and breaks the connection without a close frame."""

    def script(server: ServerConnection) -> None:
        welcome(server)
        send(server, *frames)
        server.socket.shutdown(socket.SHUT_RDWR)

    return script


def says(*frames: bytes) -> Script:
    """Sends the frames at once and waits for the client to close."""

    def script(server: ServerConnection) -> None:
        send(server, *frames)
        for _ in server:
            pass

    return script


class Run(Running):
    """A client of CryptoCompare's protocol."""

    def __init__(self, url: str, sink: RecordingSink | None = None, **options: Any) -> None:
        sink, events = sink or RecordingSink(), list[ClientEvent]()
        options = {"min_delay_s": 0.05, "max_delay_s": 0.1, "reconnect_for_s": 5} | options
        super().__init__(FeedClient(url, [SUB], sink, on_event=events.append, **options), sink, events)


def test_trades_reach_the_sink_as_they_came_and_the_feed_is_left_in_order() -> None:
    left = threading.Event()

    def script(server: ServerConnection) -> None:
        streams(frame(1), frame(2, CCSEQ=7), b'{"TYPE":"999","TIMEMS":1}', b'{"TYPE":"2"}')(server)
        left.set()

    with feed(script) as url:
        run = Run(url)
        run.until(lambda stats: stats.tickers == 1)
        stats = run.end()
        assert left.wait(PATIENCE_S)
    assert run.sink.frames == [frame(1), frame(2, CCSEQ=7)]
    assert (stats.frames, stats.trades, stats.heartbeats, stats.connects) == (7, 2, 1, 1)
    assert run.events == [Connected(url[5:-3]), Subscribed(SUB)]
    assert stats.subscribed == {SUB}


def test_trades_that_come_while_leaving_are_still_delivered() -> None:
    def script(server: ServerConnection) -> None:
        welcome(server)
        send(server, frame(1))
        server.recv()
        send(server, frame(2), b'{"TYPE":"17","SUB":"x"}', frame(3), b'{"TYPE":"18"}', frame(4))

    with feed(script) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 1)
        run.end()
    assert run.sink.ids == ["1", "2", "3"]


def test_a_feed_that_does_not_answer_the_leaving_is_not_waited_for_long() -> None:
    with feed(says(b'{"TYPE":"20"}', frame(1))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 1)
        started = time.monotonic()
        run.end()
    assert time.monotonic() - started < 5


def test_a_cut_is_followed_by_a_reconnect_and_the_replay_is_dropped_without_a_gap() -> None:
    with feed(cut_after(frame(1), frame(2)), streams(frame(1), frame(2), frame(3))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 3)
        stats = run.end()
    assert run.sink.ids == ["1", "2", "3"]
    assert (stats.duplicates, stats.connects, stats.disconnects, stats.gap_count) == (2, 2, 1, 0)


def test_a_hole_that_the_replay_does_not_bridge_is_a_gap() -> None:
    with feed(cut_after(frame(1), frame(2)), streams(frame(60), frame(61))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 4)
        stats = run.end()
    (gap,) = run.gaps()
    assert (gap.market, gap.from_coin, gap.to_currency) == ("Kraken", "BTC", "USD")
    assert (gap.from_ns, gap.to_ns) == ((START_S + 2) * 10**9, (START_S + 60) * 10**9)
    assert gap.reason == "the connection broke"
    assert (list(stats.gaps), stats.gap_count) == ([gap], 1)


def test_reconnects_keep_their_distance_and_start_anew_after_trades() -> None:
    with feed(cut_after(), cut_after(), cut_after(frame(1)), streams(frame(2))) as url:
        run = Run(url, min_delay_s=0.1, max_delay_s=10)
        run.until(lambda stats: stats.trades == 2)
        run.end()
    first, second, third = (event.retry_in_s for event in run.events if isinstance(event, Disconnected))
    assert 0.1 <= first < 0.2 <= second < 0.4
    assert 0.1 <= third < 0.2


def test_a_silent_socket_is_given_up() -> None:
    with feed(says(b'{"TYPE":"20"}'), streams(frame(1))) as url:
        run = Run(url, silent_after_s=0.3)
        run.until(lambda stats: stats.trades == 1)
        run.end()
    assert run.reasons() == ["no frame for 0.3 s"]


def beats_until_closed(server: ServerConnection) -> None:
    """Welcomes, and sends heartbeats and no trade for as long as the client stays."""
    welcome(server)
    with contextlib.suppress(ConnectionClosed):
        while True:
            server.send('{"TYPE":"999","TIMEMS":1}')
            with contextlib.suppress(TimeoutError):
                server.recv(0.02)


def test_a_socket_with_heartbeats_and_no_trade_is_opened_anew() -> None:
    with feed(beats_until_closed, streams(frame(1))) as url:
        run = Run(url, no_trade_after_s=0.3)
        run.until(lambda stats: stats.trades == 1)
        run.end()
    assert run.reasons() == ["frames but no trade for 0.3 s"]


def test_a_feed_that_answers_ends_no_run_for_lack_of_trades_and_is_never_long_left() -> None:
    with feed(beats_until_closed) as url:
        run = Run(url, no_trade_after_s=0.1, reconnect_for_s=0.2, min_delay_s=0.01, max_delay_s=10)
        run.until(lambda stats: stats.connects == 8)
        run.end()
    assert all(event.retry_in_s <= 0.02 for event in run.events if isinstance(event, Disconnected))


def test_trades_that_come_keep_the_socket() -> None:
    def script(server: ServerConnection) -> None:
        welcome(server)
        for number in range(20):
            send(server, frame(number % 2))
            with contextlib.suppress(TimeoutError):
                server.recv(0.05)
        farewell(server)

    with feed(script) as url:
        run = Run(url, no_trade_after_s=0.5)
        run.until(lambda stats: stats.trades + stats.duplicates == 20)
        assert run.end().connects == 1


def test_a_sink_that_blocks_does_not_make_the_socket_count_as_silent() -> None:
    sink = BlockedSink()
    with feed(streams(frame(1), frame(2))) as url:
        run = Run(url, sink, silent_after_s=0.2)
        assert sink.entered.wait(PATIENCE_S)
        assert not run.stop.wait(0.6)  # three times as long as the silence that is allowed
        sink.released.set()
        run.until(lambda stats: stats.trades == 2)
        stats = run.end()
    assert stats.connects == 1


def test_a_slow_sink_slows_the_feed_down_and_nothing_is_lost() -> None:
    count, sent = 30_000, [0]

    def script(server: ServerConnection) -> None:
        welcome(server)
        for number in range(count):
            send(server, frame(number, PAD="x" * 1000))
            sent[0] = number + 1
        farewell(server)

    sink = BlockedSink()
    with feed(script) as url:
        run = Run(url, sink)
        assert sink.entered.wait(PATIENCE_S)
        before = -1
        while sent[0] != before:  # until the feed is stuck
            before = sent[0]
            assert not run.stop.wait(0.3)
        stuck_at = sent[0]
        sink.released.set()
        run.until(lambda stats: stats.trades == count)
        run.end()
    assert stuck_at < count
    assert sink.ids == [str(number) for number in range(count)]


def test_a_feed_that_is_not_up_yet_is_waited_for(closed_port: int) -> None:
    run = Run(f"ws://127.0.0.1:{closed_port}/v2")
    run.until(lambda stats: stats.disconnects >= 2)
    with feed(streams(frame(1)), port=closed_port):
        run.until(lambda stats: stats.trades == 1)
        run.end()
    assert "refused" in run.reasons()[0]
    assert run.gaps() == []


def test_a_feed_that_stays_away_ends_the_run_with_its_address(closed_port: int) -> None:
    run = Run(f"ws://127.0.0.1:{closed_port}/v2", reconnect_for_s=0.3, api_key=KEY)
    with pytest.raises(FeedUnreachableError, match=f"127.0.0.1:{closed_port} .*0.3 s.*CRYPTOCOMPARE_URL"):
        run.end(stop=False)


def test_a_feed_that_is_up_and_useless_ends_the_run_too() -> None:
    with feed(says(b'{"TYPE":"429","MESSAGE":"TOO_MANY_SOCKETS_MAX_1_PER_CLIENT"}')) as url:
        run = Run(url, reconnect_for_s=0.3)
        with pytest.raises(FeedUnreachableError, match="TOO_MANY_SOCKETS_MAX_1_PER_CLIENT"):
            run.end(stop=False)


@pytest.mark.parametrize(
    "error",
    [b'{"TYPE":"429","MESSAGE":"RATE_LIMIT_OPENING_SOCKETS_TOO_FAST"}',
     b'{"TYPE":"500","MESSAGE":"FORCE_DISCONNECT"}'],
)  # fmt: skip
def test_a_socket_that_is_turned_away_is_opened_again(error: bytes) -> None:
    with feed(says(error), streams(frame(1))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 1)
        assert run.end().connects == 2


def test_a_refused_subscription_is_reported_and_the_others_go_on() -> None:
    refusal = json.dumps({"TYPE": "500", "MESSAGE": "INVALID_SUB", "PARAMETER": SUB, "INFO": "no such market"})
    with feed(streams(refusal.encode(), refusal.encode(), frame(1))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 1)
        stats = run.end()
    assert stats.refused == [Refused(SUB, "INVALID_SUB", "no such market")]
    assert Refused(SUB, "INVALID_SUB", "no such market") in run.events


def test_a_feed_that_says_ever_new_things_fills_no_memory() -> None:
    refusals = [json.dumps({"TYPE": "500", "MESSAGE": "INVALID_SUB", "INFO": f"{n} {'x' * 2000}"}) for n in range(300)]
    accepted = [json.dumps({"TYPE": "16", "SUB": f"0~Kraken~BTC~{n}"}) for n in range(300)]
    strangers = [frame(n, M=f"Market{n}") for n in range(300)]
    said = [text.encode() for text in refusals + accepted]
    with feed(streams(*said, *strangers, *strangers, frame(1))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 301)
        stats = run.end()
    assert len(stats.refused) == MAX_REFUSED
    assert all(len(refused.info) <= 1000 for refused in stats.refused)
    assert stats.subscribed == {SUB}
    assert stats.duplicates == 300
    assert run.sink.frames == [*strangers, frame(1)]


def test_a_refused_key_ends_the_run_at_once() -> None:
    with feed(says(b'{"TYPE":"401","MESSAGE":"UNAUTHORIZED","PARAMETER":"format","INFO":"a valid api_key."}')) as url:
        run = Run(url, api_key=KEY)
        with pytest.raises(UnauthorizedError, match=r"UNAUTHORIZED, format, a valid api_key\."):
            run.end(stop=False)
    assert run.client.stats.connects == 1


@pytest.mark.parametrize("status", [HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN])
def test_a_handshake_refused_for_the_key_ends_the_run_at_once(status: HTTPStatus) -> None:
    with feed(says(), refuse=status) as url, pytest.raises(UnauthorizedError, match=str(status.value)):
        Run(url, api_key=KEY).end(stop=False)


def test_what_can_not_be_read_goes_to_the_dead_letters_and_the_stream_goes_on() -> None:
    def script(server: ServerConnection) -> None:
        welcome(server)
        server.send(frame(1), text=False)
        send(server, b"\xff\xfe", b"", frame(2, P=-1), frame(3))
        farewell(server)

    with feed(script) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 1)
        stats = run.end()
    assert run.sink.ids == ["3"]
    assert [letter for letter, _ in run.sink.dead] == [frame(1), b"\xff\xfe", b"", frame(2, P=-1)]
    assert all(reason for _, reason in run.sink.dead)
    assert (stats.unreadable, stats.connects) == (4, 1)


def test_a_failing_sink_ends_the_run_with_its_error_and_a_clean_close() -> None:
    codes: list[int | None] = []

    def script(server: ServerConnection) -> None:
        welcome(server)
        send(server, frame(1))
        server.wait_closed(PATIENCE_S)
        codes.append(server.close_code)

    with feed(script) as url:
        run = Run(url, FailingSink())
        with pytest.raises(OSError, match="the sink is broken"):
            run.end(stop=False)
    assert codes == [1000]
    assert run.client.stats.trades == 0


def test_stop_is_heeded_while_the_handshake_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        run = Run(f"ws://127.0.0.1:{hanging.getsockname()[1]}/v2")
        accepted, _ = hanging.accept()
        with accepted:
            started = time.monotonic()
            run.end()
            assert time.monotonic() - started < 0.5
    assert run.client.stats.connects == 0


def test_stop_is_heeded_while_backing_off(closed_port: int) -> None:
    run = Run(f"ws://127.0.0.1:{closed_port}/v2", min_delay_s=60)
    run.until(lambda stats: stats.disconnects == 1)
    started = time.monotonic()
    run.end()
    assert time.monotonic() - started < 0.5


def test_stop_is_heeded_while_nothing_comes_in() -> None:
    with feed(streams()) as url:
        run = Run(url)
        run.until(lambda stats: bool(stats.subscribed))
        started = time.monotonic()
        run.end()
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    "server",
    [
        feed(says(b'{"TYPE":"401","MESSAGE":"UNAUTHORIZED","INFO":"api_key=' + KEY.encode() + b'"}')),
        feed(says(), refuse=HTTPStatus.UNAUTHORIZED),
        feed(says(), refuse=HTTPStatus.SERVICE_UNAVAILABLE),
        feed(lambda server: server.close(1008, f"bad {KEY}")),
        feed(lambda server: server.socket.shutdown(socket.SHUT_RDWR)),
        feed(says(b'{"TYPE":"500","MESSAGE":"FORCE_DISCONNECT","INFO":"' + KEY.encode() + b'"}')),
    ],
    ids=["401", "http-401", "http-503", "close-reason", "cut", "force-disconnect"],
)
def test_the_key_is_in_no_log_event_or_exception(
    server: contextlib.AbstractContextManager[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with server as url:
        run = Run(url, api_key=KEY, reconnect_for_s=0.3)
        with pytest.raises((UnauthorizedError, FeedUnreachableError)) as caught:
            run.end(stop=False)
    said = [repr(caught.value), *traceback.format_exception(caught.value), repr(run.client), repr(run.events)]
    chain: BaseException | None = caught.value
    while chain is not None:  # also what `raise ... from None` only hides
        said.append(repr(chain) + str(vars(chain)))
        chain = chain.__cause__ or chain.__context__
    assert KEY not in " ".join(said) + caplog.text + repr(run.client.stats)


def test_the_key_is_sent_whatever_it_holds() -> None:
    asked: list[str] = []

    def script(server: ServerConnection) -> None:
        assert server.request is not None
        asked.append(server.request.path)
        streams(frame(1))(server)

    with feed(script) as url:
        run = Run(f"{url}?format=streamer", api_key="a/b+c&d")
        run.until(lambda stats: stats.trades == 1)
        run.end()
    assert asked == ["/v2?format=streamer&api_key=a%2Fb%2Bc%26d"]


@pytest.mark.parametrize("url", ["http://host/v2", "ws:///v2", "ws://host:port/v2", "wss://[::1/v2", "streamer"])
def test_a_url_of_no_websocket_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="CRYPTOCOMPARE_URL") as caught:
        FeedClient(f"{url}?api_key={KEY}", [SUB], RecordingSink())
    assert KEY not in str(caught.value)


def test_the_simulators_trades_arrive_each_once_with_all_its_faults() -> None:
    faults = Faults(duplicates=0.2, malformed=0.1, disorder_s=0.5)
    with Simulator(SimulatorConfig(rate=5000, max_trades=3000, faults=faults)) as simulator:
        run = Run(simulator.url)
        assert simulator.finished.wait(PATIENCE_S)
        run.until(lambda stats: stats.trades >= 3000)
        stats = run.end()
    assert (stats.trades, len(set(run.sink.ids))) == (3000, 3000)
    assert stats.duplicates > 0
    assert stats.unreadable == len(run.sink.dead) > 0
    assert stats.gap_count == 0


def test_trades_from_the_future_are_told_once_for_each_market_and_carried_on() -> None:
    ahead_s = int(time.time()) + 600
    with feed(streams(frame(1), *(frame(number, TS=ahead_s) for number in (2, 3)))) as url:
        run = Run(url)
        run.until(lambda stats: stats.trades == 3)
        run.end()
    [told] = [event for event in run.events if isinstance(event, ClocksDiffer)]
    assert told.market == json.loads(frame(1))["M"]
    assert told.ahead_s == pytest.approx(600, abs=10)
    assert "is wrong" in str(told)


def test_what_happens_to_the_socket_is_told_in_sentences() -> None:
    second = 1_000_000_000
    told = {
        Connected("host:443"): "Connected to the feed at host:443.",
        Disconnected("it broke", 5.04): "No connection to the feed: it broke; the next try is in 5.0 s.",
        Subscribed(sub=SUB): f"Subscribed to {SUB}.",
        Refused(SUB, "INVALID_SUB", "no such market"): f"The feed refused {SUB}: INVALID_SUB. no such market",
        Gap("Kraken", "BTC", "USD", 60 * second, 65 * second, "it broke"): (
            "Trades of BTC-USD on Kraken between 1970-01-01 00:01:00 and 00:01:05 UTC may be missing: it broke."
        ),
    }
    assert {event: str(event) for event in told} == told
