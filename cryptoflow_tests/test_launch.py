"""Laws of starting Dagster and ending it: its home, a run's last sentence, and no process left behind."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from cryptoflow.errors import PrerequisiteError, ServiceError
from cryptoflow.launch import ExecuteLauncher, UiLauncher, end_family, failure, prepare_home, run_of
from cryptoflow.local import processes

FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE)
child.wait()
"""

DRAINS = "import sys; print('ready', flush=True); sys.stdin.read(); print('drained', flush=True)"
CLINGS = "import time; print('ready', flush=True); time.sleep(300)"


@dg.op
def fails_with_a_sentence() -> None:
    """Fails as our ops do."""
    raise dg.Failure("Kafka at 127.0.0.1:1 does not answer.")


@dg.op
def fails_by_itself() -> None:
    """Fails as no op should."""
    raise ZeroDivisionError("nobody expected this\nnor its second line")


@dg.op
def goes_well() -> None:
    """Does nothing."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run_with(op: dg.OpDefinition, instance: dg.DagsterInstance) -> str:
    """The id of a run of the op that is over."""

    @dg.job
    def tested() -> None:
        op()
        goes_well()

    return tested.execute_in_process(instance=instance, raise_on_error=False).run_id


def test_dagsters_home_is_below_ours_with_our_settings(tmp_path: Path) -> None:
    folder = prepare_home(tmp_path, {})
    assert folder == tmp_path / "dagster"
    assert yaml.safe_load((folder / "dagster.yaml").read_text())["telemetry"] == {"enabled": False}
    with dg.DagsterInstance.from_config(str(folder)) as found:
        assert found.root_directory == str(folder)


def test_a_home_is_absolute_for_processes_in_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare_home(tmp_path, {"DAGSTER_HOME": "mine"}) == tmp_path / "mine"


def test_another_home_of_the_environment_is_respected(tmp_path: Path) -> None:
    assert prepare_home(tmp_path / "ours", {"DAGSTER_HOME": str(tmp_path / "mine")}) == tmp_path / "mine"
    assert (tmp_path / "mine" / "dagster.yaml").exists()
    assert not (tmp_path / "ours").exists()


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert prepare_home(tmp_path, {"DAGSTER_HOME": ""}) == tmp_path / "dagster"


def test_the_settings_of_a_user_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    prepare_home(tmp_path, {"DAGSTER_HOME": str(tmp_path)})
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_a_failed_run_says_the_sentence_of_the_step_that_failed(instance: dg.DagsterInstance) -> None:
    run_id = run_with(fails_with_a_sentence, instance)
    assert failure(instance, run_id) == "Kafka at 127.0.0.1:1 does not answer."
    assert run_of(instance, run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_run_that_failed_otherwise_says_the_error(instance: dg.DagsterInstance) -> None:
    said = failure(instance, run_with(fails_by_itself, instance))
    assert said == "ZeroDivisionError: nobody expected this"


def test_a_run_whose_process_was_gone_says_what_its_record_was_ended_with(instance: dg.DagsterInstance) -> None:
    job = dg.GraphDefinition("gone", node_defs=[goes_well]).to_job()
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "The run's process is gone.")
    assert failure(instance, run.run_id) == "The run's process is gone."


def test_a_run_that_went_well_says_nothing(instance: dg.DagsterInstance) -> None:
    assert failure(instance, run_with(goes_well, instance)) is None


def test_a_taken_port_of_the_ui_is_told_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PrerequisiteError, match=rf"Port {port}, .* is taken: .*--ui-port.*--no-ui"):
            UiLauncher(tmp_path, port, {})
    assert list(tmp_path.iterdir()) == []


def family(folder: Path, child: str) -> tuple[processes.Process, psutil.Process]:
    """A process and its child, that runs the program `child` and has said that it is ready."""
    process = processes.start((sys.executable, "-c", FAMILY, child), folder, 0)
    processes.await_health("it", process, folder, lambda: "ready" in (folder / "log").read_text(), 30)
    [found] = psutil.Process(process.pid).children()
    return process, found


def test_a_child_that_ends_after_its_parent_is_let_do_so(tmp_path: Path) -> None:
    process, child = family(tmp_path, DRAINS)
    end_family(process)
    assert "drained" in (tmp_path / "log").read_text()
    assert psutil.wait_procs([child], timeout=10)[1] == []
    assert processes.running(tmp_path) is None


def test_a_child_that_clings_to_life_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryptoflow.launch.ORPHAN_TIMEOUT_S", 0.1)
    process, child = family(tmp_path, CLINGS)
    end_family(process)
    assert psutil.wait_procs([child], timeout=10)[1] == []
    assert processes.running(tmp_path) is None


def test_one_that_is_gone_already_is_no_error(tmp_path: Path) -> None:
    process = processes.start(("/bin/true",), tmp_path, 0)
    psutil.Process(process.pid).wait(10)
    end_family(process)


def test_a_job_that_does_not_start_is_told_with_its_last_words(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    launcher = ExecuteLauncher(tmp_path, instance, {**os.environ, "DAGSTER_HOME": str(tmp_path)})
    with pytest.raises(ServiceError, match=r"(?s)The run ended while it started.*no_such_job"):
        launcher.launch("no_such_job", {})
    launcher.close()
