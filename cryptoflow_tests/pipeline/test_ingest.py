"""The ingester: what it acknowledges is in the topic, and there is one of it whatever home it has."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryptoflow.errors import AlreadyRunningError, LeaseLostError
from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.pipeline import ingest as module
from cryptoflow.runtime.metrics import PartMetrics
from cryptoflow.settings import FeedSettings, KafkaSettings
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow_tests.ingesting import WAIT_S, Ingester, running


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic)


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Simulator(SimulatorConfig(rate=200)) as simulator:
        yield Feed(simulator.url, FeedSettings(subscriptions="0~Coinbase~BTC~USD"), simulated=False)


def test_a_second_one_from_another_home_is_refused_and_the_first_goes_on(
    feed: Feed, kafka: KafkaSettings, tmp_path: Path
) -> None:
    with running(Ingester(feed, kafka, tmp_path / "first", "run-1")) as first:
        assert first.streams.wait(WAIT_S)
        with running(Ingester(feed, kafka, tmp_path / "second", "run-2")) as second:
            second.join(WAIT_S)
        assert isinstance(second.error, AlreadyRunningError)
        assert "already, run-1 on " in str(second.error)
        assert f"home {tmp_path / 'first'}: terminate that one first." in str(second.error)
    assert first.error is None
    assert sum(end_offsets(kafka, kafka.topic).values()) == first.metrics.acknowledged > 0


def test_ingesters_of_different_venues_write_into_one_topic_side_by_side_and_two_of_the_same_are_refused(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    with (
        Simulator(SimulatorConfig(venue="kraken", rate=200)) as kraken,
        Simulator(SimulatorConfig(venue="coinbase", rate=200)) as coinbase,
    ):
        feeds = {
            source: Feed(
                "", FeedSettings(source=source, kraken_url=kraken.url, coinbase_url=coinbase.url), simulated=False
            )
            for source in ("kraken", "coinbase", "coinbase,kraken")
        }
        with (
            running(Ingester(feeds["kraken"], kafka, tmp_path / "one", "run-1")) as first,
            running(Ingester(feeds["coinbase"], kafka, tmp_path / "two", "run-2")) as second,
        ):
            assert first.streams.wait(WAIT_S)
            assert second.streams.wait(WAIT_S)
            with running(Ingester(feeds["coinbase,kraken"], kafka, tmp_path / "three", "run-3")) as third:
                third.join(WAIT_S)
            assert isinstance(third.error, AlreadyRunningError)
            assert "already, run-2 on " in str(third.error)
    assert first.error is second.error is None
    assert first.metrics.feed.markets["Kraken"].trades == first.metrics.feed.trades > 0
    assert second.metrics.feed.markets.keys() == {"Coinbase"}
    acknowledged = first.metrics.acknowledged + second.metrics.acknowledged
    assert sum(end_offsets(kafka, kafka.topic).values()) == acknowledged


def test_the_next_one_from_another_home_goes_on_when_the_first_has_ended(
    feed: Feed, kafka: KafkaSettings, tmp_path: Path
) -> None:
    for run in ("run-1", "run-2"):
        with running(Ingester(feed, kafka, tmp_path / run, run)) as ingester:
            assert ingester.streams.wait(WAIT_S)
        assert ingester.error is None


def test_one_that_hung_while_another_took_over_ends_and_says_so(
    feed: Feed, kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TTL_S", 2.0)
    hung, goes_on = threading.Event(), threading.Event()

    def hang(_metrics: PartMetrics) -> None:
        hung.set()
        goes_on.wait(WAIT_S)

    first = Ingester(feed, kafka, tmp_path / "first", "run-1", hang)
    with running(first):
        assert hung.wait(WAIT_S)
        assert not first.context.stop.wait(2.5)  # until it is silent
        with running(Ingester(feed, kafka, tmp_path / "second", "run-2")) as second:
            assert second.streams.wait(WAIT_S)
            goes_on.set()
            first.join(WAIT_S)
            assert not first.is_alive()
        assert second.error is None
    assert isinstance(first.error, LeaseLostError)
    assert "was taken over by run-2 on" in str(first.error)
