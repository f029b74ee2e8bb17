"""The query: frames -> trades -> windows -> candles, as Spark data frames; the same for Kafka and for memory mode.

A source hands in rows of `value` (the frame) and `timestamp` (when it was received).
"""

import inspect
import sys
from datetime import UTC, datetime

from msgspec.structs import FieldInfo, fields
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as sql
from pyspark.sql.types import BooleanType, DoubleType, LongType, StringType, StructField, StructType

from cryptoflow.model.candle import Candle, Side
from cryptoflow.model.trade import BUY, MAX_AHEAD_S, MAX_AMOUNT, MAX_TIME_S, NS_PER_S, SELL, TRADE_TYPE, Trade
from cryptoflow.settings import SparkSettings

IDENTITY = ("M", "FSYM", "TSYM", "ID")
"""What tells a trade from its duplicates, as the feed names it."""

OBSERVATION = "frames"
"""Name of the counts that every batch carries: `rows`, `unreadable` and `late`."""

_SPARK_TYPES = {str: StringType(), float: DoubleType(), int: LongType()}

GRID = 1.5 * 2.0**52 / 2**16
"""Adding and taking away this rounds a double to a multiple of 2**-16; see `_exact_sum`."""


def _spark_field(info: FieldInfo) -> StructField:
    text = str(info.type)
    kind = next(kind for kind in (str, float, int) if f"'{kind.__name__}'" in text or kind.__name__ in text)
    return StructField(info.encode_name, _SPARK_TYPES[kind])


FRAME_SCHEMA = StructType([StructField("TYPE", StringType()), *map(_spark_field, fields(Trade))])
"""Spark's schema of a trade's frame, made from `Trade`."""


WRAPPED = StructType(
    [StructField("frame", FRAME_SCHEMA), StructField("whole", BooleanType()), StructField("fault", StringType())]
)
"""A frame with something after it: Spark's JSON reader stops at the end of the first value, whatever follows."""

JSON_OPTIONS = {
    "columnNameOfCorruptRecord": "fault",  # set by any field of another type, even by one that nobody asks for
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}

IN_NO_NAME = r"[~\s\x1c-\x1f\x85\p{Z}]"
"""What `trades.Name` excludes: Java's \\s is narrower than Python's."""


def readable() -> Column:
    """Whether the parsed frame `t` is a trade: the rules of `trades.Trade`, as a Spark expression."""
    names = " and ".join(
        f"length(t.{name}) between 1 and 64 and not t.{name} rlike r'{IN_NO_NAME}'" for name in IDENTITY[:3]
    )
    return sql.expr(
        rf"""coalesce(json.whole and json.fault is null and is_valid_utf8(cast(value as string))
        and t.TYPE = '{TRADE_TYPE}' and {names}
        and length(t.ID) between 1 and 128 and t.F rlike r'^[0-9]{{1,9}}\z'
        and t.TS between 0 and {MAX_TIME_S - 1} and coalesce(t.TSNS, 0) between 0 and {NS_PER_S - 1}
        and t.TS <= unix_seconds(timestamp) + {MAX_AHEAD_S}
        and t.P > 0 and t.P <= {MAX_AMOUNT!r}D and t.Q between 0 and {MAX_AMOUNT!r}D
        and t.TOTAL between 0 and {MAX_AMOUNT!r}D, false)"""
    )


def parsed(frames: DataFrame) -> DataFrame:
    """`frames` with the frame as struct `t` and whether it is `readable`."""
    wrapped = sql.concat(sql.lit('{"frame":'), sql.col("value").cast("string"), sql.lit(',"whole":true}'))
    return (
        frames.withColumn("json", sql.from_json(wrapped, WRAPPED, JSON_OPTIONS))
        .withColumn("t", sql.col("json.frame"))
        .withColumn("readable", readable())
        .drop("json")
    )


TIME_NS = f"t.TS * {NS_PER_S} + coalesce(t.TSNS, 0)"
"""Exchange time of the frame `t`, in ns since the epoch."""


def trades(frames: DataFrame, late: str = "false", not_before_ns: int = 0) -> DataFrame:
    """The readable trades of `frames` from exchange time `not_before_ns` on; the counts go into the batch's metrics.

    Args:
        frames: rows of `value` and `timestamp`.
        late: a Spark condition on `frames`: which of the trades before `not_before_ns` count as late.
        not_before_ns: exchange times before it belong to windows that an earlier query has finished.
    """
    counted = parsed(frames).observe(
        OBSERVATION,
        sql.count(sql.lit(1)).alias("rows"),
        sql.expr("count_if(not readable)").alias("unreadable"),
        sql.expr(f"count_if(readable and {TIME_NS} < {not_before_ns} and ({late}))").alias("late"),
    )
    return (
        counted.where("readable")
        .where(f"{TIME_NS} >= {not_before_ns}")
        .selectExpr(
            *(f"t.{name}" for name in IDENTITY),
            "t.P as price",
            "t.Q as quantity",
            "t.TOTAL as total",
            f"{TIME_NS} as time_ns",
            f"cast(t.F as int) & {SELL | BUY} as side",
        )
        .withColumn("event_time", sql.expr("timestamp_micros(time_ns div 1000)"))
    )


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


EXCHANGE_ORDER = "struct(time_ns, if(ID rlike r'^[0-9]+\\z', lpad(ID, 128, '0'), concat(':', ID)), ID)"
"""Exchange time, then trade id: numeric ids by their number, all others after them by their text.

A number is padded to the longest id's length, and a colon sorts after all digits.
"""


def candles(trades: DataFrame, settings: SparkSettings) -> DataFrame:
    """One row for each (window, market, pair), shaped like `candles.Candle`; late trades are dropped."""
    return (
        trades.withWatermark("event_time", f"{settings.watermark_s} seconds")
        .dropDuplicatesWithinWatermark(list(IDENTITY))
        .groupBy(sql.window("event_time", f"{settings.window_s} seconds"), *IDENTITY[:3])
        .agg(
            sql.expr(f"min_by(price, {EXCHANGE_ORDER})").alias("open"),
            sql.max("price").alias("high"),
            sql.min("price").alias("low"),
            sql.expr(f"max_by(price, {EXCHANGE_ORDER})").alias("close"),
            sql.count(sql.lit(1)).alias("trades"),
            _exact_sum("quantity").alias("quantity"),
            _exact_sum("total").alias("volume"),
            _side(BUY).alias("buy"),
            _side(SELL).alias("sell"),
        )
        .withColumn("start_s", sql.expr("unix_seconds(window.start)"))
        .drop("window")
    )


def to_candle(row: Row, window_s: int) -> Candle:
    """The candle in a collected row of `candles`."""
    return Candle(
        market=row.M,
        from_coin=row.FSYM,
        to_currency=row.TSYM,
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


def definition() -> str:
    """What the query is, as text: its own source. A change of it is a changed query."""
    return inspect.getsource(sys.modules[__name__])
