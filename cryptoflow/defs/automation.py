"""The sensors that keep a run alive, and the schedules of timed runs. All are off until a user turns them on."""

import os

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from cryptoflow.defs.jobs import aggregate, ingest, kafka_mode, memory_mode

LIVE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,  # it still drains
]
"""Statuses of a run that lives, or may still write."""

EVERY_S = 15
"""Between two looks of a sensor, in s."""

CRON = os.environ.get("CRYPTOFLOW_SCHEDULE_CRON", "0 * * * *")
TIME_ZONE = os.environ.get("CRYPTOFLOW_SCHEDULE_TIMEZONE", "UTC")


def live_run(context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext, job: str) -> str | None:
    """The id of a run of the job that lives, if there is one."""
    runs = context.instance.get_runs(RunsFilter(job_name=job, statuses=LIVE), limit=1)
    return runs[0].run_id if runs else None


def _keep_running(job: dg.JobDefinition, name: str) -> dg.SensorDefinition:
    @dg.sensor(
        job=job,
        name=name,
        minimum_interval_seconds=EVERY_S,
        description=f"Keeps one run of {job.name} alive.",
    )
    def keep(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if run_id := live_run(context, job.name):
            return dg.SkipReason(f"Run {run_id} of {job.name} is alive.")
        return dg.RunRequest()

    return keep


def _timed(job: dg.JobDefinition, name: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        job=job,
        name=name,
        cron_schedule=CRON,
        execution_timezone=TIME_ZONE,
        description=f"Timed runs of {job.name}.",
    )
    def timed(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if run_id := live_run(context, job.name):
            return dg.SkipReason(f"The last run, {run_id}, is still on.")
        return dg.RunRequest()

    return timed


SENSORS = [_keep_running(ingest, "keep_ingest_running"), _keep_running(aggregate, "keep_aggregate_running")]
SCHEDULES = [_timed(kafka_mode, "timed_kafka_mode"), _timed(memory_mode, "timed_memory_mode")]
