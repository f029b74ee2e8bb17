"""Holes: numbers of a pair's trades that have not come, and those that an earlier run has left. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from cryptoflow.feeds.gaps import Gap
from cryptoflow.model.trade import Trade

FAR_BACK = 1000
"""Numbers this far below are not out of order. One whose time is the newest of all begins the numbers anew."""

NOT_SENT = "the feed did not send them"


@dataclass(slots=True)
class Hole:
    """Numbers that have not come, between two that have."""

    first: int
    last: int
    since_s: float
    from_ns: int
    to_ns: int
    reason: str
    told: Gap | None = None
    asked: int = 0
    """How often it was asked for."""
    due_s: float = 0.0
    """When to ask for it."""

    def without(self, number: int, time_ns: int) -> "list[Hole]":
        """What is left of it when one of its numbers has come."""
        parts = replace(self, last=number - 1, to_ns=time_ns), replace(self, first=number + 1, from_ns=time_ns)
        return [part for part in parts if part.first <= part.last]

    def up_to(self, last: int) -> "list[Hole]":
        """It, in two where it goes on after a number."""
        if not self.first <= last < self.last:
            return [self]
        return [replace(self, last=last), replace(self, first=last + 1)]

    def since(self, time_ns: int) -> "list[Hole]":
        """It, in two where it begins before a time: at about the number of that time."""
        share = (time_ns - self.from_ns) / max(1, self.to_ns - self.from_ns)
        if not 0 < share < 1:
            return [self]
        middle = self.first + int(share * (self.last - self.first))
        return [replace(self, last=middle, to_ns=time_ns), replace(self, first=middle + 1, from_ns=time_ns)]


def in_order(trades: Iterable[Trade]) -> dict[int, int]:
    """Exchange times by number, of what came since the numbers began anew at last."""
    found: dict[int, int] = {}
    top = 0
    for trade in sorted(trades, key=lambda trade: (trade.event_time_ns, trade.sequence or 0)):
        if trade.sequence is None:
            continue
        if trade.sequence < top - FAR_BACK:
            found, top = {}, 0
        found[trade.sequence] = trade.event_time_ns
        top = max(top, trade.sequence)
    return dict(sorted(found.items()))


def between(numbered: Mapping[int, int]) -> Iterator[Hole]:
    """The holes between numbers that have come."""
    for (number, time_ns), (after, after_ns) in pairwise(numbered.items()):
        if after > number + 1:
            from_ns, to_ns = sorted((time_ns, after_ns))
            yield Hole(number + 1, after - 1, 0, from_ns, to_ns, NOT_SENT)


def before(number: int, gaps: Iterable[Gap]) -> Iterator[Hole]:
    """The holes of gaps, as far as they are below a number."""
    for gap in gaps:
        for first, last in gap.holes:
            if first < number:
                yield Hole(first, min(last, number - 1), 0, gap.from_ns, gap.to_ns, gap.reason)
