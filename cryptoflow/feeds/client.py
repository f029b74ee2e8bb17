"""The client of a run's feed: all its venues in one event loop, kept open until it is told to stop."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence

from cryptoflow.errors import FeedError, FeedUnreachableError
from cryptoflow.feeds.events import (
    ClientEvent,
    ClocksDiffer,
    Connected,
    Disconnected,
    FeedStats,
    GapDigest,
    GivenUp,
    NotFilling,
)
from cryptoflow.feeds.filler import Filler, Filling, Fills
from cryptoflow.feeds.gaps import Earlier, Gap, Told
from cryptoflow.feeds.link import Endpoint, Link, Overhear, Patience, unheard
from cryptoflow.feeds.sink import Sink
from cryptoflow.feeds.socket import Loop
from cryptoflow.model.trade import Trade
from cryptoflow.settings import DEFAULT_AHEAD_S
from cryptoflow.venues import CRYPTOCOMPARE
from cryptoflow.venues.base import Venue
from cryptoflow.venues.cryptocompare import Ticker
from cryptoflow.venues.events import Alive, Event, Reached, Received, Refused, Subscribed, Unreadable

POLL_S = 0.1
"""How often `stop`, and the gaps that are due, are looked at."""

MAX_REFUSED = 100
"""Refusals kept in the stats, which differ; all are handed to `on_event`."""

MAX_MARKETS = 1000
"""Markets whose clocks are told of."""


class VenuesClient:
    """Receives the trades of venues and hands each new one to `sink`.

    One venue's failures never stop the others: each is opened again by its own rules.

    Args:
        endpoints: the venues, where they are, and what is wanted of each.
        sink: where trades and unreadable frames go.
        reconnect_for_s: how long no venue may be reachable.
        patience: how long what is waited for.
        on_event: called with each ClientEvent, from the thread that runs the client.
        strangers: subscriptions that no venue of the run has; they are told as refused.
        earlier: what the log has of an earlier run on the same venues: what came between its last trades and this run
            is a gap, and they are no new trades.
        filling: how gaps are filled; None: not at all.
        overhear: given each new session of a venue, gives the one that its socket talks to.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        sink: Sink,
        *,
        reconnect_for_s: float = 900,
        patience: Patience | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        strangers: Sequence[str] = (),
        earlier: Earlier | None = None,
        filling: Filling | None = None,
        overhear: Overhear = unheard,
    ) -> None:
        self.stats = FeedStats()
        self._endpoints = endpoints
        self._sink = sink
        self._reconnect_for_s = reconnect_for_s
        self._patience = patience or Patience()
        self._on_event = on_event or (lambda event: None)
        self._strangers = strangers
        self._earlier, self._filling, self._overhear = earlier, filling, overhear
        self._digest = GapDigest(self._on_event)
        self._subscriptions = sum(len(endpoint.subscriptions) for endpoint in endpoints)
        self._links: list[Link] = []
        """Those that are not given up."""
        self._ahead: set[str] = set()

    def run(self, stop: threading.Event) -> FeedStats:
        """Receive until `stop` is set, then leave all venues and close.

        Raises:
            UnauthorizedError: the only venue refuses the key.
            FeedRefusedError: all venues refuse this client for good.
            FeedUnreachableError: no venue could be used for `reconnect_for_s` in a row.
            Exception: whatever the sink raises.
        """
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self._run(stop))
        return self.stats

    async def _run(self, stop: threading.Event) -> None:
        for sub in self._strangers:
            self._refuse(Refused(sub, "no venue of this run has its market", ""))
        self._links = [
            Link(
                each,
                self._patience,
                self._take,
                self._refuse,
                self._connected,
                self._lost,
                self._filling,
                self._filled,
                self._count_filled,
                self._overhear,
            )
            for each in self._endpoints
        ]
        if self._earlier:
            for link in self._links:
                link.restore(self._earlier)
        links, tasks = [*self._links], {asyncio.create_task(self._follow(link)) for link in self._links}
        try:
            while tasks:
                if stop.is_set():
                    for link in links:
                        link.stop()
                done, tasks = await asyncio.wait(tasks, timeout=POLL_S, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                self._tell_due(links)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for link in links:
            self._tell(None, link.ledger.end(time.time_ns()))  # the next run finds them out of the log
            if link.filler:
                await link.filler.keep()
        self._digest.end()

    async def _follow(self, link: Link) -> None:
        """Run a link to its end; one that can't go on is left out, unless it is the last."""
        try:
            await link.run()
        except FeedError as error:
            self._links.remove(link)
            if not self._links or isinstance(error, FeedUnreachableError):
                raise
            self._on_event(GivenUp(link.name, str(error)))

    def _connected(self, link: Link) -> None:
        self.stats.connects += 1
        self._on_event(Connected(link.endpoint.address))

    def _lost(self, link: Link, event: Disconnected) -> None:
        """Take note of a lost websocket, or raise what forbids another try."""
        self.stats.disconnects += 1
        up_s = max(math.inf if each.down_since_s is None else each.down_since_s for each in self._links)
        if time.monotonic() - up_s >= self._reconnect_for_s:
            raise FeedUnreachableError(
                f"The feed at {link.endpoint.address} could not be used for {self._reconnect_for_s:g} s "
                f"(at last: {event.reason}); check the network and {link.endpoint.variable}."
            )
        self._on_event(event)

    def _take(self, link: Link, received: Received) -> None:
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
                self._refuse(event)

    def _refuse(self, event: Refused) -> None:
        if len(self.stats.refused) < MAX_REFUSED and event not in self.stats.refused:
            self.stats.refused.append(event)
        self._on_event(event)

    def _tell_due(self, links: Sequence[Link]) -> None:
        now_s = time.monotonic()
        for link in links:
            self._tell(link.filler, link.ledger.due(now_s))
            for each in link.paces.look(now_s) if link.down_since_s is None else ():
                self._on_event(each)
        self.stats.silent_pairs = sum(link.paces.silent for link in links)
        self._digest.due(now_s)

    def _tell(self, filler: Filler | None, told: Sequence[Told]) -> None:
        for each in told:
            if isinstance(each, Gap):
                self.stats.gap_count += 1
                self.stats.gaps.append(each)
                if filler:
                    filler.note(each)
            self._digest.take(each, time.monotonic())

    def _filled(self, told: Fills) -> None:
        if isinstance(told, NotFilling):
            self._on_event(told)
        else:
            self._digest.take(told, time.monotonic())

    def _count_filled(self, trades: int) -> None:
        self.stats.filled += trades


class FeedClient(VenuesClient):
    """A client of one address.

    Args:
        url: the feed's address, `ws://` or `wss://`.
        subscriptions: what to subscribe to, each `0~MARKET~COIN~CURRENCY`.
        api_key: sent to the feed; shown nowhere.
        venue: whose protocol it speaks.

    Raises:
        ConfigError: the URL is no websocket's.
    """

    def __init__(
        self,
        url: str,
        subscriptions: Sequence[str],
        sink: Sink,
        *,
        api_key: str | None = None,
        venue: Venue = CRYPTOCOMPARE,
        reconnect_for_s: float = 900,
        on_event: Callable[[ClientEvent], None] | None = None,
        **patience: float,
    ) -> None:
        endpoint = Endpoint(venue, url, tuple(subscriptions), api_key)
        super().__init__(
            [endpoint], sink, reconnect_for_s=reconnect_for_s, patience=Patience(**patience), on_event=on_event
        )
