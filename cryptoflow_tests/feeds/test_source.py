"""Laws of the feed's choice, and of the simulator that a run starts for itself."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cryptoflow.cli.simulate import alive
from cryptoflow.errors import ConfigError, ServiceError
from cryptoflow.feeds.events import ClientEvent
from cryptoflow.feeds.source import SIMULATED, Feed, destination, open_feed, simulator
from cryptoflow.model.trade import Trade
from cryptoflow.settings import OFFICIAL_URL, FeedSettings, is_simulated
from cryptoflow.venues.events import Refused
from cryptoflow_tests.feeds.serving import feed, streams
from cryptoflow_tests.venues.speaking import COINBASE, KRAKEN

KEY = "key-that-nobody-may-see"
OTHER_URL = "ws://127.0.0.1:1/v2"
WAIT_S = 20

PARENT = """
import sys
from cryptoflow.feeds.source import simulator
from cryptoflow.settings import OFFICIAL_URL, FeedSettings, is_simulated
with simulator(FeedSettings()) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


class Trades:
    """A sink that tells when it has some."""

    def __init__(self, wanted: int = 1) -> None:
        self.frames: list[bytes] = []
        self._wanted = wanted
        self.enough = threading.Event()

    def trade(self, trade: Trade, frame: bytes) -> None:
        self.frames.append(frame)
        if len(self.frames) >= self._wanted:
            self.enough.set()

    def dead_letter(self, frame: bytes, reason: str, *, venue: str = "") -> None:
        raise AssertionError(reason)


@pytest.fixture(autouse=True)
def _no_key_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRYPTOCOMPARE_API_KEY", raising=False)


def children() -> list[psutil.Process]:
    """The simulators that this process has started and that live."""
    found = psutil.Process().children(recursive=True)
    return [each for each in found if alive(each) and "simulate" in each.cmdline()]


def streamed(feed: Feed, wanted: int, on_event: Callable[[ClientEvent], None] = lambda event: None) -> list[bytes]:
    """The first frames that a client of the feed gets."""
    sink, stop = Trades(wanted), threading.Event()
    client = feed.client(sink, on_event)
    thread = threading.Thread(target=client.run, args=(stop,))
    thread.start()
    try:
        assert sink.enough.wait(WAIT_S)
    finally:
        stop.set()
        thread.join(WAIT_S)
    return sink.frames


@pytest.mark.parametrize(
    ("source", "key", "url", "simulated"),
    [
        ("auto", None, OFFICIAL_URL, True),
        ("auto", KEY, OFFICIAL_URL, False),
        ("auto", None, OTHER_URL, False),
        ("auto", KEY, OTHER_URL, False),
        ("simulator", KEY, OFFICIAL_URL, True),
        ("simulator", None, OTHER_URL, True),
        ("cryptocompare", None, OFFICIAL_URL, False),
        ("cryptocompare", KEY, OFFICIAL_URL, False),
    ],
)
def test_the_feed_is_the_simulator_unless_there_is_another(
    source: str, key: str | None, url: str, simulated: bool
) -> None:
    assert is_simulated(FeedSettings.model_validate({"source": source, "url": url}), key) is simulated


def test_a_key_of_the_environment_leads_to_the_live_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOCOMPARE_API_KEY", KEY)
    with open_feed(FeedSettings()) as feed:
        assert (feed.url, feed.simulated, feed.key) == (OFFICIAL_URL, False, KEY)
        assert feed.notice == f"The trades come from {OFFICIAL_URL}."
    assert children() == []


def test_where_the_trades_go_is_one_sentence() -> None:
    assert destination("simulated") == "They go to the topic simulated."
    assert destination("a", "b") == "They go to the topic a, their candles to the keyspace b."


def test_another_feed_needs_no_key() -> None:
    with open_feed(FeedSettings(url=OTHER_URL)) as feed:
        assert (feed.url, feed.simulated, feed.key) == (OTHER_URL, False, None)


def test_the_key_shows_nowhere() -> None:
    with open_feed(FeedSettings(), KEY) as feed:
        assert feed.key == KEY
        client = feed.client(Trades(), lambda event: None)
        assert KEY not in repr(feed) + str(feed) + feed.notice + repr(client) + repr(feed.settings)


def test_the_live_feed_without_a_key_is_told() -> None:
    with (
        pytest.raises(ConfigError, match=r"needs a key: set CRYPTOCOMPARE_API_KEY, or take .*coinbase.*simulator"),
        open_feed(FeedSettings(source="cryptocompare")),
    ):
        pass


def test_venues_of_their_own_need_no_key_and_get_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOCOMPARE_API_KEY", KEY)
    with feed(streams(KRAKEN, 1)) as kraken, feed(streams(COINBASE, 1)) as coinbase:
        settings = FeedSettings(source="coinbase,kraken", coinbase_url=coinbase, kraken_url=kraken)
        with open_feed(settings) as source:
            assert (source.simulated, source.key) == (False, None)
            assert source.notice == f"The trades come from {coinbase}, {kraken}."
            records = [json.loads(record) for record in streamed(source, 2)]
    assert {record["M"] for record in records} == {"Coinbase", "Kraken"}
    assert children() == []


def test_a_subscription_of_no_venue_is_told_and_the_others_go_on() -> None:
    events: list[ClientEvent] = []
    subscriptions = "0~CoinDeal~BTC~USD,0~Kraken~BTC~USD"
    with feed(streams(KRAKEN, 1)) as kraken:
        settings = FeedSettings(source="kraken", kraken_url=kraken, subscriptions=subscriptions)
        with open_feed(settings) as source:
            assert len(streamed(source, 1, events.append)) == 1
    assert [event.sub for event in events if isinstance(event, Refused)] == ["0~CoinDeal~BTC~USD"]


def test_venues_without_any_subscription_of_theirs_are_told() -> None:
    with (
        open_feed(FeedSettings(source="kraken", subscriptions="0~Gemini~BTC~USD")) as source,
        pytest.raises(ConfigError, match="None of the subscriptions is of kraken"),
    ):
        source.client(Trades(), lambda event: None)


def test_more_subscriptions_than_a_socket_takes_get_another_socket() -> None:
    subscriptions = [f"0~Binance~C{number}~USDT" for number in range(1500)]
    with open_feed(FeedSettings(source="binance", subscriptions=",".join(subscriptions))) as source:
        endpoints = [*source.endpoints()]
    assert [len(endpoint.subscriptions) for endpoint in endpoints] == [1000, 500]
    assert [sub for endpoint in endpoints for sub in endpoint.subscriptions] == subscriptions
    assert {endpoint.socket_url for endpoint in endpoints} == {"wss://stream.binance.com:9443/stream"}


@pytest.mark.parametrize(("key", "url"), [(KEY, OFFICIAL_URL), (None, OTHER_URL)])
def test_a_replay_by_a_live_feed_is_told(key: str | None, url: str) -> None:
    with (
        pytest.raises(ConfigError, match="Only the simulator replays a file"),
        open_feed(FeedSettings(url=url, replay="day.jsonl"), key),
    ):
        pass


def test_a_simulator_streams_as_long_as_the_block_lasts_and_is_gone_after_it() -> None:
    with open_feed(FeedSettings(simulator_rate=500.0)) as feed:
        assert (feed.simulated, feed.key, feed.notice) == (True, None, SIMULATED)
        [child] = children()
        assert os.getsid(child.pid) == child.pid  # Ctrl-C does not reach it
        assert len(streamed(feed, 5)) >= 5
    assert not alive(child)


def test_it_is_gone_after_a_block_that_failed() -> None:
    started: list[psutil.Process] = []

    def fail() -> None:
        started.extend(children())
        raise ServiceError("of mine")

    with pytest.raises(ServiceError, match="of mine"), simulator(FeedSettings()):
        fail()
    assert [alive(child) for child in started] == [False]


def test_it_is_gone_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"ws://127.0.0.1:")
        [child] = psutil.Process(parent.pid).children()
        parent.kill()
        assert psutil.wait_procs([child], timeout=WAIT_S)[1] == [] or not alive(child)


def test_it_replays_the_file_of_the_settings(shared: Path, tmp_path: Path) -> None:
    with gzip.open(shared / "replay" / "binance-spot-btcusdt-midnight.jsonl.gz") as lines:
        first = [next(lines).strip() for _ in range(20)]
    replay = tmp_path / "day.jsonl"
    replay.write_bytes(b"\n".join(first))
    settings = FeedSettings(replay=str(replay), replay_speed=0, subscriptions="0~Binance~BTC~USDT")
    with open_feed(settings) as feed:
        assert streamed(feed, 20) == first


@pytest.fixture
def _python_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))


@pytest.mark.usefixtures("_python_that_says_nothing")
def test_a_simulator_that_ends_without_a_word_is_told() -> None:
    with pytest.raises(ServiceError, match="The simulator did not start: it said nothing"), simulator(FeedSettings()):
        pass


def test_a_simulator_that_cannot_start_is_told_in_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "missing.jsonl"
    with (
        pytest.raises(ServiceError, match=rf"^The simulator did not start: .*{missing}") as caught,
        open_feed(FeedSettings(replay=str(missing))),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert children() == []
