"""Kafka -> Spark -> Cassandra: what is long past as batches, the present as a stream."""

import threading
from collections.abc import Callable

from msgspec.structs import replace
from pyspark.sql import SparkSession

from cryptoflow.errors import AggregationError, BacklogError
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local import jars
from cryptoflow.model.offsets import Offsets, records
from cryptoflow.pipeline.catch_up import CatchUp
from cryptoflow.pipeline.commits import Commits
from cryptoflow.pipeline.history_marks import HistoryMarks, history_marks
from cryptoflow.pipeline.live import Live
from cryptoflow.pipeline.part import POLL_S, Part, RunContext, live
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.metrics import AggregateMetrics, StreamMetrics
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.spark.session import spark_session
from cryptoflow.spark.stream import CandleStream
from cryptoflow.tables import lease
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Place


def aggregate(
    kafka: KafkaSettings, cassandra: CassandraSettings, settings: SparkSettings, run: RunContext
) -> AggregateMetrics:
    """Aggregate the topic's trades into candles until told to stop, then what is left in the topic.

    Raises:
        KafkaError, CassandraError: they are not there, gone for too long, or refuse something.
        PrerequisiteError: Java or the connector's jars are missing.
        AlreadyRunningError: another run aggregates into the keyspace.
        LeaseLostError: another run took over while this one did not answer.
        AggregationError: the query failed.
    """
    make_topics(kafka)
    jars.install(run.home, ["spark"])
    work = f"aggregates {kafka.topic} into {cassandra.keyspace}"
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        with (
            lease.held(session, lease.AGGREGATE, run.holder(), work, run.waits()) as held,
            TradeProducer(kafka, source="aggregate") as dead_letters,
            spark_session(settings, run.home, connector=True) as spark,
        ):
            ledger = Ledger(session, cassandra, Place(settings.window_s, kafka.topic, topic_id(kafka)), held)
            commits = Commits(spark, kafka, settings, ledger, dead_letters)
            with history_marks(session, kafka, cassandra, settings.window_s, held, commits.tally) as past:
                return live(Aggregation(spark, kafka, settings, commits, past, held, run), run)


class Aggregation(Part[AggregateMetrics]):
    """An aggregation at work: batches while it is far behind, else the stream."""

    fed_by_peer = True

    def __init__(
        self,
        spark: SparkSession,
        kafka: KafkaSettings,
        settings: SparkSettings,
        commits: Commits,
        past: HistoryMarks,
        held: lease.Lease,
        run: RunContext,
    ) -> None:
        self._spark, self._kafka, self._settings = spark.sparkContext, kafka, settings
        self._commits, self._lease, self._run = commits, held, run
        self._catch_up = CatchUp(spark, kafka, settings, commits)
        self._streams = Live(spark, kafka, settings, run.home, commits)
        self._past, self._following = past, Aside("history", past.run, past.stop)
        self._jobs = self._spark.statusTracker()
        self._given_up = threading.Event()
        self._batches: Aside | None = None
        self._stream: CandleStream | None = None
        self._ended = StreamMetrics()

    def start(self) -> None:
        """Follow the trades of the past, and begin with what is due of the present."""
        self._following.start()
        self._begin()

    def _begin(self) -> None:
        """Begin with what is due: to catch up, or to stream."""
        while not (self._batches or self._stream):
            if self._behind() >= self._settings.backlog_trades:
                self._batches = Aside("catch-up", lambda: self._catch_up.run(self._is_to_end), self._give_up).start()
            else:
                self._stream = self._streams.stream()
                self._goes_on(CandleStream.start)

    def check(self) -> None:
        """See that it works, and go from the batches to the stream once they have caught up, or back."""
        self._lease.alive()
        self._following.done()
        if self._caught_up() or (self._stream and not self._goes_on(CandleStream.check)):
            self._begin()

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Aggregate what the topic holds by now, and mark what that of the past holds."""

        def is_overdue() -> bool:
            self._lease.alive()
            return overdue()

        self._past.stop()
        while not (self._following.done() or is_overdue()):
            self._following.wait(POLL_S)
        if self._following.done():
            self._past.drain(is_overdue)
        self._drain(is_overdue)

    def _drain(self, is_overdue: Callable[[], bool]) -> None:
        while not is_overdue():
            if self._batches and not self._caught_up():
                self._batches.wait(POLL_S)
            elif self._stream:
                if self._goes_on(lambda stream: stream.drain(self._ends(), is_overdue)):
                    return
            elif not (behind := self._behind()):
                self._ended = StreamMetrics(lag_trades=0)
                return
            elif self._run.stop.is_set() and behind >= self._settings.backlog_trades:
                return  # it is in Kafka for the next run
            else:
                self._begin()

    def stop(self) -> None:
        """End the batch at hand: it is finished if it is the stream's, else it comes again."""
        self._following.cancel()
        if self._batches:
            self._batches.cancel()
        if self._stream:
            self._stream.stop()

    def metrics(self) -> AggregateMetrics:
        """What it has committed, and how its stream does."""
        return replace(self._commits.tally.metrics(), stream=self._stream.metrics() if self._stream else self._ended)

    def _is_to_end(self) -> bool:
        """Whether no further batch is to begin."""
        return self._run.stop.is_set() or self._given_up.is_set()

    def _give_up(self) -> None:
        self._given_up.set()
        self._spark.cancelAllJobs()

    def _behind(self) -> int:
        """Records that came after what is committed."""
        return records(self._commits.at.offsets, self._ends())

    def _ends(self) -> Offsets:
        return end_offsets(self._kafka, self._kafka.topic)

    def _caught_up(self) -> bool:
        """Whether batches have just come to their end."""
        if self._batches is None:
            return False
        self._jobs.getActiveJobsIds()  # a JVM that hangs does not answer: the watchdog then ends the run
        if done := self._batches.done():
            self._batches = None
        return done

    def _goes_on(self, act: Callable[[CandleStream], object]) -> bool:
        """Have the stream do something; whether it could, or is over so that another one has to go on."""
        assert self._stream is not None
        try:
            act(self._stream)
        except BacklogError:
            pass
        except AggregationError:
            if not self._streams.forget_checkpoint():
                raise
        else:
            return True
        self._stream.stop()
        self._stream = None
        return False
