"""A backfill over hours in a real `dagster dev`: dropped tables are rebuilt from Kafka, each hour is recorded."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from cryptoflow.defs.repair import CANDLE_HOURS, MAX_RUNTIME_S, partition_of
from cryptoflow.settings import CassandraSettings
from cryptoflow_tests.dagster_dev import DagsterDev, awaited
from cryptoflow_tests.repairing import HOUR_S, ONE_HOUR, T0, World, moment, some_trades, tables, world_in
from cryptoflow_tests.running import Workplace

HOURS = 3
DONE_S = 240.0
ONGOING = ("REQUESTED", "FAILING", "CANCELING", "COMPLETING")

LAUNCH = """mutation ($given: LaunchBackfillParams!) { answer: launchPartitionBackfill(backfillParams: $given) {
    __typename ... on Error { message } ... on LaunchBackfillSuccess { backfillId } } }"""
STATE = """query ($id: String!) { answer: partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status assetBackfillData { assetBackfillStatuses {
        ... on AssetPartitionsStatusCounts { numPartitionsMaterialized numPartitionsFailed } } } } } }"""


@pytest.fixture
def world(place: Workplace, cassandra_port: int) -> Iterator[World]:
    """Hours in Kafka, finished, of which the tables have nothing any more."""
    place.env["CASSANDRA_KEYSPACE"] = f"test_{uuid.uuid4().hex}"
    settings = CassandraSettings(port=cassandra_port, keyspace=place.env["CASSANDRA_KEYSPACE"])
    with tables(settings) as session, world_in(place, session) as made:
        begins = made.log().ends()
        made.send(some_trades(T0, T0 + HOURS * HOUR_S, 60))
        made.commit([], moment(T0), begins=begins)
        for number in range(1, HOURS + 1):
            made.commit(made.sent, moment(T0) + number * ONE_HOUR, begins=begins)
        for table in ("candles", "trademsgs1minutewindow"):
            session.execute(f"DROP TABLE {table}")
        yield made


def launched(dagster: DagsterDev, partitions: list[str]) -> Any:
    """What became of a backfill, when it is over."""
    given = {"assetSelection": [{"path": [CANDLE_HOURS]}], "partitionNames": partitions}
    backfill = dagster.graphql(LAUNCH, given=given)["answer"]["backfillId"]

    def over() -> Any:
        state = dagster.graphql(STATE, id=backfill)["answer"]
        return state if state["status"] not in ONGOING else None

    return awaited(over, "the end of the backfill", DONE_S)


def test_dropped_tables_are_rebuilt_in_one_run_and_only_an_hour_that_is_not_finished_fails(world: World) -> None:
    partitions = [partition_of(moment(T0) + number * ONE_HOUR) for number in range(HOURS + 1)]
    with DagsterDev(world.place) as dagster:
        state = launched(dagster, partitions)
        [counts] = state["assetBackfillData"]["assetBackfillStatuses"]
        assert counts == {"numPartitionsMaterialized": HOURS, "numPartitionsFailed": 1}
        [run] = dagster.runs()
        assert "1 hours can't be repaired yet" in dagster.story(run.run_id)
        assert run.tags["dagster/max_runtime"] == MAX_RUNTIME_S
    world.check()
