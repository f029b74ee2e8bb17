"""Kafka -> Spark -> Cassandra: what is long past as batches, the present as a stream."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from pyspark.sql import SparkSession

from cryptoflow.errors import AggregationError, BacklogError
from cryptoflow.kafka_io.log import Log, Offsets, earlier, later, open_log, records
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.records import first_times_ms, topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local import jars
from cryptoflow.model.candle import Candle
from cryptoflow.model.window import EPOCH, utc_time
from cryptoflow.pipeline.place import ceil_window, finished_by, first_start, floor_window, next_start, ns, slice_end
from cryptoflow.pipeline.supervision import Control, Figures
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.spark import aggregation, checkpoint, kafka_log
from cryptoflow.spark.aggregation import at_or_past
from cryptoflow.spark.batch import Counted, Found, MarkedTrades, begins_of, candles_between, marked_between
from cryptoflow.spark.checkpoint import Start, batch_range, fingerprint
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.spark.metrics import BatchCounts, observed, unfit
from cryptoflow.spark.session import spark_session
from cryptoflow.spark.stream import Batch, CandleStream
from cryptoflow.tables import lease
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Place, Progress, newest_of_others
from cryptoflow.tables.reader import newest_candle, query_ids, tables_id, waiting_trades
from cryptoflow.tables.schema import BatchRecord, MarkRow

LATE, AHEAD = "late", "ahead of its time"
"""Why an hour is marked."""

COUNTS = ("input_rows", "late", "duplicates", "unreadable", "rows_written")


class Tally:
    """The counts of all batches; of a batch that comes again, the last ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, float] = dict.fromkeys((*COUNTS, "batches"), 0)
        self._newest = BatchRecord("", -1)

    def add(self, record: BatchRecord) -> None:
        """Count a batch."""
        with self._lock:
            again = (record.query_id, record.batch_id) == (self._newest.query_id, self._newest.batch_id)
            for name in COUNTS:
                self._sums[name] += getattr(record, name) - (getattr(self._newest, name) if again else 0)
            self._sums["batches"] += not again
            self._newest = record
            if record.watermark:
                self._sums["watermark_s"] = record.watermark.timestamp()

    def tell(self, **figures: float) -> None:
        """Note figures that are no sums."""
        with self._lock:
            self._sums |= figures

    def figures(self) -> dict[str, float]:
        """What has been counted so far."""
        with self._lock:
            return dict(self._sums)


class Aggregation:
    """Brings the tables to the end of the topic and keeps them there.

    Attributes:
        at: what is committed.
    """

    def __init__(
        self,
        spark: SparkSession,
        kafka: KafkaSettings,
        settings: SparkSettings,
        home: Path,
        ledger: Ledger,
        dead_letters: TradeProducer,
    ) -> None:
        self._spark, self._kafka, self._settings = spark, kafka, settings
        self._ledger, self._dead_letters = ledger, dead_letters
        self._folder = checkpoint.folder_of(home, kafka.topic, ledger.place.topic_id)
        self._query = fingerprint(aggregation.definition(settings))
        self._tables = tables_id(ledger.session)
        self.tally = Tally()
        self.at = self._start()
        self._open: dict[datetime, Offsets] = {}
        self._works = 0
        self._start_of_stream = Start({})
        self._checkpoint = self._folder
        self._admitted = False

    def _start(self) -> Progress:
        """Where to go on, or to begin."""
        self._ledger.claim()
        with open_log(self._kafka) as log:
            begins, ends = log.begins(), log.ends()
        cut = self._cut(begins)
        stored = self._ledger.stored()
        if stored and stored.tables == self._tables:
            return next_start(stored, begins, cut, self._settings.ahead_s, self._settings.window_s)
        # A trade that came before the cut may be as far ahead of its time.
        whole_from = cut and cut + timedelta(seconds=self._settings.ahead_s)
        return first_start(begins, ends, whole_from, self._kept_until(), self._settings.window_s)

    def _cut(self, begins: Offsets) -> datetime | None:
        """When the oldest record of a topic was received that Kafka has deleted older ones of."""
        cut = [partition for partition, offset in begins.items() if offset]
        first_ms = first_times_ms(self._kafka, self._kafka.topic, cut)
        if len(first_ms) < len(cut):
            return datetime.now(UTC)  # of a partition that is empty by now, all is deleted
        return datetime.fromtimestamp(max(first_ms.values()) / 1000, UTC) if cut else None

    def _kept_until(self) -> datetime:
        """The end of the newest window with a candle that is not known to be out of this topic."""
        session, place = self._ledger.session, self._ledger.place
        kept = newest_of_others(session, place, self._tables)
        if kept > EPOCH:
            return kept
        # Version 0.2.0 kept its progress elsewhere; its queries' names tell of which topic they were.
        source = f"{place.topic}-{fingerprint(place.topic_id, self._tables)}/"
        if any(query.startswith(source) for query in query_ids(session)):
            return EPOCH
        newest = newest_candle(session, place.window_s)
        return EPOCH if newest is None else newest + timedelta(seconds=place.window_s)

    # -- the past ------------------------------------------------------------------------------------------------

    def work_off(self, stopped: Callable[[], bool]) -> None:
        """Work off a backlog in slices, until what is left is for the stream."""
        with open_log(self._kafka) as log:
            self._work_off(log, stopped)

    def _work_off(self, log: Log, stopped: Callable[[], bool]) -> None:
        most = self._settings.max_batch_trades
        query_id = f"{self._kafka.topic}/{self._ledger.lease.fence}.{self._works}"
        self._works += 1
        total, began_s, batch_id = records(self.at.offsets, log.ends()), time.monotonic(), 0
        while not stopped() and (left := records(self.at.offsets, ends := log.ends())) >= self._settings.backlog_trades:
            self._tell_backlog(total, left, time.monotonic() - began_s)
            # What is committed need not end at one time, and a slice that ended before it would lack trades.
            end = later(slice_end(self.at.begins, ends, most, log.at), self.at.offsets)
            reread = records(self.at.begins, self.at.offsets)
            if end != ends and records(self.at.offsets, end) < reread:
                most *= 2  # else more would be read for the second time than for the first
                continue
            advanced = self._slice(end, query_id, batch_id, whole=end == ends)
            batch_id += advanced
            if not advanced:
                most *= 2
        self.tally.tell(backlog=0)

    def _tell_backlog(self, total: int, left: int, elapsed_s: float) -> None:
        done = max(0, total - left)
        self.tally.tell(backlog=left, backlog_done=done)
        if done:
            self.tally.tell(backlog_per_s=done / elapsed_s, backlog_left_s=left * elapsed_s / done)

    def _slice(self, end: Offsets, query_id: str, batch_id: int, whole: bool) -> bool:
        """Aggregate up to a place of the log; whether that is committed, as it is where windows got finished by it.

        Args:
            whole: whether it is the end of the log: open windows are written too, as far as they have come.
        """
        stretch = Stretch(self._kafka.topic, self.at.begins, end)
        found, counted = candles_between(
            self._spark,
            self._kafka,
            [stretch],
            self._settings.window_s,
            self._settings.ahead_s,
            ns(self.at.finished),
            self.at.offsets,
        )
        finished = finished_by(counted.newest, self._settings.watermark_s, self._settings.window_s, self.at.finished)
        if finished == self.at.finished and not whole:
            return False
        done = [each for each in found if whole or each.candle.window_start < finished]
        new = Stretch(self._kafka.topic, self.at.offsets, end)
        marks = self._marks(new, unfit(ns(self.at.finished))) if counted.late else []
        if counted.unreadable:
            self._send_dead_letters(new)
        begins = begins_of(found, finished, end)
        # Those of open windows are read, and counted, once more.
        closed = [each for each in done if each.candle.window_start < finished]
        record = _record_of(counted, closed)._replace(query_id=query_id, batch_id=batch_id)
        self._commit(marks, [each.candle for each in done], record, finished, end, begins)
        return True

    # -- the present ---------------------------------------------------------------------------------------------

    def stream(self) -> CandleStream:
        """The stream from what is committed on: out of its checkpoint, where that is the one of the last batch."""
        at = self.at
        self._admitted = False
        folder = self._folder / at.checkpoint if at.checkpoint and at.query == self._query else None
        start = checkpoint.resumable(folder, at.batch_id, at.offsets) if folder else None
        if start and folder:
            self._checkpoint, self._open = folder, {at.newest: at.begins}
        else:
            start = Start(at.begins, ns(at.finished), at.offsets)
            self._checkpoint, self._open = checkpoint.make(self._folder, start), {}
        self._start_of_stream = start
        frames = kafka_log.stream(self._spark, self._kafka, start.begins)
        trades = observed(aggregation.trades(frames, self._settings.ahead_s), start.finished_ns, start.counted)
        rows = aggregation.stream_candles(trades, self._settings)
        return CandleStream(rows, self._settings, self._checkpoint, self._write, self._admit)

    def forget_checkpoint(self) -> bool:
        """Whether the stream went out of a checkpoint and has got nowhere; the next one then begins without."""
        resumed = self._checkpoint.name == self.at.checkpoint and not self._admitted
        if resumed:
            self.at = msgspec.structs.replace(self.at, checkpoint="")
        return resumed

    def _range(self, batch_id: int) -> Stretch:
        """The records of a batch that no earlier stream or batch has counted."""
        begin, end = batch_range(self._checkpoint, batch_id, self._start_of_stream.begins)
        return Stretch(self._kafka.topic, later(begin, self._start_of_stream.counted), end)

    def _admit(self, batch_id: int) -> None:
        """Refuse a batch that is too large for the stream's state, except its first one."""
        stretch = self._range(batch_id)
        if self._admitted and records(stretch.begin, stretch.end) > self._settings.max_batch_trades:
            raise BacklogError("The stream is too far behind; the backlog is worked off as batches.")

    def _write(self, batch: Batch) -> None:
        stretch = self._range(batch.batch_id)
        watermark = datetime.fromtimestamp(batch.counts.watermark_ms / 1000, UTC)
        condition = f"({unfit(ns(self.at.finished))} or event_time <= timestamp_millis({batch.counts.watermark_ms}))"
        marks = self._marks(stretch, condition) if batch.counts.late else []
        if batch.counts.unreadable:
            self._send_dead_letters(stretch)
        for candle, first in zip(batch.candles, batch.firsts, strict=True):
            self._open[candle.window_start] = earlier(self._open.get(candle.window_start, {}), first)
        finished = max(self.at.finished, floor_window(watermark, self._settings.window_s))
        self._open = {start: first for start, first in self._open.items() if start >= finished}
        end = dict(stretch.end)
        begins = dict(end)
        for first in self._open.values():
            begins = earlier(begins, first)
        # A batch that comes again out of the same checkpoint, in another run too, is on record once.
        query_id = f"{self._kafka.topic}/{self._checkpoint.name}"
        record = _record_of_stream(batch.counts, watermark)._replace(query_id=query_id, batch_id=batch.batch_id)
        self._commit(marks, batch.candles, record, finished, end, begins, self._checkpoint.name)
        self._admitted = True

    # -- both ----------------------------------------------------------------------------------------------------

    def _commit(
        self,
        marks: Sequence[MarkRow],
        candles: Sequence[Candle],
        record: BatchRecord,
        finished: datetime,
        end: Offsets,
        begins: Offsets,
        checkpoint: str = "",
    ) -> None:
        done = msgspec.structs.replace(
            self.at,
            finished=finished,
            offsets=end,
            begins=begins,
            newest=max([self.at.newest, *(candle.window_end for candle in candles)]),
            query=self._query,
            tables=self._tables,
            checkpoint=checkpoint,
            batch_id=record.batch_id,
        )
        record = record._replace(finished_at=datetime.now(UTC))
        self.tally.add(self._ledger.commit(marks, candles, record, done))
        self.at = done
        if marks or self.tally.figures().get("waiting"):
            self.tally.tell(waiting=waiting_trades(self._ledger.session))

    def _marks(self, stretch: Stretch, condition: str) -> list[MarkRow]:
        """The hours of the trades of a stretch that a condition says are in no candle."""
        condition = f"({condition}) and {at_or_past(dict(stretch.begin))}"
        found = marked_between(self._spark, self._kafka, stretch, self._settings.ahead_s, condition)
        return [self._mark(each) for each in found]

    def _mark(self, trades: MarkedTrades) -> MarkRow:
        market, from_coin, to_currency = trades.pair.split("~")
        newest = utc_time(trades.newest_ns + 1000)
        return MarkRow(
            hour=datetime.fromtimestamp(trades.hour_s, UTC),
            market=market,
            fromcoin=from_coin,
            tocurrency=to_currency,
            topic_id=self._ledger.place.topic_id,
            partition=trades.partition,
            first_offset=trades.first_offset,
            last_offset=trades.last_offset,
            topic=self._kafka.topic,
            trades=trades.trades,
            until=ceil_window(newest, self._settings.window_s),
            reason=LATE if newest <= self.at.newest else AHEAD,
        )

    def _send_dead_letters(self, stretch: Stretch) -> None:
        frames = kafka_log.between(self._spark, self._kafka, [stretch])
        for row in aggregation.unreadable(frames).toLocalIterator():
            found_at = (self._kafka.topic, row.partition, row.offset)
            self._dead_letters.dead_letter(None if row.value is None else bytes(row.value), row.reason, found_at)
        self._dead_letters.flush()


def _record_of(counted: Counted, done: Sequence[Found]) -> BatchRecord:
    duplicates = sum(each.copies - each.candle.trades for each in done)
    return BatchRecord("", 0, counted.rows, counted.late, duplicates, counted.unreadable)


def _record_of_stream(counts: BatchCounts, watermark: datetime) -> BatchRecord:
    return BatchRecord("", 0, counts.rows, counts.late, counts.duplicates, counts.unreadable, watermark=watermark)


def aggregate(
    kafka: KafkaSettings, cassandra: CassandraSettings, settings: SparkSettings, home: Path, control: Control
) -> Figures:
    """Aggregate the topic's trades into candles until told to stop, then what is left in the topic.

    Raises:
        KafkaError, CassandraError: they are not there, gone for too long, or refuse something.
        PrerequisiteError: Java or the connector's jars are missing.
        AlreadyRunningError: another run aggregates into the keyspace.
        LeaseLostError: another run took over while this one did not answer.
        AggregationError: the query failed.
    """
    make_topics(kafka)
    jars.install(home, ["spark"])
    holder = Holder.current(control.owner, home)
    work = f"aggregates {kafka.topic} into {cassandra.keyspace}"
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        with (
            lease.held(session, lease.AGGREGATE, holder, work, control.waits()) as held,
            TradeProducer(kafka, source="aggregate") as dead_letters,
            spark_session(settings, home, connector=True) as spark,
        ):
            ledger = Ledger(session, cassandra, Place(settings.window_s, kafka.topic, topic_id(kafka)), held)
            work_at = Aggregation(spark, kafka, settings, home, ledger, dead_letters)
            return _Run(work_at, kafka, settings, spark, held, control).run()


class _Run:
    """One run of an aggregation: batches while it is far behind, else the stream."""

    def __init__(
        self,
        aggregation: Aggregation,
        kafka: KafkaSettings,
        settings: SparkSettings,
        spark: SparkSession,
        held: lease.Lease,
        control: Control,
    ) -> None:
        self._aggregation, self._kafka, self._settings = aggregation, kafka, settings
        self._spark, self._lease, self._control = spark, held, control
        self._streamed = False

    def run(self) -> Figures:
        """Until told to stop, and what is in the topic then."""
        while True:
            self._control.begin()
            if self._behind() >= self._settings.backlog_trades:
                self._work_off()
            if self._control.is_over() and not self._behind():
                return self._aggregation.tally.figures() | {"lag": 0}
            try:
                return self._stream(self._aggregation.stream())
            except BacklogError:
                continue
            except AggregationError:
                if not self._aggregation.forget_checkpoint():
                    raise

    def _behind(self) -> int:
        """Records that came after what is committed."""
        return records(self._aggregation.at.offsets, end_offsets(self._kafka, self._kafka.topic))

    def _work_off(self) -> None:
        tracker = self._spark.sparkContext.statusTracker()

        def check() -> None:
            self._lease.alive()
            tracker.getActiveJobsIds()  # a JVM that hangs does not answer: the watchdog then ends the run

        self._control.await_work(
            lambda: self._aggregation.work_off(self._control.stop.is_set),
            check,
            self._aggregation.tally.figures,
            self._spark.sparkContext.cancelAllJobs,
        )

    def _stream(self, stream: CandleStream) -> Figures:
        def figures() -> dict[str, float]:
            return self._aggregation.tally.figures() | stream.report()

        def check() -> None:
            self._lease.alive()
            stream.check()

        stream.start()
        try:
            if not self._streamed:
                self._control.supervise(check, figures)
                self._control.await_peer(check, figures)
                self._streamed = True
            stream.drain(end_offsets(self._kafka, self._kafka.topic), self._overdue)
            return figures()
        finally:
            stream.stop()

    def _overdue(self) -> bool:
        self._lease.alive()
        return self._control.drain_overdue()
