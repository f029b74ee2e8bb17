"""The schedules of timed runs. They are off until a user turns them on."""

import os

import dagster as dg

from cryptoflow.defs.jobs import kafka_mode, memory_mode
from cryptoflow.defs.runs import live_runs

CRON = os.environ.get("CRYPTOFLOW_SCHEDULE_CRON", "0 * * * *")
TIME_ZONE = os.environ.get("CRYPTOFLOW_SCHEDULE_TIMEZONE", "UTC")


def _timed(job: dg.JobDefinition, name: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        job=job,
        name=name,
        cron_schedule=CRON,
        execution_timezone=TIME_ZONE,
        description=f"Timed runs of {job.name}.",
    )
    def timed(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if runs := live_runs(context.instance, [job.name]):
            return dg.SkipReason(f"The last run, {runs[0].run_id}, is still on.")
        return dg.RunRequest()

    return timed


SCHEDULES = [_timed(kafka_mode, "timed_kafka_mode"), _timed(memory_mode, "timed_memory_mode")]
