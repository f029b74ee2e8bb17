"""The aggregation: frames -> trades -> candles, as Spark data frames; one for the stream, the batch and memory mode.

A source hands in rows of `value` (the frame), `timestamp` (when it was received), `partition` and `offset`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.streaming.state import GroupState, GroupStateTimeout

from cryptoflow.model.trade import MAX_AHEAD_S, MAX_AMOUNT, MAX_TIME_S
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.decode import FRAMES, REFUSED, TRADES, Frames, refused
from cryptoflow.spark.pack import BLOCKS, FOLDED, Rules
from cryptoflow.spark.state import State

RULES = 1
"""The number of the aggregation's rules: to be raised when what it computes of the same trades changes."""

FRAME = FRAMES.names
"""The columns of what a source hands in."""

WATERMARK = pa.field("watermark_us", pa.int64())

STREAMED = from_arrow_schema(FOLDED.append(WATERMARK))
"""What became of a batch of the stream in one bucket, and the watermark up to which its trades were late."""

KEPT = ", ".join(f"{name} binary" for name in State._fields)

Part = Callable[[], Iterable[Frames]]
"""Gives the frames of a part of the log, in a worker."""


def definition(settings: SparkSettings) -> tuple[object, ...]:
    """What the aggregation computes, whatever its source text says: a change of it is a changed query."""
    limits = (MAX_AHEAD_S, MAX_AMOUNT, MAX_TIME_S)
    return RULES, TRADES.names, limits, settings.window_s, settings.watermark_s, settings.ahead_s


def streamed(frames: DataFrame, rules: Rules, watermark_s: float) -> DataFrame:
    """A row of `STREAMED` for each bucket of a stream's batch."""
    packed = frames.select(*FRAME).mapInArrow(
        lambda batches: rules.blocks(map(Frames.of, batches)), from_arrow_schema(BLOCKS)
    )
    timed = packed.withColumn("newest", sql.timestamp_micros("newest_us")).withWatermark(
        "newest", f"{watermark_s} seconds"
    )
    return timed.groupBy("bucket").applyInPandasWithState(
        _stepper(rules), STREAMED, KEPT, "update", GroupStateTimeout.NoTimeout
    )


def _stepper(rules: Rules) -> Callable[[Any, Iterable[pd.DataFrame], GroupState], Iterator[pd.DataFrame]]:
    """What Spark calls with the blocks of a bucket, and what it keeps of it."""

    def step(bucket: Any, frames: Iterable[pd.DataFrame], kept: GroupState) -> Iterator[pd.DataFrame]:
        rows: list[Any] = [row for frame in frames for row in frame.to_dict("records")]
        watermark_us = kept.getCurrentWatermarkMs() * 1000
        state, folded = rules.streamed(State.read(kept.get) if kept.exists else State(), rows, watermark_us)
        kept.update(state.written())
        yield pd.DataFrame([folded | {WATERMARK.name: watermark_us}])

    return step


def batched(spark: SparkSession, parts: Sequence[Part], rules: Rules) -> DataFrame:
    """A row of `pack.FOLDED` for each bucket of the frames of all parts."""
    together = _made(spark, parts, rules.blocks, BLOCKS).repartitionById(rules.buckets, "bucket")
    return together.mapInArrow(rules.folded, from_arrow_schema(FOLDED))


def unreadable(spark: SparkSession, parts: Sequence[Part]) -> DataFrame:
    """A row of `decode.REFUSED` for each of the frames of all parts that is no readable trade."""
    return _made(spark, parts, refused, REFUSED)


def _made(
    spark: SparkSession,
    parts: Sequence[Part],
    make: Callable[[Iterable[Frames]], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
) -> DataFrame:
    """What a function makes of each part: a task that reads it and hands over no more than that."""

    def work(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column("id").to_pylist():
                yield from make(parts[number]())

    return spark.range(0, len(parts), 1, len(parts)).mapInArrow(work, from_arrow_schema(schema))
