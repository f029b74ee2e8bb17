"""The sensors: two keep exactly one run of a job alive once a user turns them on, one ends the record of dead runs."""

import time

import dagster as dg

from cryptoflow.defs.jobs import STREAMING, aggregate, ingest, kafka_mode
from cryptoflow.defs.repair import REPAIR
from cryptoflow.defs.resources import shares_venue, works_here
from cryptoflow.defs.runs import draining_run, live_materializations, live_runs, own_home, past_runs
from cryptoflow.defs.venue_history import BACKFILL_HISTORY
from cryptoflow.launch import failure
from cryptoflow.runtime.relaunch import reason_to_wait

EVERY_S = 10
"""Between two looks of a sensor, in s: a run that died is back within a minute, the start of its successor included."""


def _keep_running(job: dg.JobDefinition, name: str) -> dg.SensorDefinition:
    @dg.sensor(
        job=job,
        name=name,
        minimum_interval_seconds=EVERY_S,
        description=f"Keeps exactly one run of {job.name} alive; paused when a user terminates it.",
    )
    def keep(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        since_s = context.last_sensor_start_time or 0.0
        reason = _at_work(context.instance, job.name) or _too_early(context.instance, job.name, since_s)
        return dg.SkipReason(reason) if reason else dg.RunRequest()

    return keep


def _at_work(instance: dg.DagsterInstance, job: str) -> str | None:
    """Which run does the job's work now."""
    home = own_home()
    for run in live_runs(instance, [each.name for each in STREAMING], home):
        of_job = run.job_name == job or (run.job_name == kafka_mode.name and works_here(run.run_config))
        if of_job and (job != ingest.name or shares_venue(run.run_config)):
            return f"Run {run.run_id} of {run.job_name} is {run.status.value}."
    if run_id := draining_run(instance, job, home):
        return f"Run {run_id} is over in Dagster's record, but its process still drains."
    return None


def _too_early(instance: dg.DagsterInstance, job: str, since_s: float) -> str | None:
    """Why the next run is not launched yet, with what ended the last one."""
    past = past_runs(instance, job)
    reason = reason_to_wait(past, since_s, time.time())
    if reason and past[0].failed:
        return f"{reason} The last one said: {failure(instance, past[0].run_id) or 'nothing'}"
    return reason


@dg.sensor(
    minimum_interval_seconds=EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends the record of runs whose process was killed, so that they hold no slot and no schedule waits.",
)
def end_dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look after all jobs."""
    alive = live_runs(context.instance, [*(job.name for job in STREAMING), REPAIR, BACKFILL_HISTORY], own_home())
    alive += live_materializations(context.instance, own_home())
    return dg.SkipReason(f"{len(alive)} runs live or wait.")


keep_ingest_running = _keep_running(ingest, "keep_ingest_running")
keep_aggregate_running = _keep_running(aggregate, "keep_aggregate_running")
