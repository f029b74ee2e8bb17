"""A real `dagster dev` for tests: started, asked and told over GraphQL as the UI does, killed, ended."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import psutil

from cryptoflow.local.processes import free_port
from cryptoflow.runtime.stop import Deadline
from cryptoflow_tests.running import RUN_ITSELF, Workplace

INSTANCE = Path(__file__).resolve().parents[1] / "dagster.yaml"
MODULE = "cryptoflow.definitions"
REPOSITORY = {"repositoryLocationName": MODULE, "repositoryName": "__repository__"}

POLL_S = 0.5
START_TIMEOUT_S = 90.0
END_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 30.0
RESTART_S = 0.1
"""What systemd waits by default before it starts a service again."""

OVER = ("SUCCESS", "FAILURE", "CANCELED")
"""Statuses of a run that has ended."""

WORKSPACE = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
LAUNCH = """mutation ($params: ExecutionParams!) { answer: launchRun(executionParams: $params) {
    __typename ... on Error { message } ... on RunConfigValidationInvalid { errors { message } }
    ... on LaunchRunSuccess { run { runId } } } }"""
TERMINATE = """mutation ($run: String!) { answer: terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
    __typename ... on Error { message } ... on TerminateRunFailure { message } } }"""
RUNS = """query ($filter: RunsFilter) { answer: runsOrError(filter: $filter) {
    __typename ... on Error { message }
    ... on Runs { results { runId jobName status creationTime startTime endTime tags { key value } } } } }"""
EVENTS = """query ($run: ID!) { answer: logsForRun(runId: $run, limit: 10000) {
    __typename ... on Error { message }
    ... on EventConnection { events {
        ... on MessageEvent { message timestamp level eventType }
        ... on ExecutionStepFailureEvent { failureMetadata { description } } } } } }"""
SENSOR = """query ($sensor: SensorSelector!) { answer: sensorOrError(sensorSelector: $sensor) {
    __typename ... on Error { message }
    ... on Sensor { sensorState {
        id status ticks(limit: 100) { status timestamp skipReason runIds error { message } } } } } }"""
START_SENSOR = """mutation ($sensor: SensorSelector!) { answer: startSensor(sensorSelector: $sensor) {
    __typename ... on Error { message } } }"""
STOP_SENSOR = """mutation ($id: String!) { answer: stopSensor(id: $id) { __typename ... on Error { message } } }"""

Found = TypeVar("Found")


class RefusedError(Exception):
    """Dagster said no."""


class Run(NamedTuple):
    """A run as Dagster's record has it; times in s since the epoch, None before they are."""

    run_id: str
    job: str
    status: str
    created_s: float
    started_s: float | None
    ended_s: float | None
    tags: Mapping[str, str]


class Entry(NamedTuple):
    """A line of a run's log, with the reason where it tells of a failure."""

    time_s: float
    level: str
    kind: str | None
    message: str


class Tick(NamedTuple):
    """One look of a sensor."""

    time_s: float
    status: str
    skip_reason: str | None
    run_ids: list[str]
    error: str | None


def awaited(look: Callable[[], Found | None], what: str, timeout_s: float) -> Found:
    """What `look` gives as soon as that is something; it may be that no webserver answers meanwhile.

    Raises:
        TimeoutError: it gives nothing for `timeout_s` seconds; it says `what` was waited for.
    """
    deadline, problem = Deadline(timeout_s), ""
    while not deadline.passed:
        try:
            if found := look():
                return found
            problem = ""
        except (OSError, RefusedError) as error:
            problem = f"; the last look: {error}"
        time.sleep(POLL_S)
    raise TimeoutError(f"{what}: not within {timeout_s:g} s{problem}")


def belongings(dagster_home: str) -> list[psutil.Process]:
    """The live processes that work for this DAGSTER_HOME, also those that nobody is the parent of any more."""
    return [process for process in psutil.process_iter() if _belongs(process, dagster_home)]


def _belongs(process: psutil.Process, dagster_home: str) -> bool:
    try:
        mine = process.pid != os.getpid() and process.environ().get("DAGSTER_HOME") == dagster_home
        return bool(mine and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def is_java(process: psutil.Process) -> bool:
    """Whether it is a JVM, and lives."""
    try:
        return bool(process.name() == "java")
    except psutil.NoSuchProcess:
        return False


def kill(victims: Iterable[psutil.Process]) -> None:
    """SIGKILL to each that still lives."""
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()


class DagsterDev:
    """`dagster dev` of a place, for the length of a `with` block; nothing of it is left after that.

    Args:
        place: where it works, and its environment, that of the runs too.
        supervised: start it again as soon as it ends, as a machine's supervisor does. What the one before left
            running is left alone: most supervisors would end that, so this is the harder case.
    """

    def __init__(self, place: Workplace, supervised: bool = False) -> None:
        self.place, self.port, self._supervised = place, free_port(), supervised
        self.log = place.folder / "dagster-dev.log"
        self.starts = 0
        self._closing = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        shutil.copy(INSTANCE, self.home)
        self.start()
        if self._supervised:
            self._supervisor.start()
        try:
            self.await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @cached_property
    def home(self) -> str:
        """DAGSTER_HOME."""
        return self.place.env["DAGSTER_HOME"]

    @property
    def url(self) -> str:
        """The UI."""
        return f"http://127.0.0.1:{self.port}"

    # The process

    def start(self) -> None:
        """Start it, again when the one before has ended; returns before it answers."""
        if self.process:
            self.process.wait(END_TIMEOUT_S)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CRYPTO", "DAGSTER"))}
        arguments = ["dagster", "dev", "-m", MODULE, "-h", "127.0.0.1", "-p", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN_ITSELF, *arguments],
                cwd=self.place.folder,
                env=inherited | self.place.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.starts += 1

    def _supervise(self) -> None:
        while True:
            assert self.process is not None
            self.process.wait()
            if self._closing.wait(RESTART_S):
                return
            self.start()

    def await_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the webserver answers and has loaded the definitions."""
        try:
            awaited(self._loaded, "dagster dev with its definitions", timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.last_words()}") from None

    def _loaded(self) -> bool:
        entries = self.graphql(WORKSPACE)["workspaceOrError"]["locationEntries"]
        kinds = [(entry["locationOrLoadError"] or {}).get("__typename") for entry in entries]
        return kinds == ["RepositoryLocation"]

    def last_words(self, lines: int = 40) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        """End it and everything that it or its runs started, cleanly first; sees that nothing is left."""
        self._closing.set()
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_TIMEOUT_S)
        self.kill_all()
        if self._supervisor.ident:
            self._supervisor.join()

    def kill_all(self) -> None:
        """SIGKILL to everything that works for it, until nothing is left."""

        def none_left() -> bool:
            family = self.family()
            kill(family)
            return not family

        awaited(none_left, "the end of all processes of dagster dev", END_TIMEOUT_S)
        if self.process:
            self.process.wait()

    # Its processes

    def family(self) -> list[psutil.Process]:
        """All that work for it: itself, webserver, code servers, daemon, run workers, Spark's JVMs."""
        return belongings(self.home)

    def daemon(self) -> psutil.Process:
        """The process of the sensors, schedules, the queue and the monitoring."""
        [found] = [each for each in self.family() if "dagster._daemon" in each.cmdline()]
        return found

    def worker(self, run_id: str) -> psutil.Process | None:
        """The process of the run, if it lives; the steps of a run of several are its children."""
        pids = worker_pids(self.events(run_id))
        found = [process for process in self.family() if process.pid in pids]
        return found[0] if found else None

    def jvms(self, run_id: str) -> list[psutil.Process]:
        """Spark's JVMs of the run."""
        worker = self.worker(run_id)
        with suppress(psutil.NoSuchProcess):  # it has ended since
            return [child for child in worker.children(recursive=True) if is_java(child)] if worker else []
        return []

    # GraphQL

    def graphql(self, query: str, **variables: Any) -> Any:
        """The data that the webserver answers.

        Raises:
            OSError: no webserver answers, or it went away meanwhile.
            RefusedError: it finds fault with the query, or failed.
        """
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise RefusedError(error.read().decode(errors="replace")) from None
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        if told.get("errors"):
            raise RefusedError(str(told["errors"]))
        return told["data"]

    def _ask(self, query: str, wanted: str, **variables: Any) -> Any:
        answer = self.graphql(query, **variables)["answer"]
        if answer["__typename"] != wanted:
            raise RefusedError(str(answer))
        return answer

    def launch(
        self,
        job: str,
        ops: Mapping[str, Mapping[str, Any]] | None = None,
        resources: Mapping[str, Mapping[str, Any]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Launch a run as the launchpad does, with the config of ops and resources by their names; gives its id."""
        config = {"ops": ops or {}, "resources": resources or {}}
        params = {
            "selector": {**REPOSITORY, "jobName": job},
            "runConfigData": {
                part: {name: {"config": given} for name, given in of.items()} for part, of in config.items() if of
            },
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]},
        }
        return str(self._ask(LAUNCH, "LaunchRunSuccess", params=params)["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """What the UI's Terminate does."""
        self._ask(TERMINATE, "TerminateRunSuccess", run=run_id)

    def runs(self, job: str | None = None) -> list[Run]:
        """The runs, of one job or all, the newest first."""
        return self._runs({"pipelineName": job} if job else {})

    def _runs(self, wanted: Mapping[str, Any]) -> list[Run]:
        return [_run(found) for found in self._ask(RUNS, "Runs", filter=wanted)["results"]]

    def run(self, run_id: str) -> Run:
        """The run as it stands in the record."""
        [found] = self._runs({"runIds": [run_id]})
        return found

    def status(self, run_id: str) -> str:
        """The run's status."""
        return self.run(run_id).status

    def await_status(self, run_id: str, statuses: Collection[str], timeout_s: float) -> str:
        """Wait until the run has one of the statuses; gives that one."""

        def look() -> str | None:
            status = self.status(run_id)
            return status if status in statuses else None

        try:
            return awaited(look, f"run {run_id} to be {' or '.join(statuses)}", timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it is {self.status(run_id)}, its log ends:\n{self.story(run_id)}") from None

    def events(self, run_id: str) -> list[Entry]:
        """The run's log."""
        found = self._ask(EVENTS, "EventConnection", run=run_id)["events"]
        return [_entry(event) for event in found if event]

    def story(self, run_id: str, lines: int = 25) -> str:
        """The end of the run's log, to be read."""
        entries = self.events(run_id)[-lines:]
        return "\n".join(f"{entry.time_s:.1f} {entry.level} {entry.kind or ''} {entry.message}" for entry in entries)

    # Sensors

    def start_sensor(self, name: str) -> None:
        """Turn the sensor on."""
        self._ask(START_SENSOR, "Sensor", sensor=self._sensor(name))

    def stop_sensor(self, name: str) -> None:
        """Turn the sensor off, and wait until it is.

        A look that is under way ends by writing back the sensor's state as it was read just before: what is told
        in that moment is lost, so it is told again until no look is.
        """
        quiet = 0

        def off() -> bool:
            nonlocal quiet
            state = self._sensor_state(name)
            if state["status"] != "STOPPED":
                self._ask(STOP_SENSOR, "StopSensorMutationResult", id=state["id"])
            calm = state["status"] == "STOPPED" and all(tick["status"] != "STARTED" for tick in state["ticks"])
            quiet = quiet + 1 if calm else 0
            return quiet > 1

        awaited(off, f"{name} turned off", ANSWER_TIMEOUT_S)

    def ticks(self, name: str) -> list[Tick]:
        """The sensor's looks, the newest first."""
        return [
            Tick(
                found["timestamp"],
                found["status"],
                found["skipReason"],
                found["runIds"],
                found["error"] and found["error"]["message"],
            )
            for found in self._sensor_state(name)["ticks"]
        ]

    def _sensor_state(self, name: str) -> Any:
        return self._ask(SENSOR, "Sensor", sensor=self._sensor(name))["sensorState"]

    def _sensor(self, name: str) -> dict[str, str]:
        return {**REPOSITORY, "sensorName": name}


def _run(found: Mapping[str, Any]) -> Run:
    times = (found["creationTime"], found["startTime"], found["endTime"])
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    return Run(found["runId"], found["jobName"], found["status"], *times, tags)


def _entry(event: Mapping[str, Any]) -> Entry:
    reason = (event.get("failureMetadata") or {}).get("description") or ""
    message = f"{event['message']} {reason}".strip()
    return Entry(int(event["timestamp"]) / 1000, event["level"], event["eventType"], message)


def worker_pids(events: Iterable[Entry]) -> set[int]:
    """The pids of a run's process, of which there is one, as its log tells."""
    told = (re.search(r"^Started process for run \(pid: (\d+)\)", entry.message) for entry in events)
    return {int(found[1]) for found in told if found}
