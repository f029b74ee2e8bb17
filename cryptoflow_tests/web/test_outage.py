"""Kafka and Cassandra go away and come back under a server that lives on, and says so meanwhile."""

import gc
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.model.candle import candle_row, candles_of
from cryptoflow.model.window import epoch_ns
from cryptoflow.settings import KafkaSettings, SparkSettings, WebSettings
from cryptoflow.tables.schema import CANDLES
from cryptoflow.web.listen import listening_socket, serving
from cryptoflow_tests.cable import Cable
from cryptoflow_tests.mortal import MortalKafka
from cryptoflow_tests.watching import BTC, Watched, a_trade, await_that

pytestmark = [
    # kafka-python leaks the socket of each connection that is refused
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"),
]

ASKED: dict[str, Any] = {"market": "Coinbase", "pair": "BTC-USD", "limit": 1}


@pytest.fixture
def cable(cassandra_port: int) -> Iterator[Cable]:
    cable = Cable(cassandra_port)
    yield cable
    cable.pull()


@pytest.fixture
def cabled(shared_server: Watched, cable: Cable) -> Iterator[Watched]:
    """A server that reaches Cassandra through the cable only."""
    web = WebSettings(port=free_port())
    through = shared_server.cassandra.model_copy(update={"port": cable.port})
    with serving(*listening_socket(web), shared_server.kafka, through, SparkSettings()):
        # an earlier test may have finished windows of the same topic that are still to come
        yield Watched(
            web, shared_server.kafka, shared_server.cassandra, shared_server.session, shared_server.finished_ns
        )


@pytest.fixture
def kafka(tmp_path: Path, jars_home: Path, caplog: pytest.LogCaptureFixture) -> Iterator[MortalKafka]:
    """A broker that is up, to be killed; captured records would hold on to its sockets."""
    kafka = MortalKafka(tmp_path, jars_home)
    kafka.start()
    with caplog.at_level(logging.CRITICAL, logger="kafka"):
        yield kafka
    kafka.kill()
    gc.collect()


def test_cassandra_goes_and_comes_back_while_trades_go_on(cabled: Watched, cable: Cable) -> None:
    [candle] = candles_of([a_trade(1, 5.0, BTC, epoch_ns(datetime.now(UTC)))], 60).values()
    cabled.put(CANDLES, [candle_row(candle)])
    await_that(lambda: cabled.get("candles", **ASKED).status == 200)
    with cabled.sender() as send, cabled.live() as stream:
        cable.pull()
        await_that(lambda: cabled.get("candles", **ASKED).status == 503)
        assert "does not answer" in cabled.get("health").json["cassandra"]
        trade = send(77.0)
        assert stream.until(lambda event: event.data["close"] == trade.price)
        cable.plug()
        await_that(lambda: cabled.get("candles", **ASKED).status == 200)
        await_that(lambda: cabled.get("health").json["cassandra"] is None)


def test_kafka_goes_and_comes_back_with_all_trades(shared_server: Watched, kafka: MortalKafka, topic: str) -> None:
    settings = KafkaSettings(bootstrap_servers=kafka.server, topic=topic)
    make_topics(settings)
    web = WebSettings(port=free_port())
    with serving(*listening_socket(web), settings, shared_server.cassandra, SparkSettings()):
        server = Watched(web, settings, shared_server.cassandra, shared_server.session)
        at_ns = shared_server.now_ns()
        with server.live() as stream:
            with server.sender() as send:
                send(1.0, at_ns=at_ns)
                assert stream.until(lambda event: event.data["trades"] == 1)
            kafka.kill()
            await_that(lambda: server.get("health").json["kafka"])
            kafka.start()
            with server.sender() as send:
                send(2.0, at_ns=at_ns + 1)
                assert stream.until(lambda event: event.data["trades"] == 2)
            await_that(lambda: server.get("health").json["kafka"] is None)
