"""A real query over a buffer that a test fills, and the batches it wrote."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import msgspec
from pyspark.sql import SparkSession

from cryptoflow.model.candle import Candle, CandleKey
from cryptoflow.model.trade import Trade, write_trade
from cryptoflow.runtime.stop import Deadline
from cryptoflow.settings import SparkSettings
from cryptoflow.spark import aggregation
from cryptoflow.spark.memory_source import FrameBuffer
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.stream import Batch, CandleStream

NOON_S = 1_610_107_200  # 2021-01-08 12:00:00 UTC
PATIENCE_S = 60.0
SETTINGS = SparkSettings(trigger_s=0.05)

_BASE = Trade("Kraken", "BTC", "USD", "1", "0", NOON_S, 1.0, 2.0, 2.0)


def a_trade(number: int, **changes: Any) -> Trade:
    """A trade whose id is `number`."""
    return msgspec.structs.replace(_BASE, **{"id": str(number)} | changes)


def after(timeout_s: float) -> Callable[[], bool]:
    """Overdue after that time."""
    deadline = Deadline(timeout_s)
    return lambda: deadline.passed


class Streaming:
    """A buffer, a query over it and what the query wrote."""

    def __init__(self, spark: SparkSession, checkpoint: Path, settings: SparkSettings) -> None:
        self.checkpoint = checkpoint
        self.batches: list[Batch] = []
        self.before_write: Callable[[Batch], object] = lambda batch: None
        self.buffer = FrameBuffer()
        self._settings = settings
        self._spark = spark
        self._changed = threading.Condition()
        self.stream = self.another_stream()

    def another_stream(self) -> CandleStream:
        """A new query over the same buffer and checkpoint."""
        settings = self._settings
        frames = self.buffer.stream(self._spark).repartition(3)
        rows = aggregation.streamed(frames, Rules(settings.window_s, settings.ahead_s, buckets=3), settings.watermark_s)
        self.stream = CandleStream(rows, self._settings, self.checkpoint, self._write)
        return self.stream

    def _write(self, batch: Batch) -> None:
        self.before_write(batch)
        with self._changed:
            self.batches.append(batch)
            self._changed.notify_all()

    def send(self, trades: Iterable[Trade]) -> None:
        for trade in trades:
            self.buffer.trade(trade, write_trade(trade))

    def await_written(self) -> None:
        """Until everything sent is in a batch that was written."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.total("rows") >= self.buffer.end, PATIENCE_S), self.batches

    def await_watermark(self, time_s: int) -> None:
        """Until a batch was written that moved the watermark there: in the next one, trades up to it are late."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self.batches[-1].watermark.timestamp() >= time_s, PATIENCE_S)
            assert reached, self.batches

    def total(self, count: str) -> int:
        return sum(getattr(batch.folded.counts, count) for batch in self.batches)

    @property
    def candles(self) -> dict[CandleKey, Candle]:
        return {each.candle.key: each.candle for batch in self.batches for each in batch.folded.found}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stream.stop()
        self.buffer.__exit__()
