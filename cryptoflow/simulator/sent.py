"""What a simulator has sent: how much, and the ids of which trades."""

from bisect import bisect_right
from dataclasses import dataclass

from cryptoflow.simulator.events import FRESH, Event, Kind


@dataclass
class Sent:
    """Counters; a frame that goes to two clients counts twice, except in `distinct`."""

    frames: int = 0
    """All but the protocol's own answers, errors and heartbeats."""
    trades: int = 0
    """Readable trades, duplicates included."""
    distinct: int = 0
    """Trades of the stream that somebody was sent; what a replay's file itself repeats counts each time."""
    duplicates: int = 0
    """Trades sent again, by the fault or after a subscription."""
    malformed: int = 0
    """Frames that are no readable trade."""
    late: int = 0
    """Trades sent long after their exchange time, by the fault."""

    def count(self, event: Event, clients: int) -> None:
        """Counts one frame that goes to so many clients."""
        self.frames += clients
        if event.kind is Kind.MALFORMED:
            self.malformed += clients
            return
        trades = event.trades * clients
        self.trades += trades
        self.distinct += event.trades if event.kind in FRESH else 0
        if event.kind is Kind.DUPLICATE:
            self.duplicates += trades
        elif event.kind is Kind.LATE:
            self.late += trades


class Ids:
    """Whole numbers, kept as the stretches without a hole that they make."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        """The first number after each stretch."""

    def add(self, number: int) -> None:
        """Takes a number in, if it is not in."""
        at = bisect_right(self._begins, number)
        if at and number < self._ends[at - 1]:
            return
        joins_before = at > 0 and self._ends[at - 1] == number
        joins_after = at < len(self._begins) and self._begins[at] == number + 1
        if joins_before and joins_after:
            self._ends[at - 1] = self._ends.pop(at)
            del self._begins[at]
        elif joins_before:
            self._ends[at - 1] = number + 1
        elif joins_after:
            self._begins[at] = number
        else:
            self._begins.insert(at, number)
            self._ends.insert(at, number + 1)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._begins, number)
        return at > 0 and number < self._ends[at - 1]

    @property
    def stretches(self) -> list[range]:
        """Them all, in order."""
        return [range(*ends) for ends in zip(self._begins, self._ends, strict=True)]
