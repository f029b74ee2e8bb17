"""A recording holds what came, from whom and when, and no secret; replayed, it gives the same trades."""

import gzip
import json
import time
from itertools import groupby
from pathlib import Path

import pytest

from cryptoflow.errors import ConfigError, PrerequisiteError
from cryptoflow.feeds.client import VenuesClient
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.feeds.events import ClientEvent
from cryptoflow.feeds.link import Patience, unheard
from cryptoflow.feeds.recording import NoSink, Recorder
from cryptoflow.feeds.rest import fetch
from cryptoflow.feeds.sink import Sink
from cryptoflow.model.recording import Record, record_of
from cryptoflow.model.trade import read_trade
from cryptoflow.simulator.config import VenueName
from cryptoflow.simulator.replay import read_frames
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow.venues import CRYPTOCOMPARE, VENUES
from cryptoflow.venues.past import Request, Wanted
from cryptoflow_tests.feeds.serving import RecordingSink, Running, feed
from cryptoflow_tests.feeds.test_client import KEY, says
from cryptoflow_tests.venues.speaking import pages

NAMES: list[VenueName] = ["coinbase", "binance", "kraken", "cryptocompare"]


def endpoint(name: VenueName, simulator: Simulator) -> Endpoint:
    currency = "USDT" if name == "binance" else "USD"
    venue = VENUES.get(name, CRYPTOCOMPARE)
    subs = [f"0~{venue.market or 'Kraken'}~{coin}~{currency}" for coin in ("BTC", "ETH")]
    return Endpoint(venue, simulator.url, tuple(subs), "any")


def receiving(*endpoints: Endpoint, recorder: Recorder | None = None) -> Running:
    sink, events = RecordingSink(), list[ClientEvent]()
    overhear = recorder.overhear if recorder else unheard
    patience = Patience(min_delay_s=0.05)
    client = VenuesClient(endpoints, sink, on_event=events.append, patience=patience, overhear=overhear)
    return Running(client, sink, events)


def records(path: Path) -> list[Record]:
    found = [record_of(line) for line in read_frames(path)]
    assert all(found)
    return [each for each in found if each]


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_of_a_simulator_gives_equal_trades_when_it_is_replayed(name: VenueName, tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl.gz"
    with Simulator(SimulatorConfig(venue=name, rate=400, seed=3)) as live, Recorder(path) as recorder:
        first = receiving(endpoint(name, live), recorder=recorder)
        first.until(lambda stats: stats.trades > 300)
        live.drop_connections()
        first.until(lambda stats: stats.trades > 600)
        first.end()
    assert {each.venue for each in records(path)} == {name}
    assert {each.socket for each in records(path)} == {1, 2}
    with Simulator(SimulatorConfig(venue=name, replay=path, speed=0)) as again:
        second = receiving(endpoint(name, again))
        second.until(lambda stats: stats.trades >= first.client.stats.trades)
        assert again.finished.wait(10)
        second.end()
        assert second.sink.frames == first.sink.frames
        if name != "cryptocompare":
            check_past(name, again, second.sink.frames)


def check_past(name: VenueName, simulator: Simulator, frames: list[bytes]) -> None:
    """The REST of the replay has the trades that its websocket sent, however they are asked for."""
    venue = VENUES[name]
    for pair, some in groupby(sorted(map(read_trade, frames), key=lambda trade: trade.identity), lambda t: t.pair):
        trades = sorted(some, key=lambda trade: int(trade.id))
        times_ns = [trade.event_time_ns for trade in trades]
        by_id = Wanted(pair, min(times_ns), max(times_ns), int(trades[0].id), int(trades[-1].id))
        for wanted in (by_id, by_id._replace(first=None, last=None)):

            def ask(request: Request) -> object:
                return fetch(simulator.rest_url, request.target)

            found = [trade for page in pages(venue, wanted, ask) for trade, _ in page.trades]  # type: ignore[arg-type]
            assert {trade.identity: (trade.event_time_ns, trade.price, trade.quantity, trade.flags) for trade in found}
            assert {trade.id for trade in trades} <= {trade.id for trade in found}


def test_each_line_tells_when_the_frame_came_and_from_which_venue_and_socket(tmp_path: Path) -> None:
    path, before_ns = tmp_path / "frames.jsonl", time.time_ns()
    with (
        Simulator(SimulatorConfig(venue="kraken", rate=100)) as kraken,
        Simulator(SimulatorConfig(venue="coinbase", rate=100)) as coinbase,
        Recorder(path) as recorder,
    ):
        run = receiving(endpoint("kraken", kraken), endpoint("coinbase", coinbase), recorder=recorder)
        run.until(lambda stats: stats.trades > 50)
        stats = run.end()
    found = records(path)
    assert len(found) == recorder.frames.total() == stats.frames
    times_ns = [each.received_ns for each in found]
    assert before_ns < times_ns[0] <= times_ns[-1] < time.time_ns()
    assert times_ns == sorted(times_ns)
    assert len({(each.venue, each.socket) for each in found}) == 2
    for each in found:
        assert ("channel" in json.loads(each.frame) or "method" in json.loads(each.frame)) == (each.venue == "kraken")


@pytest.mark.parametrize("name", ["frames.jsonl", "frames.jsonl.gz"])
@pytest.mark.parametrize("key", [KEY, 'a key/with "quotes" & blanks'])
def test_a_key_that_the_feed_repeats_is_not_written(tmp_path: Path, name: str, key: str) -> None:
    path = tmp_path / name
    frames = [json.dumps({"TYPE": "20", "MESSAGE": f"welcome, {key}!"}).encode(), b"no JSON " + key.encode()]
    with feed(says(*frames, b"\xff\xfe")) as url, Recorder(path) as recorder:
        run = Running(
            VenuesClient(
                [Endpoint(CRYPTOCOMPARE, url, ("0~Kraken~BTC~USD",), key)], RecordingSink(), overhear=recorder.overhear
            ),
            RecordingSink(),
            [],
        )
        run.until(lambda stats: stats.frames == 3)
        run.end()
    written = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    assert [each.frame for each in records(path)] == ['{"TYPE": "20", "MESSAGE": "welcome, ***!"}', "no JSON ***"]
    assert key.encode() not in written
    assert json.dumps(key)[1:-1].encode() not in written
    assert recorder.left_out == 1


def test_no_recording_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    path.write_text("dear")
    with pytest.raises(ConfigError, match="can't be made"):
        Recorder(path)
    with pytest.raises(ConfigError, match="can't be made"):
        Recorder(tmp_path / "nowhere" / "frames.jsonl.gz")
    assert path.read_text() == "dear"


def test_a_full_disk_ends_it_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    url = "ws://127.0.0.1:1"
    (tmp_path / "frames.jsonl").touch()
    with pytest.raises(PrerequisiteError, match="can't be written on"), Recorder(tmp_path / "frames.jsonl") as recorder:
        recorder.write(Endpoint(CRYPTOCOMPARE, url, ("0~Kraken~BTC~USD",)), 1, b"{}")


def test_whoever_records_needs_no_trades() -> None:
    sink: Sink = NoSink()
    sink.dead_letter(b"", "", venue="kraken")
