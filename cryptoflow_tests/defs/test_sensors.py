"""Laws of the sensors: one run lives, a new one comes when it is gone, a user who ended it is obeyed."""

import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEventType, DagsterRunStatus

# A run in the queue has such an origin; Dagster has no public way to make one.
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from cryptoflow.defs import runs
from cryptoflow.defs.jobs import STREAMING, ingest
from cryptoflow.defs.runs import BY_SIGNAL, HOME_TAG, KILLED, STALLED, live_runs
from cryptoflow.defs.sensors import EVERY_S, end_dead_runs, keep_aggregate_running, keep_ingest_running
from cryptoflow.runtime.lease import lease, stalled
from cryptoflow_tests.leases import WAIT_S, holder

WITHOUT_LEASE = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
ALIVE = [DagsterRunStatus.QUEUED, *WITHOUT_LEASE, DagsterRunStatus.CANCELING]

LOCATION = RegisteredCodeLocationOrigin("cryptoflow.definitions")
"""A queued run has to say where its job is loaded from."""

KEEPERS = [keep_ingest_running, keep_aggregate_running]
ALL_JOBS = [job.name for job in STREAMING]

every_keeper = pytest.mark.parametrize("sensor", KEEPERS, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def stored() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def instance(stored: dg.DagsterInstance, home: Path) -> dg.DagsterInstance:
    """The instance without any run."""
    for run in stored.get_runs():
        stored.delete_run(run.run_id)
    return stored


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    return tmp_path


def asked(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, since_s: float | None = None) -> str | None:
    """Why the sensor launches nothing now; None: it does."""
    answer: Any = sensor(dg.build_sensor_context(instance=instance, last_sensor_start_time=since_s))
    if isinstance(answer, dg.RunRequest):
        return None
    assert isinstance(answer, dg.SkipReason)
    return answer.skip_message


def run_of(job: str | None, status: DagsterRunStatus, instance: dg.DagsterInstance, **more: Any) -> dg.DagsterRun:
    """A run of a job that stands at `status`."""
    assert job is not None
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(LOCATION, "__repository__"), job)
    run_id = uuid.uuid4().hex
    return instance.add_run(dg.DagsterRun(job, run_id, status=status, remote_job_origin=origin, **more))


def status_of(run: dg.DagsterRun, instance: dg.DagsterInstance) -> DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def why_failed(run: dg.DagsterRun, instance: dg.DagsterInstance) -> str | None:
    [entry] = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_FAILURE)
    return entry.dagster_event.message if entry.dagster_event else None


def killed_lease(home: Path, run: dg.DagsterRun) -> None:
    """The lease of a process that is gone, as it is found then."""
    path = home / "runs" / run.run_id / "part.lease"
    path.parent.mkdir(parents=True)
    path.write_text('{"pid":1,"created_s":1.0}')


def failed_at_once(job: str, instance: dg.DagsterInstance, count: int) -> None:
    for _ in range(count):
        instance.report_run_failed(run_of(job, DagsterRunStatus.STARTED, instance))


@every_keeper
def test_a_run_is_requested_when_none_ever_was(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
    assert asked(sensor, instance) is None


@every_keeper
@pytest.mark.parametrize("status", ALIVE)
def test_none_is_requested_beside_one_that_works(
    sensor: dg.SensorDefinition, status: DagsterRunStatus, instance: dg.DagsterInstance, home: Path
) -> None:
    run = run_of(sensor.job_name, status, instance)
    with lease(home, run.run_id, "part"):
        assert asked(sensor, instance) == f"Run {run.run_id} of {sensor.job_name} is {status.value}."


def test_an_ingester_of_other_venues_does_not_stand_in_for_the_kept_one(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOFLOW_SOURCE", "coinbase,kraken")
    other: dict[str, Any] = {"resources": {"feed": {"config": {"source": "binance"}}}}
    run = run_of("ingest", DagsterRunStatus.STARTED, instance, run_config=other)
    with lease(home, run.run_id, "part"):
        assert asked(keep_ingest_running, instance) is None


@pytest.mark.parametrize("status", ALIVE)
def test_a_run_is_given_time_to_start_and_to_end(
    status: DagsterRunStatus, instance: dg.DagsterInstance, home: Path
) -> None:
    run = run_of("ingest", status, instance)
    assert run.run_id in (asked(KEEPERS[0], instance) or "")
    assert status_of(run, instance) == status


@pytest.mark.parametrize("status", WITHOUT_LEASE)
def test_a_run_that_shows_no_sign_of_life_in_time_is_replaced(
    status: DagsterRunStatus, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("ingest", status, instance)
    monkeypatch.setattr(runs, "START_S", -60)
    assert asked(KEEPERS[0], instance) is None
    assert status_of(run, instance) == DagsterRunStatus.FAILURE


def test_a_run_in_the_queue_waits_for_as_long_as_it_takes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("ingest", DagsterRunStatus.QUEUED, instance)
    monkeypatch.setattr(runs, "START_S", -60)
    assert run.run_id in (asked(KEEPERS[0], instance) or "")


@every_keeper
def test_a_run_whose_process_was_killed_is_replaced_at_once(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, home: Path
) -> None:
    run = run_of(sensor.job_name, DagsterRunStatus.STARTED, instance)
    killed_lease(home, run)
    assert asked(sensor, instance) is None
    assert status_of(run, instance) == DagsterRunStatus.FAILURE
    assert why_failed(run, instance) == KILLED


def test_a_run_that_hangs_is_ended_and_replaced(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("ingest", DagsterRunStatus.STARTED, instance)
    monkeypatch.setattr(runs, "STALL_MARGIN_S", 0)
    monkeypatch.setattr(runs, "STALL_LOOK_S", WAIT_S)
    with holder(home, run.run_id, within_s=0.5) as process:
        assert run.run_id in (asked(KEEPERS[0], instance) or "")
        process.send_signal(signal.SIGSTOP)
        while not stalled(home, run.run_id):
            time.sleep(0.02)
        monkeypatch.setattr(runs, "STALL_LOOK_S", 0)
        assert asked(KEEPERS[0], instance) is None
        assert process.wait(WAIT_S) < 0
    assert status_of(run, instance) == DagsterRunStatus.FAILURE
    assert why_failed(run, instance) == STALLED


def test_a_run_whose_own_watchdog_ended_it_says_so(instance: dg.DagsterInstance, home: Path) -> None:
    run = run_of("aggregate", DagsterRunStatus.STARTED, instance)
    killed_lease(home, run)
    with (home / "runs" / run.run_id / "part.lease").open("a") as file:
        file.write("\n000000000000.000")
    assert asked(end_dead_runs, instance) == "0 runs live or wait."
    assert why_failed(run, instance) == STALLED


def test_a_run_that_was_killed_while_it_was_being_terminated_is_canceled(
    instance: dg.DagsterInstance, home: Path
) -> None:
    run = run_of("ingest", DagsterRunStatus.STARTED, instance)
    instance.report_run_canceling(run)
    killed_lease(home, run)
    assert "terminated by hand" in (asked(KEEPERS[0], instance) or "")
    assert status_of(run, instance) == DagsterRunStatus.CANCELED


@pytest.mark.parametrize("job", ALL_JOBS)
def test_a_dead_run_of_any_job_is_ended_without_being_asked_for(
    job: str, instance: dg.DagsterInstance, home: Path
) -> None:
    run = run_of(job, DagsterRunStatus.STARTED, instance)
    killed_lease(home, run)
    assert asked(end_dead_runs, instance) == "0 runs live or wait."
    assert status_of(run, instance) == DagsterRunStatus.FAILURE


def test_a_dead_run_gives_its_slots_back(instance: dg.DagsterInstance, home: Path) -> None:
    storage = instance.event_log_storage
    run = run_of("aggregate", DagsterRunStatus.STARTED, instance)
    storage.set_concurrency_slots("spark", 1)
    assert storage.claim_concurrency_slot("spark", run.run_id, "aggregate_trades").is_claimed
    killed_lease(home, run)
    assert asked(end_dead_runs, instance) == "0 runs live or wait."
    assert storage.claim_concurrency_slot("spark", "another run", "aggregate_trades").is_claimed


def test_a_run_is_looked_for_in_the_home_it_works_in(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(runs, "START_S", -60)
    run = run_of("ingest", DagsterRunStatus.STARTED, instance, tags={HOME_TAG: str(elsewhere)})
    with lease(elsewhere, run.run_id, "part"):
        assert live_runs(instance, ["ingest"], tmp_path) == [instance.get_run_by_id(run.run_id)]
    killed_lease(tmp_path, run)  # is not looked at
    assert live_runs(instance, ["ingest"], tmp_path) == []


def test_a_run_on_another_machine_is_alive_until_it_falls_silent(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("ingest", DagsterRunStatus.STARTED, instance, tags={HOME_TAG: str(tmp_path / "not-here")})
    instance.report_engine_event("it streams", run)
    monkeypatch.setattr(runs, "START_S", -60)
    assert [each.run_id for each in live_runs(instance, ["ingest"], tmp_path)] == [run.run_id]
    monkeypatch.setattr(runs, "SILENT_S", -60)
    assert live_runs(instance, ["ingest"], tmp_path) == []


@every_keeper
def test_none_is_requested_while_a_run_that_is_over_still_drains(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance, home: Path
) -> None:
    run = run_of(sensor.job_name, DagsterRunStatus.STARTED, instance)
    instance.report_run_failed(run)
    with lease(home, run.run_id, "part"):
        assert "still drains" in (asked(sensor, instance) or "")
    assert asked(sensor, instance) is None


def test_a_process_that_outlives_its_run_for_too_long_is_ended(
    instance: dg.DagsterInstance, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("ingest", DagsterRunStatus.STARTED, instance)
    instance.report_run_failed(run)
    with holder(home, run.run_id) as process:
        assert "still drains" in (asked(KEEPERS[0], instance) or "")
        assert process.poll() is None
        monkeypatch.setattr(runs, "OVERDUE_S", -60)
        assert "still drains" in (asked(KEEPERS[0], instance) or "")
        assert process.wait(WAIT_S) < 0
    assert asked(KEEPERS[0], instance) is None


@pytest.mark.parametrize(("status", "relaunched"), [("SUCCESS", True), ("FAILURE", True), ("CANCELED", False)])
def test_only_a_termination_by_hand_is_the_last_word(
    status: str, relaunched: bool, instance: dg.DagsterInstance
) -> None:
    run_of("ingest", DagsterRunStatus(status), instance)
    assert (asked(KEEPERS[0], instance) is None) == relaunched


@every_keeper
def test_a_user_who_terminated_the_run_is_obeyed_until_the_sensor_is_told_to_go_on(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance
) -> None:
    run = run_of(sensor.job_name, DagsterRunStatus.STARTED, instance)
    instance.report_run_canceling(run)
    instance.report_run_canceled(run)
    reason = asked(sensor, instance, since_s=time.time() - 60)
    assert reason is not None
    assert reason.startswith(f"Paused: run {run.run_id} was terminated by hand")
    assert "turn this sensor off and on again" in reason
    assert asked(sensor, instance, since_s=time.time() + 1) is None


def test_the_run_that_ended_last_counts_not_the_one_that_was_launched_last(instance: dg.DagsterInstance) -> None:
    first, second = (run_of("ingest", DagsterRunStatus.STARTED, instance) for _ in range(2))
    instance.report_run_failed(second)
    instance.report_run_canceling(first)
    instance.report_run_canceled(first)
    assert f"run {first.run_id} was terminated by hand" in (asked(KEEPERS[0], instance) or "")


def test_a_run_that_a_signal_ended_was_not_terminated_by_hand(instance: dg.DagsterInstance) -> None:
    run = run_of("ingest", DagsterRunStatus.STARTED, instance)
    instance.report_run_canceling(run, BY_SIGNAL)
    instance.report_run_canceled(run)
    assert asked(KEEPERS[0], instance) is None


@every_keeper
def test_runs_that_fail_at_once_again_and_again_are_relaunched_later_and_the_tick_says_why(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance
) -> None:
    assert sensor.job_name is not None
    failed_at_once(sensor.job_name, instance, 1)
    assert asked(sensor, instance) is None
    failed_at_once(sensor.job_name, instance, 3)
    reason = asked(sensor, instance)
    assert reason is not None
    assert reason.startswith("The last 4 runs failed at once; the next one is launched at ")
    assert "The last one said: " in reason


@every_keeper
def test_a_timed_run_on_the_same_topic_is_enough(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
    run = run_of("kafka_mode", DagsterRunStatus.STARTED, instance)
    assert run.run_id in (asked(sensor, instance) or "")


@every_keeper
def test_one_on_another_topic_is_not(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
    config = {"resources": {"kafka": {"config": {"topic": "another"}}}}
    run_of("kafka_mode", DagsterRunStatus.STARTED, instance, run_config=config)
    assert asked(sensor, instance) is None


@every_keeper
def test_the_other_half_does_not_count(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
    for job in {"ingest", "aggregate", "memory_mode"} - {sensor.job_name}:
        run_of(job, DagsterRunStatus.STARTED, instance)
    assert asked(sensor, instance) is None


@every_keeper
def test_a_live_run_is_seen_behind_newer_ones_that_are_over(
    sensor: dg.SensorDefinition, instance: dg.DagsterInstance
) -> None:
    run = run_of(sensor.job_name, DagsterRunStatus.STARTED, instance)
    run_of(sensor.job_name, DagsterRunStatus.FAILURE, instance)
    assert run.run_id in (asked(sensor, instance) or "")


@every_keeper
def test_a_request_can_be_made_again_and_again(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
    requests: list[Any] = [sensor(dg.build_sensor_context(instance=instance)) for _ in range(2)]
    assert [request.run_key for request in requests] == [None, None]


def test_a_dead_run_is_replaced_within_a_minute() -> None:
    assert [sensor.minimum_interval_seconds for sensor in (*KEEPERS, end_dead_runs)] == [EVERY_S] * 3
    assert EVERY_S + runs.START_S < 60


def test_the_sensors_keep_the_jobs_that_have_no_end() -> None:
    assert [sensor.job_name for sensor in KEEPERS] == ["ingest", "aggregate"]
    assert KEEPERS[0].job is ingest
