"""The aggregation: frames -> trades -> candles, as Spark data frames; one for the stream, the batch and memory mode.

A source hands in rows of `value` (the frame), `timestamp` (when it was received), `partition` and `offset`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as sql
from pyspark.sql.pandas.types import from_arrow_schema

from cryptoflow.model.candle import Candle, Side
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import BUY, MAX_AHEAD_S, MAX_AMOUNT, MAX_TIME_S, SELL
from cryptoflow.settings import SparkSettings
from cryptoflow.spark import decode
from cryptoflow.spark.decode import FRAMES, NO_NUMBER, REFUSED, TRADES, Frames, decoder, folder, refused
from cryptoflow.spark.fold import GRID, schema_of

RULES = 1
"""The number of the aggregation's rules: to be raised when what it computes of the same trades changes."""

FRAME = FRAMES.names
"""The columns of what a source hands in."""

Part = Callable[[], Iterable[Frames]]
"""Gives the frames of a part of the log, in a worker."""


def definition(settings: SparkSettings) -> tuple[object, ...]:
    """What the aggregation computes, whatever its source text says: a change of it is a changed query."""
    limits = (MAX_AHEAD_S, MAX_AMOUNT, MAX_TIME_S)
    return RULES, TRADES.names, limits, settings.window_s, settings.watermark_s, settings.ahead_s


def trades(frames: DataFrame, ahead_s: float) -> DataFrame:
    """A row of `decode.TRADES` for each of the frames; those that are not `readable` have no meaning otherwise."""
    # Spark's own stubs take only the function that they call by its pandas name.
    return frames.select(*FRAME).mapInArrow(decoder(ahead_s), from_arrow_schema(TRADES))


def frames(spark: SparkSession, parts: Sequence[Part]) -> DataFrame:
    """A row of `decode.FRAMES` for each of the frames of all parts."""
    return _made(spark, parts, lambda some: (each.batch() for each in some), FRAMES)


def blocks(
    spark: SparkSession,
    parts: Sequence[Part],
    ahead_s: float,
    finished_ns: int = 0,
    counted: Offsets | None = None,
    buckets: int = 2,
    numbered: bool = False,
) -> DataFrame:
    """Rows of `decode.BLOCKS` out of the frames, for `batch_candles`; the arguments as for `decode.blocks`."""
    packed = decode.blocks(ahead_s, finished_ns, counted or {}, buckets, numbered)
    return _made(spark, parts, packed, decode.BLOCKS)


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


def unreadable(frames: DataFrame) -> DataFrame:
    """A row of `decode.REFUSED` for each of the frames that is no readable trade."""
    return frames.select(*FRAME).mapInArrow(refused, from_arrow_schema(REFUSED))


def _exact_sum(amount: str) -> Column:
    """The sum of doubles without the rounding of each step, so that it does not depend on their order.

    Each is split into a multiple of 2**-16, whose sums are exact up to 2**37, and a rest so small that the
    rounding of its sum is lost in the last digit of the whole.
    """
    coarse = f"(({amount} + {GRID!r}D) - {GRID!r}D)"
    return sql.expr(f"sum({coarse}) + sum({amount} - {coarse})")


def _side(bit: int) -> Column:
    part = f"if(side = {bit}, {{}}, 0D)"
    return sql.struct(
        sql.expr(f"count_if(side = {bit})").alias("trades"),
        _exact_sum(part.format("quantity")).alias("quantity"),
        _exact_sum(part.format("total")).alias("volume"),
        _exact_sum(part.format("price")).alias("price_sum"),
    )


_RANK = r"if(id rlike '^[0-9]+\\z', lpad(id, 128, '0'), concat(':', id))"

EXCHANGE_ORDER = f"struct(time_ns, id_number, if(id_number < {NO_NUMBER}L, '', {_RANK}), id)"
"""Exchange time, then trade id: numeric ids by their number, all others after them by their text.

A number too long for `id_number` is padded to the longest id's length, and a colon sorts after all digits.
"""


def candles(trades: DataFrame, window: Column) -> DataFrame:
    """A row for each pair and `window`, whose start is `start_s`, shaped like `model.candle.Candle`.

    `first_partition`, `last_partition` and `first_offset` tell before which place of the log none of its trades lies.
    """
    return trades.groupBy("pair", window).agg(
        sql.expr(f"min_by(price, {EXCHANGE_ORDER})").alias("open"),
        sql.max("price").alias("high"),
        sql.min("price").alias("low"),
        sql.expr(f"max_by(price, {EXCHANGE_ORDER})").alias("close"),
        sql.count(sql.lit(1)).alias("trades"),
        _exact_sum("quantity").alias("quantity"),
        _exact_sum("total").alias("volume"),
        _side(BUY).alias("buy"),
        _side(SELL).alias("sell"),
        sql.min("partition").alias("first_partition"),
        sql.max("partition").alias("last_partition"),
        sql.min("offset").alias("first_offset"),
    )


def stream_candles(trades: DataFrame, settings: SparkSettings) -> DataFrame:
    """The candles of a stream of readable trades; late ones are dropped, and those ahead only move the watermark."""
    # The condition names the event time: Spark would else drop the rows before they move the watermark.
    in_time = "not (ahead and event_time is not null)"
    unique = (
        trades.withWatermark("event_time", f"{settings.watermark_s} seconds")
        .where(in_time)
        .dropDuplicatesWithinWatermark(["pair", "id"])
    )
    rows = candles(unique, sql.window("event_time", f"{settings.window_s} seconds"))
    return rows.withColumn("start_s", sql.expr("unix_seconds(window.start)")).drop("window")


def batch_candles(blocks: DataFrame, window_s: int, buckets: int = 2, numbered: bool = False) -> DataFrame:
    """A row of `fold.CANDLES`, or `NUMBERED`, for each pair and window of all `decode.BLOCKS` of a batch."""
    together = blocks.select("bucket", "trades").repartitionById(buckets, "bucket")
    return together.mapInArrow(folder(window_s, numbered), from_arrow_schema(schema_of(numbered)))


def to_candle(row: Row, window_s: int) -> Candle:
    """The candle in a collected row of `candles`."""
    market, from_coin, to_currency = row.pair.split("~")
    return Candle(
        market=market,
        from_coin=from_coin,
        to_currency=to_currency,
        window_start=datetime.fromtimestamp(row.start_s, UTC),
        window_s=window_s,
        open=row.open,
        high=row.high,
        low=row.low,
        close=row.close,
        trades=row.trades,
        quantity=row.quantity,
        volume=row.volume,
        buy=Side(*row.buy),
        sell=Side(*row.sell),
    )


def first_places(row: Row) -> Offsets:
    """Before which offset of each partition no trade of a row of `candles` lies; partitions left out hold none."""
    return dict.fromkeys(range(row.first_partition, row.last_partition + 1), row.first_offset)


def at_or_past(offsets: Mapping[int, int]) -> str:
    """The Spark condition that a row is at or past `offsets`; of a partition that is left out, all are."""
    entries = ", ".join(f"{partition}, {offset}L" for partition, offset in offsets.items())
    return f"offset >= coalesce(try_element_at(map({entries}), partition), 0)" if entries else "true"
