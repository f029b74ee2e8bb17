"""The schedules of timed runs. They are off until a user turns them on."""

from typing import Any

import dagster as dg
from dagster import RunsFilter

from cryptoflow.defs.jobs import kafka_mode, memory_mode
from cryptoflow.defs.runs import live_runs, own_home
from cryptoflow.defs.streaming import GRACE_S, MAX_RUNTIME_TAG
from cryptoflow.settings import TimedKafkaSettings, TimedMemorySettings, TimedSettings, load, unusable


def _timed(job: dg.JobDefinition, model: type[TimedSettings]) -> dg.ScheduleDefinition:
    """The schedule of a job. When it ticks is read here; how a run streams, at each tick.

    Raises:
        ConfigError: the schedule or its time zone can't be used.
    """

    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if runs := live_runs(context.instance, [job.name], own_home()):
            return dg.SkipReason(_still_on(context.instance, runs[0]))
        return _request(job, load(model))

    settings = load(model)
    schedule = dg.schedule(
        job=job,
        name=f"timed_{job.name}",
        cron_schedule=settings.cron,
        execution_timezone=settings.time_zone,
        description=f"Timed runs of {job.name}.",
    )
    try:
        return schedule(tick)
    except dg.DagsterInvalidDefinitionError as error:  # Dagster alone knows which ones it takes
        raise unusable(model, "cron", "it is no cron schedule of five fields, such as 30 9 * * MON-FRI") from error


def _still_on(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    [record] = instance.get_run_records(RunsFilter(run_ids=[run.run_id]))
    return f"The last run, {run.run_id}, is still on, since {record.create_timestamp:%Y-%m-%d %H:%M:%S} UTC."


def _request(job: dg.JobDefinition, settings: TimedSettings) -> dg.RunRequest:
    config: dict[str, Any] = {"ops": {node.name: {"config": {"timeout_s": settings.timeout_s}} for node in job.nodes}}
    if settings.subscriptions:
        config["resources"] = {"feed": {"config": {"subscriptions": settings.subscriptions}}}
    return dg.RunRequest(run_config=config, tags={MAX_RUNTIME_TAG: str(int(settings.timeout_s + GRACE_S))})


timed_kafka_mode = _timed(kafka_mode, TimedKafkaSettings)
timed_memory_mode = _timed(memory_mode, TimedMemorySettings)
