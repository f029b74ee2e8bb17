"""Laws of the order in which the slices of a backlog are aggregated and committed.

aggregated  |- 1 -|- 2 -|- 3 -|- 4 -|
committed         |1|   |2|   |3|   |4|
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import AggregationError, CassandraError, CryptoflowError, LeaseLostError
from cryptoflow.model.offsets import Offsets, records
from cryptoflow.model.window import EPOCH
from cryptoflow.pipeline import catch_up
from cryptoflow.pipeline.catch_up import CatchUp
from cryptoflow.pipeline.commits import Commits
from cryptoflow.pipeline.tally import Tally
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.folded import Counts, Folded
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.tables.progress import Progress

SLICE, SLICES, BACKLOG = 1000, 5, 100
US_PER_S = 1_000_000
TIMEOUT_S = 10.0


class Backlog:
    """A log of a record each second, its slices, and what became of them, each by the offset of its end.

    Args:
        aggregating, committing: called with the number of a slice, from 1 on, before it is aggregated or committed.
        rest: records after the last slice.
    """

    def __init__(
        self, aggregating: Callable[[int], object] = bool, committing: Callable[[int], object] = bool, rest: int = 0
    ) -> None:
        self.at, self.tally = Progress(EPOCH, {0: 0}, {0: 0}), Tally()
        self.aggregated: list[int] = []
        self.committed: list[int] = []
        self._aggregating, self._committing, self._rest = aggregating, committing, rest

    def ends(self) -> Offsets:
        return {0: SLICE * SLICES + self._rest}

    def at_time(self, time_ms: int, ends: Offsets) -> Offsets:
        return {0: min(ends[0], time_ms // 1000)}

    def candles_between(self, spark: object, kafka: object, stretches: Sequence[Stretch], rules: object) -> Folded:
        [stretch] = stretches
        end = stretch.end[0]
        self._aggregating(end // SLICE)
        self.aggregated.append(end)
        return Folded(counts=Counts(records(stretch.begin, stretch.end), newest_us=end * US_PER_S))

    def commit(self, stretch: Stretch, folded: Folded, **done: Any) -> None:
        self._committing(stretch.end[0] // SLICE)
        assert stretch.begin == self.at.offsets
        self.at = msgspec.structs.replace(self.at, offsets=dict(stretch.end), **done)
        self.committed.append(stretch.end[0])

    def work_off(self, stopped: Callable[[], bool] = bool) -> None:
        """Work it off, as an aggregation does."""

        @contextmanager
        def opened(*_: object) -> Iterator[Any]:
            yield type("Log", (), {"ends": self.ends, "at": self.at_time})

        settings = SparkSettings(max_batch_trades=SLICE, backlog_trades=BACKLOG)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(catch_up, "open_log", opened)
            patched.setattr(catch_up, "candles_between", self.candles_between)
            CatchUp(cast(Any, None), KafkaSettings(), settings, cast(Commits, self)).run(stopped)


def ends_of(slices: int) -> list[int]:
    return [SLICE * number for number in range(1, slices + 1)]


def test_a_slice_is_aggregated_while_the_one_before_it_is_committed_and_none_further_ahead() -> None:
    began = [threading.Event() for _ in range(SLICES + 2)]

    def aggregating(number: int) -> None:
        assert backlog.committed == ends_of(len(backlog.committed))
        assert len(backlog.committed) >= number - 2
        began[number].set()

    def committing(number: int) -> None:
        assert number == SLICES or began[number + 1].wait(TIMEOUT_S)

    backlog = Backlog(aggregating, committing)
    backlog.work_off()
    assert backlog.aggregated == backlog.committed == ends_of(SLICES)


@given(st.integers(1, SLICES), st.sampled_from([CassandraError("gone"), LeaseLostError("taken over")]))
def test_after_a_commit_that_failed_there_is_no_other_and_the_next_run_goes_on_from_the_one_before(
    at: int, error: CryptoflowError
) -> None:
    def committing(number: int) -> None:
        if number == at:
            raise error

    backlog = Backlog(committing=committing)
    with pytest.raises(type(error), match=str(error)):
        backlog.work_off()
    assert backlog.committed == ends_of(at - 1)
    assert len(backlog.aggregated) <= at + 1
    at = 0
    backlog.work_off()
    assert backlog.committed == ends_of(SLICES)


@given(st.integers(1, SLICES))
def test_where_a_slice_fails_or_is_given_up_the_one_before_it_is_committed_all_the_same(at: int) -> None:
    given_up = threading.Event()

    def aggregating(number: int) -> None:
        if number == at:
            given_up.set()
            raise AggregationError("given up")

    def committing(number: int) -> None:
        assert number != at - 1 or given_up.wait(TIMEOUT_S)

    backlog = Backlog(aggregating, committing)
    with pytest.raises(AggregationError, match="given up"):
        backlog.work_off()
    assert backlog.committed == ends_of(at - 1)


def test_what_is_committed_is_told_as_done_and_nothing_else() -> None:
    def look(number: int) -> None:
        told = backlog.tally.metrics()
        assert told.backlog_done_trades in (SLICE * (number - 2), SLICE * (number - 1))
        assert told.backlog_trades == SLICE * SLICES + BACKLOG - 1 - told.backlog_done_trades
        assert bool(told.backlog_left_s) == bool(told.backlog_trades_per_s) == bool(told.backlog_done_trades)

    def committing(number: int) -> None:
        assert backlog.tally.metrics().backlog_done_trades == SLICE * (number - 1)

    backlog = Backlog(look, committing, rest=BACKLOG - 1)
    backlog.work_off()
    told = backlog.tally.metrics()
    assert (told.backlog_done_trades, told.backlog_trades) == (SLICE * SLICES + BACKLOG - 1, 0)


@given(st.integers(1, SLICES))
def test_one_that_is_stopped_commits_what_it_has_aggregated(at: int) -> None:
    backlog = Backlog()
    backlog.work_off(stopped=lambda: len(backlog.aggregated) == at)
    assert backlog.committed == backlog.aggregated == ends_of(at)


@given(st.integers(0, SLICE - 1))
def test_a_rest_is_a_slice_of_its_own_only_if_it_is_a_backlog(rest: int) -> None:
    backlog = Backlog(rest=rest)
    backlog.work_off()
    assert backlog.committed == [*ends_of(SLICES - 1), *[SLICE * SLICES] * (rest >= BACKLOG), *backlog.ends().values()]
