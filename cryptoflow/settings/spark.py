"""The Spark session and the query."""

from typing import Annotated

from pydantic import AfterValidator, ValidationInfo, field_validator

from cryptoflow.settings.setting import Count, Port, Positive, Settings, setting

DEFAULT_AHEAD_S = 60.0
"""How far ahead of its receive time, in s, a trade is still streamed."""

HOUR_S = 3600


def _part_of_an_hour(window_s: int) -> int:
    if HOUR_S % window_s:
        raise ValueError("it does not divide an hour, as 60, 300 and 3600 do")
    return window_s


class SparkSettings(Settings):
    """The Spark session and the query."""

    master: str = setting("SPARK_MASTER", "local[*]", "the Spark master", min_length=1)
    trigger_s: Positive = setting("CRYPTOFLOW_TRIGGER", 5.0, "seconds between micro-batches")
    watermark_s: Positive = setting("CRYPTOFLOW_WATERMARK", 300.0, "a trade this late, in s, is dropped and counted")
    max_ahead_s: Positive = setting(
        "CRYPTOFLOW_MAX_AHEAD",
        DEFAULT_AHEAD_S,
        "how far ahead of its receive time, in s, a trade may be and still be streamed; always below the watermark",
    )
    window_s: Annotated[Count, AfterValidator(_part_of_an_hour)] = setting(
        "CRYPTOFLOW_WINDOW", 60, "length of a candle's window, in s, a divisor of an hour"
    )
    shuffle_partitions: Count = setting("CRYPTOFLOW_SHUFFLE_PARTITIONS", 1, "partitions of the query's state")
    max_batch_trades: Count = setting(
        "CRYPTOFLOW_MAX_BATCH", 5_000_000, "trades in one batch, about: a backlog is worked off in slices of so many"
    )
    backlog_trades: Count = setting(
        "CRYPTOFLOW_BACKLOG", 200_000, "from how many trades behind a start works in batches"
    )
    ui_port: Port = setting("SPARK_UI_PORT", 4000, "port of the Spark UI")
    driver_memory: str = setting("SPARK_DRIVER_MEMORY", "2g", "memory of Spark's JVM", pattern=r"^[1-9][0-9]*[mgMG]$")

    @field_validator("max_ahead_s")
    @classmethod
    def _below_the_watermark(cls, max_ahead_s: float, info: ValidationInfo) -> float:
        """Of a value that is given; the default follows the watermark (`ahead_s`)."""
        watermark_s = info.data.get("watermark_s")
        if watermark_s is not None and max_ahead_s >= watermark_s:
            raise ValueError(f"it must be less than the watermark, which is {watermark_s:g} s")
        return max_ahead_s

    @property
    def ahead_s(self) -> float:
        """`max_ahead_s`; half the watermark where that is too short for the default."""
        return self.max_ahead_s if self.max_ahead_s < self.watermark_s else self.watermark_s / 2
