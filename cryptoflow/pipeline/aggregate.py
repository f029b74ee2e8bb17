"""Kafka -> Spark -> Cassandra."""

import threading
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import SparkSession

from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local import jars
from cryptoflow.pipeline.supervision import Control, Figures
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.spark import query
from cryptoflow.spark.checkpoint import batch_range
from cryptoflow.spark.kafka_source import Place, kafka_stream, locate, unreadable
from cryptoflow.spark.session import spark_session
from cryptoflow.spark.stream import Batch, CandleStream
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.reader import tables_id
from cryptoflow.tables.schema import BatchRecord
from cryptoflow.tables.writer import CandleWriter


class Aggregation:
    """Writes what the query yields, and counts it."""

    def __init__(
        self,
        spark: SparkSession,
        kafka: KafkaSettings,
        place: Place,
        writer: CandleWriter,
        dead_letters: TradeProducer,
    ) -> None:
        self._spark, self._kafka, self._place = spark, kafka, place
        self._writer, self._dead_letters = writer, dead_letters
        self._lock = threading.Lock()
        self._figures: dict[str, float] = dict.fromkeys(
            ("input_rows", "late", "duplicates", "unreadable", "rows_written", "batches"), 0
        )

    def write(self, batch: Batch) -> None:
        """Dead letters first, candles then, the batch's record last; only after that Spark commits the batch."""
        counts = batch.counts
        if counts.unreadable:
            self._send_dead_letters(batch.batch_id)
        record = BatchRecord(
            self._place.query_id,
            batch.batch_id,
            input_rows=counts.rows,
            late=counts.late,
            duplicates=counts.duplicates,
            unreadable=counts.unreadable,
            watermark=datetime.fromtimestamp(counts.watermark_ms / 1000, UTC),
        )
        done = self._writer.write(batch.candles, record)
        with self._lock:
            for name in ("input_rows", "late", "duplicates", "unreadable", "rows_written"):
                self._figures[name] += getattr(done, name)
            self._figures["batches"] += 1
            self._figures["watermark_s"] = counts.watermark_ms / 1000

    def _send_dead_letters(self, batch_id: int) -> None:
        begin, end = batch_range(self._place.checkpoint, batch_id)
        for record, reason, partition, offset in unreadable(self._spark, self._kafka, begin, end):
            self._dead_letters.dead_letter(record, reason, (self._kafka.topic, partition, offset))
        self._dead_letters.flush()

    def figures(self) -> dict[str, float]:
        """What has been written so far."""
        with self._lock:
            return dict(self._figures)


def aggregate(
    kafka: KafkaSettings, cassandra: CassandraSettings, settings: SparkSettings, home: Path, control: Control
) -> Figures:
    """Aggregate the topic's trades into candles until told to stop, then what is left in the topic.

    Raises:
        KafkaError, CassandraError: they are not there, gone for too long, or refuse something.
        PrerequisiteError: Java or the connector's jars are missing.
        AlreadyRunningError: another run aggregates the topic into the keyspace.
        AggregationError: the query failed.
    """
    make_topics(kafka)
    jars.install(home, ["spark"])
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        place = locate(home, kafka, settings, tables_id(session))
        with (
            control.alone(place.checkpoint.parent / "lock", f"aggregates {kafka.topic} into {cassandra.keyspace}"),
            TradeProducer(kafka, source="aggregate") as dead_letters,
            spark_session(settings, home, connector=True) as spark,
        ):
            aggregation = Aggregation(spark, kafka, place, CandleWriter(session, cassandra), dead_letters)
            rows = query.candles(kafka_stream(spark, kafka, place.start, settings.max_batch_trades), settings)
            return _run(CandleStream(rows, settings, place.checkpoint, aggregation.write), aggregation, kafka, control)


def _run(stream: CandleStream, aggregation: Aggregation, kafka: KafkaSettings, control: Control) -> Figures:
    def figures() -> dict[str, float]:
        return aggregation.figures() | stream.report()

    stream.start()
    try:
        control.supervise(stream.check, figures)
        control.await_peer(stream.check, figures)
        stream.drain(end_offsets(kafka, kafka.topic), control.drain_overdue)
        return figures()
    finally:
        stream.stop()
