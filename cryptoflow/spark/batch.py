"""The candles of a stretch of the log, as one batch: it has all of its trades before it, so none is late."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Observation, Row, SparkSession
from pyspark.sql import functions as sql

from cryptoflow.errors import AggregationError
from cryptoflow.model.candle import Candle
from cryptoflow.model.offsets import Offsets, earlier, records
from cryptoflow.model.trade import NS_PER_S
from cryptoflow.model.verdict import Run
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark import aggregation, decode
from cryptoflow.spark.aggregation import first_places, to_candle
from cryptoflow.spark.decode import Frames
from cryptoflow.spark.kafka_log import Stretch, parts
from cryptoflow.spark.session import cause_of

BUCKET_TRADES = 500_000
"""Trades that are held together: some 50 MB, which fits into the memory beside others."""


class Counted(msgspec.Struct, frozen=True):
    """What became of the new records of a stretch; times are aware UTC."""

    rows: int
    unreadable: int
    late: int
    """Trades that wait for a repair: of windows that are finished, or too far ahead."""
    newest: datetime | None
    """The newest exchange time, that of trades too far ahead left out; None: there is no trade."""


class Found(msgspec.Struct, frozen=True):
    """A candle, the trades that made it with their duplicates, and before which place of the log none of them lies."""

    candle: Candle
    copies: int
    first: Offsets
    runs: Sequence[Run] = ()
    """The numbers of its trades, if they were asked for."""


class MarkedTrades(msgspec.Struct, frozen=True):
    """Trades of a pair and an hour in a partition of the log, that are in no candle."""

    pair: str
    hour_s: int
    partition: int
    first_offset: int
    last_offset: int
    trades: int
    newest_ns: int


def candles_between(
    spark: SparkSession,
    kafka: KafkaSettings,
    stretches: Sequence[Stretch],
    window_s: int,
    ahead_s: float,
    finished_ns: int = 0,
    counted: Offsets | None = None,
    numbered: bool = False,
) -> tuple[list[Found], Counted]:
    """The candles of windows that begin at `finished_ns` or later, out of the trades between two places.

    Args:
        stretches: where the trades lie.
        ahead_s: trades that are ahead of their receive time by more, in s, are left out.
        counted: what comes before these offsets was counted before.
        numbered: whether the numbers of the trades are asked for.

    Raises:
        AggregationError: it could not be read, or Spark failed.
    """
    if not (read := parts(kafka, stretches)):
        return [], Counted(0, 0, 0, None)  # over no rows at all, Spark leaves the counts out
    counts = Observation()
    size = sum(records(stretch.begin, stretch.end) for stretch in stretches)
    buckets = max(2, math.ceil(size / BUCKET_TRADES))
    blocks = aggregation.blocks(spark, read, ahead_s, finished_ns, counted, buckets, numbered).observe(
        counts,
        *(sql.sum(name).alias(name) for name in ("rows", "unreadable", "late")),
        sql.max("newest_us").alias("newest_us"),
    )
    rows = _collected(aggregation.batch_candles(blocks, window_s, buckets, numbered))
    return [_found(row, window_s) for row in rows], _counted(counts.get)


def candles_in(frames: Iterable[Frames], window_s: int, ahead_s: float) -> list[Found]:
    """The same of a few frames, in the log's order, by this process instead of Spark's workers, with their numbers."""
    packed = decode.blocks(ahead_s, 0, {}, 1, numbered=True)
    rows = [row for batch in decode.folder(window_s, numbered=True)(packed(frames)) for row in batch.to_pylist()]
    return [_found(Row(**{name: _as_spark(value) for name, value in row.items()}), window_s) for row in rows]


def _as_spark(value: object) -> object:
    return tuple(value.values()) if isinstance(value, dict) else value


def _found(row: Row, window_s: int) -> Found:
    runs = row.runs if "runs" in row else ()
    ordered = [(run["first"], run["last"]) for run in runs]
    return Found(to_candle(row, window_s), row.copies, first_places(row), ordered)


def _counted(counts: dict[str, int | None]) -> Counted:
    newest_us = counts["newest_us"]
    newest = None if newest_us is None else datetime.fromtimestamp(newest_us / 1e6, UTC)
    return Counted(counts["rows"] or 0, counts["unreadable"] or 0, counts["late"] or 0, newest)


def marked_between(
    spark: SparkSession, kafka: KafkaSettings, stretch: Stretch, ahead_s: float, unfit_condition: str
) -> list[MarkedTrades]:
    """The trades of a stretch that a condition says are in no candle, by pair, hour and partition."""
    trades = aggregation.trades(aggregation.frames(spark, parts(kafka, [stretch])), ahead_s)
    hour = sql.expr(f"time_ns div {3600 * NS_PER_S} * 3600").alias("hour_s")
    marked = (
        trades.where("readable")
        .where(unfit_condition)
        .groupBy("pair", hour, "partition")
        .agg(
            sql.min("offset").alias("first_offset"),
            sql.max("offset").alias("last_offset"),
            sql.count(sql.lit(1)).alias("trades"),
            sql.max("time_ns").alias("newest_ns"),
        )
    )
    return [MarkedTrades(**row.asDict()) for row in _collected(marked)]


def _collected(rows: DataFrame) -> list[Row]:
    try:
        return rows.collect()
    except PySparkException as error:
        raise AggregationError(f"The aggregation failed: {cause_of(error)}") from error


def begins_of(found: Sequence[Found], not_before: datetime, ends: Offsets) -> Offsets:
    """Before which place none of the trades of windows that begin at a time or later lies; `ends` if there are none."""
    begins = dict(ends)
    for each in found:
        if each.candle.window_start >= not_before:
            begins = earlier(begins, each.first)
    return begins
