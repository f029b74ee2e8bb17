"""How runs end, on one `dagster dev`: by hand, by their timeout, by Ctrl-C, by force; what the sensors make of it."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from dagster import DagsterInstance

from cryptoflow.defs.streaming import GRACE_S, MAX_RUNTIME_TAG
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.kafka import kafka_service
from cryptoflow.local.processes import Process, free_port
from cryptoflow.runtime.stop import SHUTDOWN_S
from cryptoflow.settings import KafkaSettings
from cryptoflow.tables.connection import connect
from cryptoflow.tables.reader import totals
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow_tests.dagster_dev import OVER, DagsterDev, Run, awaited, belongings, is_java
from cryptoflow_tests.exactness import cassandra, check_tables, kafka, read_candles
from cryptoflow_tests.orchestration.deaths import JOBS, LIVE, SENSORS, SUBSCRIPTIONS
from cryptoflow_tests.orchestration.relay import Relay, relay
from cryptoflow_tests.running import Workplace, new_place, running, services_env
from cryptoflow_tests.topics import each_record
from cryptoflow_tests.truth import true_candles

RATE = 100
PATIENCE_S = 180.0
FORCE_S = SHUTDOWN_S + 10
"""Within it a run that refuses to stop is gone."""

REFUSED = "Another run carries trades into"

LONG_S, SHORTER = 1000, 100
SHORTENED_CLOCK = f"""
from cryptoflow.runtime import stop as stop_module

class Shortened(stop_module.Deadline):
    def __init__(self, timeout_s):
        super().__init__(timeout_s / {SHORTER} if timeout_s == {LONG_S} else timeout_s)

stop_module.Deadline = Shortened
"""
"""Run by each Python of this Dagster before anything else: a time of LONG_S is over SHORTER times as soon."""


class Stage(NamedTuple):
    """What all tests here share: a feed, and a Dagster that works for it."""

    dev: DagsterDev
    feed: Relay


def fed(place: Workplace, feed: Relay) -> Workplace:
    """The place, with the feed in its environment."""
    place.env |= {
        "CRYPTOFLOW_SOURCE": "cryptocompare",
        "CRYPTOCOMPARE_URL": feed.url,
        "CRYPTOCOMPARE_API_KEY": "any",
        "CRYPTOCOMPARE_SUBSCRIPTIONS": SUBSCRIPTIONS,
    }
    return place


@pytest.fixture(scope="module")
def feed() -> Iterator[Relay]:
    with Simulator(SimulatorConfig(rate=RATE)) as simulator, relay(simulator.url) as made:
        yield made


@pytest.fixture(scope="module")
def stage(
    feed: Relay, tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str, cassandra_port: int, jars_home: Path
) -> Iterator[Stage]:
    services = services_env(kafka_bootstrap, cassandra_port)
    place = new_place(tmp_path_factory.mktemp("endings"), jars_home, **services)
    (place.folder / "sitecustomize.py").write_text(SHORTENED_CLOCK)
    place.env["PYTHONPATH"] = str(place.folder)
    with DagsterDev(fed(place, feed)) as dev:
        yield Stage(dev, feed)


# What a test waits for


def live(dev: DagsterDev, job: str) -> list[Run]:
    return [run for run in dev.runs(job) if run.status in LIVE]


def kept(dev: DagsterDev) -> dict[str, str]:
    """The runs that the sensors keep, as soon as trades come and Spark starts."""
    runs = launched(dev)
    awaited(lambda: "Connected" in dev.story(runs["ingest"]), "an ingester at the feed", PATIENCE_S)
    awaited(lambda: dev.jvms(runs["aggregate"]), "an aggregation with its JVM", PATIENCE_S)
    return runs


def launched(dev: DagsterDev) -> dict[str, str]:
    """The run of each job, once there is exactly one."""

    def found() -> dict[str, str] | None:
        runs = {job: [run.run_id for run in live(dev, job)] for job in JOBS}
        return {job: ids[0] for job, ids in runs.items()} if [len(ids) for ids in runs.values()] == [1, 1] else None

    return awaited(found, "one run of each job", PATIENCE_S)


def words(dev: DagsterDev) -> dict[str, str]:
    """What the sensor of each job says at its next look."""
    now_s = time.time()

    def said(sensor: str) -> str | None:
        return next((tick.skip_reason for tick in dev.ticks(sensor) if tick.time_s > now_s and tick.skip_reason), None)

    return {
        job: awaited(partial(said, sensor), f"a look of {sensor}", PATIENCE_S)
        for job, sensor in zip(JOBS, SENSORS, strict=True)
    }


def ended(dev: DagsterDev, run_id: str) -> str:
    return dev.await_status(run_id, OVER, PATIENCE_S)


def terminated(dev: DagsterDev, *run_ids: str) -> list[str]:
    """How the runs end that are terminated at once."""
    for run_id in run_ids:
        dev.terminate(run_id)
    return [ended(dev, run_id) for run_id in run_ids]


# What is left


def check_gone(dev: DagsterDev, run_id: str) -> None:
    """No process of the run lives, and no JVM of any: those here have one Spark at a time."""

    def gone() -> bool:
        return not dev.worker(run_id) and not any(map(is_java, dev.family()))

    awaited(gone, f"the end of all processes of run {run_id}", PATIENCE_S)


def in_topic(place: Workplace) -> int:
    return sum(end_offsets(kafka(place), kafka(place).topic).values())


def in_tables(place: Workplace) -> int:
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        return totals(session).input_rows


def check_exact(place: Workplace) -> None:
    """Both tables hold exactly what the topic holds."""
    assert in_tables(place) == in_topic(place) > 0
    check_tables(place, true_candles(record.value for record in each_record(kafka(place), kafka(place).topic)))


def check_whole(place: Workplace) -> None:
    """No batch is half written; one that was told to stop may leave the rest in the topic, for the next run."""
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        counted = totals(session)
        in_candles = sum(row.trades for row in read_candles(session).values())
    assert in_candles == counted.input_rows - counted.late - counted.duplicates
    assert counted.input_rows <= in_topic(place)


# By hand, beside the sensors


class ByHand(NamedTuple):
    """What came of two runs launched beside the kept ones, and of ending those by hand."""

    second_ingest: str
    why_refused: str
    second_aggregate: str
    statuses: list[str]
    left: tuple[int, int]
    """Clients that left the feed by a request, and that did not."""
    paused: dict[str, str]


@pytest.fixture(scope="module")
def by_hand(stage: Stage) -> ByHand:
    dev, feed = stage
    for sensor in SENSORS:
        dev.start_sensor(sensor)
    runs = kept(dev)
    refused, waiting = dev.launch("ingest"), dev.launch("aggregate")
    ended(dev, refused)
    second_aggregate = dev.status(waiting)
    terminated(dev, waiting)
    statuses = terminated(dev, *runs.values())
    left = feed.left, feed.hung_up
    return ByHand(dev.status(refused), dev.story(refused), second_aggregate, statuses, left, words(dev))


def test_a_second_ingester_launched_by_hand_is_refused_and_says_why(by_hand: ByHand) -> None:
    assert by_hand.second_ingest == "FAILURE"
    assert REFUSED in by_hand.why_refused


def test_a_second_aggregation_launched_by_hand_waits_in_the_queue(by_hand: ByHand) -> None:
    assert by_hand.second_aggregate == "QUEUED"


def test_a_termination_by_hand_cancels_a_run_that_has_ended_cleanly(by_hand: ByHand, stage: Stage) -> None:
    assert by_hand.statuses == ["CANCELED"] * len(JOBS)
    check_whole(stage.dev.place)


def test_the_feed_is_left_by_a_request_and_not_just_hung_up(by_hand: ByHand) -> None:
    assert by_hand.left == (1, 0)


def test_a_termination_by_hand_pauses_the_sensor(by_hand: ByHand) -> None:
    for said in by_hand.paused.values():
        assert "terminated by hand" in said
        assert "turn this sensor off and on again" in said


# Ctrl-C


class Interrupted(NamedTuple):
    """What came of a Ctrl-C with both kept runs on."""

    statuses: dict[str, str]
    left: list[psutil.Process]
    relaunched: dict[str, str]
    before: dict[str, str]


@pytest.fixture(scope="module")
def ctrl_c(stage: Stage, by_hand: ByHand) -> Interrupted:
    """The sensors turned off and on, then SIGINT to all in the terminal."""
    dev = stage.dev
    for sensor in SENSORS:
        dev.stop_sensor(sensor)
        dev.start_sensor(sensor)
    before = kept(dev)
    assert dev.process
    os.killpg(dev.process.pid, signal.SIGINT)
    left = psutil.wait_procs(dev.family(), timeout=FORCE_S)[1]
    dev.start()
    dev.await_ready()
    statuses = {job: dev.status(run_id) for job, run_id in before.items()}
    return Interrupted(statuses, left, launched(dev), before)


def test_ctrl_c_on_dagster_dev_cancels_its_runs(ctrl_c: Interrupted) -> None:
    assert ctrl_c.statuses == dict.fromkeys(JOBS, "CANCELED")


def test_ctrl_c_on_dagster_dev_leaves_no_process(ctrl_c: Interrupted) -> None:
    assert ctrl_c.left == []


def test_ctrl_c_is_not_taken_for_a_termination_by_hand(ctrl_c: Interrupted) -> None:
    assert not set(ctrl_c.relaunched.values()) & set(ctrl_c.before.values())


@pytest.fixture(scope="module")
def adopted(stage: Stage, ctrl_c: Interrupted) -> dict[str, list[str]]:
    """What the sensors of a new `dagster dev` say when the one before was interrupted by itself, its runs not."""
    dev = stage.dev
    for run_id in ctrl_c.relaunched.values():
        dev.await_status(run_id, ["STARTED"], PATIENCE_S)
    assert dev.process
    dev.process.send_signal(signal.SIGINT)
    dev.process.wait(PATIENCE_S)
    dev.start()
    dev.await_ready()
    said = words(dev)
    return {job: [said[job], *(run.run_id for run in live(dev, job))] for job in JOBS}


def test_runs_outlive_a_dagster_dev_that_ends_by_itself_and_are_not_doubled(
    adopted: dict[str, list[str]], ctrl_c: Interrupted
) -> None:
    for job, (said, *run_ids) in adopted.items():
        assert run_ids == [ctrl_c.relaunched[job]]
        assert f"Run {run_ids[0]} of {job} is STARTED." in said


@pytest.fixture(scope="module")
def alone(stage: Stage, adopted: dict[str, list[str]]) -> DagsterDev:
    """Dagster without any run or sensor on, but the one that ends dead runs."""
    dev = stage.dev
    for sensor in SENSORS:
        dev.stop_sensor(sensor)
    runs = [run.run_id for job in JOBS for run in live(dev, job)]
    assert terminated(dev, *runs) == ["CANCELED"] * len(runs)
    return dev


def test_runs_of_an_earlier_dagster_dev_can_be_terminated(alone: DagsterDev) -> None:
    check_whole(alone.place)


# What takes its time by itself, side by side: it only waits


@pytest.fixture(scope="module")
def meanwhile() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


class Hung(NamedTuple):
    """What came of a run that refused to stop after its max runtime."""

    status: str
    lived_on: bool
    """Whether its process still was there when the record was ended."""
    left: list[psutil.Process]
    """Of it, after the time in which it must have ended."""


@pytest.fixture(scope="module")
def hung(alone: DagsterDev, jars_home: Path, meanwhile: ThreadPoolExecutor) -> Iterator[Future[Hung]]:
    """An ingester whose Kafka stands still before it is told to stop: it has trades that it can't flush."""
    settings = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", topic="stands-still")
    service = kafka_service(settings)

    def hang(started: Mapping[str, Process]) -> Hung:
        given = {"bootstrap_servers": settings.bootstrap_servers, "topic": settings.topic}
        run_id = alone.launch("ingest", resources={"kafka": given})
        awaited(lambda: sum(end_offsets(settings, settings.topic).values()), "trades in Kafka", PATIENCE_S)
        worker = awaited(lambda: alone.worker(run_id), "the run's process", PATIENCE_S)
        psutil.Process(started["kafka"].pid).suspend()
        with DagsterInstance.from_config(alone.home) as instance:
            instance.add_run_tags(run_id, {MAX_RUNTIME_TAG: "1"})
        return Hung(ended(alone, run_id), worker.is_running(), psutil.wait_procs([worker], timeout=FORCE_S)[1])

    with running(alone.place.folder / "kafka", jars_home, service) as started:
        make_topics(settings)
        yield meanwhile.submit(hang, started)


class Command(NamedTuple):
    """A `cryptoflow run` that was ended by Ctrl-C."""

    code: int
    output: str
    left: list[psutil.Process]
    place: Workplace


@pytest.fixture(scope="module")
def command(
    alone: DagsterDev,
    feed: Relay,
    tmp_path_factory: pytest.TempPathFactory,
    jars_home: Path,
    meanwhile: ThreadPoolExecutor,
) -> Future[Command]:
    """Ended as soon as trades come, while Spark may still be starting."""
    env = alone.place.env
    services = services_env(env["KAFKA_BOOTSTRAP_SERVERS"], int(env["CASSANDRA_PORT"]))
    place = fed(new_place(tmp_path_factory.mktemp("command"), jars_home, **services), feed)

    def interrupt() -> Command:
        process = place.process("cryptoflow", "run", "--timeout", "0", "--ui-port", str(free_port()))
        shown = shown_until(process, r" trades [1-9]")
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        return Command(process.returncode, shown + output, belongings(place.env["DAGSTER_HOME"]), place)

    return meanwhile.submit(interrupt)


def shown_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """What the process shows up to a line with the pattern, or to its end."""
    assert process.stdout
    shown = ""
    for line in process.stdout:
        shown += line
        if re.search(pattern, line):
            break
    return shown


Aside = tuple[Future[Hung], Future[Command]]


@pytest.fixture(scope="module")
def aside(hung: Future[Hung], command: Future[Command]) -> Aside:
    """All that goes on beside the next tests."""
    return hung, command


# Their time is over, or they are terminated before it is


def timed(timeout_s: float, *ops: str) -> dict[str, dict[str, float]]:
    return {op: {"timeout_s": timeout_s} for op in ops}


KAFKA_MODE = ("ingest_trades", "aggregate_trades")


@pytest.mark.parametrize(("timeout_s", "lasts_s"), [(1, 1), (15, 15), (LONG_S, LONG_S / SHORTER)])
def test_after_its_timeout_a_run_succeeds_with_all_it_took_in_the_tables_and_is_gone(
    timeout_s: int, lasts_s: float, alone: DagsterDev, aside: Aside
) -> None:
    run_id = alone.launch("kafka_mode", ops=timed(timeout_s, *KAFKA_MODE))
    assert ended(alone, run_id) == "SUCCESS"
    run = alone.run(run_id)
    assert run.tags[MAX_RUNTIME_TAG] == str(timeout_s + GRACE_S)
    assert run.started_s
    assert run.ended_s
    assert run.ended_s - run.started_s >= lasts_s
    check_gone(alone, run_id)
    check_exact(alone.place)


def test_a_timed_run_that_is_terminated_is_canceled_and_leaves_no_batch_half_written(
    alone: DagsterDev, aside: Aside
) -> None:
    before = in_topic(alone.place)
    run_id = alone.launch("kafka_mode", ops=timed(900, *KAFKA_MODE))
    awaited(lambda: in_topic(alone.place) > before and alone.jvms(run_id), "both ops at work", PATIENCE_S)
    assert terminated(alone, run_id) == ["CANCELED"]
    assert alone.run(run_id).tags[MAX_RUNTIME_TAG] == str(900 + GRACE_S)
    check_gone(alone, run_id)
    check_whole(alone.place)


def test_memory_mode_that_is_terminated_is_canceled_and_tells_its_figures(alone: DagsterDev, aside: Aside) -> None:
    run_id = alone.launch("memory_mode", ops=timed(900, "aggregate_in_memory"))
    awaited(lambda: re.search(r" trades [1-9]", alone.story(run_id)), "trades in its log", PATIENCE_S)
    assert terminated(alone, run_id) == ["CANCELED"]
    assert "Ended cleanly on request." in alone.story(run_id)
    check_gone(alone, run_id)


def test_ctrl_c_on_the_command_cancels_its_run_and_leaves_nothing(aside: Aside) -> None:
    done = aside[1].result(PATIENCE_S)
    assert done.code == 0, done.output
    assert "CANCELED" in done.output
    assert done.output.startswith("Live candles: http://127.0.0.1:")
    assert done.left == []
    check_whole(done.place)


def test_what_refuses_to_stop_after_its_max_runtime_is_ended_by_force(aside: Aside) -> None:
    done = aside[0].result(PATIENCE_S)
    assert done.status == "FAILURE"
    assert done.lived_on
    assert done.left == []


def test_whatever_ended_a_run_it_left_the_feed_by_a_request(stage: Stage, aside: Aside) -> None:
    for future in aside:
        future.result(PATIENCE_S)
    assert stage.feed.left > 1
    assert stage.feed.hung_up == 0
