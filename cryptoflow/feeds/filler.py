"""Fills what a feed did not send, out of its venue's REST: aside, within the venue's limits.

What is missing is known to the ledger; the gaps that are known by their times alone are kept here. All of it works in
the feed's event loop, which waits for nothing: requests, and what is done with the answers, are other threads' work.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cryptoflow.errors import FeedError, FeedRefusedError
from cryptoflow.feeds.events import NotFilling
from cryptoflow.feeds.gaps import Filled, Gap, Newest, Standing, Unfilled
from cryptoflow.feeds.ledger import Ledger
from cryptoflow.feeds.past import pages
from cryptoflow.feeds.recent import RecentTrades
from cryptoflow.feeds.rest import Rest
from cryptoflow.feeds.sink import Past
from cryptoflow.feeds.socket import aside
from cryptoflow.model.trade import NS_PER_S, Pair, Trade
from cryptoflow.venues.events import Recorded
from cryptoflow.venues.past import Page, Wanted

LOOK_S = 0.25
"""How often it is seen whether there is something to ask for, in s."""

KEEP_S = 1.0
"""How often the open gaps are put down, where they have changed, in s."""

SETTLED_S = 300.0
"""A trade that the REST lacks, and that is older, does not exist: REST lacks the newest for some seconds only."""

REST_LAG_S = 30.0
"""A gap that is known by its times alone is asked for once, so long after its end."""

REFUSED_FOR_S = 3600.0
"""How long a pair is not asked for again that the REST refuses."""

REST_FOR_S = 60.0
"""For how long one request is tried, before it is told and another pair has its turn."""

UNREACHABLE_FOR_S = 30.0
"""How long a pair is not asked for again when that was in vain."""

SLACK = 1 / 24
"""A gap that began before the limit is cut if it did by more than this part of it: not again each second."""

MAX_SPANS = 1000
"""Gaps known by their times alone that are remembered; the oldest go first."""

GONE = "the venue has no such trades"
TOO_OLD = "it is longer ago than CRYPTOFLOW_FILL_LIMIT"

Fills = Filled | Unfilled | NotFilling


@dataclass(frozen=True)
class Filling:
    """How the gaps of a run are filled.

    Attributes:
        past: takes what is found.
        limit_s: how far back gaps are filled.
    """

    past: Past
    limit_s: float


@dataclass
class _Span:
    """A gap that is known by its times alone."""

    gap: Gap
    due_s: float


class Filler:
    """Fills the gaps of one venue.

    Args:
        tell: called with what becomes of gaps.
        count: called with how many trades have been filled.
    """

    def __init__(
        self,
        rest: Rest,
        ledger: Ledger,
        recent: RecentTrades,
        filling: Filling,
        tell: Callable[[Fills], None],
        count: Callable[[int], None],
    ) -> None:
        self._rest, self._ledger, self._recent = rest, ledger, recent
        self._past, self._limit_s, self._tell, self._count = filling.past, filling.limit_s, tell, count
        self._spans: deque[_Span] = deque(maxlen=MAX_SPANS)
        self._kept: dict[Pair, Standing] = {}
        self._newest: dict[Pair, Newest] = {}

    def restore(self, standings: Mapping[Pair, Standing]) -> None:
        """Take what an earlier run has put down."""
        self._kept = {pair: standing for pair, standing in standings.items() if self._ledger.has(pair)}
        for standing in self._kept.values():
            for gap in standing.gaps:
                self.note(gap)

    def note(self, gap: Gap) -> None:
        """Take a gap; one with numbers the ledger has."""
        if not gap.holes:
            since_end_s = time.time() - gap.to_ns / NS_PER_S
            self._spans.append(_Span(gap, time.monotonic() + max(0.0, REST_LAG_S - since_end_s)))

    async def run(self) -> None:
        """Fill until it is cancelled.

        Raises:
            KafkaError: what was found can't be kept.
        """
        await asyncio.gather(self._fill_on(), self._keep_on())

    async def keep(self) -> None:
        """Put down how pairs stand, where that has changed, so that a later run goes on from there."""
        found = {
            pair: Standing((*gaps, *self._spans_of(pair)), self._paused_at(pair)) for pair, gaps in self._ledger.gaps()
        }
        if changed := {pair: each for pair, each in found.items() if each != self._kept.get(pair, Standing())}:
            await aside(partial(self._past.keep, changed))
            self._kept = found

    def _paused_at(self, pair: Pair) -> Newest:
        """The newest trade of a pair, if it was that at the last look too; else that of its last pause."""
        newest, before = self._ledger.newest(pair), self._newest.get(pair)
        self._newest[pair] = newest
        return newest if newest == before else self._kept.get(pair, Standing()).newest

    def _spans_of(self, pair: Pair) -> Iterator[Gap]:
        return (span.gap for span in self._spans if span.gap.pair == pair)

    async def _keep_on(self) -> None:
        while True:
            await self.keep()
            await asyncio.sleep(KEEP_S)

    async def _fill_on(self) -> None:
        while not self._rest.stop.is_set():
            self._give_up()
            now_s = time.monotonic()
            if span := next((span for span in self._spans if self._is_due(span, now_s)), None):
                await self._fill_span(span)
            elif wanted := self._ledger.to_ask(now_s, self._rest.venue.page):
                await self._fill_holes(wanted)
            elif pair := self._ledger.unsure(now_s):
                await self._look(pair)
            else:
                await asyncio.sleep(LOOK_S)

    def _is_due(self, span: _Span, now_s: float) -> bool:
        return span.due_s <= now_s and self._ledger.ready(span.gap.pair, now_s)

    def _limit_ns(self) -> int:
        return time.time_ns() - int(self._limit_s * NS_PER_S)

    def _give_up(self) -> None:
        """Leave what is longer ago than the limit."""
        limit_ns = self._limit_ns()
        for gap in self._ledger.give_up(limit_ns, int(self._limit_s * SLACK * NS_PER_S)):
            self._tell(Unfilled(gap, TOO_OLD))
        for span in [span for span in self._spans if span.gap.to_ns < limit_ns]:
            self._spans.remove(span)
            self._tell(Unfilled(span.gap, TOO_OLD))

    async def _fill_span(self, span: _Span) -> None:
        gap = span.gap
        wanted = Wanted(gap.pair, max(gap.from_ns, self._limit_ns()), gap.to_ns)
        if await self._ask(wanted, lambda trade: not self._recent.knows(trade)) is not None:
            self._spans.remove(span)
            self._tell(Filled(gap))

    async def _fill_holes(self, wanted: Wanted) -> None:
        highest = await self._ask(wanted, self._ledger.lacks)
        if highest is not None:
            settled_ns = time.time_ns() - int(SETTLED_S * NS_PER_S)
            if gone := self._ledger.asked(wanted, highest, time.monotonic(), settled_ns):
                self._tell(Unfilled(gone, GONE))

    async def _look(self, pair: Pair) -> None:
        """See what a pair has traded last that is silent since the socket was opened, if that does not tell itself."""
        found: Sequence[Recorded] = ()
        if request := self._rest.venue.newest(pair):
            try:
                page = await aside(partial(next, pages(self._rest, request), Page()))
            except FeedError as error:
                self._not_now(pair, error)
                return
            found = page.beyond
        self._ledger.looked(pair, next((trade for trade, _ in found), None), time.monotonic())

    async def _ask(self, wanted: Wanted, lacks: Callable[[Trade], bool]) -> int | None:
        """Take the pages of a stretch; gives the highest number in them, or None: they could not all be had."""
        found, highest = pages(self._rest, wanted), 0
        try:
            while page := await aside(partial(next, found, None)):
                await self._take([each for each in page.trades if lacks(each[0])], page)
                highest = max([highest, *(trade.sequence or 0 for trade, _ in page.trades)])
        except FeedError as error:
            self._not_now(wanted.pair, error)
            return None
        return None if self._rest.stop.is_set() else highest

    def _not_now(self, pair: Pair, error: FeedError) -> None:
        wait_s = REFUSED_FOR_S if isinstance(error, FeedRefusedError) else UNREACHABLE_FOR_S
        self._ledger.postpone(pair, time.monotonic() + wait_s)
        self._tell(NotFilling(str(error), wait_s))

    async def _take(self, lacking: list[Recorded], page: Page) -> None:
        if lacking or page.unreadable:
            address, venue = self._rest.address, self._rest.venue.name
            await aside(partial(self._past.put, lacking, page.unreadable, address, venue))
        self._count(len(lacking))
        for told in self._ledger.filled(trade for trade, _ in lacking):
            if isinstance(told, Filled):
                self._tell(told)
