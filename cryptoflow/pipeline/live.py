"""The present: the stream from what is committed on, and what it commits."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from pyspark.sql import SparkSession

from cryptoflow.errors import BacklogError
from cryptoflow.model.offsets import Offsets, earlier, later, records
from cryptoflow.model.window import epoch_ns, floor_window
from cryptoflow.pipeline.commits import Commits
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark import aggregation, checkpoint, kafka_log
from cryptoflow.spark.checkpoint import Start, batch_range
from cryptoflow.spark.folded import Found
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.stream import Batch, CandleStream


class Live:
    """Streams, one after the other; each begins where the commits are."""

    def __init__(
        self, spark: SparkSession, kafka: KafkaSettings, settings: SparkSettings, home: Path, commits: Commits
    ) -> None:
        self._spark, self._kafka, self._settings, self._commits = spark, kafka, settings, commits
        self._folder = checkpoint.folder_of(home, kafka.topic, commits.topic_id, commits.tables)
        self._checkpoint, self._start = self._folder, Start({})
        self._open: dict[datetime, Offsets] = {}
        self._admitted = False

    def stream(self) -> CandleStream:
        """The stream from what is committed on: out of its checkpoint, where that is the one of the last batch."""
        at, settings = self._commits.at, self._settings
        self._admitted = False
        buckets = settings.shuffle_partitions**2  # Spark places them by a hash: more of them lie more evenly
        folder = self._folder / at.checkpoint if at.checkpoint and at.query == self._commits.query else None
        start = checkpoint.resumable(folder, at.batch_id, at.offsets) if folder else None
        if start and folder and start.buckets == buckets:
            self._checkpoint, self._open = folder, {at.newest: at.begins}
        else:
            start = Start(at.begins, epoch_ns(at.finished), at.offsets, buckets)
            self._checkpoint, self._open = checkpoint.make(self._folder, start), {}
        self._start = start
        frames = kafka_log.stream(self._spark, self._kafka, start.begins)
        rules = Rules(settings.window_s, settings.ahead_s, start.finished_ns, start.counted, buckets)
        rows = aggregation.streamed(frames, rules, settings.watermark_s)
        return CandleStream(rows, settings, self._checkpoint, self._write, self._admit)

    def forget_checkpoint(self) -> bool:
        """Whether the stream went out of a checkpoint and has got nowhere; the next one then begins without."""
        resumed = self._checkpoint.name == self._commits.at.checkpoint and not self._admitted
        if resumed:
            self._commits.at = msgspec.structs.replace(self._commits.at, checkpoint="")
        return resumed

    def _range(self, batch_id: int) -> Stretch:
        """The records of a batch that no earlier stream or batch has counted."""
        begin, end = batch_range(self._checkpoint, batch_id, self._start.begins)
        return Stretch(self._kafka.topic, later(begin, self._start.counted), end)

    def _admit(self, batch_id: int) -> None:
        """Refuse a batch that is too large for the stream's state, except its first one."""
        stretch = self._range(batch_id)
        if self._admitted and records(stretch.begin, stretch.end) > self._settings.max_batch_trades:
            raise BacklogError("The stream is too far behind; the backlog is worked off as batches.")

    def _write(self, batch: Batch) -> None:
        # What Spark did not come to note comes again, and is committed; it may have been repaired since.
        if (self._checkpoint.name, batch.batch_id) != (self._commits.at.checkpoint, self._commits.at.batch_id):
            self._commit(batch)
        self._admitted = True

    def _commit(self, batch: Batch) -> None:
        stretch = self._range(batch.batch_id)
        finished = max(self._commits.at.finished, floor_window(batch.watermark, self._settings.window_s))
        self._commits.commit(
            stretch,
            batch.folded,
            finished=finished,
            begins=self._begins(batch.folded.found, finished, dict(stretch.end)),
            watermark=batch.watermark,
            checkpoint=self._checkpoint.name,
            batch_id=batch.batch_id,
        )

    def _begins(self, found: Sequence[Found], finished: datetime, end: Offsets) -> Offsets:
        """Before which place none of the trades of windows lies that are open after a batch."""
        for each in found:
            start = each.candle.window_start
            self._open[start] = earlier(self._open.get(start, {}), each.first)
        self._open = {start: first for start, first in self._open.items() if start >= finished}
        for first in self._open.values():
            end = earlier(end, first)
        return end
