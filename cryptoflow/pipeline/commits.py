"""What an aggregation has committed, and how it commits more: a slice of a backlog as a batch of the stream."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec
from pyspark.sql import SparkSession

from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.pipeline.marking import mark_of
from cryptoflow.pipeline.start import start_of
from cryptoflow.pipeline.tally import Tally
from cryptoflow.pipeline.unjudged import Unjudged
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark import aggregation, kafka_log
from cryptoflow.spark.checkpoint import fingerprint
from cryptoflow.spark.folded import Folded, LeftOut
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.reader import tables_id
from cryptoflow.tables.schema import BatchRecord, MarkRow


class Commits:
    """The commits of one run, to the holder of the lease.

    Attributes:
        at: what is committed.
        query: what is computed, as a fingerprint.
        tables: the id of the tables.
        tally: the counts of the run.
    """

    def __init__(
        self,
        spark: SparkSession,
        kafka: KafkaSettings,
        settings: SparkSettings,
        ledger: Ledger,
        dead_letters: TradeProducer,
    ) -> None:
        self._spark, self._kafka, self._settings = spark, kafka, settings
        self._ledger, self._dead_letters = ledger, dead_letters
        self.query = fingerprint(aggregation.definition(settings))
        self.tables = tables_id(ledger.session)
        self.tally = Tally()
        ledger.claim()
        self.at = start_of(kafka, settings, ledger, self.tables)
        self._unjudged = Unjudged(ledger.session, ledger.settings, ledger.place, self.at)

    @property
    def topic_id(self) -> str:
        """The id of the topic."""
        return self._ledger.place.topic_id

    def commit(
        self,
        stretch: Stretch,
        folded: Folded,
        *,
        finished: datetime,
        begins: Mapping[int, int],
        watermark: datetime | None = None,
        checkpoint: str = "",
        batch_id: int = -1,
    ) -> None:
        """Commit a batch, the dead letters and the marks of its records, and of the hours that it finishes, first.

        Args:
            stretch: the records that were not committed before.
            folded: what became of them: the candles are those to be written.
            finished: windows that end by then are finished by it.
            begins: nothing before it belongs to a window that is not.
            watermark: the stream's, if it is one of its.
            checkpoint, batch_id: the name of the stream's checkpoint, and the number of its batch, if it is one of its.

        Raises:
            LeaseLostError: another one has the lease now.
            KafkaError, CassandraError: they refuse it, or are gone for too long.
        """
        candles, counts = [each.candle for each in folded.found], folded.counts
        late = self._marks(folded.left_out)
        if counts.unreadable:
            self._send_dead_letters(stretch)
        done = msgspec.structs.replace(
            self.at,
            finished=finished,
            offsets=dict(stretch.end),
            begins=dict(begins),
            newest=max([self.at.newest, *(candle.window_end for candle in candles)]),
            query=self.query,
            tables=self.tables,
            checkpoint=checkpoint,
            batch_id=batch_id,
        )
        record = BatchRecord(
            input_rows=counts.rows,
            late=counts.late,
            duplicates=counts.duplicates,
            unreadable=counts.unreadable,
            watermark=watermark,
            finished_at=datetime.now(UTC),
        )
        marks = [*late, *self._unjudged.marks(self.at.finished, finished, candles, late)]
        self.tally.add(self._ledger.commit(marks, candles, record, done))
        self.at = done
        if late or self.tally.metrics().waiting_trades:
            self.tally.tell(waiting_trades=self._ledger.waiting_trades())

    def _marks(self, left_out: Iterable[LeftOut]) -> list[MarkRow]:
        """The hours of trades that are in no candle."""
        source, newest = (self._kafka.topic, self.topic_id), self.at.newest
        return [mark_of(each, *source, newest, self._settings.window_s) for each in left_out]

    def _send_dead_letters(self, stretch: Stretch) -> None:
        parts = kafka_log.parts(self._kafka, [stretch])
        for row in aggregation.unreadable(self._spark, parts).toLocalIterator():
            found_at = (self._kafka.topic, row.partition, row.offset)
            self._dead_letters.dead_letter(None if row.value is None else bytes(row.value), row.reason, found_at)
        self._dead_letters.flush()
