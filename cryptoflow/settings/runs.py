"""How runs are timed, what is kept of them, and where."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field

from cryptoflow.settings.setting import List, Positive, Settings, setting

DEFAULT_TIMEOUT_S = 150.0
"""How long a timed run streams, in seconds."""

MAX_HISTORY_DAYS = 36500
"""A hundred years: what ended before the year 1 is no date."""


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("it is no time zone, such as UTC or Europe/Berlin")
    return name


class TimedSettings(Settings):
    """When a schedule starts its timed runs, and how they stream."""

    cron: str = setting("CRON", "0 * * * *", "when a run starts: minute, hour, day, month, day of the week")
    time_zone: Annotated[str, AfterValidator(_known_zone)] = setting("TIME_ZONE", "UTC", "the time zone of that")
    timeout_s: Positive = setting("TIMEOUT", DEFAULT_TIMEOUT_S, "how long a run streams, in s")
    subscriptions: List | None = setting(
        "SUBSCRIPTIONS", None, "comma-separated 0~MARKET~COIN~CURRENCY; none: those of the feed"
    )


class TimedKafkaSettings(TimedSettings):
    """The schedule of kafka mode."""

    env_prefix = "CRYPTOFLOW_TIMED_KAFKA_"


class TimedMemorySettings(TimedSettings):
    """The schedule of memory mode."""

    env_prefix = "CRYPTOFLOW_TIMED_MEMORY_"


class HistorySettings(Settings):
    """What Dagster's history keeps."""

    days: Annotated[float, Field(ge=0, le=MAX_HISTORY_DAYS, allow_inf_nan=False)] = setting(
        "CRYPTOFLOW_HISTORY_DAYS", 30.0, "days after which Dagster's record of a run is deleted; 0: never"
    )


def home(env: Mapping[str, str] | None = None) -> Path:
    """The folder of jars, service data and checkpoints."""
    return Path((os.environ if env is None else env).get("CRYPTOFLOW_HOME") or ".cryptoflow").absolute()
