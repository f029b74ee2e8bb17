"""The client of a run's feed: all its venues in one event loop, kept open until it is told to stop."""

import asyncio
import threading
from collections.abc import Callable, Sequence

from cryptoflow.errors import FeedError
from cryptoflow.feeds.endpoint import Endpoint
from cryptoflow.feeds.events import ClientEvent, FeedStats
from cryptoflow.feeds.filler import Filling
from cryptoflow.feeds.gaps import Earlier
from cryptoflow.feeds.link import Link, Overhear, Patience, unheard
from cryptoflow.feeds.receiver import Receiver
from cryptoflow.feeds.sink import Sink
from cryptoflow.feeds.socket import Loop
from cryptoflow.venues import CRYPTOCOMPARE
from cryptoflow.venues.base import Venue
from cryptoflow.venues.events import Refused

POLL_S = 0.1
"""How often `stop`, and the gaps that are due, are looked at."""


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
        self._endpoints, self._strangers = endpoints, strangers
        self._patience = patience or Patience()
        self._earlier, self._filling, self._overhear = earlier, filling, overhear
        subscriptions = sum(len(endpoint.subscriptions) for endpoint in endpoints)
        self._receiver = Receiver(sink, on_event or (lambda event: None), reconnect_for_s, subscriptions)

    @property
    def stats(self) -> FeedStats:
        """What it has received so far."""
        return self._receiver.stats

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
        receiver = self._receiver
        for sub in self._strangers:
            receiver.refused(Refused(sub, "no venue of this run has its market", ""))
        links = [Link(each, self._patience, receiver, self._filling, self._overhear) for each in self._endpoints]
        if self._earlier:
            for link in links:
                link.restore(self._earlier)
        receiver.links = [*links]
        tasks = {asyncio.create_task(self._follow(link)) for link in links}
        try:
            while tasks:
                if stop.is_set():
                    for link in links:
                        link.stop()
                done, tasks = await asyncio.wait(tasks, timeout=POLL_S, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                receiver.look(links)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        receiver.ended(links)
        for link in links:
            if link.filler:
                await link.filler.keep()

    async def _follow(self, link: Link) -> None:
        """Run a link to its end, or until it can't go on."""
        try:
            await link.run()
        except FeedError as error:
            self._receiver.give_up(link, error)


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
