"""Laws of the sensors and schedules: one live run at a time, and a new one when it is gone."""

import uuid
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from cryptoflow.defs.automation import EVERY_S, SCHEDULES, SENSORS
from cryptoflow.defs.jobs import JOBS, ingest

ALIVE = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
OVER = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]

LOCATION = RegisteredCodeLocationOrigin("cryptoflow.definitions")
"""A queued run has to say where its job is loaded from."""

AUTOMATIONS = [*SENSORS, *SCHEDULES]
Automation = dg.SensorDefinition | dg.ScheduleDefinition

every_automation = pytest.mark.parametrize("automation", AUTOMATIONS, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def stored() -> Iterator[dg.DagsterInstance]:
    """An instance on disk: a schedule's context opens it by its reference."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def instance(stored: dg.DagsterInstance) -> dg.DagsterInstance:
    """The instance without any run."""
    for run in stored.get_runs():
        stored.delete_run(run.run_id)
    return stored


def asked(automation: Automation, instance: dg.DagsterInstance) -> object:
    """What the automation answers now."""
    if isinstance(automation, dg.SensorDefinition):
        return automation(dg.build_sensor_context(instance=instance))
    return automation(dg.build_schedule_context(instance=instance))


def run_of(job_name: str | None, status: DagsterRunStatus, instance: dg.DagsterInstance) -> str:
    """A run of a job that stands at `status`; gives its id."""
    assert job_name is not None
    run = dg.DagsterRun(
        job_name=job_name,
        run_id=uuid.uuid4().hex,
        status=status,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), job_name),
    )
    return instance.add_run(run).run_id


@every_automation
def test_a_run_is_requested_when_none_ever_was(automation: Automation, instance: dg.DagsterInstance) -> None:
    assert isinstance(asked(automation, instance), dg.RunRequest)


@every_automation
@pytest.mark.parametrize("status", ALIVE)
def test_none_is_requested_beside_one_that_lives(
    automation: Automation, status: DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    run_id = run_of(automation.job_name, status, instance)
    answer = asked(automation, instance)
    assert isinstance(answer, dg.SkipReason)
    assert run_id in (answer.skip_message or "")


@every_automation
@pytest.mark.parametrize("status", OVER)
def test_a_run_is_requested_again_when_the_last_is_over(
    automation: Automation, status: DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    run_of(automation.job_name, status, instance)
    assert isinstance(asked(automation, instance), dg.RunRequest)


@every_automation
def test_a_live_run_is_seen_behind_newer_ones_that_are_over(
    automation: Automation, instance: dg.DagsterInstance
) -> None:
    run_id = run_of(automation.job_name, DagsterRunStatus.STARTED, instance)
    run_of(automation.job_name, DagsterRunStatus.FAILURE, instance)
    assert run_id in str(asked(automation, instance))


@every_automation
def test_the_runs_of_other_jobs_do_not_count(automation: Automation, instance: dg.DagsterInstance) -> None:
    for job in JOBS:
        if job.name != automation.job_name:
            run_of(job.name, DagsterRunStatus.STARTED, instance)
    assert isinstance(asked(automation, instance), dg.RunRequest)


@every_automation
def test_a_request_can_be_made_again_and_again(automation: Automation, instance: dg.DagsterInstance) -> None:
    requests = [asked(automation, instance) for _ in range(2)]
    assert [request.run_key for request in requests if isinstance(request, dg.RunRequest)] == [None, None]


def test_a_dead_run_is_replaced_within_seconds() -> None:
    assert [sensor.minimum_interval_seconds for sensor in SENSORS] == [EVERY_S] * 2
    assert EVERY_S <= 30


def test_schedules_run_hourly_in_utc_unless_told_otherwise() -> None:
    assert {(each.cron_schedule, each.execution_timezone) for each in SCHEDULES} == {("0 * * * *", "UTC")}


def test_the_sensors_keep_the_jobs_that_have_no_end() -> None:
    assert [sensor.job_name for sensor in SENSORS] == ["ingest", "aggregate"]
    assert SENSORS[0].job is ingest
