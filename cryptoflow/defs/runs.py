"""The runs of the streaming jobs: which live, which have died, and how the last ones ended.

Dagster's record alone does not know: a run whose process was killed reads STARTED for ever, and one that was ended
for taking too long reads FAILURE while it still drains. The leases of the runs' parts do (`runtime/lease.py`).
"""

import time
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME

from cryptoflow import settings
from cryptoflow.runtime import lease
from cryptoflow.runtime.relaunch import PastRun
from cryptoflow.runtime.stop import SHUTDOWN_S

LIVE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,  # it still drains
]
"""Statuses of a run that lives, or may still write."""

OVER = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
"""Statuses of a run that has ended."""

HOME_TAG = "cryptoflow/home"
"""Tag of a run: the CRYPTOFLOW_HOME it works in, where its leases lie."""

BY_SIGNAL = "The run's process was told to end by a signal, not by a user of Dagster."
"""What a run says when it is canceled without a termination through Dagster."""

START_S = 45.0
"""What a run may take from one state to the next without holding a lease: to start its process, or to end it."""

SILENT_S = 900.0
"""A run of a home that is not on this machine is taken for dead when it has told nothing for so long."""

OVERDUE_S = SHUTDOWN_S + 15.0
"""A process that goes on for so long after its run is over will not end by itself."""

STALL_MARGIN_S = 30.0
"""A process that makes no progress ends itself; one that is late with that by so much can't, and is killed."""

STALL_LOOK_S = 10.0
"""For so long it is looked once more whether it goes on, before it is."""

KILLED = "The run's process is gone without a word: it was killed, or its machine went down."
STALLED = "The run made no progress: its process or Spark's JVM hung, or was stopped, and it was ended by force."
"""What the record of a dead run says."""

LOOK_BACK = 12
"""Past runs that are looked at: as many as it takes to come to the longest delay between two."""


def own_home() -> Path:
    """The CRYPTOFLOW_HOME of this process: what Dagster starts asks for it here, and hands it on."""
    return settings.home()


def live_runs(instance: dg.DagsterInstance, jobs: Sequence[str], home: Path) -> list[dg.DagsterRun]:
    """The runs of the jobs that live; those that hang are ended first, and the record of those that have died.

    Args:
        home: of a run that has not come to name its own.
    """
    return [run for job in jobs for run in _live(instance, RunsFilter(job_name=job, statuses=LIVE), home)]


def live_materializations(instance: dg.DagsterInstance, home: Path) -> list[dg.DagsterRun]:
    """As `live_runs`, of what was launched from an asset's own page, as far as it works under a lease of `home`."""
    wanted = RunsFilter(job_name=IMPLICIT_ASSET_JOB_NAME, statuses=LIVE, tags={HOME_TAG: str(home)})
    return _live(instance, wanted, home)


def _live(instance: dg.DagsterInstance, wanted: RunsFilter, home: Path) -> list[dg.DagsterRun]:
    return [
        record.dagster_run
        for record in instance.get_run_records(wanted)
        if not _ended_if_dead(instance, record, Path(record.dagster_run.tags.get(HOME_TAG, home)))
    ]


def _ended_if_dead(instance: dg.DagsterInstance, record: RunRecord, home: Path) -> bool:
    run = record.dagster_run
    if run.status == DagsterRunStatus.QUEUED:
        return False
    lease.end_stalled(home, run.run_id, STALL_MARGIN_S, STALL_LOOK_S)
    if dead := _is_dead(instance, record, home):
        _end_record(instance, run, STALLED if lease.gave_up(home, run.run_id) else KILLED)
    return dead


def _is_dead(instance: dg.DagsterInstance, record: RunRecord, home: Path) -> bool:
    run, now_s = record.dagster_run, time.time()
    if not home.is_dir() and HOME_TAG in run.tags:
        return now_s - _last_event_s(instance, run.run_id) > SILENT_S
    if lease.alive(home, run.run_id):
        return False
    last_sign_s = max(record.update_timestamp.timestamp(), lease.ended_s(home, run.run_id))
    return lease.killed(home, run.run_id) or now_s - last_sign_s > START_S


def _last_event_s(instance: dg.DagsterInstance, run_id: str) -> float:
    records = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return records[0].timestamp if records else 0.0


def _end_record(instance: dg.DagsterInstance, run: dg.DagsterRun, said: str) -> None:
    """End the record of a run whose process is gone, and free what it has claimed."""
    if run.status == DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, said)
    else:
        instance.report_run_failed(run, said)
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def draining_run(instance: dg.DagsterInstance, job: str, home: Path) -> str | None:
    """The id of a run of the job that is over in the record while its process still works, in that home.

    One that has had its time is killed.
    """
    for run_id in lease.working_runs(home):
        record = instance.get_run_record_by_id(run_id)
        if record and record.dagster_run.job_name == job and record.dagster_run.is_finished:
            if time.time() - _ended_s(record) > OVERDUE_S:
                lease.end_holders(home, run_id)
            return run_id
    return None


def _ended_s(record: RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def past_runs(instance: dg.DagsterInstance, job: str) -> list[PastRun]:
    """How the last runs of the job ended, the last end first: what was launched later may have ended earlier."""
    records = instance.get_run_records(RunsFilter(job_name=job, statuses=OVER), limit=LOOK_BACK)
    return sorted((_past_run(instance, record) for record in records), key=lambda run: run.ended_s, reverse=True)


def _past_run(instance: dg.DagsterInstance, record: RunRecord) -> PastRun:
    run, ended_s = record.dagster_run, _ended_s(record)
    return PastRun(
        run.run_id,
        started_s=record.start_time or ended_s,
        ended_s=ended_s,
        failed=run.status == DagsterRunStatus.FAILURE,
        terminated_by_hand=run.status == DagsterRunStatus.CANCELED and not _by_signal(instance, run.run_id),
    )


def _by_signal(instance: dg.DagsterInstance, run_id: str) -> bool:
    entries = instance.all_logs(run_id, of_type=DagsterEventType.RUN_CANCELING)
    return any(entry.dagster_event and entry.dagster_event.message == BY_SIGNAL for entry in entries)
