"""One venue's way into a run: its websocket, opened again whenever it is lost, and what its trades tell of gaps."""

import asyncio
import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from cryptoflow.errors import FeedDisconnectedError, FeedError, FeedRefusedError
from cryptoflow.feeds.backoff import MAX_DELAY_S, backoff
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.feeds.events import THE_FEED, Disconnected
from cryptoflow.feeds.filler import REST_FOR_S, Filler, Filling, Fills
from cryptoflow.feeds.gaps import Earlier
from cryptoflow.feeds.ledger import Ledger
from cryptoflow.feeds.pace import Paces
from cryptoflow.feeds.recent import RecentTrades
from cryptoflow.feeds.rest import Rest
from cryptoflow.feeds.socket import Socket, aside
from cryptoflow.venues.events import Received, Refused
from cryptoflow.venues.reading import subscribed_pairs
from cryptoflow.venues.session import Session

RENEW_BEFORE_S = 300.0
"""How long before a venue cuts a socket it is replaced."""

RENEWED_WITHIN_S = 10.0
"""How long the old socket is kept for the new one's subscriptions to be accepted, and then between two tries."""

REFUSED_FOR_S = 3600.0
"""How long a subscription that a venue has refused is not asked for again: some venues close the socket over one."""


@dataclass(frozen=True)
class Patience:
    """How long what is waited for, in s; None: as the venue's limits say.

    Attributes:
        silent_after_s: a socket without a frame for so long is given up.
        no_trade_after_s: one that brings frames but no trade for so long is opened anew, unless the venue proves that
            its pairs are quiet; that alone ends no run.
        min_delay_s, max_delay_s: bounds of the waits between reconnects.
    """

    silent_after_s: float | None = None
    no_trade_after_s: float = 300
    min_delay_s: float | None = None
    max_delay_s: float = MAX_DELAY_S


Overhear = Callable[[Endpoint, Session], Session]


def unheard(endpoint: Endpoint, session: Session) -> Session:
    """The session itself: nobody else listens."""
    return session


class Listener(Protocol):
    """Whom a link tells of all that happens to it; what a call raises ends the link."""

    def connected(self, link: "Link") -> None:
        """A websocket is open."""

    def lost(self, link: "Link", event: Disconnected) -> None:
        """It is lost, and opened anew unless this raises."""

    def take(self, link: "Link", received: Received) -> None:
        """A frame holds that."""

    def refused(self, event: Refused) -> None:
        """A subscription is refused, and no frame told so."""

    def filled(self, told: Fills) -> None:
        """Something has become of gaps."""

    def fetched(self, trades: int) -> None:
        """So many trades more have been filled in."""


class _NoTradeError(FeedDisconnectedError):
    """The feed answers and sends no trade: a quiet market, or a subscription that it has forgotten."""


class Link:
    """One venue's trades, for as long as it is not told to stop.

    Args:
        filling: how its gaps are filled; None: not at all.
        overhear: given each new session, gives the one that the socket talks to.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        patience: Patience,
        listener: Listener,
        filling: Filling | None = None,
        overhear: Overhear = unheard,
    ) -> None:
        self.endpoint = endpoint
        self.recent = RecentTrades(subscribed_pairs(endpoint.subscriptions))
        self.ledger = Ledger(endpoint.subscriptions, endpoint.venue.patience_s)
        self.paces = Paces(subscribed_pairs(endpoint.subscriptions), time.monotonic())
        self.down_since_s: float | None = time.monotonic()
        """Since when, by the monotonic clock, nothing has come that shows the venue at work; None: it is."""
        self._venue, self._patience, self._listener, self._overhear = endpoint.venue, patience, listener, overhear
        self._traded_s = 0.0
        self._trades = 0
        self._refused: dict[str, float] = {}
        self._stopping, self._stopped = asyncio.Event(), threading.Event()
        self._socket: Socket | None = None
        self.filler: Filler | None = None
        """None: its gaps are not filled."""
        rest_url = endpoint.rest_url
        self._rest = Rest(endpoint.venue, rest_url, self._stopped, REST_FOR_S) if rest_url else None
        if filling and self._rest:
            self.filler = Filler(self._rest, self.ledger, self.recent, filling, listener.filled, listener.fetched)

    @property
    def name(self) -> str:
        """What the venue is called in a sentence."""
        return self._venue.market or THE_FEED

    def restore(self, earlier: Earlier) -> None:
        """Go on from what an earlier run has left, as far as it is this venue's."""
        for trade in earlier.trades:
            if self.ledger.has(trade.pair):
                self.recent.add(trade)
        self.ledger.restore(earlier, time.time_ns(), "no run was receiving")
        if self.filler:
            self.filler.restore(earlier.standings)

    def stop(self) -> None:
        """Leave the venue and end."""
        self._stopping.set()
        self._stopped.set()
        if self._socket:
            self._socket.wake()

    async def run(self) -> None:
        """Receive until told to stop.

        Raises:
            FeedError: the venue refuses this client for good, or is gone for too long.
            Exception: whatever the listener raises, or the taker of what is filled.
        """
        opening = asyncio.create_task(self._keep_open())
        waiting = {opening, asyncio.create_task(self._look_up())}
        if self.filler:
            waiting.add(asyncio.create_task(self.filler.run()))
        tasks = [*waiting]
        try:
            while not opening.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            self._stopped.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_up(self) -> None:
        """See whether the venue has the pairs, where its websocket does not say."""
        if self._rest is None:
            return
        for sub in self.endpoint.subscriptions:
            for target in filter(None, map(self._venue.listing, subscribed_pairs([sub]))):
                try:
                    listed = await aside(partial(self._rest.ask, target, self._venue.lists))
                except FeedError:
                    return  # then the pair's silence has to tell
                if listed is None:
                    return  # it was told to stop
                if not listed:
                    self._refused[sub] = time.monotonic() + REFUSED_FOR_S
                    self._listener.refused(Refused(sub, f"{self.name} has no such pair", ""))

    async def _keep_open(self) -> None:
        delays = self._delays()
        while not self._stopping.is_set():
            trades = self._trades
            error = await self._connection()
            if error is None or self._stopping.is_set():
                return
            if self._trades > trades or isinstance(error, _NoTradeError):
                delays = self._delays()
            self.down_since_s = self.down_since_s or time.monotonic()
            self.ledger.lost(time.time_ns(), str(error))
            self._listener.lost(self, Disconnected(str(error), delay_s := next(delays), self.name))
            await self._unless_stopped(asyncio.sleep(delay_s))

    def _delays(self) -> Iterator[float]:
        min_delay_s = self._patience.min_delay_s
        return backoff(
            random.random,
            self._venue.limits.min_delay_s if min_delay_s is None else min_delay_s,
            self._patience.max_delay_s,
        )

    async def _connection(self) -> FeedDisconnectedError | None:
        """One websocket, and those that replace it, to the end: what ended it, or None for `stop`."""
        try:
            socket = await self._open()
            while socket:
                socket = await self._serve(socket)
        except FeedDisconnectedError as error:
            return error
        return None

    async def _open(self) -> Socket | None:
        """A new websocket at work; None if it was told to stop first."""
        session = self._overhear(self.endpoint, self._venue.session(self._wanted(), self.endpoint.secret))
        socket = Socket(self._venue, session, self._received)
        at_work = False
        try:
            at_work = await self._unless_stopped(socket.open(self.endpoint.socket_url, self.endpoint.secret))
        finally:
            if not at_work:
                await socket.close()
        if not at_work:
            return None
        self._listener.connected(self)
        self.paces.opened(time.monotonic())
        self.ledger.opened(time.monotonic())
        socket.begin()
        return socket

    def _wanted(self) -> Sequence[str]:
        """The subscriptions to ask for.

        Raises:
            FeedRefusedError: the venue has refused all of them.
        """
        now_s = time.monotonic()
        wanted = [sub for sub in self.endpoint.subscriptions if self._refused.get(sub, now_s) <= now_s]
        if not wanted:
            raise FeedRefusedError(f"it has none of {', '.join(self.endpoint.subscriptions)}.")
        return wanted

    async def _serve(self, socket: Socket) -> Socket | None:
        """Receive until another websocket takes its place, or, for None, until told to stop."""
        self._socket, self._traded_s = socket, time.monotonic()
        try:
            renew_s = self._renew_s(socket)
            while not self._stopping.is_set():
                await socket.turn()
                self._check(socket)
                if socket.closing or time.monotonic() >= renew_s:
                    if successor := await self._successor():
                        return successor
                    socket.closing, renew_s = False, time.monotonic() + RENEWED_WITHIN_S
            with contextlib.suppress(FeedDisconnectedError):  # it is being left anyway
                await socket.leave()
            return None
        finally:
            self._socket = None
            await socket.close()

    def _renew_s(self, socket: Socket) -> float:
        lifetime_s = self._venue.limits.lifetime_s
        return math.inf if lifetime_s is None else socket.opened_s + lifetime_s - RENEW_BEFORE_S

    async def _successor(self) -> Socket | None:
        """Another websocket whose subscriptions are accepted, while the old one still brings trades."""
        successor = None
        try:
            successor = await self._open()
            deadline_s = time.monotonic() + RENEWED_WITHIN_S
            while successor and not successor.subscribed and time.monotonic() < deadline_s:
                await successor.turn()
                if self._stopping.is_set():
                    break
        except BaseException as error:
            if successor:
                await successor.close()
            if isinstance(error, FeedDisconnectedError):
                return None  # the old one is lost soon, and tells why there is no other
            raise
        return successor

    def _check(self, socket: Socket) -> None:
        """See that it brings something.

        Raises:
            FeedDisconnectedError: it does not.
        """
        now_s, silent_after_s = time.monotonic(), self._patience.silent_after_s
        if silent_after_s is None:
            silent_after_s = self._venue.limits.silent_after_s
        if now_s - socket.heard_s >= silent_after_s:
            raise FeedDisconnectedError(f"no frame for {silent_after_s:g} s")
        if now_s - self._traded_s >= self._patience.no_trade_after_s and not self.paces.quiet(now_s):
            self.down_since_s = None  # it answers
            raise _NoTradeError(f"frames but no trade for {self._patience.no_trade_after_s:g} s")

    def _received(self, received: Received) -> None:
        trades, events = received
        if trades:
            self.down_since_s = None
            self._trades += len(trades)
        for event in events:
            if isinstance(event, Refused) and event.sub and self._venue.market:
                self._refused[event.sub] = time.monotonic() + REFUSED_FOR_S
        self._listener.take(self, received)
        if trades:
            self._traded_s = time.monotonic()

    async def _unless_stopped(self, work: Coroutine[Any, Any, object]) -> bool:
        """Whether it came to its end before the link was told to stop."""
        task, stopping = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        if task.cancelled():
            return False
        task.result()
        return True
