"""Tumbling event-time windows, aligned to the epoch.

Pure: times are handed in, as ns since the epoch, and the machine's time zone never matters.
"""

from datetime import UTC, datetime, timedelta

from cryptoflow.model.trade import NS_PER_S

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HOUR = timedelta(hours=1)

DAY_S = 86_400

LONGER_S = {"5m": 300, "15m": 900, "1h": 3600, "1d": DAY_S}
"""The lengths of longer candles, in s, by name: each is a multiple of the one before. A day is a UTC day."""

NS_PER_US = 1_000


def utc_time(epoch_ns: int) -> datetime:
    """The aware UTC datetime of a time in ns since the epoch, down to the microsecond; exact, unlike a float."""
    return EPOCH + timedelta(microseconds=epoch_ns // NS_PER_US)


def epoch_ns(moment: datetime) -> int:
    """An aware time in ns since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1) * NS_PER_US


def as_utc(naive: datetime) -> datetime:
    """The aware time of one that is UTC and does not say so."""
    return naive.replace(tzinfo=UTC)


def window_start_ns(event_time_ns: int, window_s: int) -> int:
    """The start, in ns since the epoch, of the window of `window_s` seconds that holds `event_time_ns`."""
    return event_time_ns - event_time_ns % (window_s * NS_PER_S)


def window(event_time_ns: int, window_s: int) -> tuple[datetime, datetime]:
    """(start, end) of the window that holds `event_time_ns`, aware UTC; the end is not in it."""
    start = utc_time(window_start_ns(event_time_ns, window_s))
    return start, start + timedelta(seconds=window_s)


def floor_window(moment: datetime, window_s: int) -> datetime:
    """The start of the window that holds an aware time; aware UTC."""
    length = timedelta(seconds=window_s)
    return EPOCH + (moment - EPOCH) // length * length


def ceil_window(moment: datetime, window_s: int) -> datetime:
    """The first start of a window at an aware time or later."""
    floor = floor_window(moment, window_s)
    return floor if floor == moment else floor + timedelta(seconds=window_s)


def utc_hour(moment: datetime) -> datetime:
    """The start of the UTC hour that holds an aware time."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def utc_midnight(window_end: datetime) -> datetime:
    """The `date` of a window: UTC midnight of its end's day; a window that ends at 00:00 has the new day's.

    Args:
        window_end: aware.
    """
    return window_end.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
