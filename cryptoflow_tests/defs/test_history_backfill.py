"""A month of a pair's past by a Dagster backfill that is killed: all of it in the topic, and hardly a page asked twice.

The venue is a simulator of Coinbase with few trades, asked at the pace that is kept with the venue itself.
"""

import random
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import partial

from cryptoflow.defs.assets import VENUE_HISTORY
from cryptoflow.model.trade import read_trade
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.dagster_dev import DagsterDev, Run, awaited, kill
from cryptoflow_tests.defs.test_backfill import LAUNCH, PARTITIONS
from cryptoflow_tests.exactness import kafka as kafka_of
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.topics import read_topic

DAYS = 30
FIRST = date(2026, 10, 1)
END_S = datetime(2026, 10, 31, 6, tzinfo=UTC).timestamp()
SUB = "0~Coinbase~BTC~USD"

KILLS = 1
"""More of them take half a minute each, until Dagster has launched the run again, and tell no more."""

RATE = 0.015
"""Trades/s: some two pages a day."""

MOST_ASKED = 40
"""Requests before a run is killed, at most."""

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
            runs = backfilled(dagster, simulator)
            counts = dagster.graphql(PARTITIONS, asset={"path": [VENUE_HISTORY]})["answer"]["partitionStats"]
        assert counts == {"numMaterialized": DAYS, "numFailed": 0, "numMaterializing": 0}
        assert [run.status for run in runs] == ["SUCCESS", *["FAILURE"] * KILLS]
        kafka = kafka_of(place)
        found = Counter(read_trade(record.value).id for record in read_topic(kafka, kafka.history_topic))
        wanted = history(simulator)
        assert len(wanted) > 30_000
        assert {*found} - {*wanted} == {str(int(wanted[0]) - 1), str(int(wanted[-1]) + 1)}
        assert {*wanted} <= {*found}
        asked = simulator.tally
        assert not asked.broken
        pages = {target: times for target, times in asked.requests.items() if "after" in target}
        again = sum(times - 1 for times in pages.values()) - asked.refused["rest_too_many"]
        assert again <= KILLS * SEEKING  # what was in flight, and the look for the end of a day before its first page
        assert len(pages) <= len(wanted) / 1000 * 1.2 + DAYS * (2 + SEEKING)


def backfilled(dagster: DagsterDev, simulator: Simulator) -> list[Run]:
    """The runs of a backfill that are killed but for the last one, the newest first."""
    names = [f"{FIRST + timedelta(days=number)}|Coinbase~BTC~USD" for number in range(DAYS)]
    given = {"assetSelection": [{"path": [VENUE_HISTORY]}], "partitionNames": names}
    assert dagster.graphql(LAUNCH, given=given)["answer"]["backfillId"]
    rng, until_s = random.Random(7), time.monotonic() + DONE_S
    for _ in range(KILLS):
        enough = simulator.tally.requests.total() + rng.randint(MOST_ASKED // 4, MOST_ASKED)
        awaited(partial(has_asked, simulator, enough), "requests of a run", until_s - time.monotonic())
        kill(worker for run in dagster.runs() if (worker := dagster.worker(run.run_id)))

    def over() -> list[Run]:
        runs = dagster.runs()
        return runs if runs[0].status == "SUCCESS" else []

    return awaited(over, "the end of the backfill", until_s - time.monotonic())


def has_asked(simulator: Simulator, requests: int) -> bool:
    """Whether so many requests have come."""
    return simulator.tally.requests.total() >= requests
