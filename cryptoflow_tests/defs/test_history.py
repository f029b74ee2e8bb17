"""Laws of the history: what ended long ago is gone with all that it left; what lives, is recent or is needed stays."""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus, EventLogEntry

# A run in the queue has such an origin; Dagster has no public way to make one.
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from cryptoflow import settings
from cryptoflow.defs import history
from cryptoflow.defs.history import daily_clean_history
from cryptoflow.errors import ConfigError
from cryptoflow.runtime.lease import lease
from cryptoflow.runtime.status import PartStatus, read_statuses, write_status

DAYS = 30
LONG_AGO_S = (DAYS + 1) * 86400.0
NOT_SO_LONG_AGO_S = (DAYS - 1) * 86400.0

LOCATION = RegisteredCodeLocationOrigin("cryptoflow.definitions")
"""A queued run has to say where its job is loaded from."""

CLEANING = ReconstructableRepository.for_module("cryptoflow.definitions", "defs").get_reconstructable_job(
    "clean_history"
)
"""The job as it is run, which knows the others."""

ENDS = {
    DagsterRunStatus.SUCCESS: DagsterEventType.RUN_SUCCESS,
    DagsterRunStatus.FAILURE: DagsterEventType.RUN_FAILURE,
    DagsterRunStatus.CANCELED: DagsterEventType.RUN_CANCELED,
}
ALIVE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


# Dagster makes its own definitions with a parameter of its own that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of")


@dg.op
def talks(context: dg.OpExecutionContext) -> int:
    """Leaves a line in each log, and an output."""
    print("on stdout")  # noqa: T201
    context.log.info("in the log")
    return 5


@dg.job(name="memory_mode", executor_def=dg.in_process_executor)
def talking() -> None:
    """A job of a name that ours has."""
    talks()


@dg.op
def materializes(context: dg.OpExecutionContext) -> None:
    """Touches an asset."""
    context.log_event(dg.AssetMaterialization("asset"))


@dg.op
def observes(context: dg.OpExecutionContext) -> None:
    """Touches an asset otherwise."""
    context.log_event(dg.AssetObservation("asset"))


def touching(op: dg.OpDefinition) -> dg.JobDefinition:
    """A job of a name that ours has."""

    @dg.job(name="kafka_mode", executor_def=dg.in_process_executor)
    def touches() -> None:
        op()

    return touches


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What holds DAGSTER_HOME and, beside it, CRYPTOFLOW_HOME."""
    made = tmp_path_factory.mktemp("history")
    (made / "dagster").mkdir()
    return made


@pytest.fixture(scope="module")
def stored(folder: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(folder / "dagster")) as made:
        yield made


@pytest.fixture(autouse=True)
def _environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(folder / "home"))
    monkeypatch.delenv("CRYPTOFLOW_HISTORY_DAYS", raising=False)


@pytest.fixture
def instance(stored: dg.DagsterInstance) -> dg.DagsterInstance:
    """The instance without any run or asset."""
    stored.wipe_assets(stored.get_asset_keys())
    for run in stored.get_runs():
        stored.delete_run(run.run_id)
    return stored


def end(instance: dg.DagsterInstance, run: dg.DagsterRun, status: DagsterRunStatus, ago_s: float) -> None:
    """Have the run end, some time ago."""
    event = DagsterEvent(ENDS[status].value, run.job_name, message="It is over.")
    ended = datetime.now(UTC).timestamp() - ago_s
    entry: Any = EventLogEntry  # untyped
    instance.handle_new_event(entry(None, 20, "", run.run_id, ended, job_name=run.job_name, dagster_event=event))


def run_of(instance: dg.DagsterInstance, job: str, status: DagsterRunStatus, ago_s: float) -> str:
    """A run of a job that came to `status` some time ago, or stands there since; gives its id."""
    begun = DagsterRunStatus.STARTED if status in ENDS else status
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), job)
    run = instance.add_run(dg.DagsterRun(job, str(uuid.uuid4()), status=begun, remote_job_origin=origin))
    if status in ENDS:
        end(instance, run, status, ago_s)
    return run.run_id


def executed(instance: dg.DagsterInstance, job: dg.JobDefinition, ago_s: float) -> str:
    """A real run of the job, that ended some time ago; gives its id."""
    run = job.execute_in_process(instance=instance).dagster_run
    end(instance, run, DagsterRunStatus.SUCCESS, ago_s)
    return run.run_id


def clean(instance: dg.DagsterInstance) -> int:
    """Clean the history; gives how many runs it says it deleted."""
    with dg.execute_job(CLEANING, instance=instance, raise_on_error=True) as result:
        [output] = result.filter_events(lambda event: event.event_type == DagsterEventType.STEP_OUTPUT)
        return int(str(output.step_output_data.metadata["deleted_runs"].value))


def kept(instance: dg.DagsterInstance) -> set[str]:
    """The runs that there are, but for those of the cleaning itself."""
    return {run.run_id for run in instance.get_runs() if run.job_name != "clean_history"}


def touched_by(instance: dg.DagsterInstance) -> list[str]:
    """The runs that touched the asset, as Dagster knows it."""
    fetches = (instance.fetch_materializations, instance.fetch_observations)
    return [record.run_id for fetch in fetches for record in fetch(dg.AssetKey("asset"), limit=5).records]


def rows_about(run_id: str, databases: Path) -> int:
    """Rows of Dagster's databases that tell of the run."""
    tables = {"runs.db": ("runs", "run_tags"), "runs/index.db": ("event_logs",)}
    count = 0
    for database, names in tables.items():
        with closing(sqlite3.connect(databases / database)) as connection:
            for name in names:
                [(found,)] = connection.execute(f"SELECT count(*) FROM {name} WHERE run_id = ?", (run_id,))
                count += found
    return count


def files_about(run_id: str, folder: Path) -> list[Path]:
    """Files below the folder that are named after the run, or hold its id."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if run_id in str(path) or run_id.encode() in path.read_bytes()]


def test_what_ended_long_ago_is_deleted_and_what_is_recent_is_not(instance: dg.DagsterInstance) -> None:
    for status in ENDS:
        run_of(instance, "ingest", status, LONG_AGO_S)
    recent = {run_of(instance, "ingest", status, NOT_SO_LONG_AGO_S) for status in ENDS}
    assert clean(instance) == len(ENDS)
    assert kept(instance) == recent


def test_a_live_run_is_never_deleted(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HISTORY_DAYS", "1e-9")
    alive = {run_of(instance, "aggregate", status, LONG_AGO_S) for status in ALIVE}
    draining = run_of(instance, "aggregate", DagsterRunStatus.FAILURE, LONG_AGO_S)
    with lease(settings.home(), draining, "aggregate_trades"):
        assert clean(instance) == 0
    assert kept(instance) == {*alive, draining}


def test_runs_of_other_code_are_left_alone(instance: dg.DagsterInstance) -> None:
    foreign = run_of(instance, "somebody_elses_job", DagsterRunStatus.SUCCESS, LONG_AGO_S)
    assert clean(instance) == 0
    assert kept(instance) == {foreign}


@pytest.mark.parametrize(("days", "left"), [("0", 3), ("40", 2), ("0.5", 0)])
def test_the_days_are_those_of_the_setting(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, days: str, left: int
) -> None:
    for ended_days_ago in (1, 31, 41):
        run_of(instance, "kafka_mode", DagsterRunStatus.SUCCESS, ended_days_ago * 86400.0)
    monkeypatch.setenv("CRYPTOFLOW_HISTORY_DAYS", days)
    assert clean(instance) == 3 - left
    assert len(kept(instance)) == left


def test_more_than_a_page_is_deleted_around_what_is_kept(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE", 2)
    needed = {executed(instance, touching(observes), LONG_AGO_S)}
    for _ in range(5):
        run_of(instance, "kafka_mode", DagsterRunStatus.SUCCESS, LONG_AGO_S)
    assert clean(instance) == 5
    assert kept(instance) == needed
    assert clean(instance) == 0


def test_nothing_of_a_deleted_run_is_left_on_disk(instance: dg.DagsterInstance, folder: Path) -> None:
    run_id = executed(instance, talking, LONG_AGO_S)
    write_status(folder / "home", run_id, "aggregate_in_memory", PartStatus())
    assert rows_about(run_id, folder / "dagster" / "history") > 0
    before = {str(path.relative_to(folder)).replace(run_id, "RUN") for path in files_about(run_id, folder)}
    assert {"dagster/history/runs/RUN.db", "home/runs/RUN/aggregate_in_memory.json"} < before
    assert any(name.startswith("dagster/storage/RUN/compute_logs/") for name in before)
    assert clean(instance) == 1
    assert [path for path in folder.rglob("*") if run_id in path.name] == []
    assert read_statuses(folder / "home", run_id) == {}
    assert rows_about(run_id, folder / "dagster" / "history") == 0


@pytest.mark.parametrize("op", [materializes, observes], ids=lambda op: op.name)
def test_the_last_run_of_an_asset_is_kept_until_a_newer_one_touches_it(
    instance: dg.DagsterInstance, op: dg.OpDefinition
) -> None:
    _, last = (executed(instance, touching(op), LONG_AGO_S) for _ in range(2))
    assert clean(instance) == 1
    assert kept(instance) == {last}
    assert touched_by(instance) == [last]
    assert instance.all_logs(last)
    newest = executed(instance, touching(op), 0)
    assert clean(instance) == 1
    assert touched_by(instance) == [newest]


def test_an_instance_that_keeps_all_in_one_database_is_cleaned_too(tmp_path: Path) -> None:
    storage = {"module": "dagster._core.storage.event_log", "class": "ConsolidatedSqliteEventLogStorage"}
    overrides = {
        "event_log_storage": {**storage, "config": {"base_dir": str(tmp_path)}},
        "run_storage": {
            "module": "dagster._core.storage.runs",
            "class": "SqliteRunStorage",
            "config": {"base_dir": str(tmp_path)},
        },
        "schedule_storage": {
            "module": "dagster._core.storage.schedules",
            "class": "SqliteScheduleStorage",
            "config": {"base_dir": str(tmp_path)},
        },
    }
    with dg.instance_for_test(overrides, temp_dir=str(tmp_path)) as made:
        executed(made, talking, LONG_AGO_S)
        assert clean(made) == 1
        assert kept(made) == set()


def test_a_bad_number_of_days_is_told(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HISTORY_DAYS", "a month")
    with pytest.raises(ConfigError, match=r"CRYPTOFLOW_HISTORY_DAYS.*it is no number"):
        clean(instance)


def test_it_cleans_each_day_without_being_turned_on() -> None:
    schedule = daily_clean_history
    assert (schedule.name, schedule.job_name) == ("daily_clean_history", "clean_history")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert str(schedule.cron_schedule).split()[2:] == ["*", "*", "*"]
