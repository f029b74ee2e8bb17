"""Days of the past: from the venues' REST into the history topic, each going on where an earlier run has stopped.

Venues are asked side by side, and the days of each one after the other.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

import msgspec

from cryptoflow.errors import ConfigError, FeedError, FeedRefusedError
from cryptoflow.feeds.past import pages
from cryptoflow.feeds.rest import Rest
from cryptoflow.kafka_io.fetches import Fetches, Written, open_fetches
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Pair, kafka_key
from cryptoflow.pipeline.history_plan import Fetched, day_of, left_s, share_of
from cryptoflow.pipeline.part import Part, RunContext, live
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.metrics import HistoryMetrics
from cryptoflow.settings import FeedSettings, KafkaSettings
from cryptoflow.venues import VENUES
from cryptoflow.venues.base import Venue
from cryptoflow.venues.past import Page, Wanted

REST_FOR_S = 6 * 3600.0
"""How long one request is tried: a venue that is away for hours fails no backfill."""


HISTORY = "history"
"""Why the trades were fetched, as the header of their records has it."""


class PairDay(NamedTuple):
    """A UTC day of a pair."""

    pair: Pair
    day: date

    @property
    def name(self) -> str:
        """By which a later run finds what there is of it."""
        return f"{kafka_key(self.pair).decode()}.{self.day}"

    @property
    def wanted(self) -> Wanted:
        """What to ask its venue for."""
        return day_of(self.pair, self.day)


OnDay = Callable[[PairDay, Fetched], None]
"""Told of each day that is fetched as far as can be."""


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


def fetch(
    feed: FeedSettings,
    kafka: KafkaSettings,
    days: Sequence[PairDay],
    run: RunContext,
    on_day: OnDay = lambda day, fetched: None,
    tell: Callable[[str], None] = lambda trouble: None,
) -> HistoryMetrics:
    """Fetch days that are over until all of them are in the history topic, or until told to stop.

    Args:
        tell: called with each trouble of a venue that is waited out.

    Raises:
        FeedRefusedError: of some pairs there is no past to be had; all others are fetched.
        FeedUnreachableError: a venue is away for too long.
        KafkaError: Kafka is not there, or refuses a trade.
    """
    stop = threading.Event()

    def rest_of(pair: Pair) -> Rest:
        venue = venue_of(feed, pair)
        return Rest(venue, feed.venue_rest_url(venue.name), stop, REST_FOR_S, tell)

    one_by_one = threading.Lock()

    def told(day: PairDay, fetched: Fetched) -> None:
        with one_by_one:
            on_day(day, fetched)

    of_market: dict[str, list[PairDay]] = {}
    for day in days:
        of_market.setdefault(day.pair[0], []).append(day)
    make_topics(kafka)
    with open_fetches(kafka) as fetches, HistoryProducer(kafka, HISTORY) as producer:
        fetchers = [Fetcher(rest_of, producer, fetches, each, told, stop) for each in of_market.values()]
        return live(FetchPart(fetchers, stop), run)


class FetchPart(Part[HistoryMetrics]):
    """A fetch at work: it goes on aside, page by page, each venue by itself."""

    def __init__(self, fetchers: Sequence["Fetcher"], stop: threading.Event) -> None:
        self._fetchers = fetchers
        self._asides = [Aside("history", fetcher.run, stop.set) for fetcher in fetchers]

    def start(self) -> None:
        """Ask for the first pages."""
        for aside in self._asides:
            aside.start()

    def check(self) -> None:
        """Raise what has ended a venue; nobody else has to know: what two write of a day is counted once."""
        for aside in self._asides:
            aside.done()

    def over(self) -> bool:
        """Whether all was asked for."""
        return all(aside.done() for aside in self._asides)

    def drain(self, overdue: Callable[[], bool]) -> None:
        """Write the pages that have come; raises what the venues have refused."""
        for aside in self._asides:
            aside.end()
        if errors := [fetcher.error for fetcher in self._fetchers if fetcher.error]:
            raise type(errors[0])(" ".join(map(str, errors)))

    def stop(self) -> None:
        """Ask for no other page."""
        for aside in self._asides:
            aside.cancel()

    def metrics(self) -> HistoryMetrics:
        """How far it has come."""
        return summed([fetcher.metrics() for fetcher in self._fetchers])


class Fetcher:
    """Fetches days of a venue, one by one: the pages of a day go into the topic, and after each it is put down how far
    it is.

    Args:
        rest_of: gives the REST of a pair's venue, or raises a ConfigError.
        stop: ends it after the page at hand.

    Attributes:
        error: why not all of them could be had, at the end.
    """

    def __init__(
        self,
        rest_of: Callable[[Pair], Rest],
        producer: HistoryProducer,
        fetches: Fetches,
        days: Sequence[PairDay],
        on_day: OnDay,
        stop: threading.Event,
    ) -> None:
        self._rest_of, self._producer, self._fetches = rest_of, producer, fetches
        self._days, self._on_day, self._stop = days, on_day, stop
        self.error: FeedError | None = None
        self._refused: dict[Pair, str] = {}
        self._done = self._there = self._pages = self._trades = 0
        self._share = 0.0
        self._began_s = time.monotonic()

    def run(self) -> None:
        """Fetch all that is not in the topic.

        Raises:
            KafkaError: Kafka is gone, or refuses a trade.
        """
        try:
            self._run()
        except FeedError as error:
            self.error = error

    def _run(self) -> None:
        for day in self._days:
            if day.pair not in self._refused:
                self._fetch(day)
            if self._stop.is_set():
                return
            self._done, self._share = self._done + 1, 0.0
        if self._refused:
            raise FeedRefusedError(" ".join(self._refused.values()))

    def _fetch(self, day: PairDay) -> None:
        try:
            rest = self._rest_of(day.pair)
            fetched = self._fetched(day, rest)
        except (ConfigError, FeedRefusedError) as error:
            self._refused[day.pair] = str(error)
            return
        if fetched.over:
            self._on_day(day, fetched)

    def _fetched(self, day: PairDay, rest: Rest) -> Fetched:
        written = self._fetches.written(day.name)
        fetched = msgspec.json.decode(written.note, type=Fetched) if written else Fetched()
        if fetched.is_done(rest.venue):
            self._there += 1
            return fetched
        for page in pages(rest, fetched.next or day.wanted):
            fetched, written = self._take(page, fetched, written, day, rest)
        return fetched

    def _take(
        self, page: Page, fetched: Fetched, written: Written | None, day: PairDay, rest: Rest
    ) -> tuple[Fetched, Written | None]:
        """Write a page; how far the day is after it."""
        wanted, newest_first = day.wanted, rest.venue.newest_first
        fetched, trades = fetched.with_page(page, wanted, newest_first)
        if span := self._producer.put(trades, page.unreadable, rest.address, rest.venue.name):
            partition, begin, end = span
            written = Written(partition, written.begin if written else begin, end, trades[-1][0].id)
        if written:  # before the first trade there is nothing in the topic that could tell how far it is
            written = written._replace(note=msgspec.json.encode(fetched).decode())
            self._fetches.keep(day.name, written)
        self._pages, self._trades = self._pages + 1, self._trades + len(trades)
        self._share = max(self._share, share_of(wanted, trades, newest_first))
        return fetched, written

    def metrics(self) -> HistoryMetrics:
        """How far it has come."""
        done = self._done + self._share
        new, elapsed_s = len(self._days) - self._there, time.monotonic() - self._began_s
        return HistoryMetrics(
            partitions=self._done,
            partitions_left=len(self._days) - self._done,
            pages=self._pages,
            past_trades=self._trades,
            share_done=done / len(self._days),
            left_s=left_s((done - self._there) / new, elapsed_s) if new else 0.0,
        )


def summed(venues: Sequence[HistoryMetrics]) -> HistoryMetrics:
    """How far all venues have come; each has some days."""
    of_each = [each.partitions + each.partitions_left for each in venues]
    left = [each.left_s for each in venues]
    return HistoryMetrics(
        partitions=sum(each.partitions for each in venues),
        partitions_left=sum(each.partitions_left for each in venues),
        pages=sum(each.pages for each in venues),
        past_trades=sum(each.past_trades for each in venues),
        share_done=sum(each.share_done * days for each, days in zip(venues, of_each, strict=True)) / sum(of_each),
        left_s=None if None in left else max(each for each in left if each is not None),
    )
