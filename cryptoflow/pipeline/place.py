"""Where an aggregation starts, where a slice of a backlog ends, and which hours that finishes.

Pure: what Kafka and Cassandra say is handed in.
"""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import msgspec

from cryptoflow.model.offsets import Offsets, later, records
from cryptoflow.model.window import EPOCH, HOUR, ceil_window, floor_window, utc_hour
from cryptoflow.tables.progress import Progress

MS_BITS = 42
"""Enough for the time of any record, in ms."""

EMPTY_HOURS = 7 * 24
"""For so many hours in a row that have no trade verdicts are asked for: longer than that no pair is followed."""


def first_start(begins: Offsets, whole_from: datetime, kept_until: datetime, window_s: int) -> Progress:
    """Where an aggregation starts that has no progress on record for its topic and tables.

    Trades of windows that are left alone count as late: their hours get their verdicts by a repair.

    Args:
        begins: what the topic has.
        whole_from: the exchange time from which on the topic has all trades; the epoch: none was deleted.
        kept_until: the end of the newest window that has a candle out of another topic; the epoch: there is none.
    """
    origin = max(ceil_window(whole_from, window_s), kept_until)
    return Progress(origin, dict(begins), dict(begins), origin, origin)


def next_start(stored: Progress, begins: Offsets) -> Progress:
    """Where an aggregation goes on: where it was committed, and at the beginning of partitions that are new.

    Args:
        begins: what the topic has; if that is not all it needs, `start_behind_cut` tells more.
    """
    return msgspec.structs.replace(stored, offsets=begins | stored.offsets, begins=begins | stored.begins)


def start_behind_cut(at: Progress, begins: Offsets, whole_from: datetime, window_s: int) -> Progress:
    """Where it goes on if Kafka has deleted of what it needs.

    Args:
        whole_from: the exchange time from which on the topic has all trades.
    """
    finished = max(at.finished, ceil_window(whole_from, window_s))
    return msgspec.structs.replace(
        at, finished=finished, origin=finished, offsets=later(at.offsets, begins), begins=later(at.begins, begins)
    )


def slice_end(begin: Mapping[int, int], ends: Offsets, most: int, at: Callable[[int, Offsets], Offsets]) -> Offsets:
    """Where a slice of a backlog ends: at one time in all partitions, with about `most` records.

    Only the log's time index can tell that one record came before another of another partition; where it can't,
    a slice is larger.

    Args:
        at: gives for a time in ms, and for `ends`, the first record of each partition received then or later.
    """
    if records(begin, ends) <= most:
        return ends

    def cut(time_ms: int) -> Offsets:
        found = at(time_ms, ends)
        return {place: max(begin.get(place, 0), min(found[place], end)) for place, end in ends.items()}

    low, high = 0, 1 << MS_BITS  # more than `most` lie before high, not more before low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if records(begin, cut(middle)) <= most else (low, middle)
    return cut(low) if records(begin, cut(low)) else cut(high)


def finished_by(newest: datetime | None, watermark_s: float, window_s: int, before: datetime) -> datetime:
    """By when windows are finished once a trade as new as `newest` has come."""
    if newest is None:
        return before
    return max(before, floor_window(newest - timedelta(seconds=watermark_s), window_s))


def finished_hours(before: datetime, after: datetime, traded: Collection[datetime]) -> list[datetime]:
    """The hours that are finished since windows that end by `after` are, and that were not when it was `before`.

    Of a long time without any trade, only those at its beginning.

    Args:
        before: the epoch, where nothing was finished.
        traded: hours that have trades.
    """
    first = utc_hour(before) if before > EPOCH else min(traded, default=after)
    every = max(0, math.ceil((utc_hour(after) - first) / HOUR))
    empty = {first + number * HOUR for number in range(min(every, EMPTY_HOURS))}
    return sorted(hour for hour in {*empty, *traded} if first <= hour and hour + HOUR <= after)


def hours_after(late: datetime, finished: datetime, judged: Collection[datetime]) -> list[datetime]:
    """The finished hours after one of a late trade, up to the first that has a verdict: those that lack theirs.

    They have none where the trade is older than all that was known of its pair.
    """
    found: list[datetime] = []
    hour = late + HOUR
    while len(found) < EMPTY_HOURS and hour + HOUR <= finished and hour not in judged:
        found.append(hour)
        hour += HOUR
    return found
