"""Memory mode: websocket -> Spark -> candles handed to a callback; no Kafka, no Cassandra."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from cryptoflow.feeds.source import Feed
from cryptoflow.model.candle import Candle, CandleKey
from cryptoflow.pipeline.feeding import Feeding
from cryptoflow.pipeline.part import Part, RunContext, live
from cryptoflow.runtime.metrics import MemoryMetrics
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.aggregation import streamed
from cryptoflow.spark.folded import Counts
from cryptoflow.spark.memory_source import FrameBuffer
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.session import spark_session
from cryptoflow.spark.stream import Batch, CandleStream

MAX_CANDLES = 10_000
"""Candles kept for the end of the run; older ones have been handed out and are let go."""


class CandleBook:
    """The newest state of each candle, and the counts of what did not get into one.

    Args:
        on_candles: called with the candles of each batch.
    """

    def __init__(self, on_candles: Callable[[Sequence[Candle]], None]) -> None:
        self._on_candles = on_candles
        self._candles: dict[CandleKey, Candle] = {}
        self._counts = Counts()
        self._lock = threading.Lock()

    def write(self, batch: Batch) -> None:
        """Take a batch's candles in place of their older states."""
        candles = [each.candle for each in batch.folded.found]
        with self._lock:
            for candle in candles:
                self._candles.pop(candle.key, None)
                self._candles[candle.key] = candle
            while len(self._candles) > MAX_CANDLES:
                del self._candles[next(iter(self._candles))]
            self._counts = self._counts.plus(batch.folded.counts)
        self._on_candles(candles)

    def candles(self) -> list[Candle]:
        """All candles, the newest window first."""
        with self._lock:
            return sorted(self._candles.values(), key=lambda c: (-c.window_start.timestamp(), c.key))

    def counts(self) -> Counts:
        """What became of the frames of all batches."""
        with self._lock:
            return self._counts


def aggregate_in_memory(
    feed: Feed,
    settings: SparkSettings,
    run: RunContext,
    on_candles: Callable[[Sequence[Candle]], None],
    on_dead_letter: Callable[[bytes, str], None],
) -> tuple[list[Candle], MemoryMetrics]:
    """Aggregate the feed's trades until told to stop; gives the candles, the newest first, and the metrics.

    Raises:
        FeedError: the feed refuses the key or is gone for too long.
        AggregationError: the query failed.
    """
    book = CandleBook(on_candles)
    with (
        tempfile.TemporaryDirectory() as checkpoint,  # goes last: Spark tends its state there for as long as it lives
        spark_session(settings, run.home) as spark,
        FrameBuffer(on_dead_letter) as frames,
    ):
        rules = Rules(settings.window_s, settings.ahead_s)
        rows = streamed(frames.stream(spark), rules, settings.watermark_s)
        stream = CandleStream(rows, settings, Path(checkpoint), book.write)
        part = MemoryMode(Feeding(feed.client(frames, run.on_event)), frames, stream, book)
        metrics = live(part, run)
        return book.candles(), metrics


class MemoryMode(Part[MemoryMetrics]):
    """Memory mode at work."""

    def __init__(self, feeding: Feeding, frames: FrameBuffer, stream: CandleStream, book: CandleBook) -> None:
        self._feeding, self._frames, self._stream, self._book = feeding, frames, stream, book

    def start(self) -> None:
        """Start the query, and open the feed."""
        self._stream.start()
        self._feeding.start()

    def check(self) -> None:
        """See that the client receives and the query lives."""
        self._feeding.check()
        self._stream.check()

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Leave the feed, and aggregate all that came."""
        self._feeding.end()
        self._stream.drain({0: self._frames.end}, overdue)

    def stop(self) -> None:
        """Leave the feed, and end the query."""
        self._feeding.stop()
        self._stream.stop()

    def metrics(self) -> MemoryMetrics:
        """What came, and what became of it."""
        feed, counts = self._feeding.metrics(), self._book.counts()
        feed = replace(
            feed, duplicates=feed.duplicates + counts.duplicates, unreadable=feed.unreadable + counts.unreadable
        )
        return MemoryMetrics(feed=feed, late=counts.late, stream=self._stream.metrics())
