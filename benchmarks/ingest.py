"""From the socket into Kafka, by each producer, against a client that only receives; the feed is a process of its own.

All count from the subscription on.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from websockets.sync.client import connect

from benchmarks.environment import program_env
from benchmarks.frame_server import WRITER
from benchmarks.measured import await_quiet, end, machine_busy_s, watched
from benchmarks.trades import PAIRS
from cryptoflow.feeds.events import ClientEvent, Connected
from cryptoflow.feeds.source import Feed
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import IngestMetrics, PartMetrics
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import FeedSettings, KafkaSettings, home

SUBSCRIPTIONS = [f"0~{'~'.join(pair)}" for pair in PAIRS[WRITER]]


PRODUCERS = ("kafka-python", "confluent-kafka")
"""As KAFKA_PRODUCER names them."""


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
    """Seconds until the ingester knows that Kafka has acknowledged so many trades; it looks four times a second."""
    stop = Stop()
    begun_s = ended_s = 0.0

    def happened(event: ClientEvent) -> None:
        nonlocal begun_s
        if isinstance(event, Connected):
            begun_s = time.perf_counter()

    def report(metrics: PartMetrics) -> None:
        nonlocal ended_s
        assert isinstance(metrics, IngestMetrics)
        if metrics.acknowledged + metrics.feed.duplicates >= trades and not stop.is_set():
            ended_s = time.perf_counter()
            stop.set()

    settings = FeedSettings(subscriptions=",".join(SUBSCRIPTIONS))
    run = RunContext(home(), stop=stop, report=report, report_every_s=0.05, on_event=happened)
    ingest(Feed(url, settings, simulated=True), kafka, run)
    return ended_s - begun_s


def rate(trades: int, taken: Callable[[], float], patience_s: float) -> dict[str, Any]:
    """Trades/s of what takes so many seconds, and the cores that others used meanwhile."""
    await_quiet(patience_s)
    begun_s, busy_s = time.perf_counter(), machine_busy_s()
    with watched(os.getpid()) as watch:
        watch.look()
        before_s = watch.cpu_s
        seconds = taken()
        watch.look()
    all_s, ours_s = machine_busy_s() - busy_s, watch.cpu_s - before_s
    others = max(all_s - ours_s, 0) / (time.perf_counter() - begun_s)
    return {"trades_per_s": round(trades / seconds), "others_cores": round(others, 2)}


def measure(trades: int, kafka: KafkaSettings, patience_s: float) -> dict[str, Any]:
    """The figures of each way: trades/s, and how many times those of the client that only receives that is."""
    ways: dict[str, Any] = {}
    with feed(trades) as url:
        ways["received_only"] = rate(trades, lambda: receive_s(url, trades), patience_s)
        for producer in PRODUCERS:
            own = kafka.model_copy(update={"topic": f"bench-{uuid.uuid4().hex}", "producer": producer})
            ways[producer] = rate(trades, partial(ingest_s, url, trades, own), patience_s)
    for way in ways.values():
        way["share"] = round(way["trades_per_s"] / ways["received_only"]["trades_per_s"], 3)
    return {"trades": trades, "ways": ways}
