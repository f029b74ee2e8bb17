"""A month of a pair's past, fetched by a Dagster backfill whose runs are killed; for a test and a benchmark."""

import random
from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial

from cryptoflow.defs.assets import VENUE_HISTORY
from cryptoflow.runtime.stop import Deadline
from cryptoflow.testing import Simulator
from cryptoflow_tests.dagster_dev import DagsterDev, Run, awaited, kill
from cryptoflow_tests.defs.test_backfill import LAUNCH, PARTITIONS

DAYS = 30

SEEKING = 8
"""Requests that it takes at most to find the end of a day."""


def fetched(
    dagster: DagsterDev, simulator: Simulator, pair: str, first: date, asked: Sequence[int], done_s: float
) -> list[Run]:
    """The runs of a backfill, the newest first; each was killed after so many requests, but for the last one.

    All days are in the record then, each once.
    """
    names = [f"{first + timedelta(days=number)}|{pair}" for number in range(DAYS)]
    given = {"assetSelection": [{"path": [VENUE_HISTORY]}], "partitionNames": names}
    assert dagster.graphql(LAUNCH, given=given)["answer"]["backfillId"]
    deadline = Deadline(done_s)
    for requests in asked:
        enough = simulator.tally.requests.total() + requests
        awaited(partial(has_been_asked, simulator, enough), "requests of a run", deadline.left_s())
        kill(worker for run in dagster.runs() if (worker := dagster.worker(run.run_id)))

    def over() -> list[Run]:
        runs = dagster.runs()
        return runs if runs[0].status == "SUCCESS" else []

    runs = awaited(over, "the end of the backfill", deadline.left_s())
    counts = dagster.graphql(PARTITIONS, asset={"path": [VENUE_HISTORY]})["answer"]["partitionStats"]
    assert counts == {"numMaterialized": DAYS, "numFailed": 0, "numMaterializing": 0}, counts
    expected = ["SUCCESS", *["FAILURE"] * len(asked)]
    stories = (f"{run.status}\n{dagster.story(run.run_id)}" for run in runs)
    assert [run.status for run in runs] == expected, "\n".join(stories)
    return runs


def has_been_asked(simulator: Simulator, requests: int) -> bool:
    """Whether so many requests have come."""
    return simulator.tally.requests.total() >= requests


def check_requests(simulator: Simulator, trades: int, kills: int) -> int:
    """The venue's limits were kept, and hardly a page was asked for twice. Gives how many were."""
    asked = simulator.tally
    assert not asked.broken
    pages = {target: times for target, times in asked.requests.items() if "after" in target}
    again = sum(times - 1 for times in pages.values()) - asked.refused["rest_too_many"]
    # What was in flight, and the look for the end of a day before its first page.
    assert again <= kills * SEEKING, again
    assert len(pages) <= trades / 1000 * 1.2 + DAYS * (2 + SEEKING), len(pages)
    return again


def kills_of(kills: int, most_requests: int, seed: int) -> list[int]:
    """Numbers of requests after which to kill."""
    rng = random.Random(seed)
    return [rng.randint(most_requests // 4, most_requests) for _ in range(kills)]
