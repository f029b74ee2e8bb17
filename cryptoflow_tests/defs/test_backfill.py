"""A backfill over hours in a real `dagster dev`: dropped tables are rebuilt from Kafka, each hour is recorded."""

from typing import Any

from cryptoflow.defs.repair import CANDLE_HOURS, MAX_RUNTIME_S, partition_of
from cryptoflow_tests.dagster_dev import DagsterDev, awaited
from cryptoflow_tests.repairing import ONE_HOUR, T0, lost_tables, moment
from cryptoflow_tests.running import Workplace

HOURS = 3
DONE_S = 240.0
ONGOING = ("REQUESTED", "FAILING", "CANCELING", "COMPLETING")

LAUNCH = """mutation ($given: LaunchBackfillParams!) { answer: launchPartitionBackfill(backfillParams: $given) {
    __typename ... on Error { message } ... on LaunchBackfillSuccess { backfillId } } }"""
STATE = """query ($id: String!) { answer: partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status assetBackfillData { assetBackfillStatuses {
        ... on AssetPartitionsStatusCounts { numPartitionsMaterialized numPartitionsFailed } } } } } }"""


def launched(dagster: DagsterDev, partitions: list[str]) -> Any:
    """What became of a backfill, when it is over."""
    given = {"assetSelection": [{"path": [CANDLE_HOURS]}], "partitionNames": partitions}
    backfill = dagster.graphql(LAUNCH, given=given)["answer"]["backfillId"]

    def over() -> Any:
        state = dagster.graphql(STATE, id=backfill)["answer"]
        return state if state["status"] not in ONGOING else None

    return awaited(over, "the end of the backfill", DONE_S)


def test_dropped_tables_are_rebuilt_in_one_run_and_only_an_hour_that_is_not_finished_fails(place: Workplace) -> None:
    partitions = [partition_of(moment(T0) + number * ONE_HOUR) for number in range(HOURS + 1)]
    with lost_tables(place, HOURS) as world, DagsterDev(place) as dagster:
        state = launched(dagster, partitions)
        [counts] = state["assetBackfillData"]["assetBackfillStatuses"]
        assert counts == {"numPartitionsMaterialized": HOURS, "numPartitionsFailed": 1}
        [run] = dagster.runs()
        assert "1 hours can't be repaired yet" in dagster.story(run.run_id)
        assert run.tags["dagster/max_runtime"] == MAX_RUNTIME_S
        world.check()
