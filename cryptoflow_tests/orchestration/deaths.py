"""The deaths that orchestration has to survive, one after the other, while a feed streams; for tests and benchmarks.

The two kept runs, `ingest` and `aggregate`, work for a simulator's feed. Each death is a SIGKILL; then it is waited,
with no step by hand, until one run of each job streams again.
"""

import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from cassandra.cluster import Session

from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.reader import totals
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow_tests.dagster_dev import DagsterDev, Run, awaited, belongings, kill, worker_pids
from cryptoflow_tests.exactness import cassandra, check_tables, kafka
from cryptoflow_tests.running import new_place, services_env
from cryptoflow_tests.topics import each_record
from cryptoflow_tests.truth import true_candles

JOBS = ("ingest", "aggregate")
SENSORS = tuple(f"keep_{job}_running" for job in JOBS)
LOOKED = ("SKIPPED", "SUCCESS")
LIVE = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")

SUBSCRIPTIONS = "0~Coinbase~BTC~USD,0~Coinbase~ETH~USD,0~Kraken~BTC~USD,0~Binance~BTC~USDT,0~Gemini~ETH~BTC"

LOOK_S = 0.2
"""Between two looks at the processes."""

YOUNG_S = 2.0
"""A younger process may be a copy of its parent still, before it becomes what it is to be: it is not counted yet."""

PATIENCE_S = 180.0
"""What is given up after; the law is stated by whoever looks at the times."""

WORKER, JVM = "run worker", "Spark JVM"


class Census:
    """Which run workers and Spark JVMs of a DAGSTER_HOME live: looked at all the time, in a thread."""

    def __init__(self, dagster_home: str) -> None:
        self._home = dagster_home
        self._kinds: dict[psutil.Process, str | None] = {}
        self._seen: list[dict[int, str]] = []
        self._over = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="census")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.wait(LOOK_S):
                found = self._look()
                if not self._seen or found != self._seen[-1]:
                    self._seen.append(found)
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            self._error = error

    def _look(self) -> dict[int, str]:
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                kind = self._kind(process)
                if kind and process.status() != psutil.STATUS_ZOMBIE:
                    found[process.pid] = kind
        return found

    def _kind(self, process: psutil.Process) -> str | None:
        if process not in self._kinds and time.time() - process.create_time() > YOUNG_S:
            self._kinds[process] = self._seen_as(process)
        return self._kinds.get(process)

    def _seen_as(self, process: psutil.Process) -> str | None:
        if process.environ().get("DAGSTER_HOME") != self._home:
            return None
        if process.name() == "java":
            return JVM
        return WORKER if "--multiprocessing-fork" in process.cmdline() else None

    def most(self, kind: str, pids: Iterable[int] | None = None) -> int:
        """How many of a kind, and of these pids, lived at once at most."""
        wanted = None if pids is None else set(pids)
        return max(
            (sum(k == kind and (wanted is None or pid in wanted) for pid, k in seen.items()) for seen in self._seen),
            default=0,
        )


class Death(NamedTuple):
    """How a death was survived; times in s after it."""

    kind: str
    killed: int
    """Processes that were killed."""
    ended_s: float | None
    """Until the record of the last dead run was ended; None: it killed no run."""
    live_s: float
    """Until exactly one run of each job streamed again."""


class Outcome(NamedTuple):
    """What is left after all deaths."""

    statuses: Mapping[str, str]
    """Of the last run of each job, after its termination."""
    most_workers: Mapping[str, int]
    """Run workers alive at once, by job."""
    most_jvms: int
    most_started: Mapping[str, int]
    """Runs that the record says were STARTED at once, by job."""
    runs: Mapping[str, int]
    trades: int
    """Records in the topic."""
    late: int


class Scenario:
    """Both kept runs at work; made by `scenario`."""

    def __init__(self, dev: DagsterDev, session: Session, census: Census) -> None:
        self.dev, self._session, self._census = dev, session, census
        self._kafka = kafka(dev.place)
        self._checkpoints = Path(dev.place.env["CRYPTOFLOW_HOME"]) / "checkpoints"
        self._old = dev.place.folder / "old-checkpoints"

    def remember_checkpoints(self) -> None:
        """Keep a copy of what the stream's checkpoints are now, while they are written."""
        with suppress(shutil.Error):  # files come and go
            shutil.copytree(self._checkpoints, self._old)

    # What lives

    def started(self) -> dict[str, str] | None:
        """The run of each job, if each has exactly one live one and that is STARTED."""
        live = {job: [run for run in self.dev.runs(job) if run.status in LIVE] for job in JOBS}
        if any([run.status for run in runs] != ["STARTED"] for runs in live.values()):
            return None
        return {job: runs[0].run_id for job, runs in live.items()}

    def _done(self) -> tuple[int, int]:
        """What is in the topic, and how many batches are in the tables."""
        return sum(end_offsets(self._kafka, self._kafka.topic).values()), totals(self._session).batches

    def _await_work(self) -> None:
        trades, batches = self._done()

        def more() -> bool:
            now = self._done()
            return now[0] > trades and now[1] > batches

        awaited(more, "trades in the topic and batches in the tables", PATIENCE_S)

    def _await_look(self, sensor: str, since_s: float) -> None:
        def looked() -> bool:
            return any(tick.time_s > since_s and tick.status in LOOKED for tick in self.dev.ticks(sensor))

        awaited(looked, f"a look of {sensor}", PATIENCE_S)

    def await_live(self, dead: Iterable[str] = (), since_s: float = 0) -> dict[str, str]:
        """Wait until exactly one run of each job streams, none of them `dead`, and both sensors have looked."""

        def others() -> dict[str, str] | None:
            found = self.started()
            return found if found and not set(found.values()) & set(dead) else None

        for sensor in SENSORS:
            self._await_look(sensor, since_s)
        while True:
            runs = awaited(others, "one run of each job", PATIENCE_S)
            self._await_work()
            if awaited(others, "one run of each job", PATIENCE_S) == runs:
                return runs

    # The deaths

    def die(self, kind: str, after_s: float = 0) -> Death:
        """Let all live on for a while, kill, and wait until all is well again."""
        time.sleep(after_s)
        runs = awaited(self.started, "one run of each job", PATIENCE_S)
        victims, dead = DEATHS[kind](self.dev, runs)
        killed_s = time.time()
        kill(victims)
        if kind in DAMAGES:
            DAMAGES[kind](self._checkpoints, self._old)
        self.await_live(dead, killed_s)
        live_s = time.time() - killed_s
        ended = [self.dev.run(run_id).ended_s for run_id in dead]
        return Death(kind, len(victims), max((each or 0) - killed_s for each in ended) if ended else None, live_s)

    # The end

    def finish(self) -> Outcome:
        """End both runs as a user does, when all is aggregated, and compare the tables with the topic."""
        for sensor in SENSORS:
            self.dev.stop_sensor(sensor)
        runs = awaited(self.started, "one run of each job", PATIENCE_S)
        statuses = {"ingest": self._terminated(runs["ingest"])}
        trades = sum(end_offsets(self._kafka, self._kafka.topic).values())
        awaited(lambda: totals(self._session).input_rows >= trades, "all of the topic in the tables", PATIENCE_S)
        statuses["aggregate"] = self._terminated(runs["aggregate"])
        counted = totals(self._session)
        assert (counted.input_rows, counted.unreadable) == (trades, 0)
        check_tables(
            self.dev.place, true_candles(record.value for record in each_record(self._kafka, self._kafka.topic))
        )
        return self._outcome(statuses, trades, counted.late)

    def _terminated(self, run_id: str) -> str:
        self.dev.terminate(run_id)
        return self.dev.await_status(run_id, ("SUCCESS", "FAILURE", "CANCELED"), PATIENCE_S)

    def _outcome(self, statuses: Mapping[str, str], trades: int, late: int) -> Outcome:
        runs = {job: self.dev.runs(job) for job in JOBS}
        pids = {
            job: {pid for run in of for pid in worker_pids(self.dev.events(run.run_id))} for job, of in runs.items()
        }
        return Outcome(
            statuses,
            most_workers={job: self._census.most(WORKER, pids[job]) for job in JOBS},
            most_jvms=self._census.most(JVM),
            most_started={job: most_at_once(runs[job]) for job in JOBS},
            runs={job: len(runs[job]) for job in JOBS},
            trades=trades,
            late=late,
        )


def most_at_once(runs: Sequence[Run]) -> int:
    """How many of the runs were STARTED at once at most, as the record says."""
    changes: dict[float, int] = defaultdict(int)
    for run in runs:
        if run.started_s:
            changes[run.started_s] += 1
            changes[run.ended_s or time.time()] -= 1
    most = alive = 0
    for _, change in sorted(changes.items()):
        alive += change
        most = max(most, alive)
    return most


Victims = tuple[list[psutil.Process], list[str]]
"""Whom to kill, and the ids of the runs that die with them."""


def _worker_of(job: str) -> Callable[[DagsterDev, Mapping[str, str]], Victims]:
    def victims(dev: DagsterDev, runs: Mapping[str, str]) -> Victims:
        worker = dev.worker(runs[job])
        assert worker
        return [worker], [runs[job]]

    return victims


def _jvm(dev: DagsterDev, runs: Mapping[str, str]) -> Victims:
    [jvm] = dev.jvms(runs["aggregate"])
    return [jvm], [runs["aggregate"]]


def _daemon(dev: DagsterDev, _runs: Mapping[str, str]) -> Victims:
    return [dev.daemon()], []


def _everything(dev: DagsterDev, runs: Mapping[str, str]) -> Victims:
    return belongings(dev.home), list(runs.values())


def _deleted(checkpoints: Path, _old: Path) -> None:
    shutil.rmtree(checkpoints)


def _truncated(checkpoints: Path, _old: Path) -> None:
    for file in checkpoints.rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)


def _of_another_day(checkpoints: Path, old: Path) -> None:
    shutil.rmtree(checkpoints)
    shutil.copytree(old, checkpoints)


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "a deleted checkpoint": _deleted,
    "a truncated checkpoint": _truncated,
    "an old checkpoint": _of_another_day,
}
"""What befalls the checkpoints when the aggregation's worker was killed."""

DEATHS: dict[str, Callable[[DagsterDev, Mapping[str, str]], Victims]] = {
    **dict.fromkeys(DAMAGES, _worker_of("aggregate")),
    "aggregate's worker": _worker_of("aggregate"),
    "ingest's worker": _worker_of("ingest"),
    "Spark's JVM": _jvm,
    "the daemon": _daemon,
    "everything": _everything,
}
"""Whom each death takes: `everything` is dagster dev, webserver, code servers, daemon, run workers and JVM."""


@contextmanager
def scenario(
    folder: Path, kafka: KafkaSettings, cassandra_settings: CassandraSettings, jars_home: Path, rate: float
) -> Iterator[Scenario]:
    """Both kept runs at work, by their sensors, on a feed of `rate` trades/s."""
    place = new_place(folder, jars_home, **services_env(kafka.bootstrap_servers, cassandra_settings.port))
    with (
        Simulator(SimulatorConfig(rate=rate)) as simulator,
        connect(cassandra(place)) as session,
        Census(place.env["DAGSTER_HOME"]) as census,
    ):
        ensure_schema(session, cassandra(place))
        place.env |= {
            "CRYPTOFLOW_SOURCE": "cryptocompare",
            "CRYPTOCOMPARE_URL": simulator.url,
            "CRYPTOCOMPARE_API_KEY": "any",
            "CRYPTOCOMPARE_SUBSCRIPTIONS": SUBSCRIPTIONS,
        }
        with DagsterDev(place, supervised=True) as dev:
            for sensor in SENSORS:
                dev.start_sensor(sensor)
            made = Scenario(dev, session, census)
            made.await_live()
            made.remember_checkpoints()
            yield made
