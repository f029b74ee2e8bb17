"""The ingester: what it acknowledges is in the topic, and there is one of it whatever home it has."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cryptoflow.errors import AlreadyRunningError, LeaseLostError
from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.pipeline import ingest as module
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.supervision import Control, Figures
from cryptoflow.settings import FeedSettings, KafkaSettings
from cryptoflow.testing import Simulator, SimulatorConfig

WAIT_S = 30


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic)


@pytest.fixture
def feed() -> Iterator[Feed]:
    with Simulator(SimulatorConfig(rate=200)) as simulator:
        yield Feed(simulator.url, FeedSettings(subscriptions="0~Coinbase~BTC~USD"), simulated=False)


class Ingester(threading.Thread):
    """One in a thread, with a home of its own."""

    def __init__(self, feed: Feed, kafka: KafkaSettings, home: Path, run: str) -> None:
        super().__init__()
        self.streams = threading.Event()
        self.figures: Figures = {}
        self.error: Exception | None = None
        self.control = Control(report=self._report, report_every_s=0.05, owner=run)
        self._place = feed, kafka, home

    def _report(self, figures: Figures) -> None:
        if figures["acknowledged"]:
            self.streams.set()

    def run(self) -> None:
        try:
            self.figures = ingest(*self._place, self.control, lambda event: None)
        except (AlreadyRunningError, LeaseLostError) as error:
            self.error = error


@contextmanager
def running(ingester: Ingester) -> Iterator[Ingester]:
    ingester.start()
    try:
        yield ingester
    finally:
        ingester.control.stop.set()
        ingester.join(WAIT_S)


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
    assert sum(end_offsets(kafka, kafka.topic).values()) == first.figures["acknowledged"] > 0


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

    def hang(_figures: Figures) -> None:
        hung.set()
        goes_on.wait(WAIT_S)

    first = Ingester(feed, kafka, tmp_path / "first", "run-1")
    first.control.report = hang
    with running(first):
        assert hung.wait(WAIT_S)
        assert not first.control.stop.wait(2.5)  # until it is silent
        with running(Ingester(feed, kafka, tmp_path / "second", "run-2")) as second:
            assert second.streams.wait(WAIT_S)
            goes_on.set()
            first.join(WAIT_S)
            assert not first.is_alive()
        assert second.error is None
    assert isinstance(first.error, LeaseLostError)
    assert "was taken over by run-2 on" in str(first.error)
