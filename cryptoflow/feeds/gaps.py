"""The ledger of a feed's trades: which numbers of each pair have come, so which are missing, and since when.

Numbers step by one for each trade of a pair: the ids of most venues, CryptoCompare's sequence. They come out of order
within a frame and after a reconnect, so a hole is a gap only when it has been open for a while. Pairs without numbers
have gaps by time: from the last trade before an outage to the first one after, unless a repeated trade joins the two.

Pure; clocks are handed in.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cryptoflow.model.trade import Pair, Trade
from cryptoflow.model.window import utc_time
from cryptoflow.venues.base import subscribed_pairs

MAX_HOLES = 10_000
"""Holes of a pair that are remembered, so that it is known when they are filled; the oldest go first."""

FAR_BACK = 1000
"""Numbers this far below are not out of order. One whose time is the newest of all begins the numbers anew."""

NOT_SENT = "the feed did not send them"
BEGUN_ANEW = "the feed's numbers have begun anew"


@dataclass(frozen=True)
class Gap:
    """Trades of a pair with exchange times from `from_ns` to `to_ns` (ns since the epoch) may be missing.

    Attributes:
        first, last: the first and the last missing number; None: the gap is known by its times alone.
        missing: how many of the numbers in between are.
    """

    market: str
    from_coin: str
    to_currency: str
    from_ns: int
    to_ns: int
    reason: str
    first: int | None = None
    last: int | None = None
    missing: int | None = None

    @property
    def pair(self) -> Pair:
        """(market, from coin, to currency)."""
        return self.market, self.from_coin, self.to_currency

    def __str__(self) -> str:
        if self.missing is None:
            return f"Trades {self._place} may be missing: {self.reason}."
        return f"{self._counted} {self._place} {'is' if self.missing == 1 else 'are'} missing: {self.reason}."

    @property
    def _counted(self) -> str:
        return "1 trade" if self.missing == 1 else f"{self.missing:,} trades"

    @property
    def _place(self) -> str:
        between = f"{utc_time(self.from_ns):%Y-%m-%d %H:%M:%S} and {utc_time(self.to_ns):%H:%M:%S} UTC"
        return f"of {self.from_coin}-{self.to_currency} on {self.market} between {between}"


@dataclass(frozen=True)
class Filled:
    """All trades of a gap that was told have come after all."""

    gap: Gap

    def __str__(self) -> str:
        return f"{self.gap._counted} {self.gap._place} {'has' if self.gap.missing == 1 else 'have'} come after all."


Told = Gap | Filled

NOTHING: Sequence[Told] = ()


class Ledger:
    """Only the pairs that were subscribed have gaps, and are remembered.

    Args:
        patience_s: for how long a missing trade may still come before it makes a gap.
    """

    def __init__(self, subscriptions: Iterable[str], patience_s: float) -> None:
        self._pairs = {pair: _State(pair) for pair in subscribed_pairs(subscriptions)}
        self._patience_s = patience_s

    def has(self, pair: Pair) -> bool:
        """Whether it is one of the ledger's."""
        return pair in self._pairs

    def restore(self, trades: Iterable[Trade], now_ns: int, reason: str) -> None:
        """Begin where an earlier run of the same feed has ended: the time in between is an outage.

        Args:
            trades: the last ones that the log has of each pair, in any order. Holes between them are known, and told
                no more.
        """
        for trade in sorted(trades, key=lambda trade: (trade.sequence or 0, trade.event_time_ns)):
            if state := self._pairs.get(trade.pair):
                state.restore(trade)
        for state in self._pairs.values():
            if state.next is not None or state.latest_ns is not None:
                state.lost(now_ns, reason)

    def lost(self, now_ns: int, reason: str) -> None:
        """The socket was lost at `now_ns`. An outage that is not over keeps its beginning and its reason."""
        for state in self._pairs.values():
            state.lost(now_ns, reason)

    def seen(self, trade: Trade, now_s: float, *, new: bool) -> Sequence[Told]:
        """Take note of a trade; what it tells.

        Args:
            now_s: any monotonic clock.
            new: whether it came for the first time.
        """
        state = self._pairs.get(trade.pair)
        if state is None:
            return NOTHING
        number = trade.sequence
        if number is not None and number == state.next and state.outage is None:  # nearly always
            state.next, state.top_ns = number + 1, trade.event_time_ns
            return NOTHING
        return state.seen(trade, now_s, new)

    def reached(self, pair: Pair, number: int, time_ns: int, now_s: float) -> None:
        """The feed has a trade of that number, which `time_ns` is not older than, whether it has sent it or not."""
        if state := self._pairs.get(pair):
            state.reached(number, time_ns, now_s)

    def due(self, now_s: float) -> list[Gap]:
        """The gaps of the holes that have been open for long enough, one for each pair that has some."""
        return [gap for state in self._pairs.values() if (gap := state.due(now_s - self._patience_s))]

    def end(self, now_ns: int) -> list[Gap]:
        """The gaps that are left at the end of the run, at `now_ns`."""
        return [gap for state in self._pairs.values() for gap in state.end(now_ns)]

    def missing(self, pair: Pair) -> list[tuple[int, int]]:
        """The (first, last) numbers of each stretch of a pair that has not come, in order."""
        state = self._pairs.get(pair)
        return [(hole.first, hole.last) for hole in state.holes] if state else []


@dataclass(slots=True)
class _Outage:
    from_ns: int
    reason: str
    joined: bool = False
    """Whether the newest trade from before came again: then nothing has been missed so far."""


@dataclass(slots=True)
class _Hole:
    """Numbers that have not come, between two that have."""

    first: int
    last: int
    since_s: float
    from_ns: int
    to_ns: int
    reason: str
    told: Gap | None = None


@dataclass(slots=True)
class _State:
    """What has come of a pair.

    With numbers: all from the first one that came to before `next`, but for the holes. Without: the latest by time
    and by arrival.
    """

    pair: Pair
    begin: int | None = None
    """The lowest number, as long as lower ones may still come out of order; None: an earlier run had those before."""
    next: int | None = None
    top_ns: int = 0
    """The exchange time of the highest number."""
    holes: list[_Hole] = field(default_factory=list)
    """By their numbers."""
    untold: int = 0
    """How many of them are no gap yet."""
    outage: _Outage | None = None
    latest_ns: int | None = None
    latest_id: str = ""
    newest_id: str = ""

    def lost(self, now_ns: int, reason: str) -> None:
        if self.outage is None or self.outage.joined:
            last_ns = self.latest_ns if self.next is None else self.top_ns
            self.outage = _Outage(now_ns if last_ns is None else last_ns, reason)

    def restore(self, trade: Trade) -> None:
        if trade.sequence is None:
            self._note(trade)
        else:
            known = self.next
            self._number(trade.sequence, trade.event_time_ns, 0)
            self.begin = None
            if known is not None and trade.sequence > known:
                self._tell([self.holes[-1]])

    def seen(self, trade: Trade, now_s: float, new: bool) -> Sequence[Told]:
        first_ever = self.next is None and self.latest_ns is None
        if first_ever and self.outage is not None:
            told = self._first_ever(self.outage, trade)
        elif trade.sequence is None or (self.next is None and self.outage is not None):
            told = self._by_time(trade, new)
        else:
            return self._by_number(trade.sequence, trade.event_time_ns, now_s, new)
        if trade.sequence is None:
            self._note(trade, new)
        else:
            self._number(trade.sequence, trade.event_time_ns, now_s)
        return told

    def _first_ever(self, outage: _Outage, trade: Trade) -> Sequence[Told]:
        """What is older than the outage is a repetition that joins it; a newer one tells how long the gap is."""
        self.outage = None
        if trade.event_time_ns < outage.from_ns:
            return NOTHING
        return (Gap(*self.pair, outage.from_ns, trade.event_time_ns, outage.reason),)

    def _by_time(self, trade: Trade, new: bool) -> Sequence[Told]:
        """A late trade proves nothing, nor does an old one that is repeated."""
        outage = self.outage
        if outage is None or self.next is not None:
            return NOTHING
        if not new:
            if trade.id in (self.latest_id, self.newest_id):
                self.outage = None
            return NOTHING
        if trade.event_time_ns <= outage.from_ns:
            return NOTHING
        self.outage = None
        return (Gap(*self.pair, outage.from_ns, trade.event_time_ns, outage.reason),)

    def _note(self, trade: Trade, new: bool = True) -> None:
        if new:
            self.newest_id = trade.id
        if self.latest_ns is None or trade.event_time_ns > self.latest_ns:
            self.latest_ns, self.latest_id = trade.event_time_ns, trade.id

    def _by_number(self, number: int, time_ns: int, now_s: float, new: bool) -> Sequence[Told]:
        if self.next is None or number >= self.next:
            self._number(number, time_ns, now_s)
            return NOTHING
        place = self._hole_of(number)
        if place is not None:
            return self._fill(place, number, time_ns)
        if new and time_ns > self.top_ns and number < self.next - FAR_BACK:
            return self._begin_anew(number, time_ns)
        if new and self.begin is not None and self.begin - FAR_BACK <= number < self.begin:
            self._begin_earlier(self.begin, number, time_ns, now_s)
        self._repeated(number)
        return NOTHING

    def _begin_earlier(self, begin: int, number: int, time_ns: int, now_s: float) -> None:
        """The first trade that came was not the first one that was sent."""
        self.begin = number
        if number + 1 < begin:
            from_ns, to_ns = sorted((time_ns, self.top_ns))
            self.holes.insert(0, _Hole(number + 1, begin - 1, now_s, from_ns, to_ns, NOT_SENT))
            self.untold += 1

    def _repeated(self, number: int) -> None:
        if self.outage is not None and self.next is not None and number == self.next - 1:
            self.outage.joined = True

    def _number(self, number: int, time_ns: int, now_s: float) -> None:
        """Take a number at or above the next one."""
        if self.next is None:
            self.begin = self.next = number
        if number > self.next:
            self._open(number - 1, time_ns, now_s)
        if number >= self.next:
            self.next, self.top_ns = number + 1, time_ns
        self.outage = None

    def _open(self, last: int, time_ns: int, now_s: float) -> None:
        assert self.next is not None
        reason = self.outage.reason if self.outage else NOT_SENT
        from_ns, to_ns = sorted((self.top_ns, time_ns))
        self.holes.append(_Hole(self.next, last, now_s, from_ns, to_ns, reason))
        self.untold += 1
        if len(self.holes) > MAX_HOLES:
            self.untold -= self.holes.pop(0).told is None

    def _hole_of(self, number: int) -> int | None:
        """The place of the hole that the number is missing in."""
        place = bisect_right(self.holes, number, key=lambda hole: hole.first) - 1
        return place if place >= 0 and number <= self.holes[place].last else None

    def _fill(self, place: int, number: int, time_ns: int) -> Sequence[Told]:
        hole = self.holes[place]
        rest = [
            _Hole(hole.first, number - 1, hole.since_s, hole.from_ns, time_ns, hole.reason, hole.told),
            _Hole(number + 1, hole.last, hole.since_s, time_ns, hole.to_ns, hole.reason, hole.told),
        ]
        left = [each for each in rest if each.first <= each.last]
        self.holes[place : place + 1] = left
        if hole.told is None:
            self.untold += len(left) - 1
        elif not left and all(other.told is not hole.told for other in self.holes):
            return (Filled(hole.told),)
        return NOTHING

    def _begin_anew(self, number: int, time_ns: int) -> Sequence[Told]:
        """Newer than all, and of a number that had come: the feed counts from another begin."""
        reason = self.outage.reason if self.outage else BEGUN_ANEW
        gap = Gap(*self.pair, self.top_ns, time_ns, reason)
        self.holes, self.untold, self.outage = [], 0, None
        self.begin, self.next, self.top_ns = number, number + 1, time_ns
        return (gap,)

    def reached(self, number: int, time_ns: int, now_s: float) -> None:
        if self.next is None:
            return  # nothing tells from where on it is missing
        if number >= self.next:
            self._open(number, time_ns, now_s)
            self.next, self.top_ns, self.outage = number + 1, max(self.top_ns, time_ns), None
        self._repeated(number)

    def due(self, before_s: float) -> Gap | None:
        if not self.untold:
            return None
        return self._tell([hole for hole in self.holes if hole.told is None and hole.since_s <= before_s])

    def _tell(self, holes: Sequence[_Hole]) -> Gap | None:
        if not holes:
            return None
        gap = Gap(
            *self.pair,
            from_ns=min(hole.from_ns for hole in holes),
            to_ns=max(hole.to_ns for hole in holes),
            reason=holes[0].reason,
            first=holes[0].first,
            last=holes[-1].last,
            missing=sum(hole.last - hole.first + 1 for hole in holes),
        )
        for hole in holes:
            hole.told = gap
        self.untold -= len(holes)
        return gap

    def end(self, now_ns: int) -> list[Gap]:
        """What is still open, and what an outage that is not over may have hidden."""
        gap = self._tell([hole for hole in self.holes if hole.told is None])
        gaps, outage = [gap] if gap else [], self.outage
        self.outage = None
        if outage and not outage.joined and (self.next is not None or self.latest_ns is not None):
            gaps.append(Gap(*self.pair, outage.from_ns, max(outage.from_ns, now_ns), outage.reason))
        return gaps
