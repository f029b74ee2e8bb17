"""The past: a backlog worked off in slices of the log, each a batch, until what is left is for the stream.

While a slice is committed, the next one is aggregated already; commits stay one after the other.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from msgspec.structs import replace
from pyspark.sql import SparkSession

from cryptoflow.kafka_io.log import Log, open_log
from cryptoflow.model.offsets import Offsets, records
from cryptoflow.model.window import epoch_ns
from cryptoflow.pipeline.commits import Commits
from cryptoflow.pipeline.place import finished_by, slice_end
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.batch import begins_of, candles_between
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.spark.pack import Rules
from cryptoflow.tables.progress import Progress

Commit = Callable[[], None]
"""Commits a slice, after the one before it."""


class CatchUp:
    """Works backlogs off."""

    def __init__(self, spark: SparkSession, kafka: KafkaSettings, settings: SparkSettings, commits: Commits) -> None:
        self._spark, self._kafka, self._settings, self._commits = spark, kafka, settings, commits

    def run(self, stopped: Callable[[], bool]) -> None:
        """Work a backlog off, or until `stopped`; what is aggregated by then is committed.

        Raises:
            AggregationError: a slice could not be aggregated.
            LeaseLostError, KafkaError, CassandraError: as `Commits.commit`.
        """
        first, began_s = self._commits.at.offsets, time.monotonic()

        def done(commit: Commit, ends: Offsets) -> None:
            commit()
            self._tell(first, ends, time.monotonic() - began_s)

        with open_log(self._kafka) as log, ThreadPoolExecutor(1, "commit") as pool:
            self._tell(first, log.ends(), 0)
            before = pool.submit(lambda: None)
            try:
                for commit, ends in self._slices(log, stopped):
                    before.result()
                    before = pool.submit(done, commit, ends)
            finally:
                before.result()
        self._commits.tally.tell(backlog_trades=0)

    def _slices(self, log: Log, stopped: Callable[[], bool]) -> Iterator[tuple[Commit, Offsets]]:
        """Aggregates slice after slice, each before the one before it has to be committed.

        Gives what commits it, and where the log ended.
        """
        at, most, backlog = self._commits.at, self._settings.max_batch_trades, self._settings.backlog_trades
        while not stopped():
            ends = log.ends()
            left = records(at.offsets, ends)
            if left < backlog:
                break
            # A rest that is no backlog is taken along: a stream that began with it would read the open windows anew.
            end = ends if left < most + backlog else slice_end(at.offsets, ends, most, log.at)
            if end != ends and records(at.offsets, end) < records(at.begins, at.offsets):
                most *= 2  # else more would be read for the second time than for the first
            elif made := self._slice(at, end, whole=end == ends):
                at, commit = made
                yield commit, ends
            else:
                most *= 2

    def _tell(self, first: Offsets, ends: Offsets, elapsed_s: float) -> None:
        """Tell how much is committed of what began at one place of the log, and what is left up to another."""
        at = self._commits.at.offsets
        done, left = records(first, at), records(at, ends)
        pace = {"backlog_trades_per_s": done / elapsed_s, "backlog_left_s": left * elapsed_s / done} if done else {}
        self._commits.tally.tell(backlog_trades=left, backlog_done_trades=done, **pace)

    def _slice(self, at: Progress, end: Offsets, whole: bool) -> tuple[Progress, Commit] | None:
        """Aggregate from one place of the log to another: how far it then is, and what commits that.

        None where no window got finished by it.

        Args:
            at: how far it was, committed or about to be.
            whole: whether it is the end of the log: open windows are written too, as far as they have come.
        """
        settings = self._settings
        rules = Rules(settings.window_s, settings.ahead_s, epoch_ns(at.finished), at.offsets)
        folded = candles_between(self._spark, self._kafka, [Stretch(self._kafka.topic, at.begins, end)], rules)
        finished = finished_by(folded.counts.newest, settings.watermark_s, settings.window_s, at.finished)
        if finished == at.finished and not whole:
            return None
        done = [each for each in folded.found if each.candle.window_start < finished]
        begins = begins_of(folded.found, finished, end)
        commit = partial(
            self._commits.commit,
            Stretch(self._kafka.topic, at.offsets, end),
            folded if whole else folded._replace(found=done),
            finished=finished,
            begins=begins,
        )
        return replace(at, finished=finished, offsets=end, begins=begins), commit
