"""From the socket into Kafka, against a client that only receives; the feed is a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from websockets.sync.client import connect

from benchmarks.environment import program_env
from benchmarks.frame_server import WRITER
from benchmarks.measured import end
from benchmarks.trades import PAIRS
from cryptoflow.feeds.source import Feed
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import IngestMetrics, PartMetrics
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import FeedSettings, KafkaSettings, home

SUBSCRIPTIONS = [f"0~{'~'.join(pair)}" for pair in PAIRS[WRITER]]


@contextmanager
def feed(trades: int) -> Iterator[str]:
    """The address of a feed that sends so many trades to each client."""
    command = [sys.executable, "-m", "benchmarks.frame_server", str(trades)]
    with subprocess.Popen(
        command, env=program_env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            end(server.pid)


def receive_s(url: str, trades: int) -> float:
    """Seconds that a client takes which does nothing with what it receives."""
    with connect(url, max_queue=4096, compression=None) as socket:
        subscriptions = ",".join(f'"{name}"' for name in SUBSCRIPTIONS)
        begun_s, received = time.perf_counter(), 0
        socket.send(f'{{"action":"SubAdd","subs":[{subscriptions}]}}')
        while received < trades:
            received += b'"TYPE":"0"' in socket.recv(decode=False)
        return time.perf_counter() - begun_s


def ingest_s(url: str, trades: int, kafka: KafkaSettings) -> float:
    """Seconds that the ingester takes until Kafka has acknowledged so many trades."""
    stop = Stop()

    def report(metrics: PartMetrics) -> None:
        assert isinstance(metrics, IngestMetrics)
        if metrics.acknowledged + metrics.feed.duplicates >= trades:
            stop.set()

    settings = FeedSettings(subscriptions=",".join(SUBSCRIPTIONS))
    begun_s = time.perf_counter()
    ingest(
        Feed(url, settings, simulated=True), kafka, RunContext(home(), stop=stop, report=report, report_every_s=0.05)
    )
    return time.perf_counter() - begun_s


def measure(trades: int, kafka: KafkaSettings) -> dict[str, Any]:
    """The figures, in trades/s."""
    with feed(trades) as url:
        received = trades / receive_s(url, trades)
        acknowledged = trades / ingest_s(url, trades, kafka)
    return {
        "trades": trades,
        "received_only_per_s": round(received),
        "acknowledged_per_s": round(acknowledged),
        "share": round(acknowledged / received, 3),
    }
