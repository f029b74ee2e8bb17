"""Viewers of a pair, and who sends its trades, each a process of its own: what they cost is not the server's.

    python -m cryptoflow_tests.crowd view PORT VIEWERS TRADES     tells when all are connected, and what they heard
    python -m cryptoflow_tests.crowd send SERVER TOPIC TRADES RATE     tells when Kafka acknowledged each trade

Times are those of the machine's monotonic clock, in s, which all its processes share.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from confluent_kafka import Producer

from cryptoflow.kafka_io.delivery import LINGER_MS
from cryptoflow.local.service import LOOPBACK
from cryptoflow.model.trade import kafka_key, write_trade
from cryptoflow.model.window import window_start_ns
from cryptoflow_tests.watching import BTC, a_trade

PATH = "/api/live?market=Coinbase&pair=BTC-USD"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode()
PATIENCE_S = 60.0
"""From the first viewer until each has all trades."""

CONNECTED = "connected"
FIELD = b'"trades":'

Heard = list[tuple[float, int]]
"""(when, how many trades the newest candle had)."""


class Viewer(asyncio.Protocol):
    """Reads events, and notes when its candle had how many trades, until it has all."""

    def __init__(self, trades: int) -> None:
        loop = asyncio.get_running_loop()
        self._trades, self._rest = trades, b""
        self.connected: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.heard: Heard = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if not self.connected.done():
            assert data.startswith(b"HTTP/1.1 200"), data
            self.connected.set_result(None)
        events, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        begin = events.rfind(FIELD) + len(FIELD)
        if begin >= len(FIELD):
            self.heard.append((time.monotonic(), int(events[begin : events.find(b",", begin)])))
            if self.heard[-1][1] == self._trades and not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server dropped a viewer that reads"))


def newest_trades(port: int) -> int | None:
    """How many trades the newest candle has, for who comes new; None: the server does not answer, 0: there is none."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=5) as viewer:
            viewer.sendall(REQUEST)
            viewer.settimeout(1)
            data = b""
            while FIELD not in data:
                if not (part := viewer.recv(65536)):
                    return None
                data += part
            begin = data.rindex(FIELD) + len(FIELD)
            return int(data[begin : data.index(b",", begin)])
    except TimeoutError:
        return 0
    except OSError:
        return None


async def _view(port: int, viewers: int, trades: int) -> list[Heard]:
    loop, crowd = asyncio.get_running_loop(), []
    for _ in range(viewers):
        _, viewer = await loop.create_connection(lambda: Viewer(trades), LOOPBACK, port)
        crowd.append(viewer)
    await asyncio.gather(*(viewer.connected for viewer in crowd))
    sys.stdout.write(f"{CONNECTED}\n")
    sys.stdout.flush()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(viewer.done for viewer in crowd))
    return [viewer.heard for viewer in crowd]


def _send(server: str, topic: str, trades: int, rate: float) -> list[float]:
    """Send so many, at a rate in trades/s, together as an ingester's are; when Kafka acknowledged each."""
    options = {"bootstrap.servers": server, "linger.ms": LINGER_MS, "acks": "all"}
    producer, acknowledged = Producer(options), [0.0] * trades
    start_ns, begun_s = window_start_ns(time.time_ns(), 60), time.monotonic()
    for number in range(trades):
        producer.poll(max(0.0, begun_s + number / rate - time.monotonic()))
        frame = write_trade(a_trade(number, 100 + number / 1000, BTC, start_ns + number))

        def acked(error: object, _: object, number: int = number) -> None:
            assert error is None, error
            acknowledged[number] = time.monotonic()

        producer.produce(topic, frame, kafka_key(BTC), on_delivery=acked)
    producer.flush()
    return acknowledged


def delays_ms(acknowledged: Sequence[float], heard: Heard) -> "np.typing.NDArray[np.float64]":
    """From the acknowledgement of each trade to the first candle that has it: a pair's trades keep their order."""
    when_s, trades = (np.array(column) for column in zip(*heard, strict=True))
    first = np.searchsorted(trades, np.arange(1, len(acknowledged) + 1))
    delays: np.typing.NDArray[np.float64] = np.maximum(when_s[first] - np.array(acknowledged), 0) * 1000
    return delays


@contextmanager
def crowd(port: int, viewers: int, trades: int) -> Iterator["subprocess.Popen[str]"]:
    """Viewers that are connected; `heard_by` tells what they heard."""
    with _started("view", port, viewers, trades) as process:
        assert process.stdout
        assert process.stdout.readline().strip() == CONNECTED
        yield process


def heard_by(process: "subprocess.Popen[str]") -> list[Heard]:
    """What each viewer heard, when all have all trades."""
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    return [[(when_s, trades) for when_s, trades in heard] for heard in json.loads(out)]


def send(server: str, topic: str, trades: int, rate: float) -> list[float]:
    """Send trades to a topic at a rate in trades/s; when Kafka acknowledged each."""
    with _started("send", server, topic, trades, rate) as process:
        out, _ = process.communicate(timeout=trades / rate + PATIENCE_S)
    found: list[float] = json.loads(out)
    return found


@contextmanager
def _started(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "cryptoflow_tests.crowd", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["view", port, viewers, trades]:
            found: object = asyncio.run(_view(int(port), int(viewers), int(trades)))
        case ["send", server, topic, trades, rate]:
            found = _send(server, topic, int(trades), float(rate))
        case _:
            sys.exit(__doc__)
    json.dump(found, sys.stdout)
