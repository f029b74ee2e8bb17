"""The first candle row of a warm start, and what an idle run takes of the cores: with the page, without, and before.

"Before" is a checkout of an earlier version that runs in this environment.
"""

import compileall
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from cassandra.cluster import Session

from benchmarks.environment import ROOT, program_env
from benchmarks.measured import await_quiet, end, machine_busy_s, watched
from cryptoflow.errors import CassandraError
from cryptoflow.local.jars import SETS
from cryptoflow.local.processes import free_port
from cryptoflow.settings import CassandraSettings, KafkaSettings, home
from cryptoflow.tables.connection import connect, our_errors
from cryptoflow_tests.watching import await_that

MEASURED = ("first_row_s", "start_cpu_s", "idle_cores")
"""Seconds until the first row; what the cores did until then, all together; what they do for an idle run."""

FIRST_ROW_S = 240.0
IDLE_S = 30.0
IDLE_TRADES_PER_S = 1
"""As good as none, but a first row needs one."""


@dataclass(frozen=True)
class Way:
    """What is started: `cryptoflow run --no-ui` of a checkout, with the page beside it or not."""

    tree: Path = ROOT
    page: bool = False


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
def _program(*command: str, tree: Path, env: Mapping[str, str]) -> Iterator[int]:
    words = [sys.executable, "-m", "cryptoflow", *command]
    with subprocess.Popen(words, cwd=tree, env=env, stdout=subprocess.DEVNULL) as made:
        try:
            yield made.pid
        finally:
            made.terminate()
            try:
                made.wait(60)
            finally:
                end(made.pid)


def one(way: Way, env: Mapping[str, str], cassandra: CassandraSettings, patience_s: float) -> dict[str, float]:
    """The figures of a start in a home that has been used before."""
    name = f"bench_{uuid.uuid4().hex}"
    own = cassandra.model_copy(update={"keyspace": name})
    env = {**env, "KAFKA_TOPIC": name, "CASSANDRA_KEYSPACE": name, "SPARK_UI_PORT": str(free_port())}
    await_quiet(patience_s)
    begun_s = time.monotonic()
    with ExitStack() as stack:
        pids = [stack.enter_context(_program("run", "--no-ui", "--timeout", "0", tree=way.tree, env=env))]
        if way.page:
            pids.append(stack.enter_context(_program("chart", "--port", str(free_port()), tree=way.tree, env=env)))
        watches = [stack.enter_context(watched(pid)) for pid in pids]
        row_s = first_row_s(own, begun_s)
        start_cpu_s = sum(watch.cpu_s for watch in watches)
        time.sleep(1.0)  # what was begun for the first batch ends
        idle_s, busy_s, spent_s = time.monotonic(), machine_busy_s(), sum(watch.cpu_s for watch in watches)
        time.sleep(IDLE_S)
        seconds = time.monotonic() - idle_s
        cores = (sum(watch.cpu_s for watch in watches) - spent_s) / seconds
        others = max((machine_busy_s() - busy_s) / seconds - cores, 0)
    figures = dict(zip(MEASURED, (round(row_s, 1), round(start_cpu_s, 1), round(cores, 3)), strict=True))
    return {**figures, "others_cores": round(others, 2)}


def used_home(tree: Path, folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """The variables of a home for a checkout, with all that its setup makes."""
    compileall.compile_dir(tree / "cryptoflow", quiet=1)  # a program's environment here keeps it from doing so itself
    (folder / "jars").mkdir(parents=True)
    for name in SETS:
        (folder / "jars" / name).symlink_to(home() / "jars" / name)
    env = {**env, "PYTHONPATH": str(tree), "CRYPTOFLOW_HOME": str(folder)}
    subprocess.run([sys.executable, "-m", "cryptoflow", "services", "jars"], cwd=tree, env=env, check=True)
    return env


def measure(
    kafka: KafkaSettings, cassandra: CassandraSettings, rounds: int, patience_s: float, before: Path | None
) -> dict[str, Any]:
    """The figures of all ways in turns, medians; ratios: with the page to without, and that to before.

    Args:
        before: the checkout of an earlier version; None: it is not measured.
    """
    ways = {"without_page": Way(), "with_page": Way(page=True)} | ({"before": Way(before.resolve())} if before else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    shared = program_env() | {
        "CRYPTOFLOW_SOURCE": "simulator",
        "CRYPTOFLOW_SIMULATOR_RATE": str(IDLE_TRADES_PER_S),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CASSANDRA_PORT": str(cassandra.port),
    }
    with TemporaryDirectory() as folder:
        trees = dict.fromkeys(way.tree for way in ways.values())
        envs = {tree: used_home(tree, Path(folder) / str(number), shared) for number, tree in enumerate(trees)}
        for tree, env in envs.items():
            one(Way(tree), env, cassandra, 0)  # makes what a first start in a home makes
        for _ in range(rounds):
            for name, way in ways.items():
                found[name].append(one(way, envs[way.tree], cassandra, patience_s))
    medians = {way: {name: median(each[name] for each in runs) for name in MEASURED} for way, runs in found.items()}
    compared = [("with_page", "without_page"), ("without_page", "before")][: len(ways) - 1]
    return {
        "rounds": rounds,
        "ways": medians,
        "ratios": {
            f"{this}_to_{other}": {name: round(medians[this][name] / medians[other][name], 3) for name in MEASURED}
            for this, other in compared
        },
        "others_cores": [run["others_cores"] for runs in found.values() for run in runs],
    }
