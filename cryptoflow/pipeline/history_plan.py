"""How far a day of a pair's past is fetched, and whether it is whole. Pure.

A page brings trades of the day, and those next to it. Both are written: the ids of the last trade before the day and of
the first one after it prove that none is missing between them.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time

import msgspec

from cryptoflow.model.trade import NS_PER_S, Pair
from cryptoflow.model.window import epoch_ns
from cryptoflow.venues.base import Venue
from cryptoflow.venues.events import Recorded
from cryptoflow.venues.past import Page, Request, Wanted, by_id

DAY_NS = 86_400 * NS_PER_S

MAX_LOST = 300
"""Characters kept of what can't be asked for."""


def day_of(pair: Pair, day: date) -> Wanted:
    """A UTC day of a pair."""
    from_ns = epoch_ns(datetime.combine(day, time(), UTC))
    return Wanted(pair, from_ns, from_ns + DAY_NS - 1)


class Fetched(msgspec.Struct, frozen=True):
    """How far it is fetched; trades are told by their ids.

    Attributes:
        next: what to ask for next; None: nothing, or it is not begun.
        first, last: of the day's trades so far.
        trades: how many of the day's there are, each counted once.
        before, after: the last one before the day, and the first one after it.
        over: whether all was asked for.
        lost: what can't be asked for, in a sentence.
    """

    next: Request | None = None
    first: int | None = None
    last: int | None = None
    trades: int = 0
    before: int | None = None
    after: int | None = None
    pages: int = 0
    over: bool = False
    lost: str = ""

    @property
    def missing(self) -> int | None:
        """How many ids between the trades before and after the day no trade has had; None: these are not known."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before - 1 - self.trades

    def is_done(self, venue: Venue) -> bool:
        """Whether asking once more would tell no more: it is over, and not because the venue knew no later trade."""
        return self.over and (self.after is not None or not venue.consecutive)

    def with_page(self, page: Page, wanted: Wanted, newest_first: bool) -> "tuple[Fetched, list[Recorded]]":
        """After a page, and its trades that are to be written: in the order in which they are read."""
        new = [each for each in page.trades if not self._has(by_id(each))]
        before = max((each for each in page.beyond if _time_ns(each) < wanted.from_ns), key=by_id, default=None)
        after = min((each for each in page.beyond if _time_ns(each) > wanted.to_ns), key=by_id, default=None)
        if before and (self.before is None or by_id(before) > self.before):
            new.append(before)
        if after and (self.after is None or by_id(after) < self.after):
            new.append(after)
        here = {by_id(each) for each in new if wanted.holds(each[0])}
        found = msgspec.structs.replace(
            self,
            next=page.next,
            first=_least(self.first, *here),
            last=_most(self.last, *here),
            trades=self.trades + len(here),
            before=_most(self.before, *_ids(before)),
            after=_least(self.after, *_ids(after)),
            pages=self.pages + 1,
            over=page.next is None,
            lost=self.lost or page.lost[:MAX_LOST],
        )
        return found, sorted(new, key=by_id, reverse=newest_first)

    def _has(self, number: int) -> bool:
        return self.first is not None and self.last is not None and self.first <= number <= self.last


def share_of(wanted: Wanted, written: Iterable[Recorded], newest_first: bool) -> float:
    """How much of the stretch lies behind trades that were written last, from 0 to 1."""
    times_ns = [_time_ns(each) for each in written]
    if not times_ns:
        return 0.0
    done_ns = wanted.to_ns - min(times_ns) if newest_first else max(times_ns) - wanted.from_ns
    return min(1.0, max(0.0, done_ns / (wanted.to_ns - wanted.from_ns)))


def left_s(done_share: float, elapsed_s: float) -> float | None:
    """How long the rest will take, when what is done has taken so long; None: who knows."""
    return elapsed_s * (1 - done_share) / done_share if done_share else None


def _time_ns(recorded: Recorded) -> int:
    return recorded[0].event_time_ns


def _ids(recorded: Recorded | None) -> tuple[int, ...]:
    return () if recorded is None else (by_id(recorded),)


def _least(*numbers: int | None) -> int | None:
    return min((number for number in numbers if number is not None), default=None)


def _most(*numbers: int | None) -> int | None:
    return max((number for number in numbers if number is not None), default=None)
