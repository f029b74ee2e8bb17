"""Laws of the feed server, each seen by a real client over a loopback socket."""

import gzip
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

from cryptoflow.errors import ConfigError, ServiceError
from cryptoflow.model.trade import read_trade
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.handle import Simulator

BTC = "0~Coinbase~BTC~USD"
ETH = "0~Binance~ETH~USDT"
WAIT_S = 10.0
START_S = 1_600_000_000.0

SHARED = Path(__file__).parents[3] / "shared" / "replay"


def config(**changes: Any) -> SimulatorConfig:
    return SimulatorConfig(**({"rate": 0, "start_time_s": START_S, "record": True} | changes))


def message(socket: ClientConnection) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(socket.recv(WAIT_S))
    return fields


@contextmanager
def opened(url: str, **options: Any) -> Iterator[ClientConnection]:
    # A client with unread frames never sees the answer to its close, so it need not wait long for it.
    with connect(url, compression=None, close_timeout=0.1, **options) as socket:
        assert message(socket)["MESSAGE"] == "STREAMERWELCOME"
        yield socket


def request(socket: ClientConnection, action: str, *subs: str) -> None:
    socket.send(json.dumps({"action": action, "subs": subs}))


@contextmanager
def subscribed(url: str, *subs: str) -> Iterator[ClientConnection]:
    with opened(url) as socket:
        request(socket, "SubAdd", *subs)
        yield socket


def loaded(socket: ClientConnection) -> list[bytes]:
    """What comes between the subscription and LOADCOMPLETE."""
    until = []
    while b'"TYPE":"3"' not in (frame := socket.recv(WAIT_S, decode=False)):
        until.append(frame)
    return until


def received(socket: ClientConnection, count: int) -> list[bytes]:
    return [socket.recv(WAIT_S, decode=False) for _ in range(count)]


def until_closed(socket: ClientConnection) -> tuple[list[bytes], ConnectionClosed]:
    got = []
    while True:
        try:
            got.append(socket.recv(WAIT_S, decode=False))
        except ConnectionClosed as closed:
            return got, closed


def is_repeat(frame: bytes) -> bool:
    return b'"TYPE":"0"' in frame


# The stream


def test_a_client_gets_exactly_the_frames_of_the_config() -> None:
    of = config(max_trades=5_000, faults=Faults(duplicates=0.1, disorder_s=1, late=0.1, malformed=0.1))
    expected = list(frames(of, (BTC, ETH)))
    with Simulator(of) as simulator, subscribed(simulator.url, BTC, ETH) as socket:
        loaded(socket)
        assert received(socket, len(expected)) == expected
        assert simulator.finished.wait(WAIT_S)
        assert simulator.sent_frames() == expected
        sent = simulator.sent
    assert (sent.frames, sent.distinct) == (len(expected), 5_000)
    assert sent.trades == sent.distinct + sent.duplicates == sent.frames - sent.malformed
    assert min(sent.duplicates, sent.malformed, sent.late) > 400


def test_frames_come_as_text_and_any_path_will_do() -> None:
    with Simulator(config(max_trades=1)) as simulator, opened(simulator.url.replace("/v2", "/")) as socket:
        request(socket, "SubAdd", BTC)
        assert [type(socket.recv(WAIT_S)) for _ in range(3)] == [str, str, str]


def test_each_client_gets_its_own_pairs_only() -> None:
    with (
        Simulator(config(rate=2_000)) as simulator,
        subscribed(simulator.url, BTC) as bitcoin,
        subscribed(simulator.url, ETH) as ether,
    ):
        for socket, coin in ((bitcoin, "BTC"), (ether, "ETH")):
            loaded(socket)
            assert {read_trade(frame).from_coin for frame in received(socket, 50)} == {coin}


def test_clients_of_one_pair_get_the_same_trades() -> None:
    with Simulator(config(rate=2_000)) as simulator, subscribed(simulator.url, BTC) as first:
        loaded(first)
        with subscribed(simulator.url, BTC) as second:
            repeats = [frame for frame in loaded(second) if is_repeat(frame)]
            both = set(received(second, 50))
            assert simulator.connections == 2
        assert both | set(repeats) <= set(received(first, 50 + len(both) + simulator.sent.distinct))


def test_a_removed_subscription_gets_nothing_more() -> None:
    with Simulator(config(rate=2_000)) as simulator, subscribed(simulator.url, BTC, ETH) as socket:
        loaded(socket)
        request(socket, "SubRemove", BTC)
        while b'"TYPE":"18"' not in socket.recv(WAIT_S, decode=False):
            pass
        assert simulator.subscriptions == (ETH,)
        assert {read_trade(frame).from_coin for frame in received(socket, 50)} == {"ETH"}


def test_a_frame_of_ones_own_goes_to_who_has_its_subscription() -> None:
    [frame] = frames(config(max_trades=1), (BTC,))
    with (
        Simulator(config(max_trades=0)) as simulator,
        subscribed(simulator.url, BTC) as bitcoin,
        subscribed(simulator.url, ETH) as ether,
    ):
        loaded(bitcoin)
        loaded(ether)
        simulator.send(BTC, frame)
        assert received(bitcoin, 1) == [frame]
        assert simulator.sent.trades == 1
        with pytest.raises(TimeoutError):
            ether.recv(0.1)


def test_a_request_sent_together_with_the_close_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with Simulator(config()) as simulator:
        with connect(simulator.url) as socket:
            socket.protocol.send_text(b'{"action":"SubAdd","subs":["0~Coinbase~BTC~USD"]}')
            socket.protocol.send_close(1000)
            socket.socket.sendall(b"".join(socket.protocol.data_to_send()))
            assert isinstance(until_closed(socket)[1], ConnectionClosedOK)
        simulator.wait_until(lambda: simulator.connections == 0, WAIT_S)
        assert simulator.sent.frames == 0
    assert not caplog.records


def test_nothing_is_sent_while_nobody_is_subscribed() -> None:
    with Simulator(config()) as simulator, opened(simulator.url):
        with pytest.raises(TimeoutError):
            simulator.wait_until(lambda: simulator.sent.frames > 0, 0.2)
        assert simulator.connections == 1


def test_a_resubscription_gets_the_last_trades_again() -> None:
    with Simulator(config(rate=5_000, max_trades=100)) as simulator:
        with subscribed(simulator.url, BTC) as socket:
            loaded(socket)
            before = received(socket, 100)
        with subscribed(simulator.url, BTC) as socket:
            repeats = loaded(socket)[1:]
    assert repeats == before[-20:]
    assert simulator.sent.duplicates == 20
    assert simulator.sent.distinct == 100


def test_the_pace_is_kept() -> None:
    with Simulator(config(rate=1_000)) as simulator, subscribed(simulator.url, BTC) as socket:
        loaded(socket)
        begin_s = time.monotonic()
        received(socket, 501)
        taken_s = time.monotonic() - begin_s
    assert 0.4 < taken_s < 5


def test_a_slow_client_holds_the_stream_up_and_memory_stays_bounded() -> None:
    with (
        Simulator(SimulatorConfig(rate=0)) as simulator,
        subscribed(simulator.url, BTC) as socket,
    ):
        held = _standing(simulator)
        assert simulator.sent.frames == held < 200_000
        received(socket, held)
        simulator.wait_until(lambda: simulator.sent.frames > held, WAIT_S)


def _standing(simulator: Simulator) -> int:
    """The frames sent once no more are sent for half a second."""
    while True:
        frames_ = simulator.sent.frames
        try:
            simulator.wait_until(lambda last=frames_: simulator.sent.frames > last, 0.5)  # type: ignore[misc]
        except TimeoutError:
            if frames_:
                return frames_


def test_a_feed_at_its_end_stays_open_with_heartbeats() -> None:
    of = config(max_trades=1, faults=Faults(heartbeat_s=0.05))
    with Simulator(of) as simulator, subscribed(simulator.url, BTC) as socket:
        assert simulator.finished.wait(WAIT_S)
        beats = [frame for frame in received(socket, 10) if b"HEARTBEAT" in frame]
        assert len(beats) >= 7
        assert json.loads(beats[0])["TIMEMS"] == pytest.approx(time.time() * 1000, abs=60_000)


# The socket's faults


def test_a_wrong_or_missing_key_gets_the_401_and_the_close() -> None:
    with Simulator(config(faults=Faults(api_keys=("good",)))) as simulator:
        for key in ("", "?api_key=bad"):
            with connect(simulator.url + key) as socket:
                assert message(socket)["MESSAGE"] == "UNAUTHORIZED"
                assert isinstance(until_closed(socket)[1], ConnectionClosedOK)
        with opened(f"{simulator.url}?api_key=good"):
            assert simulator.connects == 1
        with opened(simulator.url, additional_headers={"authorization": "Apikey good"}):
            assert simulator.connects == 2


def test_a_key_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    caplog.set_level(logging.DEBUG)
    with Simulator(config()) as simulator, opened(f"{simulator.url}?api_key=SECRET", logger=quiet):
        assert simulator.connects == 1
    assert "SECRET" not in caplog.text


def test_connects_beyond_the_limit_get_the_429_and_the_close() -> None:
    with Simulator(config(faults=Faults(max_connects_per_minute=1))) as simulator:
        with opened(simulator.url):
            pass
        with connect(simulator.url) as socket:
            assert message(socket)["MESSAGE"] == "RATE_LIMIT_OPENING_SOCKETS_TOO_FAST"
            until_closed(socket)


def test_sockets_beyond_the_limit_get_the_429_and_the_close_until_one_is_free() -> None:
    with Simulator(config(faults=Faults(max_sockets=1))) as simulator:
        with opened(simulator.url), connect(simulator.url) as socket:
            assert message(socket)["MESSAGE"] == "TOO_MANY_SOCKETS_MAX_1_PER_CLIENT"
            until_closed(socket)
        simulator.wait_until(lambda: simulator.connections == 0, WAIT_S)
        with opened(simulator.url):
            assert simulator.connects == 2


def test_refused_subscriptions_are_answered_and_the_others_stream() -> None:
    of = config(max_trades=5, faults=Faults(refused_subscriptions=(ETH,)))
    with Simulator(of) as simulator, subscribed(simulator.url, ETH, BTC) as socket:
        refused = message(socket)
        assert (refused["TYPE"], refused["MESSAGE"], refused["PARAMETER"]) == ("500", "INVALID_SUB", ETH)
        loaded(socket)
        assert {read_trade(frame).from_coin for frame in received(socket, 5)} == {"BTC"}


def test_a_forced_disconnect_says_so_and_closes() -> None:
    of = config(rate=100, faults=Faults(force_disconnect_every_s=0.2))
    with Simulator(of) as simulator, subscribed(simulator.url, BTC) as socket:
        got, closed = until_closed(socket)
    assert isinstance(closed, ConnectionClosedOK)
    assert json.loads(got[-1])["MESSAGE"] == "FORCE_DISCONNECT"


def test_a_cut_comes_without_a_close_frame_and_loses_nothing_sent_before() -> None:
    of = config(rate=2_000, faults=Faults(cut_every_s=0.3))
    with Simulator(of) as simulator, subscribed(simulator.url, BTC) as socket:
        loaded(socket)
        got, closed = until_closed(socket)
        simulator.wait_until(lambda: simulator.connections == 0, WAIT_S)
        assert got == simulator.sent_frames()
    assert isinstance(closed, ConnectionClosedError)
    assert closed.rcvd is None


def test_a_silent_socket_stays_open_and_gets_neither_trades_nor_heartbeats() -> None:
    of = config(rate=100, faults=Faults(silent_after_s=0.3, heartbeat_s=0.05))
    with Simulator(of) as simulator, subscribed(simulator.url, BTC) as socket:
        loaded(socket)
        with pytest.raises(TimeoutError):
            list(iter(lambda: socket.recv(0.5), None))
        assert socket.ping().wait(WAIT_S)
        assert simulator.connections == 1


# The replay


def recorded(tmp_path: Path, count: int) -> tuple[Path, list[bytes]]:
    lines = list(frames(config(max_trades=count), (BTC, ETH)))
    path = tmp_path / "frames.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    return path, lines


def test_a_replay_goes_on_after_a_cut_where_it_stood(tmp_path: Path) -> None:
    path, lines = recorded(tmp_path, 30_000)
    got: list[bytes] = []
    with Simulator(SimulatorConfig(replay=path, speed=0, record=True)) as simulator:
        for read in (3_000, 1, 5_000):
            with subscribed(simulator.url, BTC, ETH) as socket:
                got += loaded(socket) + received(socket, read)
                simulator.drop_connections()
                got += until_closed(socket)[0]
        with subscribed(simulator.url, BTC, ETH) as socket:
            got += loaded(socket)
            while got[-1] != lines[-1]:
                got += received(socket, 1)
        assert simulator.finished.wait(WAIT_S)
        assert simulator.sent.distinct == 30_000
        assert simulator.sent.duplicates > 60
    assert list(dict.fromkeys(frame for frame in got if is_repeat(frame))) == lines


def test_late_replayed_trades_are_held_back_and_all_are_sent(tmp_path: Path) -> None:
    path, lines = recorded(tmp_path, 3_000)
    of = SimulatorConfig(replay=path, speed=0, faults=Faults(late=0.1, late_by_s=10))
    with Simulator(of) as simulator, subscribed(simulator.url, BTC, ETH) as socket:
        loaded(socket)
        got = received(socket, len(lines))
        assert simulator.finished.wait(WAIT_S)
        assert 100 < simulator.sent.late < 300
    assert got != lines
    assert sorted(got) == sorted(lines)


def test_a_missing_replay_is_reported_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        Simulator(SimulatorConfig(replay=tmp_path / "missing")).start()


def test_a_damaged_replay_is_reported_to_whoever_waits_and_at_the_end(tmp_path: Path) -> None:
    path, _ = recorded(tmp_path, 20_000)
    path.write_bytes(path.read_bytes()[:-5_000])
    simulator = Simulator(SimulatorConfig(replay=path, speed=0))
    simulator.start()
    with subscribed(simulator.url, BTC) as socket:
        until_closed(socket)
        with pytest.raises(ConfigError, match="damaged"):
            simulator.wait_until(lambda: False, WAIT_S)
    with pytest.raises(ConfigError, match="damaged"):
        simulator.stop()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the recordings beside the repository")
def test_a_recording_of_a_real_market_is_replayed_whole() -> None:
    path = SHARED / "binance-spot-btcusdt-midnight.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines()
    of = SimulatorConfig(replay=path, speed=0)
    with Simulator(of) as simulator, subscribed(simulator.url, "0~Binance~BTC~USDT") as socket:
        loaded(socket)
        assert received(socket, len(lines)) == lines
    assert len({read_trade(line).id for line in lines}) == len(lines) == 19_904


# The handle


def test_a_taken_port_is_reported() -> None:
    with Simulator(config()) as simulator:
        port = int(simulator.url.split(":")[2].removesuffix("/v2"))
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}, it is taken"):
            Simulator(config(port=port)).start()


def test_a_port_is_free_again_after_the_end() -> None:
    with Simulator(config()) as simulator:
        port = int(simulator.url.split(":")[2].removesuffix("/v2"))
    with Simulator(config(port=port)) as again:
        assert again.url == simulator.url


def test_an_end_closes_the_clients() -> None:
    with Simulator(config()) as simulator, opened(simulator.url) as socket:
        simulator.stop()
        assert until_closed(socket)[1].rcvd is not None


def test_frames_are_kept_only_if_asked_for() -> None:
    with Simulator(config(record=False)) as simulator, pytest.raises(ConfigError, match="record=True"):
        simulator.sent_frames()


def test_a_simulator_that_is_not_started_says_so() -> None:
    with pytest.raises(ConfigError, match="with block"):
        _ = Simulator().sent
