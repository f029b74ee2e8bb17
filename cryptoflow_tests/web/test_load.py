"""Two hundred viewers of a busy pair, and one who takes nothing: the others are live, and memory is bounded."""

import asyncio
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from kafka import KafkaProducer

from cryptoflow.kafka_io.connection import client_config
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK, listening
from cryptoflow.model.trade import kafka_key, write_trade
from cryptoflow.model.window import window_start_ns
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.exactness import kafka
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.watching import BTC, a_trade, await_that

VIEWERS = 200
TRADES_PER_S = 2000
SECONDS = 4
TRADES = TRADES_PER_S * SECONDS
PATH = "/api/live?market=Coinbase&pair=BTC-USD"
CATCH_UP_S = 30.0
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


class Crowd:
    """Viewers in one event loop; each knows how many trades its newest candle has, the first also since when."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connected = threading.Event()
        self.heard: list[tuple[float, int]] = []

    def watch(self) -> None:
        """Until each viewer has all trades."""
        asyncio.run(asyncio.wait_for(self._watch(), SECONDS + CATCH_UP_S))

    async def _watch(self) -> None:
        viewers = [await self._connect() for _ in range(VIEWERS)]
        self.connected.set()
        await asyncio.gather(*(self._view(reader, first=at == 0) for at, (reader, _) in enumerate(viewers)))
        for _, writer in viewers:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode())
        status = await reader.readuntil(b"\r\n\r\n")
        assert status.startswith(b"HTTP/1.1 200")
        return reader, writer

    async def _view(self, reader: asyncio.StreamReader, first: bool) -> None:
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                trades = json.loads(line[len(b"data: ") :])["trades"]
                if first:
                    self.heard.append((time.monotonic(), trades))
                if trades == TRADES:
                    return
        raise AssertionError("the server dropped a viewer that reads")


def send_trades(settings: KafkaSettings) -> list[float]:
    """Send them at their rate; gives when Kafka acknowledged each."""
    producer, acknowledged = KafkaProducer(**client_config(settings), linger_ms=0), [0.0] * TRADES
    start_ns, begun_s = window_start_ns(time.time_ns(), 60), time.monotonic()
    for number in range(TRADES):
        time.sleep(max(0.0, begun_s + number / TRADES_PER_S - time.monotonic()))
        frame = write_trade(a_trade(number, 100 + number / 1000, BTC, start_ns + number))
        sent = producer.send(settings.topic, frame, key=kafka_key(BTC))
        sent.add_callback(lambda _, number=number: acknowledged.__setitem__(number, time.monotonic()))
    producer.flush()
    producer.close()
    return acknowledged


def delays_ms(acknowledged: Sequence[float], heard: Iterable[tuple[float, int]]) -> Iterator[float]:
    """From the acknowledgement of each trade to the first candle that has it: a pair's trades keep their order."""
    at = iter(heard)
    when_s, trades = next(at)
    for number, acknowledged_s in enumerate(acknowledged, 1):
        while trades < number:
            when_s, trades = next(at)
        yield max(0.0, when_s - acknowledged_s) * 1000


def test_all_viewers_are_live_while_one_sleeps(place: Workplace, port: int, report: Callable[[str], None]) -> None:
    crowd = Crowd(port)
    [server] = [each for each in psutil.Process().children() if str(port) in each.cmdline()]
    with socket.create_connection((LOOPBACK, port)) as sleeper, ThreadPoolExecutor() as pool:
        sleeper.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode())  # and it never reads
        watching = pool.submit(crowd.watch)
        assert crowd.connected.wait(CATCH_UP_S)
        before_mb = server.memory_info().rss / 2**20
        acknowledged = send_trades(kafka(place))
        watching.result()
    grown_mb = server.memory_info().rss / 2**20 - before_mb
    delays = list(delays_ms(acknowledged, crowd.heard))
    p50, p99 = statistics.median(delays), statistics.quantiles(delays, n=100)[98]
    report(
        f"{VIEWERS} viewers, {TRADES_PER_S} trades/s, from Kafka's acknowledgement to a viewer: "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms; the server grew by {grown_mb:.0f} MB"
    )
    assert grown_mb < MOST_MEMORY_MB
    assert p50 < MOST_DELAY_MS
