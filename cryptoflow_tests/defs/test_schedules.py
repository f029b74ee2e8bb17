"""Laws of the schedules: a timed run as its settings say, none beside one that is on, and no bad setting unheard."""

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus

# A run in the queue has such an origin; Dagster has no public way to make one.
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.defs import schedules
from cryptoflow.defs.jobs import STREAMING, kafka_mode, memory_mode
from cryptoflow.defs.resources import RESOURCES
from cryptoflow.defs.schedules import timed_kafka_mode, timed_memory_mode
from cryptoflow.defs.streaming import GRACE_S
from cryptoflow.errors import ConfigError
from cryptoflow.settings import TimedKafkaSettings, TimedMemorySettings, TimedSettings

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

JOB_OF = {"timed_kafka_mode": kafka_mode, "timed_memory_mode": memory_mode}
PREFIX = {"timed_kafka_mode": "CRYPTOFLOW_TIMED_KAFKA_", "timed_memory_mode": "CRYPTOFLOW_TIMED_MEMORY_"}
OTHER = {"timed_kafka_mode": "CRYPTOFLOW_TIMED_MEMORY_", "timed_memory_mode": "CRYPTOFLOW_TIMED_KAFKA_"}

every_schedule = pytest.mark.parametrize("schedule", [timed_kafka_mode, timed_memory_mode], ids=lambda each: each.name)
every_model = pytest.mark.parametrize("model", [TimedKafkaSettings, TimedMemorySettings])


@pytest.fixture(scope="module")
def stored() -> Iterator[dg.DagsterInstance]:
    """An instance on disk: a schedule's context opens it by its reference."""
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def instance(stored: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.DagsterInstance:
    """The instance without any run, and without settings from outside."""
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    for prefix in PREFIX.values():
        for name in ("CRON", "TIME_ZONE", "TIMEOUT", "SUBSCRIPTIONS"):
            monkeypatch.delenv(f"{prefix}{name}", raising=False)
    for run in stored.get_runs():
        stored.delete_run(run.run_id)
    return stored


def answer(schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance) -> Any:
    """What the schedule answers now."""
    return schedule(dg.build_schedule_context(instance=instance))


def request(schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance) -> dg.RunRequest:
    """The run that the schedule asks for now."""
    found = answer(schedule, instance)
    assert isinstance(found, dg.RunRequest)
    return found


def run_of(job_name: str, status: DagsterRunStatus, instance: dg.DagsterInstance) -> str:
    """A run of a job that stands at `status`; gives its id."""
    run = dg.DagsterRun(
        job_name=job_name,
        run_id=uuid.uuid4().hex,
        status=status,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), job_name),
    )
    return instance.add_run(run).run_id


def is_taken(schedule: dg.ScheduleDefinition, config: Any) -> bool:
    """Whether Dagster takes the run config of the schedule's job."""
    job = dg.Definitions(jobs=STREAMING, resources=RESOURCES).resolve_job_def(schedule.job_name)
    return dg.validate_run_config(job, config) is not None


@every_schedule
def test_a_run_streams_for_the_default_time_unless_told_otherwise(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance
) -> None:
    asked = request(schedule, instance)
    ops = {node.name: {"config": {"timeout_s": 150.0}} for node in JOB_OF[schedule.name].nodes}
    assert asked.run_config == {"ops": ops}
    assert asked.tags["dagster/max_runtime"] == str(150 + GRACE_S)
    assert asked.run_key is None
    assert is_taken(schedule, asked.run_config)


@every_schedule
def test_each_schedule_is_told_by_its_own_variables_at_the_tick(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX[schedule.name]}TIMEOUT", "600.5")
    monkeypatch.setenv(f"{PREFIX[schedule.name]}SUBSCRIPTIONS", " 0~Kraken~ETH~EUR, 0~Gemini~BTC~USD")
    monkeypatch.setenv(f"{OTHER[schedule.name]}TIMEOUT", "30")
    monkeypatch.setenv(f"{OTHER[schedule.name]}SUBSCRIPTIONS", "0~Coinbase~BTC~USD")
    asked = request(schedule, instance)
    assert {part["config"]["timeout_s"] for part in asked.run_config["ops"].values()} == {600.5}
    feed = asked.run_config["resources"]["feed"]["config"]
    assert feed == {"subscriptions": "0~Kraken~ETH~EUR,0~Gemini~BTC~USD"}
    assert asked.tags["dagster/max_runtime"] == str(600 + GRACE_S)
    assert is_taken(schedule, asked.run_config)


@every_schedule
@pytest.mark.parametrize("timeout", ["0", "-1", "soon", "inf"])
def test_a_scheduled_run_has_an_end(
    schedule: dg.ScheduleDefinition, timeout: str, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{PREFIX[schedule.name]}TIMEOUT", timeout)
    with pytest.raises(ConfigError, match=f"{PREFIX[schedule.name]}TIMEOUT"):
        answer(schedule, instance)


@every_schedule
@pytest.mark.parametrize("status", ALIVE)
def test_a_tick_beside_a_run_that_is_on_says_which_and_since_when(
    schedule: dg.ScheduleDefinition, status: DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    run_id = run_of(schedule.job_name, status, instance)
    skipped = answer(schedule, instance)
    assert isinstance(skipped, dg.SkipReason)
    said = skipped.skip_message or ""
    assert re.fullmatch(rf"The last run, {run_id}, is still on, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\.", said)
    record = instance.get_run_record_by_id(run_id)
    assert record
    assert f"{record.create_timestamp:%Y-%m-%d %H:%M:%S}" in said


@every_schedule
@pytest.mark.parametrize("status", OVER)
def test_a_run_is_requested_again_when_the_last_is_over(
    schedule: dg.ScheduleDefinition, status: DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    run_of(schedule.job_name, status, instance)
    assert isinstance(answer(schedule, instance), dg.RunRequest)


@every_schedule
def test_a_live_run_is_seen_behind_newer_ones_that_are_over(
    schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance
) -> None:
    run_id = run_of(schedule.job_name, DagsterRunStatus.STARTED, instance)
    run_of(schedule.job_name, DagsterRunStatus.FAILURE, instance)
    assert run_id in str(answer(schedule, instance))


@every_schedule
def test_the_runs_of_other_jobs_do_not_count(schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance) -> None:
    for job in STREAMING:
        if job.name != schedule.job_name:
            run_of(job.name, DagsterRunStatus.STARTED, instance)
    assert isinstance(answer(schedule, instance), dg.RunRequest)


def made(model: type[TimedSettings], monkeypatch: pytest.MonkeyPatch, **env: str) -> dg.ScheduleDefinition:
    """A schedule, made while the variables hold."""
    with monkeypatch.context() as patch:
        for name, value in env.items():
            patch.setenv(f"{model.env_prefix}{name}", value)
        return schedules._timed(kafka_mode, model)


@every_model
def test_cron_and_time_zone_are_those_of_the_settings(
    model: type[TimedSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (made(model, monkeypatch).cron_schedule, made(model, monkeypatch).execution_timezone) == ("0 * * * *", "UTC")
    told = made(model, monkeypatch, CRON="30 9 * * MON-FRI", TIME_ZONE="Europe/Berlin")
    assert (told.cron_schedule, told.execution_timezone) == ("30 9 * * MON-FRI", "Europe/Berlin")


@every_model
@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("CRON", "hourly", "it is no cron schedule of five fields"),
        ("CRON", "61 * * * *", "it is no cron schedule of five fields"),
        ("CRON", "* * * * * *", "it is no cron schedule of five fields"),
        ("TIME_ZONE", "Europe/Atlantis", "it is no time zone"),
        ("TIME_ZONE", "Europe", "it is no time zone"),
        ("TIME_ZONE", "../../etc/localtime", "it is no time zone"),
    ],
)
def test_a_bad_schedule_is_one_sentence_that_names_the_variable(
    model: type[TimedSettings], name: str, value: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=rf"^\w+ \({model.env_prefix}{name}: .*\) can't be used: {fault}"):
        made(model, monkeypatch, **{name: value})


FIELD = st.from_regex(r"(\*|[0-9]{1,3})(-[0-9]{1,2})?(/[0-9]{1,2})?", fullmatch=True)
CRON = st.one_of(st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.lists(FIELD).map(" ".join))


@pytest.mark.filterwarnings("ignore:Found a cron schedule with an interval")
@given(CRON)
def test_whatever_cron_is_given_is_taken_or_told(cron: str) -> None:
    said, taken = "", ""
    with pytest.MonkeyPatch.context() as patch:
        try:
            taken = str(made(TimedKafkaSettings, patch, CRON=cron).cron_schedule)
        except ConfigError as error:
            said = str(error)
    assert said.startswith("cron (CRYPTOFLOW_TIMED_KAFKA_CRON: ") or taken == (cron or "0 * * * *")


@given(st.floats(min_value=0.001, max_value=1e9))
def test_dagster_ends_a_run_only_after_the_grace(timeout_s: float) -> None:
    asked = schedules._request(memory_mode, TimedMemorySettings(timeout_s=timeout_s))
    assert timeout_s + GRACE_S - 1 < int(asked.tags["dagster/max_runtime"]) <= timeout_s + GRACE_S
