"""The page of live candles under load: how late a candle comes to its viewers, and what they cost the ingester.

The server, the viewers and the sender are a process each. An ingester works as fast as it can, with and without viewers
of what it brings, in turns; who reads too slowly is dropped, and comes back to the newest candle.
"""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import psutil

from benchmarks.environment import program_env
from benchmarks.ingest import feed, ingest_s
from benchmarks.measured import await_quiet, machine_busy_s, watched
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK
from cryptoflow.settings import CassandraSettings, KafkaSettings, home
from cryptoflow_tests.crowd import REQUEST, crowd, delays_ms, heard_by, newest_trades, send
from cryptoflow_tests.watching import await_that

VIEWERS = 200
TRADES_PER_S = 2000
SECONDS = 20
"""More than it takes until one who reads nothing is dropped: full buffers, and then 10 s."""

SLEEPERS = 5
FOR_EVER = 10**9
"""Trades that no candle ever has: viewers who wait for them stay."""

INGESTED = 200_000
AHEAD_S = 290
"""The feed's trades are dated ahead, as they come faster than they are made; the page has to take them all the same."""

READY_S = 60.0
WINDOW_S = 60


@dataclass
class Page:
    """A server of the page at work."""

    port: int
    process: psutil.Process

    @property
    def cpu_s(self) -> float:
        """What it has taken of the cores."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def mib(self) -> float:
        """Its resident memory."""
        return float(self.process.memory_info().rss / 2**20)


@contextmanager
def page_of(kafka: KafkaSettings, cassandra: CassandraSettings) -> Iterator[Page]:
    """A server over a topic, which is made."""
    make_topics(kafka)
    port = free_port()
    env = program_env() | {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC": kafka.topic,
        "CASSANDRA_PORT": str(cassandra.port),
        "CASSANDRA_KEYSPACE": cassandra.keyspace,
        "CRYPTOFLOW_HOME": str(home()),
        "CRYPTOFLOW_MAX_AHEAD": str(AHEAD_S),
    }
    command = [sys.executable, "-m", "cryptoflow", "chart", "--port", str(port)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as server:
        try:
            page = Page(port, psutil.Process(server.pid))
            await_that(lambda: newest_trades(port) is not None, READY_S)
            yield page
        finally:
            server.terminate()


def under_load(kafka: KafkaSettings, cassandra: CassandraSettings, viewers: int, patience_s: float) -> dict[str, Any]:
    """Delays, and what the server takes, while trades come at a rate; some more viewers read nothing."""
    own, trades = kafka.model_copy(update={"topic": f"bench-{uuid.uuid4().hex}"}), TRADES_PER_S * SECONDS
    with page_of(own, cassandra) as page, ExitStack() as stack:
        await_quiet(patience_s)
        while time.time() % WINDOW_S > WINDOW_S - 2 * SECONDS:  # the trades are of one window
            time.sleep(0.5)
        watching = stack.enter_context(crowd(page.port, viewers, trades))
        sleepers = [stack.enter_context(_sleeper(page.port)) for _ in range(SLEEPERS)]
        before_s, before_mib, busy_s, begun_s = page.cpu_s, page.mib, machine_busy_s(), time.monotonic()
        with watched(os.getpid()) as watch:
            watch.look()
            ours_s = watch.cpu_s
            acknowledged = send(own.bootstrap_servers, own.topic, trades, TRADES_PER_S)
            watch.look()
            ours_s = watch.cpu_s - ours_s
        seconds = time.monotonic() - begun_s
        cores, all_cores = (page.cpu_s - before_s) / seconds, (machine_busy_s() - busy_s) / seconds
        heard = heard_by(watching)
        dropped = sum(_was_dropped(sleeper) for sleeper in sleepers)
        back = sum(newest_trades(page.port) == trades for _ in range(dropped))
        grown_mib = page.mib - before_mib
    p50, p99 = np.percentile(np.concatenate([delays_ms(acknowledged, each) for each in heard]), (50, 99))
    return {
        "viewers": viewers,
        "p50_ms": round(float(p50)),
        "p99_ms": round(float(p99)),
        "candles_per_s": round(median(len(each) for each in heard) / seconds, 1),
        "server_cores": round(cores, 2),
        "all_cores": round(all_cores, 2),
        "others_cores": round(max(all_cores - ours_s / seconds, 0), 2),
        "grown_mib": round(grown_mib, 1),
        "sleepers": SLEEPERS,
        "dropped": dropped,
        "back": back,
    }


def _sleeper(port: int) -> socket.socket:
    """A viewer that will read nothing, and whose kernel takes little for it."""
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.connect((LOOPBACK, port))
    sleeper.sendall(REQUEST)
    return sleeper


def _was_dropped(sleeper: socket.socket) -> bool:
    """Whether what it reads at last comes to an end."""
    sleeper.settimeout(5)
    try:
        while sleeper.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def ingested_per_s(
    url: str, kafka: KafkaSettings, cassandra: CassandraSettings, viewers: int, patience_s: float
) -> float:
    """Trades/s from the feed's socket into Kafka, with so many viewers of a pair of it."""
    own = kafka.model_copy(update={"topic": f"bench-{uuid.uuid4().hex}"})
    with page_of(own, cassandra) as page:
        await_quiet(patience_s)
        with crowd(page.port, viewers, FOR_EVER) if viewers else nullcontext():
            return INGESTED / ingest_s(url, INGESTED, own)


def measure(kafka: KafkaSettings, cassandra: CassandraSettings, rounds: int, patience_s: float) -> dict[str, Any]:
    """The figures; `ingest_ratio`: the rate with viewers, of that without, each the median of its rounds."""
    loads = [under_load(kafka, cassandra, viewers, patience_s) for viewers in (1, VIEWERS)]
    rates: dict[int, list[float]] = {0: [], VIEWERS: []}
    with feed(INGESTED) as url:
        for _ in range(rounds):
            for viewers, found in rates.items():
                found.append(ingested_per_s(url, kafka, cassandra, viewers, patience_s))
    without, with_them = (round(median(found)) for found in rates.values())
    return {
        "trades_per_s": TRADES_PER_S,
        "loads": loads,
        "ingest_trades_per_s": {"without_viewers": without, "with_viewers": with_them},
        "ingest_ratio": round(with_them / without, 3),
    }


def rows(loads: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """A line of a table for each load."""
    for load in loads:
        delays = f"{load['p50_ms']} / {load['p99_ms']}"
        slow = f"{load['dropped']} of {load['sleepers']}, {load['back']} back"
        figures = (load["candles_per_s"], load["server_cores"], load["all_cores"], load["grown_mib"])
        yield [str(load["viewers"]), delays, *map(str, figures), slow]
