"""Laws of a streaming op: how it ends, what it leaves, and how its errors look in Dagster."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from cryptoflow.defs import streaming as streaming_module
from cryptoflow.defs.streaming import GRACE_S, MAX_RUNTIME_TAG, StreamingConfig, process_metrics, sentence, streaming
from cryptoflow.errors import UnauthorizedError
from cryptoflow.feeds.events import Connected, Disconnected
from cryptoflow.pipeline.part import Part, live
from cryptoflow.runtime import watchdog
from cryptoflow.runtime.lease import killed, working_runs
from cryptoflow.runtime.metrics import AggregateMetrics, FeedMetrics, IngestMetrics, PartMetrics
from cryptoflow.runtime.status import PartStatus, read_statuses

WAIT_S = 30


def metrics() -> PartMetrics:
    return AggregateMetrics(input_rows=12_345, backlog_left_s=0.12345)


class Idle(Part[PartMetrics]):
    """A part that has nothing to do."""

    def start(self) -> None: ...
    def check(self) -> None: ...
    def drain(self, overdue: Callable[[], bool]) -> None: ...
    def stop(self) -> None: ...
    def metrics(self) -> PartMetrics:
        return metrics()


class Draining(Idle):
    """One that has taken more than it can finish at once."""

    def over(self) -> bool:
        return True

    def drain(self, overdue: Callable[[], bool]) -> None:
        until_s = time.monotonic() + 0.1
        while time.monotonic() < until_s:
            assert not overdue()


@dg.op
def stream(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Streams for its time."""
    with streaming(context, config) as (at_work, run):
        at_work.announce("The trades are made up.")
        at_work.finish(live(Idle(), replace(run, report_every_s=0.01)))


@dg.op
def refused(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Is refused."""
    with streaming(context, config):
        raise UnauthorizedError("The feed refused the API key; get another.")


@dg.op
def broken(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Has a fault of its own."""
    with streaming(context, config):
        raise ZeroDivisionError


@dg.op
def signalled(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Gets a signal while it streams."""
    with streaming(context, config) as (at_work, run):
        os.kill(os.getpid(), signal.SIGTERM)
        at_work.finish(live(Idle(), run))
        assert run.stop.is_set()


@dg.op
def eventful(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Tells of its feed."""
    with streaming(context, config) as (at_work, _):
        at_work.on_event(Connected("feed:443"))
        at_work.on_event(Disconnected("the connection broke", 5.0))


@dg.op
def unwatched(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Has a folder where its status is to be written."""
    with streaming(context, config) as (_, run):
        (run.home / "runs" / context.run_id / "unwatched.draft").mkdir()
        live(Idle(), replace(run, report_every_s=0.01))


@dg.op
def leased(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Sees itself at work."""
    with streaming(context, config) as (_, run):
        assert working_runs(run.home) == [context.run_id]


@dg.op
def hanging(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Makes no progress any more once it has told its figures."""
    with streaming(context, config) as (at_work, _):
        at_work.report(metrics())
        ENDED.wait(WAIT_S)


@dg.op
def draining(context: dg.OpExecutionContext, config: StreamingConfig) -> None:
    """Drains."""
    with streaming(context, config) as (_, run):
        live(Draining(), replace(run, report_every_s=0.01))


ENDED = threading.Event()
"""Set where a process would have been ended by force."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog that waits for less than half a second, and lets the process live."""
    ENDED.clear()
    for name in ("START_S", "STALLED_S"):
        monkeypatch.setattr(watchdog, name, 0.3)
    monkeypatch.setattr(watchdog, "LOOK_S", 0.02)
    monkeypatch.setattr(watchdog, "end_now", lambda said: ENDED.set())


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(
    op: dg.OpDefinition | dg.PendingNodeInvocation[Any], timeout_s: float, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    """A job of the op, to its end, whatever that is."""

    @dg.job
    def tested() -> None:
        op()

    config: dict[str, Any] = {"ops": {tested.nodes[0].name: {"config": {"timeout_s": timeout_s}}}}
    return tested.execute_in_process(run_config=config, instance=instance, raise_on_error=False)


def failure_of(result: dg.ExecuteInProcessResult) -> Any:
    """What Dagster shows of the step that failed."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data


def messages(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance, level: int) -> list[str]:
    return [
        entry.user_message
        for entry in instance.all_logs(result.run_id)
        if entry.dagster_event is None and entry.level == level
    ]


def test_a_timed_run_ends_as_a_success(instance: dg.DagsterInstance) -> None:
    result = run(stream, 0.3, instance)
    assert result.success


def test_its_figures_are_in_the_outputs_metadata_and_in_the_log(instance: dg.DagsterInstance) -> None:
    result = run(stream, 0.3, instance)
    [output] = [event for event in result.all_events if event.is_successful_output]
    shown = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert shown == metrics().figures() | {"backlog_left_s": 0.123}
    assert sentence(metrics().figures()) in messages(result, instance, 20)


def test_its_status_is_left_for_whoever_watches(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    result = run(stream, 0.3, instance)
    assert read_statuses(tmp_path, result.run_id) == {
        "stream": PartStatus(metrics(), "The trades are made up."),
    }


def test_a_status_that_can_not_be_written_is_warned_of_once_and_ends_nothing(
    instance: dg.DagsterInstance,
) -> None:
    result = run(unwatched, 0.3, instance)
    assert result.success
    [warning] = messages(result, instance, 30)
    assert "can't be written" in warning


def test_a_home_that_can_not_be_written_is_told(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path / "file"))
    shown = failure_of(run(stream, 0.3, instance))
    assert "can't be written (Not a directory): make room there" in shown.user_failure_data.description


def test_the_lease_is_held_for_the_time_of_streaming(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    result = run(leased, 0.3, instance)
    assert result.success
    assert working_runs(tmp_path) == []
    assert not killed(tmp_path, result.run_id)


@pytest.mark.usefixtures("impatient")
def test_an_op_that_makes_no_progress_is_ended_by_force(instance: dg.DagsterInstance) -> None:
    run(hanging, 0, instance)
    assert ENDED.is_set()


@pytest.mark.parametrize("op", [stream, draining], ids=["streaming", "draining"])
def test_to_stream_and_to_drain_is_progress(
    op: dg.OpDefinition, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[None] = []

    @contextmanager
    def watched(promise: Callable[[float], None]) -> Iterator[Callable[[], None]]:
        yield lambda: beats.append(None)

    monkeypatch.setattr(streaming_module, "watched", watched)
    assert run(op, 0.6, instance).success
    assert beats


def test_a_timed_run_is_reaped_a_while_after_its_timeout(instance: dg.DagsterInstance) -> None:
    found = instance.get_run_by_id(run(stream, 0.3, instance).run_id)
    assert found is not None
    assert int(found.tags[MAX_RUNTIME_TAG]) == GRACE_S


def test_a_run_without_an_end_is_never_reaped(instance: dg.DagsterInstance) -> None:
    found = instance.get_run_by_id(run(signalled, 0, instance).run_id)
    assert found is not None
    assert MAX_RUNTIME_TAG not in found.tags


def test_an_error_of_ours_is_its_sentence(instance: dg.DagsterInstance) -> None:
    result = run(refused, WAIT_S, instance)
    assert not result.success
    assert failure_of(result).user_failure_data.description == "The feed refused the API key; get another."


def test_an_error_of_ours_is_not_retried_whatever_the_policy(instance: dg.DagsterInstance) -> None:
    policy = dg.RetryPolicy(max_retries=1)
    retried = run(broken.with_retry_policy(policy), WAIT_S, instance)
    assert [event.step_key for event in retried.all_events if event.is_step_up_for_retry] == ["broken"]
    result = run(refused.with_retry_policy(policy), WAIT_S, instance)
    assert [event for event in result.all_events if event.is_step_up_for_retry] == []


def test_a_fault_of_the_program_is_not_taken_for_an_error_of_ours(instance: dg.DagsterInstance) -> None:
    shown = failure_of(run(broken, WAIT_S, instance))
    assert shown.user_failure_data is None
    assert "ZeroDivisionError" in str(shown.error)


@pytest.mark.parametrize("timeout_s", [-1.0, -0.5, 1e300])
def test_what_is_no_timeout_is_told(timeout_s: float, instance: dg.DagsterInstance) -> None:
    shown = failure_of(run(stream, timeout_s, instance))
    assert shown.user_failure_data.description == (
        f"timeout_s can't be {timeout_s}: give a positive number of seconds, or 0 for no end."
    )


def test_after_a_signal_it_ends_cleanly_and_the_run_is_canceled(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = run(signalled, 0, instance)
    found = instance.get_run_by_id(result.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.CANCELED
    assert read_statuses(tmp_path, result.run_id)["signalled"].metrics == metrics()
    assert "Ended cleanly on request." in messages(result, instance, 20)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_step_whose_runs_process_was_killed_does_not_say_that_the_run_was_canceled(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = SimpleNamespace(join=lambda: None, is_alive=lambda: False)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: gone)
    result = run(stream, 0, instance)
    assert "Ended cleanly on request." in messages(result, instance, 20)
    assert not instance.all_logs(result.run_id, of_type=dg.DagsterEventType.RUN_CANCELING)


def test_what_goes_wrong_with_the_socket_is_a_warning(instance: dg.DagsterInstance) -> None:
    result = run(eventful, WAIT_S, instance)
    assert any("feed:443" in text for text in messages(result, instance, 20))
    [warning] = messages(result, instance, 30)
    assert "the connection broke" in warning


def test_figures_are_one_line() -> None:
    assert sentence({"trades": 1_234_567, "lag_s": 0.25, "late": 0}) == "trades 1,234,567, lag_s 0.25, late 0"


def test_the_rate_is_of_the_trades_since_the_last_look() -> None:
    assert process_metrics(IngestMetrics(feed=FeedMetrics(trades=300)), 100, 2.0, 0.0).trades_per_s == 100
    assert process_metrics(IngestMetrics(), 0, 0.0, 0.0).trades_per_s is None


def test_the_watermark_is_behind_the_clock_where_there_is_one() -> None:
    assert process_metrics(AggregateMetrics(watermark_s=1000.0), 0, 1.0, 1009.0).watermark_delay_s == 9
    for each in (AggregateMetrics(), AggregateMetrics(watermark_s=0.0), IngestMetrics()):
        assert process_metrics(each, 0, 1.0, 1009.0).watermark_delay_s is None


def test_the_memory_is_that_of_this_process_at_least() -> None:
    told = process_metrics(IngestMetrics(), 0, 1.0, 0.0)
    assert (told.memory_mb or 0) > 10
