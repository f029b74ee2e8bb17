"""Two hundred viewers of a busy pair, and one who takes nothing: the others are live, and memory is bounded."""

import socket
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK, listening
from cryptoflow_tests.crowd import REQUEST, crowd, delays_ms, heard_by, send
from cryptoflow_tests.exactness import kafka
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.watching import await_that

VIEWERS = 200
TRADES_PER_S = 2000
SECONDS = 4
TRADES = TRADES_PER_S * SECONDS
MOST_MEMORY_MB = 100
MOST_DELAY_MS = 1000
"""Far more than on a quiet machine: the rest of the suite runs beside it."""


@pytest.fixture
def port(place: Workplace) -> Iterator[int]:
    """That of a server in a process of its own, as a user has it."""
    make_topics(kafka(place))
    port = free_port()
    server = place.process("cryptoflow", "chart", "--port", str(port))
    try:
        await_that(lambda: listening(LOOPBACK, port), 60)
        yield port
    finally:
        server.terminate()
        server.wait(30)
        assert server.stdout
        server.stdout.close()


def test_all_viewers_are_live_while_one_sleeps(place: Workplace, port: int, report: Callable[[str], None]) -> None:
    [server] = [each for each in psutil.Process().children() if str(port) in each.cmdline()]
    with socket.create_connection((LOOPBACK, port)) as sleeper, crowd(port, VIEWERS, TRADES) as viewers:
        sleeper.sendall(REQUEST)  # and it never reads
        before_mb = server.memory_info().rss / 2**20
        settings = kafka(place)
        acknowledged = send(settings.bootstrap_servers, settings.topic, TRADES, TRADES_PER_S)
        heard = heard_by(viewers)
    grown_mb = server.memory_info().rss / 2**20 - before_mb
    p50, p99 = np.percentile(np.concatenate([delays_ms(acknowledged, each) for each in heard]), (50, 99))
    report(
        f"{VIEWERS} viewers, {TRADES_PER_S} trades/s, from Kafka's acknowledgement to a viewer: "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms; the server grew by {grown_mb:.0f} MB"
    )
    assert len(heard) == VIEWERS
    assert grown_mb < MOST_MEMORY_MB
    assert p50 < MOST_DELAY_MS
