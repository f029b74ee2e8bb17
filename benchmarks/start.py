"""The first candle row of a warm start, and what an idle run takes of the cores: with the page, and without."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from cassandra.cluster import Session

from benchmarks.environment import program_env
from benchmarks.measured import await_quiet, end, machine_busy_s, watched
from cryptoflow.errors import CassandraError
from cryptoflow.local.processes import free_port
from cryptoflow.settings import CassandraSettings, KafkaSettings, home
from cryptoflow.tables.connection import connect, our_errors
from cryptoflow_tests.watching import await_that

WAYS = ("without_page", "with_page")
MEASURED = ("first_row_s", "idle_cores")
FIRST_ROW_S = 240.0
IDLE_S = 30.0
IDLE_TRADES_PER_S = 1
"""As good as none, but a first row needs one."""


def first_row_s(cassandra: CassandraSettings, begun_s: float) -> float:
    """Seconds until the table of candles has a row."""
    with connect(cassandra) as session:
        await_that(lambda: _has_row(session, cassandra), FIRST_ROW_S)
        return time.monotonic() - begun_s


def _has_row(session: Session, cassandra: CassandraSettings) -> bool:
    try:
        with our_errors(cassandra):
            return session.execute(f"SELECT market FROM {cassandra.keyspace}.candles LIMIT 1").one() is not None
    except CassandraError:  # it is not made yet
        return False


@contextmanager
def _program(*command: str, env: dict[str, str]) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-m", "cryptoflow", *command], env=env, stdout=subprocess.DEVNULL) as made:
        try:
            yield made.pid
        finally:
            made.terminate()
            try:
                made.wait(60)
            finally:
                end(made.pid)


def one(way: str, env: dict[str, str], cassandra: CassandraSettings, patience_s: float) -> dict[str, float]:
    """The figures of a start in a home that has been used before."""
    name = f"bench_{uuid.uuid4().hex}"
    own = cassandra.model_copy(update={"keyspace": name})
    env = env | {"KAFKA_TOPIC": name, "CASSANDRA_KEYSPACE": name, "SPARK_UI_PORT": str(free_port())}
    await_quiet(patience_s)
    begun_s = time.monotonic()
    with ExitStack() as stack:
        pids = [stack.enter_context(_program("run", "--no-ui", "--timeout", "0", env=env))]
        if way == "with_page":
            pids.append(stack.enter_context(_program("chart", "--port", str(free_port()), env=env)))
        row_s = first_row_s(own, begun_s)
        watches = [stack.enter_context(watched(pid)) for pid in pids]
        time.sleep(1.0)  # all are seen once
        idle_s, busy_s, spent_s = time.monotonic(), machine_busy_s(), sum(watch.cpu_s for watch in watches)
        time.sleep(IDLE_S)
        seconds = time.monotonic() - idle_s
        cores = (sum(watch.cpu_s for watch in watches) - spent_s) / seconds
        others = max((machine_busy_s() - busy_s) / seconds - cores, 0)
    return {"first_row_s": round(row_s, 1), "idle_cores": round(cores, 3), "others_cores": round(others, 2)}


def measure(kafka: KafkaSettings, cassandra: CassandraSettings, rounds: int, patience_s: float) -> dict[str, Any]:
    """The figures of both ways in turns, medians, and the ratios of with to without."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with TemporaryDirectory() as folder:
        (Path(folder) / "jars").symlink_to(home() / "jars")
        env = program_env() | {
            "CRYPTOFLOW_HOME": folder,
            "CRYPTOFLOW_SOURCE": "simulator",
            "CRYPTOFLOW_SIMULATOR_RATE": str(IDLE_TRADES_PER_S),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "CASSANDRA_PORT": str(cassandra.port),
        }
        one(WAYS[0], env, cassandra, 0)  # makes what a first start in a home makes
        for _ in range(rounds):
            for way, figures in found.items():
                figures.append(one(way, env, cassandra, patience_s))
    ways = {way: {name: median(each[name] for each in runs) for name in MEASURED} for way, runs in found.items()}
    without, with_page = (ways[way] for way in WAYS)
    return {
        "rounds": rounds,
        "ways": ways,
        "ratios": {name: round(with_page[name] / without[name], 3) for name in MEASURED},
        "others_cores": [run["others_cores"] for runs in found.values() for run in runs],
    }
