"""A day of a pair's past: from the venue's REST into the history topic, going on where an earlier run has stopped."""

import threading
import time
from collections.abc import Callable
from datetime import date

import msgspec

from cryptoflow.errors import ConfigError
from cryptoflow.feeds.past import pages
from cryptoflow.feeds.rest import Rest
from cryptoflow.kafka_io.fetches import History, Written, open_history
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Pair, kafka_key
from cryptoflow.pipeline.history_plan import Fetched, day_of, left_s, share_of
from cryptoflow.pipeline.part import Part, RunContext, live
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.metrics import HistoryMetrics
from cryptoflow.settings import FeedSettings, KafkaSettings
from cryptoflow.venues import VENUES
from cryptoflow.venues.base import Page, Venue, Wanted

REST_FOR_S = 6 * 3600.0
"""How long one request is tried: a venue that is away for hours fails no backfill."""


def venue_of(feed: FeedSettings, pair: Pair) -> Venue:
    """The venue of a pair's market, if it is one of the source's.

    Raises:
        ConfigError: it is not: its trades would stand among those of another source.
    """
    for name in feed.venues:
        if VENUES[name].market == pair[0]:
            return VENUES[name]
    named = next((name for name, venue in VENUES.items() if venue.market == pair[0]), pair[0])
    raise ConfigError(f"The past of {pair[0]} goes where its live trades do: take a source with {named} in it.")


def fetch_day(
    feed: FeedSettings,
    kafka: KafkaSettings,
    pair: Pair,
    day: date,
    run: RunContext,
    tell: Callable[[str], None] = lambda trouble: None,
) -> tuple[Fetched, HistoryMetrics]:
    """Fetch a UTC day that is over until all of it is in the history topic, or until told to stop.

    Args:
        tell: called with each trouble of the venue that is waited out.

    Raises:
        ConfigError: the pair's market is not one of the source's.
        FeedError: the venue refuses the pair, or is away for too long.
        KafkaError: Kafka is not there, or refuses a trade.
    """
    venue, stop = venue_of(feed, pair), threading.Event()
    rest = Rest(venue, feed.venue_rest_url(venue.name), stop, REST_FOR_S, tell)
    make_topics(kafka)
    with open_history(kafka, pair) as history:
        fetcher = DayFetcher(rest, history, day_of(pair, day), f"{kafka_key(pair).decode()}.{day}")
        metrics = live(FetchPart(fetcher, stop), run)
        return fetcher.fetched, metrics


class FetchPart(Part[HistoryMetrics]):
    """A fetch at work: it goes on aside, page by page."""

    def __init__(self, fetcher: "DayFetcher", stop: threading.Event) -> None:
        self._fetcher = fetcher
        self._aside = Aside("history", fetcher.run, stop.set)

    def start(self) -> None:
        """Ask for the first page."""
        self._aside.start()

    def check(self) -> None:
        """Nobody else has to know: what two write of a day is counted once."""
        return

    def over(self) -> bool:
        """Whether all was asked for."""
        return self._aside.done()

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Write the page that has come."""
        self._aside.end()

    def stop(self) -> None:
        """Ask for no other page."""
        self._aside.cancel()

    def metrics(self) -> HistoryMetrics:
        """How far it has come."""
        return self._fetcher.metrics()


class DayFetcher:
    """Carries the pages of a stretch into the topic, and puts down after each how far it has come.

    Args:
        name: of the stretch, by which a later run finds it.

    Attributes:
        fetched: how far it has come.
    """

    def __init__(self, rest: Rest, history: History, wanted: Wanted, name: str) -> None:
        self._rest, self._history, self._wanted, self._name = rest, history, wanted, name
        self._source = f"{rest.venue.name} REST"
        self._written = Written("")
        self._done_before: float | None = None
        self._share, self._new_trades, self._began_s = 0.0, 0, time.monotonic()
        self.fetched = Fetched()

    def run(self) -> None:
        """Fetch what is not in the topic."""
        if written := self._history.written(self._name):
            self._written, self.fetched = written, msgspec.json.decode(written.note, type=Fetched)
        if self.fetched.is_done(self._rest.venue):
            self._share = 1.0
            return
        for page in pages(self._rest, self.fetched.next or self._wanted):
            self._take(page)

    def _take(self, page: Page) -> None:
        newest_first = self._rest.venue.newest_first
        fetched, trades = self.fetched.with_page(page, self._wanted, newest_first)
        if page.unreadable:
            self._history.dead_letters(page.unreadable, self._source)
        if trades:
            place = self._history.put(trades, self._source)
            self._written = self._written.grown(*place, trades[-1][0].id)
        self._written = self._written._replace(note=msgspec.json.encode(fetched).decode())
        self._history.note(self._name, self._written)
        self.fetched = fetched
        self._new_trades += len(trades)
        self._share = 1.0 if fetched.over else max(self._share, share_of(self._wanted, trades, newest_first))
        if self._done_before is None:
            self._done_before, self._began_s = self._share, time.monotonic()

    def metrics(self) -> HistoryMetrics:
        """How far it has come."""
        elapsed_s = time.monotonic() - self._began_s
        left = None if self._done_before is None else left_s(self._done_before, self._share, elapsed_s)
        return HistoryMetrics(
            pages=self.fetched.pages, past_trades=self._new_trades, share_done=self._share, left_s=left
        )
