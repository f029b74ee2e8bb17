"""Which verdicts the hours of a trial have to have. Pure: what was traded, planted and filled is known."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from cryptoflow.model.trade import Trade
from cryptoflow.model.verdict import COMPLETE, QUIET, REPAIRED, SUSPECT
from cryptoflow.model.window import HOUR, utc_hour
from cryptoflow.simulator.sent import Ids
from cryptoflow_tests.repairing import moment

Right = Mapping[datetime, tuple[Collection[str], int]]
"""By the hour: one of which verdicts it is to have, and how many trades are to be missing."""


def right_verdicts(
    trades: Sequence[Trade], live: Ids, planted: Iterable[range], end: datetime, *, goes_on: bool
) -> Right:
    """Those of a pair's hours from its first trade on.

    Args:
        trades: all of them that are before `end`, from the first one that the topics have, in order.
        live: the ids of those that came from the feed, and not over REST.
        planted: the ids that no trade has.
        end: of the last hour.
        goes_on: whether the topics have a later one.
    """
    by_hour: dict[datetime, list[int]] = defaultdict(list)
    for trade in trades:
        by_hour[utc_hour(moment(trade.time_s))].append(int(trade.id))
    first, last = min(by_hour), end if goes_on else max(by_hour)
    holes = {hour: ids for ids in planted for hour in _hours_of(by_hour, ids)}
    return {hour: _right(hour, by_hour[hour], first, last, holes, live) for hour in _hours(first, end)}


def _right(
    hour: datetime,
    ids: Sequence[int],
    first: datetime,
    last: datetime,
    holes: Mapping[datetime, range],
    live: Ids,
) -> tuple[Collection[str], int]:
    """What is before the first trade is not known, nor what is after the last one."""
    if hour in holes:
        return {SUSPECT}, len(holes[hour])
    if hour == first or hour >= last:
        return {SUSPECT}, 0
    if not ids:
        return {QUIET}, 0
    # What came late from the feed is repaired, too.
    return {REPAIRED} if any(number not in live for number in ids) else {COMPLETE, REPAIRED}, 0


def _hours_of(by_hour: Mapping[datetime, Sequence[int]], ids: range) -> Iterator[datetime]:
    """The hours of the trades beside a hole."""
    beside = ids.start - 1, ids.stop
    return (hour for hour, found in by_hour.items() if any(found[0] <= number <= found[-1] for number in beside))


def _hours(first: datetime, end: datetime) -> Iterator[datetime]:
    while first < end:
        yield first
        first += HOUR
