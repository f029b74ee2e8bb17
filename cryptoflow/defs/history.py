"""Dagster's own history: what a run left is deleted after a while. By itself Dagster keeps every run for ever."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster import RunsFilter

# Dagster has no public name for the storage that keeps a file for each run.
from dagster._core.storage.event_log import SqliteEventLogStorage

from cryptoflow.defs.runs import OVER, own_home
from cryptoflow.runtime.lease import working_runs
from cryptoflow.runtime.status import forget_status
from cryptoflow.settings import HistorySettings, load

PAGE = 100
"""Runs that are looked up at once, however many there are."""


@dg.op(description="Deletes all that the runs left which ended longer ago than CRYPTOFLOW_HISTORY_DAYS.")
def delete_old_runs(context: dg.OpExecutionContext) -> None:
    """Delete them, and say how many they were."""
    days = load(HistorySettings).days
    jobs = [job.name for job in context.repository_def.get_all_jobs()]
    before = datetime.now(UTC) - timedelta(days=days)
    deleted = delete_ended(context.instance, jobs, before, own_home()) if days else 0
    context.log.info(f"{deleted} runs deleted that ended over {days:g} days ago." if days else "All runs are kept.")
    context.add_output_metadata({"deleted_runs": deleted, "days": days})


def delete_ended(instance: dg.DagsterInstance, jobs: Iterable[str], before: datetime, home: Path) -> int:
    """Delete the runs of the jobs that ended before a time (aware), but those that are needed; gives their number.

    Args:
        home: where the runs leave their figures.
    """
    deleted = 0
    for job in jobs:
        for run_id in _old_runs(instance, job, before, home):
            _delete(instance, run_id, home)
            deleted += 1
    return deleted


def _old_runs(instance: dg.DagsterInstance, job: str, before: datetime, home: Path) -> Iterator[str]:
    """The runs of the job that ended before a time. Each must be gone when the next one is asked for."""
    # One that is over in the record may still drain.
    kept = _last_of_assets(instance) | set(working_runs(home))
    over = RunsFilter(job_name=job, statuses=OVER, updated_before=before)
    while found := [run_id for run_id in instance.get_run_ids(over, limit=PAGE + len(kept)) if run_id not in kept]:
        yield from found


def _last_of_assets(instance: dg.DagsterInstance) -> set[str]:
    """The runs with the newest event of an asset: without it Dagster would show the asset as never seen."""
    fetches = (instance.fetch_materializations, instance.fetch_observations)
    found = (fetch(key, limit=1).records for key in instance.all_asset_keys() for fetch in fetches)
    return {record.run_id for records in found for record in records}


def _delete(instance: dg.DagsterInstance, run_id: str, home: Path) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    forget_status(home, run_id)
    instance.delete_run(run_id)
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        # Dagster empties the run's own database, and leaves the file.
        database = Path(storage.path_for_shard(run_id))
        for file in database.parent.glob(f"{database.name}*"):
            file.unlink(missing_ok=True)


@dg.job(executor_def=dg.in_process_executor)
def clean_history() -> None:
    """Deletes old runs, with their events and logs."""
    delete_old_runs()


daily_clean_history = dg.ScheduleDefinition(
    name="daily_clean_history",
    job=clean_history,
    cron_schedule="30 4 * * *",
    execution_timezone="UTC",
    # On from the start: without it the history of kept-alive runs fills the disk.
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Deletes old runs each night.",
)
