"""What the links of a run receive: trades go to the sink, all else into counts and events."""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence

from cryptoflow.errors import FeedError, FeedUnreachableError
from cryptoflow.feeds.events import (
    MAX_MARKETS,
    ClientEvent,
    ClocksDiffer,
    Connected,
    Disconnected,
    FeedStats,
    GapDigest,
    GivenUp,
    NotFilling,
)
from cryptoflow.feeds.filler import Filler, Fills
from cryptoflow.feeds.gaps import Gap, Told
from cryptoflow.feeds.link import Link
from cryptoflow.feeds.sink import Sink
from cryptoflow.model.trade import Trade
from cryptoflow.settings import DEFAULT_AHEAD_S
from cryptoflow.venues.cryptocompare import Ticker
from cryptoflow.venues.events import Alive, Event, Reached, Received, Refused, Subscribed, Unreadable

MAX_REFUSED = 100
"""Refusals kept in the stats, which differ; all are told."""


class Receiver:
    """Hears what all links of a run tell; their Listener.

    Args:
        reconnect_for_s: how long no venue may be reachable.
        subscriptions: how many there are.

    Attributes:
        stats: the counts.
        links: those that are not given up.
    """

    def __init__(
        self, sink: Sink, on_event: Callable[[ClientEvent], None], reconnect_for_s: float, subscriptions: int
    ) -> None:
        self._sink, self._on_event = sink, on_event
        self._reconnect_for_s, self._subscriptions = reconnect_for_s, subscriptions
        self._digest = GapDigest(on_event)
        self._ahead: set[str] = set()
        self.stats = FeedStats()
        self.links: list[Link] = []

    def connected(self, link: Link) -> None:
        """A websocket is open."""
        self.stats.connects += 1
        self._on_event(Connected(link.endpoint.address))

    def lost(self, link: Link, event: Disconnected) -> None:
        """Take note of a lost websocket, or raise what forbids another try."""
        self.stats.disconnects += 1
        up_s = max(math.inf if each.down_since_s is None else each.down_since_s for each in self.links)
        if time.monotonic() - up_s >= self._reconnect_for_s:
            raise FeedUnreachableError(
                f"The feed at {link.endpoint.address} could not be used for {self._reconnect_for_s:g} s "
                f"(at last: {event.reason}); check the network and {link.endpoint.variable}."
            )
        self._on_event(event)

    def take(self, link: Link, received: Received) -> None:
        """What one frame held."""
        stats = self.stats
        stats.frames += 1
        stats.last_frame_s = time.time()
        for trade, record in received[0]:
            self._trade(link, trade, record)
        for event in received[1]:
            self._event(link, event)

    def _trade(self, link: Link, trade: Trade, record: bytes) -> None:
        self._look_at_clock(trade)
        link.paces.traded(trade.pair)
        new = link.recent.add(trade)
        told = link.ledger.seen(trade, time.monotonic(), new=new)
        if told:
            self._tell(link.filler, told)
        if new:
            self._sink.trade(trade, record)
            self.stats.trades += 1
            market = self.stats.market(trade.market)
            market.trades += 1
            market.newest, market.newest_s = trade, self.stats.last_frame_s
        else:
            self.stats.duplicates += 1

    def _look_at_clock(self, trade: Trade) -> None:
        """Tell once of each market whose trades are further ahead than the stream takes them."""
        ahead_s = trade.time_s - (self.stats.last_frame_s or math.inf)
        if ahead_s > DEFAULT_AHEAD_S and trade.market not in self._ahead and len(self._ahead) < MAX_MARKETS:
            self._ahead.add(trade.market)
            self._on_event(ClocksDiffer(trade.market, ahead_s))

    def _event(self, link: Link, event: Event) -> None:
        match event:
            case Unreadable(frame=frame, reason=reason):
                self.stats.unreadable += 1
                self._sink.dead_letter(frame, reason, venue=link.endpoint.venue.name)
            case Alive():
                link.down_since_s = None
                self.stats.heartbeats += 1
                if isinstance(event, Reached):
                    link.paces.reached(event.pair, event.number, time.monotonic())
                    link.ledger.reached(event.pair, event.number, event.time_ns, time.monotonic())
            case Ticker():
                self.stats.tickers += 1
            case Subscribed():
                link.down_since_s = None
                if len(self.stats.subscribed) < self._subscriptions:
                    self.stats.subscribed.add(event.sub)
                self._on_event(event)
            case Refused():
                self.refused(event)

    def refused(self, event: Refused) -> None:
        """A subscription is refused."""
        if len(self.stats.refused) < MAX_REFUSED and event not in self.stats.refused:
            self.stats.refused.append(event)
        self._on_event(event)

    def look(self, links: Sequence[Link]) -> None:
        """Tell what is due by now: gaps that are sure, and pairs that are silent."""
        now_s = time.monotonic()
        for link in links:
            self._tell(link.filler, link.ledger.due(now_s))
            for each in link.paces.look(now_s) if link.down_since_s is None else ():
                self._on_event(each)
        silent = Counter(market for link in links for market, _, _ in link.paces.silent)
        for market in {*silent, *self.stats.markets}:
            self.stats.market(market).silent_pairs = silent[market]
        self._digest.due(now_s)

    def ended(self, links: Sequence[Link]) -> None:
        """Tell what is left of gaps; the next run finds them out of the log."""
        for link in links:
            self._tell(None, link.ledger.end(time.time_ns()))
        self._digest.end()

    def give_up(self, link: Link, error: FeedError) -> None:
        """Leave a link out that can't go on, or raise why, if it is the last."""
        self.links.remove(link)
        if not self.links or isinstance(error, FeedUnreachableError):
            raise error
        self._on_event(GivenUp(link.name, str(error)))

    def _tell(self, filler: Filler | None, told: Sequence[Told]) -> None:
        for each in told:
            if isinstance(each, Gap):
                self.stats.gap_count += 1
                self.stats.gaps.append(each)
                if filler:
                    filler.note(each)
            self._digest.take(each, time.monotonic())

    def filled(self, told: Fills) -> None:
        """Something has become of gaps."""
        if isinstance(told, NotFilling):
            self._on_event(told)
        else:
            self._digest.take(told, time.monotonic())

    def fetched(self, trades: int) -> None:
        """So many trades more have been filled in."""
        self.stats.filled += trades
