"""A month of a pair's past by a Dagster backfill that is killed: all of it in the topic, and hardly a page asked twice.

The venue is a simulator of Coinbase with few trades, asked at the pace that is kept with the venue itself.
"""

import random
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from cryptoflow.defs.assets import VENUE_HISTORY
from cryptoflow.model.trade import read_trade
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.dagster_dev import DagsterDev, awaited, kill
from cryptoflow_tests.defs.test_backfill import LAUNCH
from cryptoflow_tests.exactness import kafka as kafka_of
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.topics import read_topic

ONGOING = ("REQUESTED", "FAILING", "CANCELING", "COMPLETING")

STATE = """query ($id: String!) { answer: partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status assetBackfillData { assetBackfillStatuses {
        ... on AssetPartitionsStatusCounts { numPartitionsMaterialized numPartitionsFailed } } } } } }"""

DAYS = 30
FIRST = date(2026, 10, 1)
END_S = datetime(2026, 10, 31, 6, tzinfo=UTC).timestamp()
SUB = "0~Coinbase~BTC~USD"

KILLS = 2
"""More of them take longer, and tell no more."""

RATE = 0.03
"""Trades/s: some three pages a day."""

DONE_S = 220.0

SEEKING = 8
"""Requests that it takes at most to find the end of a day."""


def history(simulator: Simulator) -> list[str]:
    """The ids of the month's trades."""
    begin = datetime.combine(FIRST, datetime.min.time(), UTC)
    return [trade.id for trade in simulator.trades(SUB, begin.timestamp(), (begin + timedelta(days=DAYS)).timestamp())]


def test_a_month_is_fetched_to_the_last_trade_whatever_is_killed(place: Workplace) -> None:
    config = SimulatorConfig(
        venue="coinbase", pairs=("BTC-USD",), rate=1, start_time_s=END_S, history_s=31 * 86_400, history_rate=RATE,
        max_trades=1, faults=Faults(rest_too_many=0.01, retry_after_s=1),
    )  # fmt: skip
    with Simulator(config) as simulator:
        place.env |= {"CRYPTOFLOW_SOURCE": "coinbase", "COINBASE_REST_URL": simulator.rest_url}
        place.env |= {"CRYPTOFLOW_SUBSCRIPTIONS": SUB}
        with DagsterDev(place) as dagster:
            state = backfilled(dagster, simulator)
        [counts] = state["assetBackfillData"]["assetBackfillStatuses"]
        assert counts == {"numPartitionsMaterialized": DAYS, "numPartitionsFailed": 0}
        kafka = kafka_of(place)
        found = Counter(read_trade(record.value).id for record in read_topic(kafka, kafka.history_topic))
        wanted = history(simulator)
        assert len(wanted) > 50_000
        assert {*found} - {*wanted} == {str(int(wanted[0]) - 1), str(int(wanted[-1]) + 1)}
        assert {*wanted} <= {*found}
        asked = simulator.tally
        assert not asked.broken
        pages = {target: times for target, times in asked.requests.items() if "after" in target}
        again = sum(times - 1 for times in pages.values()) - asked.refused["rest_too_many"]
        assert again <= KILLS * (1 + SEEKING)
        assert len(pages) <= len(wanted) / 1000 * 1.2 + DAYS * (2 + SEEKING)


def has_asked(simulator: Simulator, more_than: int) -> bool:
    """Whether the simulator was asked more often."""
    return simulator.tally.requests.total() > more_than


def backfilled(dagster: DagsterDev, simulator: Simulator) -> Any:
    """What became of a backfill of which runs are killed, when it is over."""
    names = [f"{FIRST + timedelta(days=number)}|Coinbase~BTC~USD" for number in range(DAYS)]
    given = {"assetSelection": [{"path": [VENUE_HISTORY]}], "partitionNames": names}
    backfill = dagster.graphql(LAUNCH, given=given)["answer"]["backfillId"]
    rng, ended_s = random.Random(7), time.monotonic() + DONE_S
    for _ in range(KILLS):
        enough = simulator.tally.requests.total() + rng.randint(15, 40)
        awaited(partial(has_asked, simulator, enough), "requests of a run", ended_s - time.monotonic())
        kill(worker for run in dagster.runs() if (worker := dagster.worker(run.run_id)))

    def over() -> Any:
        state = dagster.graphql(STATE, id=backfill)["answer"]
        return state if state["status"] not in ONGOING else None

    return awaited(over, "the end of the backfill", ended_s - time.monotonic())
