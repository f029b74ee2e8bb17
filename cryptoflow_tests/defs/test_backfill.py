"""A backfill over hours in a real `dagster dev`: dropped tables are rebuilt from Kafka, each hour is recorded."""

from cryptoflow.defs.repair import CANDLE_HOURS, MAX_RUNTIME_S, partition_of
from cryptoflow_tests.dagster_dev import OVER, DagsterDev, Run, awaited
from cryptoflow_tests.repairing import ONE_HOUR, T0, lost_tables, moment
from cryptoflow_tests.running import Workplace

HOURS = 3
DONE_S = 240.0

LAUNCH = """mutation ($given: LaunchBackfillParams!) { answer: launchPartitionBackfill(backfillParams: $given) {
    __typename ... on Error { message } ... on LaunchBackfillSuccess { backfillId } } }"""
PARTITIONS = """query ($asset: AssetKeyInput!) { answer: assetNodeOrError(assetKey: $asset) {
    ... on AssetNode { partitionStats { numMaterialized numFailed numMaterializing } } } }"""


def launched(dagster: DagsterDev, partitions: list[str]) -> Run:
    """The run of a backfill, when it is over: Dagster itself looks for its end every 30 s only."""
    given = {"assetSelection": [{"path": [CANDLE_HOURS]}], "partitionNames": partitions}
    assert dagster.graphql(LAUNCH, given=given)["answer"]["backfillId"]

    def over() -> list[Run]:
        return [run for run in dagster.runs() if run.status in OVER]

    [run] = awaited(over, "the end of the backfill's run", DONE_S)
    return run


def test_dropped_tables_are_rebuilt_in_one_run_and_only_an_hour_that_is_not_finished_fails(place: Workplace) -> None:
    partitions = [partition_of(moment(T0) + number * ONE_HOUR) for number in range(HOURS + 1)]
    with lost_tables(place, HOURS) as world, DagsterDev(place) as dagster:
        run = launched(dagster, partitions)
        counts = dagster.graphql(PARTITIONS, asset={"path": [CANDLE_HOURS]})["answer"]["partitionStats"]
        assert counts == {"numMaterialized": HOURS, "numFailed": 1, "numMaterializing": 0}
        assert "1 hours can't be repaired yet" in dagster.story(run.run_id)
        assert run.tags["dagster/max_runtime"] == MAX_RUNTIME_S
        world.check()
