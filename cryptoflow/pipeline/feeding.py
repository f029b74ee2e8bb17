"""A feed's client at work, aside: what an ingester and memory mode have in common."""

import threading

from cryptoflow.feeds.client import VenuesClient
from cryptoflow.feeds.events import MarketStats
from cryptoflow.model.trade import NS_PER_S
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.metrics import FeedMetrics, MarketMetrics


class Feeding:
    """A client that has its sink get trades until it is ended."""

    def __init__(self, client: VenuesClient) -> None:
        self._client, stop = client, threading.Event()
        self._aside = Aside("feed", lambda: client.run(stop), stop.set)

    def start(self) -> None:
        """Begin to receive."""
        self._aside.start()

    def check(self) -> None:
        """Raise what ended the client, if anything has."""
        self._aside.done()

    def end(self) -> None:
        """Leave the feed and close; the metrics are complete then. Raises what the client has raised."""
        self._aside.end()

    def stop(self) -> None:
        """End it, whatever it is at."""
        self._aside.cancel()

    def metrics(self) -> FeedMetrics:
        """What it has received so far."""
        stats = self._client.stats
        return FeedMetrics(
            frames=stats.frames,
            trades=stats.trades,
            duplicates=stats.duplicates,
            unreadable=stats.unreadable,
            connects=stats.connects,
            gaps=stats.gap_count,
            filled=stats.filled,
            refused_subscriptions=len(stats.refused),
            silent_pairs=stats.silent_pairs,
            markets={name: _of_market(market) for name, market in dict(stats.markets).items()},
        )


def _of_market(market: MarketStats) -> MarketMetrics:
    newest, newest_s = market.newest, market.newest_s
    delay_s = newest_s - newest.event_time_ns / NS_PER_S if newest and newest_s else None
    return MarketMetrics(
        trades=market.trades, newest_trade_s=newest_s, delay_s=delay_s, silent_pairs=market.silent_pairs
    )
