"""The candles of a stretch of the log, as one batch: it has all of its trades before it, so none is late."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from cryptoflow.errors import AggregationError
from cryptoflow.model.offsets import Offsets, earlier, records
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark import folded
from cryptoflow.spark.aggregation import batched
from cryptoflow.spark.decode import Frames
from cryptoflow.spark.folded import Folded, Found
from cryptoflow.spark.kafka_log import Stretch, parts
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.session import cause_of

BUCKET_TRADES = 500_000
"""Trades that are held together: some 50 MB, which fits into the memory beside others."""


def candles_between(spark: SparkSession, kafka: KafkaSettings, stretches: Sequence[Stretch], rules: Rules) -> Folded:
    """What becomes of the trades of stretches of the log, by some rules, but for their buckets.

    Raises:
        AggregationError: they could not be read, or Spark failed.
    """
    if not (read := parts(kafka, stretches)):
        return Folded()
    size = sum(records(stretch.begin, stretch.end) for stretch in stretches)
    buckets = max(2, math.ceil(size / BUCKET_TRADES))
    try:
        rows = batched(spark, read, rules._replace(buckets=buckets)).collect()
    except PySparkException as error:
        raise AggregationError(f"The aggregation failed: {cause_of(error)}") from error
    return folded.read([row.asDict() for row in rows], rules.window_s)


def candles_in(frames: Iterable[Frames], rules: Rules) -> Folded:
    """The same of a few frames, in the log's order, by this process instead of Spark's workers."""
    rows = [row for batch in rules.folded(rules.blocks(frames)) for row in batch.to_pylist()]
    return folded.read(rows, rules.window_s)


def begins_of(found: Sequence[Found], not_before: datetime, ends: Offsets) -> Offsets:
    """Before which place none of the trades of windows that begin at a time or later lies; `ends` if there are none."""
    begins = dict(ends)
    for each in found:
        if each.candle.window_start >= not_before:
            begins = earlier(begins, each.first)
    return begins
