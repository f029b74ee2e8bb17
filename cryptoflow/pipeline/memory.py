"""Memory mode: websocket -> Spark -> candles handed to a callback; no Kafka, no Cassandra."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptoflow.feeds.client import ClientEvent
from cryptoflow.feeds.source import Feed
from cryptoflow.model.candle import Candle, CandleKey
from cryptoflow.pipeline.supervision import Control, FeedThread, Figures, feed_figures
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.aggregation import stream_candles, trades
from cryptoflow.spark.memory_source import FrameBuffer
from cryptoflow.spark.metrics import observed
from cryptoflow.spark.session import spark_session
from cryptoflow.spark.stream import Batch, CandleStream

MAX_CANDLES = 10_000
"""Candles kept for the end of the run; older ones have been handed out and are let go."""


class CandleBook:
    """The newest state of each candle, and the counts of what did not get into one."""

    def __init__(self) -> None:
        self._candles: dict[CandleKey, Candle] = {}
        self._counts = dict.fromkeys(("late", "duplicates", "unreadable"), 0)
        self._lock = threading.Lock()

    def write(self, batch: Batch) -> None:
        """Take a batch's candles in place of their older states."""
        with self._lock:
            for candle in batch.candles:
                self._candles.pop(candle.key, None)
                self._candles[candle.key] = candle
            while len(self._candles) > MAX_CANDLES:
                del self._candles[next(iter(self._candles))]
            for name in self._counts:
                self._counts[name] += getattr(batch.counts, name)

    def candles(self) -> list[Candle]:
        """All candles, the newest window first."""
        with self._lock:
            return sorted(self._candles.values(), key=lambda c: (-c.window_start.timestamp(), c.key))

    def counts(self) -> dict[str, int]:
        """Trades that are in no candle."""
        with self._lock:
            return dict(self._counts)


def aggregate_in_memory(
    feed: Feed,
    settings: SparkSettings,
    home: Path,
    control: Control,
    on_event: Callable[[ClientEvent], None],
    on_candles: Callable[[Sequence[Candle]], None],
    on_dead_letter: Callable[[bytes, str], None],
) -> tuple[list[Candle], Figures]:
    """Aggregate the feed's trades until told to stop; gives the candles, the newest first, and the figures.

    Raises:
        FeedError: the feed refuses the key or is gone for too long.
        AggregationError: the query failed.
    """
    book = CandleBook()

    def write(batch: Batch) -> None:
        book.write(batch)
        on_candles(batch.candles)

    with (
        spark_session(settings, home) as spark,
        tempfile.TemporaryDirectory() as folder,
        FrameBuffer(on_dead_letter) as frames,
    ):
        client = feed.client(frames, on_event)
        rows = stream_candles(observed(trades(frames.stream(spark), settings.ahead_s)), settings)
        stream = CandleStream(rows, settings, Path(folder), write)

        def figures() -> Figures:
            counted = feed_figures(client.stats)
            for name, count in book.counts().items():
                counted[name] = counted.get(name, 0) + count
            return counted | stream.report()

        def check() -> None:
            thread.check()
            stream.check()

        stream.start()
        try:
            with FeedThread(client) as thread:
                control.supervise(check, figures)
                thread.end()
            stream.drain({0: frames.end}, control.drain_overdue)
            return book.candles(), figures()
        finally:
            stream.stop()
