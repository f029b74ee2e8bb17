"""The streaming loop: start the query, hand each batch's candles to a writer, drain, stop between batches."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from cryptoflow.errors import AggregationError, CryptoflowError
from cryptoflow.model.offsets import Offsets, covers
from cryptoflow.model.window import NS_PER_US, utc_time
from cryptoflow.runtime.metrics import StreamMetrics
from cryptoflow.settings import SparkSettings
from cryptoflow.spark import folded
from cryptoflow.spark.aggregation import WATERMARK
from cryptoflow.spark.checkpoint import committed_offsets, source_offsets
from cryptoflow.spark.decode import US_PER_S
from cryptoflow.spark.folded import Folded
from cryptoflow.spark.session import cause_of, first_line

POLL_S = 0.2
"""How often a waiting thread looks whether the query is alive, in s."""


NONE_WRITTEN = -1
"""In place of the number of a batch."""


class Batch(msgspec.Struct, frozen=True):
    """What one micro-batch changed."""

    batch_id: int
    folded: Folded
    watermark: datetime
    """From the next batch on, trades up to it are late; aware UTC."""


class _StoppedError(Exception):
    """Makes a batch that began after `stop` fail, so that it is not committed and comes again."""


class _FailedBatchError(Exception):
    """What Spark is told of a batch that failed."""


class CandleStream:
    """A query of candles over one checkpoint, and who writes what it yields.

    Args:
        rows: the streaming data frame of `aggregation.streamed`.
        write: writes a batch durably before it returns; the batch is committed after that. An exception ends
            the query.
        admit: called with a batch's number before anything of it is done; an exception ends the query, too.
    """

    def __init__(
        self,
        rows: DataFrame,
        settings: SparkSettings,
        checkpoint: Path,
        write: Callable[[Batch], None],
        admit: Callable[[int], None] = lambda batch_id: None,
    ) -> None:
        self._rows, self._settings, self._checkpoint = rows, settings, checkpoint
        self._write, self._admit = write, admit
        self._query: StreamingQuery | None = None
        self._started = threading.Event()
        self._writing = threading.Lock()
        self._stopping = False
        self._failure: BaseException | None = None
        self._written = NONE_WRITTEN
        self._watermark_us = 0

    def start(self, trigger_s: float | None = None) -> None:
        """Start the query, or go on from its checkpoint; `trigger_s` between batches, by default as configured.

        Raises:
            AggregationError: it can't be started, out of a damaged checkpoint for one.
        """
        trigger_s = self._settings.trigger_s if trigger_s is None else trigger_s
        self._stopping, self._failure, self._written = False, None, NONE_WRITTEN
        self._started.clear()
        try:
            self._query = self._begun(trigger_s)
        except (PySparkException, Py4JError) as error:
            raise AggregationError(f"The aggregation could not be started: {cause_of(error)}") from error
        self._started.set()

    def _begun(self, trigger_s: float) -> StreamingQuery:
        return (
            self._rows.writeStream.outputMode("update")
            .queryName("candles")
            .foreachBatch(self._on_batch)
            # Not as a URI: Hadoop takes a blank that is escaped in one as it stands.
            .option("checkpointLocation", f"file://{self._checkpoint}")
            .trigger(processingTime=f"{int(trigger_s * 1000)} milliseconds")
            .start()
        )

    def _on_batch(self, rows: DataFrame, batch_id: int) -> None:
        try:
            self._process(rows, batch_id)
        except BaseException as error:  # noqa: BLE001 - `check` raises it where somebody looks
            self._failure = error
            # Only the first line goes back: over a text with the JVM's stack Spark runs a regular expression that
            # overflows its own stack, and the query would end without a reason.
            raise _FailedBatchError(first_line(error)) from None

    def _process(self, rows: DataFrame, batch_id: int) -> None:
        # The first batch may begin before `start` has its query.
        self._started.wait()
        assert self._query is not None
        self._admit(batch_id)
        found = [row.asDict() for row in rows.collect()]
        self._watermark_us = self._watermark_after(found)
        watermark = utc_time(self._watermark_us * NS_PER_US)
        batch = Batch(batch_id, folded.read(found, self._settings.window_s), watermark)
        with self._writing:
            if self._stopping:
                raise _StoppedError
            self._write(batch)
            self._written = batch_id

    def _watermark_after(self, rows: Sequence[Mapping[str, int]]) -> int:
        """The one that Spark takes for the next batch, in us: down to the millisecond, and never back."""
        # Offsets may go on without a record: after a transaction, say.
        before_us = max((row[WATERMARK.name] for row in rows), default=self._watermark_us)
        newest_ms = max((row["newest_us"] for row in rows), default=0) // 1000
        return max(before_us, newest_ms * 1000 - int(self._settings.watermark_s * US_PER_S))

    def check(self) -> None:
        """See that the query lives, unless it was stopped.

        Raises:
            CryptoflowError: the one that its writer raised.
            AggregationError: it failed otherwise.
        """
        if self._query is None or self._query.isActive:
            return
        failure = self._failure or self._query.exception()
        if isinstance(failure, CryptoflowError):
            raise failure
        if self._stopping:
            return
        cause = cause_of(failure) if failure else "its query ended by itself; the log of the run has more."
        raise AggregationError(f"The aggregation failed: {cause}") from failure

    def done(self) -> Offsets:
        """The offsets up to which batches are committed."""
        return committed_offsets(self._checkpoint)

    def drain(self, wanted: Offsets, overdue: Callable[[], bool] = lambda: False) -> bool:
        """Process everything before `wanted`, at full speed; False if it was `overdue` first.

        Raises:
            CryptoflowError: as `check`.
        """
        self.check()
        if not covers(self.done(), wanted):
            self.stop()
        if not covers(self.done(), wanted):
            self.start(trigger_s=0)
        while not (complete := covers(self.done(), wanted)) and not overdue():
            self._await_end()
        while self._is_untold() and not overdue():
            self._await_end()
        return complete

    def _is_untold(self) -> bool:
        """Whether Spark has still to tell of the newest batch: it does so a moment after it has committed it."""
        assert self._query is not None
        told = self._query.lastProgress
        return self._query.isActive and self._written > (told.batchId if told else NONE_WRITTEN)

    def _await_end(self) -> None:
        assert self._query is not None
        self.check()
        try:
            self._query.awaitTermination(POLL_S)  # type: ignore[arg-type]
        except PySparkException:
            self.check()

    def stop(self) -> None:
        """End the query between two batches: one that is being written is finished first."""
        with self._writing:
            self._stopping = True
        if self._query is not None:
            self._query.stop()

    def metrics(self) -> StreamMetrics:
        """The newest of the query."""
        newest = self._query.lastProgress if self._query else None
        if newest is None:
            return StreamMetrics()
        # Python sources do not tell how far they could go.
        latest = json.loads(newest.sources[0].latestOffset)
        return StreamMetrics(
            lag_trades=self._lag(source_offsets(latest)) if latest else None,
            rows_per_s=newest.processedRowsPerSecond,
            batch_ms=newest.batchDuration,
        )

    def _lag(self, latest: Offsets) -> int:
        """Trades that the source had when the newest batch began, and that are in no committed batch yet."""
        done = self.done()
        return sum(max(0, end - done.get(partition, 0)) for partition, end in latest.items())
