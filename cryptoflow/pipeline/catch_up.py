"""The past: a backlog worked off in slices of the log, each a batch, until what is left is for the stream."""

import time
from collections.abc import Callable

from msgspec.structs import replace
from pyspark.sql import SparkSession

from cryptoflow.kafka_io.log import Log, open_log
from cryptoflow.model.offsets import Offsets, later, records
from cryptoflow.model.window import epoch_ns
from cryptoflow.pipeline.commits import Commits
from cryptoflow.pipeline.place import finished_by, slice_end
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.batch import begins_of, candles_between
from cryptoflow.spark.folded import Folded
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.spark.pack import Rules


class CatchUp:
    """Works backlogs off."""

    def __init__(self, spark: SparkSession, kafka: KafkaSettings, settings: SparkSettings, commits: Commits) -> None:
        self._spark, self._kafka, self._settings, self._commits = spark, kafka, settings, commits

    def run(self, stopped: Callable[[], bool]) -> None:
        """Work a backlog off, or until `stopped`.

        Raises:
            As `Commits.commit`.
        """
        with open_log(self._kafka) as log:
            self._run(log, stopped)

    def _run(self, log: Log, stopped: Callable[[], bool]) -> None:
        most = self._settings.max_batch_trades
        total, began_s = records(self._commits.at.offsets, log.ends()), time.monotonic()
        while not stopped():
            at, ends = self._commits.at, log.ends()
            left = records(at.offsets, ends)
            if left < self._settings.backlog_trades:
                break
            self._tell(total, left, time.monotonic() - began_s)
            # What is committed need not end at one time, and a slice that ended before it would lack trades.
            end = later(slice_end(at.begins, ends, most, log.at), at.offsets)
            if end != ends and records(at.offsets, end) < records(at.begins, at.offsets):
                most *= 2  # else more would be read for the second time than for the first
            elif not self._slice(end, whole=end == ends):
                most *= 2
        self._commits.tally.tell(backlog_trades=0)

    def _tell(self, total: int, left: int, elapsed_s: float) -> None:
        tally, done = self._commits.tally, max(0, total - left)
        tally.tell(backlog_trades=left, backlog_done_trades=done)
        if done:
            tally.tell(backlog_trades_per_s=done / elapsed_s, backlog_left_s=left * elapsed_s / done)

    def _slice(self, end: Offsets, whole: bool) -> bool:
        """Aggregate up to a place of the log; whether that is committed, as it is where windows got finished by it.

        Args:
            whole: whether it is the end of the log: open windows are written too, as far as they have come.
        """
        at, settings = self._commits.at, self._settings
        rules = Rules(settings.window_s, settings.ahead_s, epoch_ns(at.finished), at.offsets)
        folded = candles_between(self._spark, self._kafka, [Stretch(self._kafka.topic, at.begins, end)], rules)
        finished = finished_by(folded.counts.newest, settings.watermark_s, settings.window_s, at.finished)
        if finished == at.finished and not whole:
            return False
        done = [each for each in folded.found if each.candle.window_start < finished]
        # Duplicates in open windows are read, and counted, once more.
        duplicates = sum(each.copies - each.candle.trades for each in done)
        self._commits.commit(
            Stretch(self._kafka.topic, at.offsets, end),
            Folded(folded.found if whole else done, replace(folded.counts, duplicates=duplicates), folded.left_out),
            finished=finished,
            begins=begins_of(folded.found, finished, end),
        )
        return True
