"""Tumbling event-time windows, aligned to the epoch.

Pure: times are handed in, as ns since the epoch, and the machine's time zone never matters.
"""

from datetime import UTC, datetime, timedelta

from cryptoflow.model.trade import NS_PER_S

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NS_PER_US = 1_000


def utc_time(time_ns: int) -> datetime:
    """The aware UTC datetime of `time_ns`, down to the microsecond; exact, unlike a float timestamp."""
    return EPOCH + timedelta(microseconds=time_ns // NS_PER_US)


def window_start_ns(event_time_ns: int, window_s: int) -> int:
    """The start, in ns since the epoch, of the window of `window_s` seconds that holds `event_time_ns`."""
    return event_time_ns - event_time_ns % (window_s * NS_PER_S)


def window(event_time_ns: int, window_s: int) -> tuple[datetime, datetime]:
    """(start, end) of the window that holds `event_time_ns`, aware UTC; the end is not in it."""
    start = utc_time(window_start_ns(event_time_ns, window_s))
    return start, start + timedelta(seconds=window_s)


def utc_midnight(window_end: datetime) -> datetime:
    """The `date` of a window: UTC midnight of its end's day; a window that ends at 00:00 has the new day's.

    Args:
        window_end: aware.
    """
    return window_end.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
