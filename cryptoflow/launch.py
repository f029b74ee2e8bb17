"""Starts Dagster and launches runs in it, for `cryptoflow run`: with its UI and daemon, or without."""

import json
import os
import signal
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from cryptoflow.errors import PrerequisiteError, ServiceError
from cryptoflow.local import processes
from cryptoflow.local.service import LOOPBACK, listening

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun
    from dagster_graphql import DagsterGraphQLClient

# Dagster is imported inside the functions: it takes a second in which its own processes and the services start.

MODULE = "cryptoflow.definitions"
START_TIMEOUT_S = 120.0
ORPHAN_TIMEOUT_S = 10.0
"""How long the children of a process that has ended may take to end too."""

LAUNCH_TAG = "cryptoflow/launch"
"""By which a run that was started without a launcher is found."""


def prepare_home(home: Path, env: Mapping[str, str]) -> Path:
    """DAGSTER_HOME, with its dagster.yaml; HOME/dagster unless the environment names another."""
    folder = Path(env.get("DAGSTER_HOME") or home / "dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dagster.yaml").exists():
        (folder / "dagster.yaml").write_text(_packaged_yaml().read_text())
    return folder


def _packaged_yaml() -> Path:
    """dagster.yaml: beside this module in an installed package, at the top of a source tree."""
    package = Path(__file__).parent
    return next(place for place in (package / "dagster.yaml", package.parent / "dagster.yaml") if place.exists())


class Launcher(Protocol):
    """Starts a run and can end it."""

    def close(self) -> None:
        """End what was started."""

    def launch(self, job: str, config: Mapping[str, Any]) -> str:
        """Launch the job; gives the run's id."""

    def terminate(self, run_id: str) -> None:
        """Ask the run to end cleanly."""

    def check(self) -> None:
        """See that Dagster lives."""


class UiLauncher:
    """Launches through the webserver, so a run is as one that was launched in the UI."""

    def __init__(self, home: Path, port: int, env: Mapping[str, str]) -> None:
        self._folder, self._port = home / "services" / "dagster", port
        self.process = self._start(env)

    def _start(self, env: Mapping[str, str]) -> processes.Process:
        if listening(LOOPBACK, self._port):
            raise PrerequisiteError(
                f"Port {self._port}, for the Dagster UI, is taken: choose another with --ui-port, or take --no-ui."
            )
        command = [
            sys.executable,
            "-m",
            "dagster",
            "dev",
            "-m",
            MODULE,
            "-h",
            LOOPBACK,
            "-p",
            str(self._port),
        ]
        return processes.start(command, self._folder, self._port, tied=True, farewell=signal.SIGTERM, env=env)

    @property
    def url(self) -> str:
        """The UI."""
        return f"http://{LOOPBACK}:{self._port}"

    def await_ready(self) -> None:
        """Wait until the webserver answers."""
        processes.await_health("Dagster", self.process, self._folder, self._answers, START_TIMEOUT_S)

    def close(self) -> None:
        """End Dagster, with the runs that live in it."""
        end_family(self.process)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/server_info", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _client(self) -> "DagsterGraphQLClient":
        from dagster_graphql import DagsterGraphQLClient

        return DagsterGraphQLClient(LOOPBACK, port_number=self._port)

    def launch(self, job: str, config: Mapping[str, Any]) -> str:
        """Launch the job; gives the run's id."""
        from dagster_graphql import DagsterGraphQLClientError

        try:
            return self._client().submit_job_execution(job, run_config=dict(config))
        except DagsterGraphQLClientError as error:
            raise ServiceError(f"Dagster did not launch {job}: {error}") from error

    def terminate(self, run_id: str) -> None:
        """Ask the run to end cleanly."""
        self._client().terminate_run(run_id)

    def check(self) -> None:
        """See that Dagster lives."""
        if processes.running(self._folder) is None:
            raise ServiceError(f"Dagster ended by itself; {processes.last_words(self._folder)}")


class ExecuteLauncher:
    """Executes a job by `dagster job execute`: without webserver and daemon."""

    def __init__(self, home: Path, instance: "DagsterInstance", env: Mapping[str, str]) -> None:
        self._folder, self._instance, self._env = home / "services" / "run", instance, env
        self.process: processes.Process | None = None

    def launch(self, job: str, config: Mapping[str, Any]) -> str:
        """Launch the job; gives the run's id."""
        launch = uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        config_file = self._folder / "config.json"
        config_file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "dagster", "job", "execute", "-m", MODULE, "-j", job]
        command += ["-c", str(config_file), "--tags", json.dumps({LAUNCH_TAG: launch})]
        self.process = processes.start(command, self._folder, port=0, tied=True, farewell=signal.SIGTERM, env=self._env)
        processes.await_health("The run", self.process, self._folder, lambda: bool(self._run(launch)), START_TIMEOUT_S)
        return self._run(launch)[0].run_id

    def _run(self, launch: str) -> "list[DagsterRun]":
        from dagster import RunsFilter

        return list(self._instance.get_runs(RunsFilter(tags={LAUNCH_TAG: launch}), limit=1))

    def terminate(self, run_id: str) -> None:
        """Ask the run to end cleanly."""
        if self.process and processes.running(self._folder):
            # Dagster takes a signal that nobody has announced for a failure.
            self._instance.report_run_canceling(run_of(self._instance, run_id))
            os.kill(self.process.pid, signal.SIGINT)

    def check(self) -> None:
        """See that the run's process lives."""
        if processes.running(self._folder) is None:
            raise ServiceError(f"The run's process ended by itself; {processes.last_words(self._folder)}")

    def close(self) -> None:
        """End the run's process, if it still is there."""
        if self.process:
            end_family(self.process)


def failure(instance: "DagsterInstance", run_id: str) -> str | None:
    """Why a run failed: the sentence of the first step that did."""
    from dagster import DagsterEventType

    for entry in instance.all_logs(run_id, of_type={DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}):
        event = entry.dagster_event
        data = event.event_specific_data if event else None
        said = getattr(data, "user_failure_data", None)
        error = getattr(data, "error", None)
        if said and said.description:
            return str(said.description)
        if error:
            return str((error.cause or error).message).strip().partition("\n")[0]
        if event and event.is_run_failure and event.message:
            return event.message  # what `report_run_failed` was told
    return None


def run_of(instance: "DagsterInstance", run_id: str) -> "DagsterRun":
    """The run as Dagster has it now."""
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run


def end_family(process: processes.Process) -> None:
    """End a process, and what it started that outlives it."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    processes.stop(process)
    for orphan in psutil.wait_procs(family, timeout=ORPHAN_TIMEOUT_S)[1]:
        orphan.kill()
