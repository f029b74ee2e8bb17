"""What an ingester does about gaps: the end of the log as an earlier run has left it, and the past that it fills in."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from cryptoflow.feeds.filler import Filling
from cryptoflow.feeds.gaps import Earlier, Standing, bounded
from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.tail import ENOUGH_BLOCKS, last_trades, newest_values
from cryptoflow.model.trade import DECODE_ERRORS, Pair, Trade, kafka_key
from cryptoflow.settings import KafkaSettings
from cryptoflow.venues.events import Recorded, Unreadable
from cryptoflow.venues.reading import subscribed_pairs

LIVE_WITHIN_S, FILLED_WITHIN_S = 1.0, 0.5
"""How long the end of the log is read, in s, before the feed is opened."""

MOST_KEPT = 5_000
"""Gaps of a pair, known by numbers, that are put down: they fit into one record."""

GAP = "gap"
"""Why trades of the past are fetched."""

_decoder = msgspec.json.Decoder(Standing)


class FilledGaps:
    """Puts what was filled, and where pairs stand, into Kafka; a feed's Past."""

    def __init__(self, producer: HistoryProducer) -> None:
        self._producer = producer

    def put(self, trades: Sequence[Recorded], unreadable: Sequence[Unreadable], source: str, venue: str) -> None:
        """As `Past` says."""
        self._producer.put(trades, unreadable, source, venue)

    def keep(self, standings: Mapping[Pair, Standing]) -> None:
        """As `Past` says; one record for each pair."""
        kept = {pair: replace(each, gaps=bounded(each.gaps, MOST_KEPT)) for pair, each in standings.items()}
        self._producer.put_gaps({kafka_key(pair): msgspec.json.encode(each) for pair, each in kept.items()})


def earlier_of(kafka: KafkaSettings, feed: Feed) -> Earlier:
    """What the log has of an earlier run of the feed.

    Trades of the same market out of another source don't count: their numbers are others.

    Raises:
        KafkaError: Kafka is not there, or does not give its records.
    """
    venues = {pair: each.venue for each in feed.endpoints() for pair in subscribed_pairs(each.subscriptions)}

    def taken(trade: Trade) -> bool:
        return venues[trade.pair].has_made(trade)

    trades = last_trades(kafka, kafka.topic, venues, taken, LIVE_WITHIN_S)
    if not feed.has_past:
        return Earlier(trades)
    filled = last_trades(kafka, kafka.history_topic, venues, taken, FILLED_WITHIN_S, ENOUGH_BLOCKS)
    put_down = newest_values(kafka, kafka.gaps_topic)
    return Earlier(trades, filled, {pair: _read(put_down.get(kafka_key(pair), b"")) for pair in venues})


def _read(value: bytes) -> Standing:
    """How a pair stood; what can't be read is as good as lost: the log's end tells the newest gaps."""
    try:
        return _decoder.decode(value)
    except DECODE_ERRORS:
        return Standing()


@contextmanager
def filling_of(kafka: KafkaSettings, feed: Feed) -> Iterator[Filling | None]:
    """How the gaps of the feed are filled, for the length of a run; None: it has no past, or is not to be.

    Raises:
        KafkaError: Kafka is not there.
    """
    limit_s = feed.settings.fill_limit_s
    if not (feed.has_past and limit_s):
        yield None
        return
    with HistoryProducer(kafka, GAP) as producer:
        yield Filling(FilledGaps(producer), limit_s)
