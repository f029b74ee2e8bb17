"""Dead letters that can be read by now, sent into the topic of trades."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cryptoflow.errors import FeedError
from cryptoflow.kafka_io.dead_letters import DeadLetter, Source
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.settings import KafkaSettings
from cryptoflow.venues import CRYPTOCOMPARE, VENUES
from cryptoflow.venues.events import Recorded, Unreadable
from cryptoflow.venues.session import Session

REST: Source = "rest"
NOT_ALONE = "a row of REST, whose answer is asked for again"
"""Why it is not read: it does not say by itself which pair it is of."""


class Reader:
    """Reads dead letters, each by the reader of the venue that sent it; those of nobody by CryptoCompare's, whose
    dialect all records of the topic are in.

    Args:
        subscriptions: whose pairs are known by a venue's names.
    """

    def __init__(self, subscriptions: Sequence[str]) -> None:
        self._subscriptions = subscriptions
        self._sessions: dict[str, Session] = {}

    def read(self, letter: DeadLetter, now_s: float) -> tuple[Sequence[Recorded], str]:
        """Its trades, and why something of it can't be read; empty: all can.

        Args:
            now_s: in s since the epoch.
        """
        if letter.source == REST:
            return (), NOT_ALONE
        try:
            trades, events = self._session(letter.venue).receive(letter.frame, now_s)
        except FeedError as error:
            return (), str(error)
        reasons = [event.reason for event in events if isinstance(event, Unreadable)]
        return trades, ", ".join(reasons) or ("" if trades else "it holds no trade")

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            venue = VENUES.get(name, CRYPTOCOMPARE)
            self._sessions[name] = venue.session([*filter(venue.takes, self._subscriptions)])
        return self._sessions[name]


@dataclass
class Revived:
    """What became of dead letters."""

    letters: int = 0
    """Looked at."""
    readable: int = 0
    """Of these, those that could be read whole."""
    trades: int = 0
    """Sent, and acknowledged by Kafka."""


def revive(kafka: KafkaSettings, letters: Iterable[DeadLetter], reader: Reader) -> Revived:
    """Send the trades of dead letters that can be read into the topic of trades.

    They get into their candles as all late trades do, by repairs. Those that are in the topic already are duplicates,
    so to do it twice changes nothing.

    Raises:
        KafkaUnreachableError: no broker answers.
        DeliveryError: Kafka did not take a trade.
    """
    found = Revived()
    with TradeProducer(kafka) as producer:
        for trade, record in _trades(letters, reader, found):
            producer.trade(trade, record)
        producer.flush()
        found.trades = producer.acked
    return found


def _trades(letters: Iterable[DeadLetter], reader: Reader, found: Revived) -> Iterator[Recorded]:
    for letter in letters:
        trades, reason = reader.read(letter, time.time())
        found.letters += 1
        found.readable += not reason
        yield from trades
