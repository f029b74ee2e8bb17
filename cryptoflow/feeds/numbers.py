"""What of one pair has come, for the ledger: its numbers and the holes between them, or its times. Pure."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from cryptoflow.feeds.gaps import Filled, Gap, Newest, Standing, Told
from cryptoflow.feeds.holes import FAR_BACK, NOT_SENT, Hole, before, between, in_order
from cryptoflow.model.trade import Pair, Trade
from cryptoflow.venues.past import Wanted

MAX_HOLES = 10_000
"""Holes of a pair that are remembered. Of more, the oldest two are taken for one, so that none is forgotten: with the
numbers between them, which are then asked for once more."""

MAX_NUMBER = 2**63
"""Above all numbers."""

BEGUN_ANEW = "the feed's numbers have begun anew"

PAGES_AT_ONCE = 5
"""Of a long hole, before it is another pair's turn."""

FIRST_DELAY_S, LONGEST_DELAY_S = 2.0, 600.0
"""Until what was not found is asked for again; each time it is twice as long."""

SILENT_S = 10.0
"""REST is asked for the newest trade of a pair that a new socket brings none of for so long: it lags by less."""

NOTHING: Sequence[Told] = ()


@dataclass(slots=True)
class _Outage:
    from_ns: int
    reason: str
    joined: bool = False
    """Whether the newest trade from before came again: then nothing has been missed so far."""


@dataclass(slots=True)
class PairState:
    """What has come of a pair; its methods do for it what the ledger's do for all.

    With numbers: all from the first one that came to before `next`, but for the holes. Without: the latest by time
    and by arrival.
    """

    pair: Pair
    begin: int | None = None
    """The lowest number, as long as lower ones may still come out of order; None: an earlier run had those before."""
    next: int | None = None
    top_ns: int = 0
    """The exchange time of the highest number."""
    holes: list[Hole] = field(default_factory=list)
    """By their numbers."""
    untold: int = 0
    """How many of them are no gap yet."""
    outage: _Outage | None = None
    latest_ns: int | None = None
    latest_id: str = ""
    newest_id: str = ""
    asked_s: float = 0.0
    """When something of it was asked for."""
    ready_s: float = 0.0
    """Nothing of it is asked for before."""
    look_s: float = math.inf
    """When its newest trade is to be asked for, if none has come by then."""

    def lost(self, now_ns: int, reason: str) -> None:
        if self.outage is None or self.outage.joined:
            last_ns = self.latest_ns if self.next is None else self.top_ns
            self.outage = _Outage(now_ns if last_ns is None else last_ns, reason)

    @property
    def newest(self) -> Newest:
        if self.untold:
            hole = next(hole for hole in self.holes if hole.told is None)
            return hole.first - 1, hole.from_ns
        return None if self.next is None else (self.next - 1, self.top_ns)

    def restore(self, trades: Sequence[Trade], filled: Iterable[Trade], standing: Standing) -> None:
        """Take over what an earlier run has left, as `Ledger.restore` says."""
        for trade in trades:
            if trade.sequence is None:
                self._note(trade)
        # Without a trade of it in reach, what has come is known up to its last pause, or the newest gap alone.
        numbered = in_order(trades) or dict([standing.newest] if standing.newest else [])
        begin = min(numbered) if numbered else MAX_NUMBER
        self.holes = sorted((*before(begin, standing.gaps), *between(numbered)), key=lambda hole: hole.first)
        for hole in self.holes:
            hole.told = self._gap([hole])
        if numbered:
            self.next, self.top_ns = max(numbered) + 1, numbered[max(numbered)]
        elif self.holes:
            self.next, self.top_ns = self.holes[-1].last + 1, self.holes[-1].to_ns
        for trade in filled:
            if trade.sequence is not None and self.hole_of(trade.sequence) is not None:
                self.fill(trade)

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
        place = self.hole_of(number)
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
            self.holes.insert(0, Hole(number + 1, begin - 1, now_s, from_ns, to_ns, NOT_SENT))
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
        self.holes.append(Hole(self.next, last, now_s, from_ns, to_ns, reason))
        self.untold += 1
        if len(self.holes) > MAX_HOLES:
            self._join_oldest()

    def _join_oldest(self) -> None:
        one, other = self.holes[:2]
        joined = replace(other, first=one.first, from_ns=one.from_ns, to_ns=max(one.to_ns, other.to_ns))
        self.holes[:2] = [joined]
        untold = (one.told is None) + (other.told is None)
        self.untold -= max(0, untold - 1)
        joined.told = None if untold else self._gap([joined])

    def hole_of(self, number: int) -> int | None:
        """The place of the hole that the number is missing in."""
        place = bisect_right(self.holes, number, key=lambda hole: hole.first) - 1
        return place if place >= 0 and number <= self.holes[place].last else None

    def fill(self, trade: Trade) -> Sequence[Told]:
        """Take a trade whose number is missing."""
        assert trade.sequence is not None
        place = self.hole_of(trade.sequence)
        assert place is not None
        return self._fill(place, trade.sequence, trade.event_time_ns)

    def _fill(self, place: int, number: int, time_ns: int) -> Sequence[Told]:
        hole = self.holes[place]
        left = hole.without(number, time_ns)
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

    @property
    def unsure(self) -> bool:
        """Whether it is not known what it traded last: nothing has come, or an outage may have hidden some."""
        if self.next is None and self.latest_ns is None:
            return True
        return self.outage is not None and not self.outage.joined

    def opened(self, now_s: float) -> None:
        if self.unsure:
            look_s = now_s + SILENT_S
            self.look_s = min(self.look_s, look_s) if self.next is None else look_s

    def to_look(self, now_s: float) -> bool:
        return max(self.look_s, self.ready_s) <= now_s and self.unsure

    def looked(self, newest: Trade | None, now_s: float) -> None:
        self.look_s = math.inf
        if newest is None or newest.sequence is None:
            return
        if self.next is not None:
            self.reached(newest.sequence, newest.event_time_ns, now_s)
        elif self.outage is None or newest.event_time_ns < self.outage.from_ns:  # else the next trade tells the gap
            self.seen(newest, now_s, new=False)

    def due(self, before_s: float) -> Gap | None:
        if not self.untold:
            return None
        return self._tell([hole for hole in self.holes if hole.told is None and hole.since_s <= before_s])

    def _tell(self, holes: Sequence[Hole]) -> Gap | None:
        if not holes:
            return None
        gap = self._gap(holes)
        for hole in holes:
            hole.told = gap
        self.untold -= len(holes)
        return gap

    def _gap(self, holes: Sequence[Hole]) -> Gap:
        return Gap(
            *self.pair,
            from_ns=min(hole.from_ns for hole in holes),
            to_ns=max(hole.to_ns for hole in holes),
            reason=holes[0].reason,
            holes=tuple((hole.first, hole.last) for hole in holes),
        )

    def end(self, now_ns: int) -> list[Gap]:
        """What is still open, and what an outage that is not over may have hidden."""
        gap = self._tell([hole for hole in self.holes if hole.told is None])
        gaps, outage = [gap] if gap else [], self.outage
        self.outage = None
        if outage and not outage.joined and (self.next is not None or self.latest_ns is not None):
            gaps.append(Gap(*self.pair, outage.from_ns, max(outage.from_ns, now_ns), outage.reason))
        return gaps

    # Of what is to be filled

    def gaps(self) -> list[Gap]:
        return [self._gap([hole]) for hole in self.holes if hole.told]

    def to_ask(self, now_s: float, page: int) -> Wanted | None:
        due = [hole for hole in self.holes if hole.told and max(hole.due_s, self.ready_s) <= now_s]
        if not due:
            return None
        begin = due[0].first - 1
        together = [hole for hole in due if hole.last + 1 < begin + page]
        last = together[-1].last if together else min(due[0].last, begin + PAGES_AT_ONCE * page - 2)
        return Wanted(self.pair, due[0].from_ns, (together or due)[-1].to_ns, begin, last + 1)

    def asked(self, wanted: Wanted, highest: int, now_s: float, settled_ns: int) -> Gap | None:
        assert wanted.first is not None
        assert wanted.last is not None
        self.holes = [part for hole in self.holes for part in hole.up_to(wanted.last - 1)]
        self.untold = sum(hole.told is None for hole in self.holes)
        for hole in self.holes:
            if hole.told and wanted.first < hole.first <= hole.last < wanted.last:
                hole.due_s = now_s + min(FIRST_DELAY_S * 2**hole.asked, LONGEST_DELAY_S)
                hole.asked += 1
        reached = min(wanted.last, highest)
        return self._drop(lambda hole: hole.asked > 0 and hole.last < reached and hole.to_ns < settled_ns)

    def postpone(self, until_s: float) -> None:
        self.ready_s = max(self.ready_s, until_s)

    def give_up(self, before_ns: int, slack_ns: int) -> Gap | None:
        if not self.holes or self.holes[0].from_ns >= before_ns:  # the lowest numbers are the oldest
            return None
        old_ns = before_ns - slack_ns
        self.holes = [
            part
            for hole in self.holes
            for part in (hole.since(before_ns) if hole.told and hole.from_ns < old_ns else [hole])
            if part.first <= part.last
        ]
        return self._drop(lambda hole: hole.to_ns <= before_ns)

    def _drop(self, which: Callable[[Hole], bool]) -> Gap | None:
        dropped = [hole for hole in self.holes if hole.told and which(hole)]
        if not dropped:
            return None
        self.holes = [hole for hole in self.holes if not (hole.told and which(hole))]
        return self._gap(dropped)
