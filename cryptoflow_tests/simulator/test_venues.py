"""Laws of the venues' servers, each seen by a raw websocket client and a plain HTTP client over loopback sockets."""

import gzip
import http.client
import json
import socket as sockets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cryptoflow.errors import ConfigError, ServiceError
from cryptoflow.model.recording import Record, record_line
from cryptoflow.simulator.binance import Binance
from cryptoflow.simulator.coinbase import Coinbase
from cryptoflow.simulator.config import SimulatorConfig, VenueName
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.handle import Simulator
from cryptoflow.simulator.kraken import Kraken

WAIT_S = 20.0
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PING = 0x89
"""The first byte of a ping."""


@dataclass(frozen=True)
class Speech:
    """How a client talks to a venue."""

    venue: VenueName
    market: str
    currency: str
    path: str
    """After the websocket's address."""
    request: Callable[[str], dict[str, Any]]
    """Subscribes to BTC."""
    trades: Callable[[dict[str, Any]], list[dict[str, Any]]]
    """Of a frame."""
    id: str
    page: Callable[[int], str]
    """The target of a page with the trade of an id at its begin or end."""
    rows: Callable[[Any], list[tuple[int, float, float]]]
    """(id, price, quantity) of an answer's trades."""
    price: str
    quantity: str

    @property
    def subscription(self) -> str:
        return f"0~{self.market}~BTC~{self.currency}"


COINBASE = Speech(
    "coinbase",
    "Coinbase",
    "USD",
    "",
    lambda coin: {"type": "subscribe", "product_ids": [f"{coin}-USD"], "channels": ["matches", "heartbeat"]},
    lambda frame: [frame] if frame["type"] in ("match", "last_match") else [],
    "trade_id",
    lambda id_: f"/products/BTC-USD/trades?after={id_ + 1}",
    lambda page: [(row["trade_id"], float(row["price"]), float(row["size"])) for row in page],
    "price",
    "size",
)
BINANCE = Speech(
    "binance",
    "Binance",
    "USDT",
    "/stream",
    lambda coin: {"method": "SUBSCRIBE", "params": [f"{coin.lower()}usdt@trade"], "id": 1},
    lambda frame: [frame["data"]] if frame.get("data", {}).get("e") == "trade" else [],
    "t",
    lambda id_: f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={id_}&limit=1000",
    lambda page: [(row["id"], float(row["price"]), float(row["qty"])) for row in page],
    "p",
    "q",
)
KRAKEN = Speech(
    "kraken",
    "Kraken",
    "USD",
    "",
    lambda coin: {"method": "subscribe", "params": {"channel": "trade", "symbol": [f"{coin}/USD"]}},
    lambda frame: frame["data"] if frame.get("channel") == "trade" else [],
    "trade_id",
    lambda id_: "/0/public/Trades?pair=XBTUSD",
    lambda page: [
        (row[6], float(row[0]), float(row[1]))
        for rows in page["result"].values()
        if isinstance(rows, list)
        for row in rows
    ],
    "price",
    "qty",
)
ALL = (COINBASE, BINANCE, KRAKEN)

QUIET: dict[str, Any] = {"rate": 1.0, "history_s": 10}
"""A market whose pages are short, for tests that only count them."""

each_venue = pytest.mark.parametrize("speech", ALL, ids=lambda speech: speech.venue)


@contextmanager
def simulated(speech: Speech, faults: Faults | None = None, **changes: Any) -> Iterator[Simulator]:
    options = {"rate": 400.0, "history_s": 600, "limit_factor": 100} | changes
    with Simulator(SimulatorConfig(venue=speech.venue, faults=faults or Faults(), **options)) as simulator:
        yield simulator


@contextmanager
def opened(speech: Speech, simulator: Simulator) -> Iterator[ClientConnection]:
    with connect(simulator.url + speech.path, compression=None, close_timeout=0.1) as socket:
        yield socket


@contextmanager
def subscribed(speech: Speech, simulator: Simulator) -> Iterator[ClientConnection]:
    with opened(speech, simulator) as socket:
        socket.send(json.dumps(speech.request("BTC")))
        yield socket


def received(speech: Speech, socket: ClientConnection, count: int) -> list[dict[str, Any]]:
    """At least so many trades."""
    trades: list[dict[str, Any]] = []
    while len(trades) < count:
        trades += speech.trades(json.loads(socket.recv(WAIT_S)))
    return trades


def until(socket: ClientConnection, told: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first frame of which `told` holds."""
    while True:
        frame: dict[str, Any] = json.loads(socket.recv(WAIT_S))
        if told(frame):
            return frame


def small_socket(simulator: Simulator) -> sockets.socket:
    """A connected socket that takes little that is not read."""
    place = urlsplit(simulator.url)
    small = sockets.socket()
    small.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    small.connect((place.hostname, place.port))
    return small


def until_closed(socket: ClientConnection) -> tuple[list[str], ConnectionClosed]:
    got: list[str] = []
    while True:
        try:
            got.append(str(socket.recv(WAIT_S)))
        except ConnectionClosed as closed:
            return got, closed


def get(url: str, target: str) -> tuple[int, dict[str, str], bytes]:
    place = urlsplit(url)
    client = http.client.HTTPConnection(str(place.hostname), place.port, timeout=WAIT_S)
    try:
        client.request("GET", target)
        answer = client.getresponse()
        return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
    finally:
        client.close()


def past(speech: Speech, simulator: Simulator, first: int, last: int) -> dict[int, tuple[float, float]]:
    """The trades of some ids, from the REST: page by page, but of Kraken the newest page only."""
    found: dict[int, tuple[float, float]] = {}
    at, down = (last, True) if speech is COINBASE else (first, False)
    while first <= at <= last:
        status, _, body = get(simulator.rest_url, speech.page(at))
        assert status == 200
        page = {id_: (price, quantity) for id_, price, quantity in speech.rows(json.loads(body))}
        found |= page
        if speech is KRAKEN or not page:
            break
        at = min(page) - 1 if down else max(page) + 1
    return {id_: told for id_, told in found.items() if first <= id_ <= last}


def traded_beyond(simulator: Simulator, speech: Speech, trades: int) -> None:
    """Waits until so many more were traded, whether anybody listens or not."""
    tape = simulator._tape(speech.subscription)
    end = tape.next + trades
    simulator.wait_until(lambda: tape.next >= end, WAIT_S)


# One market


@each_venue
def test_websocket_rest_and_truth_tell_the_same_trades(speech: Speech) -> None:
    with simulated(speech) as simulator, subscribed(speech, simulator) as socket:
        live = received(speech, socket, 300)
        ids = [trade[speech.id] for trade in live]
        first, last = min(ids), max(ids)
        assert sorted(set(ids)) == list(range(first, last + 1))
        told = {trade[speech.id]: (float(trade[speech.price]), float(trade[speech.quantity])) for trade in live}
        assert past(speech, simulator, first, last) == told
        truth = {int(trade.id): (trade.price, trade.quantity) for trade in simulator.trades(speech.subscription)}
        assert truth.items() >= {id_: told[id_] for id_ in truth.keys() & told.keys()}.items()
        assert len(truth.keys() & told.keys()) >= 299


@each_venue
def test_the_market_goes_on_while_nobody_listens_and_the_rest_fills_the_gap(speech: Speech) -> None:
    with simulated(speech) as simulator:
        with subscribed(speech, simulator) as socket:
            before = received(speech, socket, 50)
        simulator.wait_until(lambda: simulator.connections == 0, WAIT_S)
        traded_beyond(simulator, speech, 150)
        with subscribed(speech, simulator) as socket:
            after = received(speech, socket, 60)
        seen = {trade[speech.id] for trade in before + after}
        hole = set(range(min(seen), max(seen) + 1)) - seen
        assert len(hole) >= 148
        unsent = hole & set(simulator.unsent(speech.subscription))
        assert len(unsent) >= 100
        assert not [id_ for id_ in hole - unsent if min(unsent) < id_ < max(unsent)]  # others were sent, and not read
        filled = past(speech, simulator, min(hole), max(hole))
        assert hole <= filled.keys()


@each_venue
def test_the_past_is_there_from_the_start_and_in_the_truth_too(speech: Speech) -> None:
    with simulated(speech, history_rate=4, history_s=300) as simulator:
        now_s = time.time()
        before = [int(t.id) for t in simulator.trades(speech.subscription, now_s - 200, now_s - 100)]
        assert len(before) == pytest.approx(200, abs=20)
        assert before == list(range(before[0], before[-1] + 1))
        if speech is KRAKEN:
            _, _, body = get(simulator.rest_url, f"/0/public/Trades?pair=XBTUSD&since={now_s - 205:.9f}&count=300")
            rows = {row[0] for row in speech.rows(json.loads(body))}
        else:
            rows = set(past(speech, simulator, before[0], before[-1]))
        assert set(before) <= rows


@each_venue
def test_a_pair_that_is_not_traded_brings_nothing_and_the_others_stream(speech: Speech) -> None:
    with simulated(speech) as simulator, opened(speech, simulator) as socket:
        socket.send(json.dumps(speech.request("XYZ")))
        socket.send(json.dumps(speech.request("BTC")))
        received(speech, socket, 20)
        assert simulator.subscriptions == (speech.subscription,)
        with pytest.raises(ConfigError, match=r"XYZ.* is not traded"):
            simulator.trades(f"0~{speech.market}~XYZ~USD")


# The stream's faults


@each_venue
def test_lost_frames_are_in_the_rest_and_known_as_unsent(speech: Speech) -> None:
    with simulated(speech, Faults(lost=0.1)) as simulator, subscribed(speech, simulator) as socket:
        ids = {trade[speech.id] for trade in received(speech, socket, 400)}
        first, last = sorted(ids)[1], max(ids)
        lost = set(range(first, last + 1)) - ids
        assert 10 < len(lost) < 120
        unsent = {id_ for id_ in simulator.unsent(speech.subscription) if first <= id_ <= last}
        assert unsent == lost
        assert lost <= past(speech, simulator, first, last).keys()


@each_venue
def test_skipped_ids_are_nowhere(speech: Speech) -> None:
    with simulated(speech) as simulator, subscribed(speech, simulator) as socket:
        ids = {trade[speech.id] for trade in received(speech, socket, 30)}
        hole = simulator.skip_ids(speech.subscription, 25)
        while max(ids) < hole[-1] + 20:
            ids |= {trade[speech.id] for trade in received(speech, socket, 1)}
        assert not ids & set(hole)
        assert {hole[0] - 1, hole[-1] + 1} <= ids
        assert not past(speech, simulator, hole[0], hole[-1])
        assert not set(simulator.unsent(speech.subscription)) & set(hole)


@each_venue
def test_ids_out_of_order_all_come(speech: Speech) -> None:
    with simulated(speech, Faults(disordered_ids=0.2)) as simulator, subscribed(speech, simulator) as socket:
        ids = [trade[speech.id] for trade in received(speech, socket, 400)][1:]
    assert ids != sorted(ids)
    # Within one frame of eight too, as Kraken has them; so a trade comes up to three frames late.
    assert max(before - after for before, after in pairwise(ids)) <= 4 * 8
    settled = sorted(set(ids))[8:-32]
    assert settled == list(range(settled[0], settled[-1] + 1))


@each_venue
def test_duplicates_and_broken_frames_come_on_top(speech: Speech) -> None:
    faults = Faults(duplicates=0.2, malformed=0.2)
    with simulated(speech, faults) as simulator, subscribed(speech, simulator) as socket:
        ids: list[int] = []
        broken = 0
        while len(ids) < 300:
            try:
                ids += [trade[speech.id] for trade in speech.trades(json.loads(socket.recv(WAIT_S)))]
            except (ValueError, TypeError, KeyError, IndexError, AttributeError):
                broken += 1
        assert len(set(ids)) < len(ids)
        assert broken > 5
        assert simulator.sent.malformed > 20


def test_a_quiet_pair_is_quiet() -> None:
    faults = Faults(quiet_pairs=("BTC-USD",), quiet_every_s=1000, heartbeat_s=0.05)
    with simulated(KRAKEN, faults) as simulator, subscribed(KRAKEN, simulator) as socket:
        frames = [json.loads(socket.recv(WAIT_S)) for _ in range(12)]
    assert [frame.get("channel") for frame in frames[2:]] == ["heartbeat"] * 10


def test_heartbeats_tell_of_what_was_lost() -> None:
    faults = Faults(lost=1, heartbeat_s=0.05)
    with simulated(COINBASE, faults) as simulator, subscribed(COINBASE, simulator) as socket:
        first = until(socket, lambda frame: frame["type"] == "heartbeat")
        later = until(
            socket,
            lambda frame: frame["type"] == "heartbeat" and frame["last_trade_id"] > first["last_trade_id"] + 20,
        )
        tape = simulator._tape(COINBASE.subscription)
        assert first["last_trade_id"] < later["last_trade_id"] <= tape.next + tape.offset - 1


# The socket's faults


@each_venue
def test_a_socket_lives_as_long_as_it_may(speech: Speech) -> None:
    with simulated(speech, Faults(lifetime_s=0.3)) as simulator, subscribed(speech, simulator) as socket:
        got, closed = until_closed(socket)
    assert isinstance(closed, ConnectionClosedOK)
    assert got


def test_binance_gives_notice_of_a_shutdown_and_streams_until_it() -> None:
    faults = Faults(force_disconnect_every_s=0.5, notice_s=0.3)
    with simulated(BINANCE, faults) as simulator, subscribed(BINANCE, simulator) as socket:
        got, closed = until_closed(socket)
    frames = [json.loads(frame) for frame in got]
    notices = [number for number, frame in enumerate(frames) if frame.get("stream") == "!serverShutdown"]
    assert len(notices) == 1
    assert sum(len(BINANCE.trades(frame)) for frame in frames[notices[0] :]) > 10
    assert isinstance(closed, ConnectionClosedOK)


@each_venue
def test_a_cut_comes_without_a_close_frame(speech: Speech) -> None:
    with simulated(speech, Faults(cut_every_s=0.3)) as simulator, subscribed(speech, simulator) as socket:
        assert isinstance(until_closed(socket)[1], ConnectionClosedError)


def test_who_does_not_subscribe_in_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coinbase, "subscribe_within_s", 0.3)
    with simulated(COINBASE) as simulator:
        with opened(COINBASE, simulator) as socket:
            assert until_closed(socket)[0] == []
        with subscribed(COINBASE, simulator) as socket:
            begin_s = time.monotonic()
            while time.monotonic() < begin_s + 0.6:
                received(COINBASE, socket, 1)
        assert simulator.tally.broken == {"subscribe_within": 1}


def test_more_than_five_frames_a_second_end_a_socket_at_binance() -> None:
    with simulated(BINANCE, limit_factor=1) as simulator:
        with subscribed(BINANCE, simulator) as socket:
            for _ in range(3):
                assert socket.ping().wait(WAIT_S)
            received(BINANCE, socket, 20)
        assert not simulator.tally.broken
        with subscribed(BINANCE, simulator) as socket:
            with suppress(ConnectionClosed):  # before all are sent, if the simulator is quick
                for _ in range(12):
                    socket.ping()
            closed = until_closed(socket)[1]
        assert closed.rcvd is not None
        assert closed.rcvd.code == 1008
        assert simulator.tally.broken["messages"] >= 1


def test_too_many_frames_get_a_word_at_kraken_and_the_stream_goes_on() -> None:
    with simulated(KRAKEN, limit_factor=1) as simulator, subscribed(KRAKEN, simulator) as socket:
        for _ in range(120):
            socket.send('{"method":"ping"}')
        until(socket, lambda frame: frame.get("error") == "Exceeded msg rate")
        received(KRAKEN, socket, 20)
        assert simulator.tally.broken["messages"] > 10


def test_who_does_not_answer_a_ping_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Binance, "ping_s", 0.1)
    monkeypatch.setattr(Binance, "pong_within_s", 0.2)
    with simulated(BINANCE, limit_factor=1000) as simulator:
        with subscribed(BINANCE, simulator) as answering:
            place = urlsplit(simulator.url)
            with sockets.create_connection((str(place.hostname), place.port), timeout=WAIT_S) as silent:
                silent.sendall(HANDSHAKE)
                heard = b"".join(iter(lambda: silent.recv(4096), b""))
            received(BINANCE, answering, 20)
        assert PING in heard.split(b"\r\n\r\n", 1)[1]


def test_who_reads_too_slowly_is_dropped_and_the_others_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kraken, "slow_for_s", 0.3)
    with (
        simulated(KRAKEN, rate=20_000) as simulator,
        small_socket(simulator) as small,
        connect(simulator.url, sock=small, max_queue=1, compression=None, close_timeout=0.1) as slow,
    ):
        slow.send(json.dumps(KRAKEN.request("BTC")))
        with subscribed(KRAKEN, simulator) as socket:
            ids = [trade["trade_id"] for trade in received(KRAKEN, socket, 1000)]
            while simulator.tally.broken["slow"] == 0:
                ids += [trade["trade_id"] for trade in received(KRAKEN, socket, 100)]
            ids += [trade["trade_id"] for trade in received(KRAKEN, socket, 1000)]
        assert ids == list(range(ids[0], ids[0] + len(ids)))


@each_venue
def test_sockets_and_connects_beyond_the_limit_get_a_429(speech: Speech) -> None:
    with simulated(speech, Faults(max_sockets=1)) as simulator, opened(speech, simulator):
        with pytest.raises(InvalidStatus) as refused, opened(speech, simulator):
            pass
        assert refused.value.response.status_code == 429
        assert simulator.tally.broken == {"sockets": 1}
    with simulated(speech, Faults(max_connects_per_minute=1)) as simulator:
        with opened(speech, simulator):
            pass
        with pytest.raises(InvalidStatus), opened(speech, simulator):
            pass
        assert simulator.tally.broken == {"connects": 1}


# Outages


@each_venue
def test_a_venue_that_refuses_drops_all_and_is_back_with_what_was_traded_meanwhile(speech: Speech) -> None:
    with simulated(speech) as simulator:
        with subscribed(speech, simulator) as socket:
            last = received(speech, socket, 20)[-1][speech.id]
            simulator.refuse(600)
            assert isinstance(until_closed(socket)[1], ConnectionClosedError)
        with pytest.raises(InvalidStatus) as refused, opened(speech, simulator):
            pass
        assert refused.value.response.status_code == 503
        assert get(simulator.rest_url, speech.page(last))[0] == 503
        assert simulator.tally.refused == {"outage": 1}
        traded_beyond(simulator, speech, 30)
        simulator.refuse(0)
        with subscribed(speech, simulator) as socket:
            again = received(speech, socket, 20)[-1][speech.id]
        assert past(speech, simulator, last, again).keys() >= set(range(last + 1, again))


@each_venue
def test_maintenance_is_told_in_the_venues_words(speech: Speech) -> None:
    words = {"coinbase": b"maintenance", "binance": b"-1016", "kraken": b"EService:Unavailable"}
    with simulated(speech, Faults(maintenance_after_s=0.5, maintenance_for_s=600)) as simulator:
        with subscribed(speech, simulator) as socket:
            got, closed = until_closed(socket)
        assert closed.rcvd is not None
        assert closed.rcvd.code == 1001
        if speech is not COINBASE:
            assert ("serverShutdown" if speech is BINANCE else "maintenance") in got[-1]
        status, _, body = get(simulator.rest_url, speech.page(1))
        assert status == (200 if speech is KRAKEN else 503)
        assert words[speech.venue] in body
        with pytest.raises(InvalidStatus), opened(speech, simulator):
            pass
        simulator.maintain(0)
        with subscribed(speech, simulator) as socket:
            received(speech, socket, 5)


def test_a_refusal_may_be_planned_and_have_another_status() -> None:
    with simulated(BINANCE, Faults(refuse_after_s=0, refuse_status=451)) as simulator:
        deadline_s = time.monotonic() + WAIT_S
        while get(simulator.rest_url, "/api/v3/ping")[0] != 451:
            assert time.monotonic() < deadline_s
        with pytest.raises(InvalidStatus) as refused, opened(BINANCE, simulator):
            pass
    assert refused.value.response.status_code == 451


# The REST's faults


@each_venue
def test_a_slow_answer_takes_its_time_and_the_stream_goes_on(speech: Speech) -> None:
    with simulated(speech, Faults(rest_delay_s=0.5)) as simulator, subscribed(speech, simulator) as socket:
        received(speech, socket, 1)
        begin_s, before = time.monotonic(), simulator.sent.distinct
        assert get(simulator.rest_url, speech.page(10**9))[0] == 200
        assert time.monotonic() - begin_s >= 0.5
        assert simulator.sent.distinct > before + 20


@pytest.mark.parametrize(
    ("speech", "status", "retry_after"), [(COINBASE, 429, None), (BINANCE, 429, "7"), (KRAKEN, 200, None)]
)
def test_a_request_is_refused_as_one_too_many_though_the_limits_are_kept(
    speech: Speech, status: int, retry_after: str | None
) -> None:
    with simulated(speech, Faults(rest_too_many=1, retry_after_s=6.5)) as simulator:
        answered, headers, _ = get(simulator.rest_url, speech.page(1))
        tally = simulator.tally
    assert (answered, headers.get("retry-after")) == (status, retry_after)
    assert tally.refused == {"rest_too_many": 1}
    assert not tally.broken


@each_venue
def test_the_rest_fails_as_often_as_it_was_asked_to(speech: Speech) -> None:
    with simulated(speech, Faults(rest_errors=0.5), limit_factor=10**6, **QUIET) as simulator:
        statuses = [get(simulator.rest_url, speech.page(10**9))[0] for _ in range(60)]
        assert set(statuses) == {200, 500}
        assert simulator.tally.refused == {"rest_errors": statuses.count(500)}
        assert simulator.tally.requests == {speech.page(10**9): 60}


@each_venue
def test_the_newest_trades_come_into_the_rest_later(speech: Speech) -> None:
    with simulated(speech, Faults(rest_lag_s=1.0)) as simulator, subscribed(speech, simulator) as socket:
        newest = max(trade[speech.id] for trade in received(speech, socket, 50))
        begin_s = time.monotonic()
        assert newest not in past(speech, simulator, newest, newest)
        while newest not in past(speech, simulator, newest, newest):
            assert time.monotonic() < begin_s + WAIT_S
        assert time.monotonic() - begin_s > 0.5


@each_venue
def test_the_limits_are_kept_or_counted(speech: Speech) -> None:
    with simulated(speech, limit_factor=0.2, **QUIET) as simulator:
        # Half of them come within one minute by the clock, whenever they begin: too many for each venue.
        answers = [get(simulator.rest_url, speech.page(10**9)) for _ in range(120)]
        tally = simulator.tally
    refused = sum(status != 200 or b"Too many requests" in body for status, _, body in answers)
    assert refused == sum(tally.broken.values()) + tally.refused["ban"] > 5
    assert tally.requests.total() == 120


@each_venue
def test_the_rest_may_have_a_port_of_its_own(speech: Speech) -> None:
    with simulated(speech, rest_port=0) as simulator:
        assert urlsplit(simulator.url).port != urlsplit(simulator.rest_url).port
        assert get(simulator.rest_url, speech.page(10**9))[0] == 200
        with subscribed(speech, simulator) as socket:
            received(speech, socket, 5)
        port = urlsplit(simulator.rest_url).port
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}, it is taken"), simulated(speech, rest_port=port):
            pass


# The handle


def test_cryptocompare_has_no_rest_and_no_market() -> None:
    with Simulator(SimulatorConfig(rate=10)) as simulator:
        with pytest.raises(ConfigError, match="no REST"):
            _ = simulator.rest_url
        with pytest.raises(ConfigError, match="no CryptoCompare"):
            simulator.unsent("0~Coinbase~BTC~USD")


# The replay


def recorded(path: Path, frames: list[tuple[float, str]]) -> Path:
    path.write_bytes(
        b"".join(record_line(Record(received_ns=int(at_s * 10**9), frame=frame)) for at_s, frame in frames)
    )
    return path


@each_venue
def test_a_recording_is_sent_again_as_it_came_without_the_answers(speech: Speech, tmp_path: Path) -> None:
    with simulated(speech) as simulator, subscribed(speech, simulator) as socket:
        live = [str(socket.recv(WAIT_S)) for _ in range(120)]
    path = recorded(tmp_path / "frames.jsonl", [(1000 + number / 100, frame) for number, frame in enumerate(live)])
    trades = [frame for frame in live if speech.trades(json.loads(frame))]
    kept = [frame for frame in live if frame in trades or '"type":"heartbeat"' in frame]
    faults = Faults(heartbeat_s=3600)
    with (
        Simulator(SimulatorConfig(venue=speech.venue, replay=path, speed=0, faults=faults)) as simulator,
        subscribed(speech, simulator) as socket,
    ):
        again = [str(socket.recv(WAIT_S)) for _ in range(len(kept) + (1 if speech is not KRAKEN else 2))]
        assert simulator.finished.wait(WAIT_S)
        assert simulator.sent.distinct == sum(len(speech.trades(json.loads(frame))) for frame in trades)
    assert again[-len(kept) :] == kept
    assert len(kept) > 100


def test_a_recording_keeps_the_pace_in_which_it_came(tmp_path: Path) -> None:
    frame = '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":1.5,"qty":2.0,'
    frames = [
        (1000 + number / 5, f'{frame}"ord_type":"limit","trade_id":{number},"timestamp":"2024-08-12T19:38:30.5Z"}}]}}')
        for number in range(6)
    ]
    path = recorded(tmp_path / "frames.jsonl", frames)
    with (
        Simulator(SimulatorConfig(venue="kraken", replay=path, speed=2)) as simulator,
        subscribed(KRAKEN, simulator) as socket,
    ):
        times_s = []
        for _ in range(6):
            received(KRAKEN, socket, 1)
            times_s.append(time.monotonic())
    assert times_s[-1] - times_s[0] == pytest.approx(0.5, abs=0.15)


def test_a_replay_gives_new_subscribers_the_last_trades_as_its_venue_does(tmp_path: Path) -> None:
    frame = '{"type":"match","trade_id":%d,"side":"sell","size":"0.5","price":"7.10","product_id":"BTC-USD",'
    times = '"time":"2026-08-25T03:35:57.198335Z"}'
    path = recorded(tmp_path / "frames.jsonl", [(1000, frame % number + times) for number in (5, 6)])
    with Simulator(SimulatorConfig(venue="coinbase", replay=path, speed=0)) as simulator:
        with subscribed(COINBASE, simulator) as socket:
            received(COINBASE, socket, 2)
        with subscribed(COINBASE, simulator) as socket:
            last = json.loads(socket.recv(WAIT_S))
        assert (last["type"], last["trade_id"], last["price"]) == ("last_match", 6, "7.10")
        status, _, body = get(simulator.rest_url, "/products/BTC-USD/trades")
        assert (status, [row["trade_id"] for row in json.loads(body)]) == (200, [6, 5])


RECORDINGS = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="needs the recordings beside the repository")
def test_a_recording_of_the_real_coinbase_is_replayed_whole(tmp_path: Path) -> None:
    lines = gzip.decompress((RECORDINGS / "cryptofeed" / "COINBASE.ws.28.0.gz").read_bytes()).decode().splitlines()
    frames = [line.partition(": ")[::2] for line in lines if line[:1].isdigit()]
    path = recorded(tmp_path / "coinbase.jsonl", [(float(at_s), frame) for at_s, frame in frames])
    matches = [json.loads(frame) for _, frame in frames if '"match"' in frame or '"last_match"' in frame]
    assert len(matches) == 107
    products = sorted({match["product_id"] for match in matches})
    with (
        Simulator(SimulatorConfig(venue="coinbase", replay=path, speed=0)) as simulator,
        opened(COINBASE, simulator) as socket,
    ):
        socket.send(json.dumps({"type": "subscribe", "product_ids": products, "channels": ["matches"]}))
        assert json.loads(socket.recv(WAIT_S))["type"] == "subscriptions"
        assert [json.loads(socket.recv(WAIT_S)) for _ in matches] == matches
