"""Laws of the asset of hours and of its sensor: each hour is recorded as it is done, and none is launched twice."""

import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.defs import repair as defs
from cryptoflow.defs.checks import closed_hour_matches_topic
from cryptoflow.defs.repair import (
    EVERY_S,
    MOST_HOURS,
    REPAIR,
    Tries,
    candle_hours,
    first_stretch,
    hour_of,
    partition_of,
    ready_to_repair,
    reason_to_wait,
    repair_marked_hours,
)
from cryptoflow.defs.resources import CassandraResource, KafkaResource, SparkResource
from cryptoflow.errors import CassandraError
from cryptoflow.local.processes import free_port
from cryptoflow.model.candle import candles_of
from cryptoflow.pipeline.correct import Corrector
from cryptoflow.pipeline.marking import AUDIT
from cryptoflow.pipeline.repair_plan import Plan
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.lease import lease as run_lease
from cryptoflow.runtime.relaunch import MAX_DELAY_S, PastRun
from cryptoflow.tables import lease
from cryptoflow.tables.schema import MARKS, MarkRow
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.repairing import BTC, HOUR_S, ONE_HOUR, T0, World, moment, some_trades
from cryptoflow_tests.running import Workplace

HOUR = moment(T0)
NEXT = HOUR + ONE_HOUR

hours = st.lists(st.integers(0, 200), unique=True, min_size=1).map(
    lambda numbers: [HOUR + number * ONE_HOUR for number in sorted(numbers)]
)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def filled(world: World) -> None:
    """Two hours without a row, of which the first is finished, and half of the second."""
    begins = world.log().ends()
    world.send(some_trades(T0, T0 + 2 * HOUR_S, 60))
    world.commit([], HOUR, begins=begins)
    world.commit([], NEXT, begins=begins)
    world.commit([], NEXT + timedelta(minutes=30))


def marked(world: World, *marked_hours: Any) -> None:
    """Mark hours, each to its end."""
    topic_id = world.log().topic_id
    rows = [
        MarkRow(hour, *BTC, topic_id, 0, 5, 6, world.kafka.topic, 2, hour + ONE_HOUR, "late") for hour in marked_hours
    ]
    TableWriter(world.session, world.cassandra).put(MARKS, rows, time.time_ns() // 1000)


def resources_of(world: World) -> dict[str, Any]:
    return {
        "kafka": KafkaResource(bootstrap_servers=world.kafka.bootstrap_servers, topic=world.kafka.topic),
        "cassandra": CassandraResource(port=world.cassandra.port, keyspace=world.cassandra.keyspace),
        "spark": SparkResource(),
    }


def materialized(world: World, instance: dg.DagsterInstance, first: Any, last: Any) -> dg.ExecuteInProcessResult:
    resources = resources_of(world)
    tags = {ASSET_PARTITION_RANGE_START_TAG: partition_of(first), ASSET_PARTITION_RANGE_END_TAG: partition_of(last)}
    return dg.materialize([candle_hours], instance=instance, resources=resources, tags=tags, raise_on_error=False)


def recorded(instance: dg.DagsterInstance) -> dict[Any, dict[str, Any]]:
    """What is recorded, by hour."""
    records = instance.fetch_materializations(candle_hours.key, limit=100).records
    events: list[Any] = [record.asset_materialization for record in records]
    return {hour_of(event.partition): {name: entry.value for name, entry in event.metadata.items()} for event in events}


def failure(result: dg.ExecuteInProcessResult) -> str:
    [data] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert data.user_failure_data is not None
    return str(data.user_failure_data.description)


def asked(instance: dg.DagsterInstance, cursor: str | None = None, since_s: float | None = None) -> Any:
    """The sensor's answer."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor, last_sensor_start_time=since_s)
    return repair_marked_hours(context)


def skipped(*arguments: Any, **others: Any) -> str:
    answer = asked(*arguments, **others)
    assert isinstance(answer, dg.SkipReason)
    return str(answer.skip_message)


def over(instance: dg.DagsterInstance, status: str = "FAILURE") -> dg.DagsterRun:
    """A run of the job that has just ended."""
    run = instance.add_run(dg.DagsterRun(REPAIR, uuid.uuid4().hex, status=DagsterRunStatus.STARTED))
    if status == "CANCELED":
        instance.report_run_canceling(run)
        instance.report_run_canceled(run)
    else:
        instance.report_run_failed(run)
    return run


def test_each_hour_is_recorded_with_what_was_done(world: World, instance: dg.DagsterInstance) -> None:
    filled(world)
    result = materialized(world, instance, HOUR, NEXT)
    assert result.success
    told = recorded(instance)
    assert set(told) == {HOUR, NEXT}
    numbers = ("trades_in_log", "trades_in_candles", "late_repaired", "duplicates", "candles_written", "repaired")
    assert [told[HOUR][name] for name in numbers] == [120, 120, 0, 0, 120, 2]
    assert [told[NEXT][name] for name in numbers] == [60, 60, 0, 0, 60, 2]
    assert [record.data["pair"] for record in told[HOUR]["pairs"].records] == ["BTC-USD", "ETH-EUR"]
    world.check([trade for trade in world.sent if trade.time_s < T0 + 1.5 * HOUR_S])
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert int(run.tags["dagster/max_runtime"]) > 0


def test_hours_that_can_not_be_repaired_yet_fail_the_run_and_are_not_recorded(
    world: World, instance: dg.DagsterInstance
) -> None:
    filled(world)
    result = materialized(world, instance, NEXT, NEXT + 2 * ONE_HOUR)
    assert not result.success
    assert set(recorded(instance)) == {NEXT}
    said = failure(result)
    assert said.startswith(f"2 hours can't be repaired yet ({NEXT + ONE_HOUR:%Y-%m-%d %H:%M}, ")
    assert f"finished until {NEXT + timedelta(minutes=30):%Y-%m-%d %H:%M} UTC only" in said


def test_without_any_aggregation_nothing_is_recorded(world: World, instance: dg.DagsterInstance) -> None:
    result = materialized(world, instance, HOUR, HOUR)
    assert "run `aggregate` first" in failure(result)
    assert recorded(instance) == {}


def test_hours_that_are_done_stay_recorded_when_the_run_dies(
    world: World, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(world)
    correct = Corrector.correct

    def once(self: Corrector, plan: Plan, *arguments: Any) -> Any:
        if plan.hour != HOUR:
            raise CassandraError("Cassandra is gone.")
        return correct(self, plan, *arguments)

    monkeypatch.setattr(Corrector, "correct", once)
    result = materialized(world, instance, HOUR, NEXT)
    assert failure(result) == "Cassandra is gone."
    assert set(recorded(instance)) == {HOUR}


def test_the_sensor_launches_one_run_for_hours_that_follow_upon_each_other(
    world: World, instance: dg.DagsterInstance
) -> None:
    assert skipped(instance) == "No hour is marked."
    marked(world, HOUR, NEXT, HOUR + 3 * ONE_HOUR, HOUR + 9 * ONE_HOUR)
    assert skipped(instance).startswith("4 hours are marked, and wait until ")
    world.commit([], HOUR + 5 * ONE_HOUR)
    [request] = asked(instance).run_requests
    assert request.tags[ASSET_PARTITION_RANGE_START_TAG] == partition_of(HOUR)
    assert request.tags[ASSET_PARTITION_RANGE_END_TAG] == partition_of(NEXT)
    assert asked(instance).cursor == f"{partition_of(HOUR)} 1"


def test_hours_before_the_first_partition_are_no_runs(world: World, instance: dg.DagsterInstance) -> None:
    old = hour_of("2020-01-01-00:00") - ONE_HOUR
    marked(world, old)
    world.commit([], NEXT)
    assert skipped(instance).startswith("1 hours are marked that are older than the first partition")
    marked(world, HOUR)
    assert ready_to_repair() == [HOUR]


def test_a_single_hour_is_a_run_of_its_partition(world: World, instance: dg.DagsterInstance) -> None:
    marked(world, HOUR)
    world.commit([], NEXT)
    [request] = asked(instance).run_requests
    assert request.partition_key == partition_of(HOUR)


def test_hours_that_are_marked_but_not_finished_do_not_hold_up_those_that_are(world: World) -> None:
    marked(world, HOUR, NEXT)
    world.commit([], NEXT)
    assert ready_to_repair() == [HOUR]


def test_none_is_launched_beside_a_repair(world: World, instance: dg.DagsterInstance) -> None:
    marked(world, HOUR)
    world.commit([], NEXT)
    run = instance.add_run(dg.DagsterRun(REPAIR, uuid.uuid4().hex, status=DagsterRunStatus.STARTED))
    with run_lease(world.home, run.run_id, "part"):
        assert skipped(instance) == f"Run {run.run_id} of repair is STARTED."
        instance.report_run_failed(run)
        assert "still works" in skipped(instance)
    holder = Holder.current("elsewhere", world.home)
    with lease.held(world.session, lease.REPAIR, holder, "repairs"):
        assert skipped(instance, since_s=time.time() + 1).startswith("A repair is at work, ")
    assert asked(instance, since_s=time.time() + 1).run_requests


def test_an_hour_that_stays_marked_is_tried_less_and_less_often(world: World, instance: dg.DagsterInstance) -> None:
    marked(world, HOUR)
    world.commit([], NEXT)
    over(instance)
    first = asked(instance)
    assert first.cursor == f"{partition_of(HOUR)} 1"
    assert asked(instance, first.cursor).cursor == f"{partition_of(HOUR)} 2"
    assert "after 4 runs in a row" in skipped(instance, f"{partition_of(HOUR)} 4")
    assert asked(instance, f"{partition_of(NEXT)} 4").run_requests
    assert asked(instance, f"{partition_of(HOUR)} 4", since_s=time.time() + 1).run_requests


def test_after_a_termination_by_hand_it_waits_a_while(world: World, instance: dg.DagsterInstance) -> None:
    marked(world, HOUR)
    world.commit([], NEXT)
    run = over(instance, "CANCELED")
    assert skipped(instance).startswith(f"Run {run.run_id} was terminated by hand")


def test_without_cassandra_the_sensor_says_so_at_once(
    place: Workplace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", place.env["CRYPTOFLOW_HOME"])
    monkeypatch.setenv("CASSANDRA_PORT", str(free_port()))
    began_s = time.monotonic()
    assert "does not answer" in skipped(instance)
    assert time.monotonic() - began_s < 12


@given(hours)
def test_a_stretch_is_the_longest_one_at_the_beginning_but_not_too_long(given: Sequence[Any]) -> None:
    found = first_stretch(given)
    assert found == list(given[: len(found)])
    assert all(later - earlier == ONE_HOUR for earlier, later in pairwise(found))
    assert len(found) == MOST_HOURS or found[-1] + ONE_HOUR not in given


@given(st.text(st.characters(exclude_characters=" ")), st.integers(0, 10**9))
def test_the_cursor_is_read_as_it_was_written(hour: str, runs: int) -> None:
    tries = Tries(hour, runs)
    assert Tries.read(tries.text) == tries
    assert tries.of(hour) == runs


@pytest.mark.parametrize("cursor", [None, "", "garbage", "a b c"])
def test_a_cursor_that_can_not_be_read_is_a_beginning(cursor: str | None) -> None:
    assert Tries.read(cursor) == Tries()


@given(st.integers(0, 2000), st.floats(0, 10_000))
def test_it_never_waits_for_longer_than_the_longest_delay(tries: int, now_s: float) -> None:
    past = [PastRun("r", 0.0, 1000.0, failed=True)]
    assert reason_to_wait(past, tries, 0.0, 1000.0 + MAX_DELAY_S) is None
    assert reason_to_wait(past, tries, 1000.0, now_s) is None
    assert reason_to_wait([], tries, 0.0, now_s) is None


def test_a_partition_is_an_hour_of_utc() -> None:
    assert hour_of(partition_of(HOUR)) == HOUR
    assert defs.HOURS.has_partition_key(partition_of(moment(time.time() // HOUR_S * HOUR_S)))
    assert repair_marked_hours.minimum_interval_seconds == EVERY_S


def audited(world: World) -> list[bool]:
    """Whether each table passes the check of its newest finished hour."""
    answer: Any = closed_hour_matches_topic(**resources_of(world))
    return [result.passed for result in answer]


def test_an_hour_that_fails_its_audit_is_marked_and_a_repair_mends_it(
    world: World, instance: dg.DagsterInstance
) -> None:
    filled(world)
    materialized(world, instance, HOUR, HOUR)
    assert audited(world) == [True, True]
    lost = next(iter(candles_of(world.sent[:1], 60).values()))
    world.delete_candle(lost)
    assert audited(world) == [False, True]
    [mark] = world.marks()
    assert (mark.hour, mark[1:4], mark.reason, mark.trades) == (HOUR, BTC, AUDIT, 0)
    assert audited(world) == [False, True]  # the mark explains nothing
    assert ready_to_repair() == [HOUR]
    materialized(world, instance, HOUR, HOUR)
    assert (audited(world), world.marks()) == ([True, True], [])
