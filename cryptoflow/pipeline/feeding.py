"""A feed's client at work, aside: what an ingester and memory mode have in common."""

import threading

from cryptoflow.feeds.client import VenuesClient
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.metrics import FeedMetrics


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
        )
