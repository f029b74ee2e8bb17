"""The stream of a simulator without any socket: a source of frames, and the faults that are on."""

import time
from collections.abc import Callable, Iterator, Sequence

from cryptoflow.simulator.binance import Binance
from cryptoflow.simulator.coinbase import Coinbase
from cryptoflow.simulator.config import SimulatorConfig, VenueName
from cryptoflow.simulator.cryptocompare import CryptoCompare
from cryptoflow.simulator.events import Event
from cryptoflow.simulator.kraken import Kraken
from cryptoflow.simulator.stages import flushed, pushed, stages
from cryptoflow.simulator.venue import Venue

VENUE_CLASSES: dict[VenueName, type[Venue]] = {
    "cryptocompare": CryptoCompare,
    "coinbase": Coinbase,
    "binance": Binance,
    "kraken": Kraken,
}


def venue_of(config: SimulatorConfig, clock_ns: Callable[[], int] = time.time_ns) -> Venue:
    """The venue that a config names.

    Raises:
        ConfigError: the replay file can't be read, or a pair is none.
    """
    return VENUE_CLASSES[config.venue](config, clock_ns)


class EventStream:
    """The events of a venue, one source event at a time."""

    def __init__(self, venue: Venue) -> None:
        config = venue.config
        self._source = venue.source
        self._stages = stages(config.faults, config.seed, dated_back=self._source.dated_back, fields=venue.fields)
        self._flushed = False

    @property
    def ended(self) -> bool:
        """Whether everything has been handed out."""
        return self._flushed

    def next_due_s(self) -> float | None:
        """When `advance` has something to do, in s since the stream began; None after the end."""
        return None if self._flushed else self._source.next_due_s() or 0.0

    def advance(self, subscriptions: Sequence[str]) -> list[Event]:
        """What the next event of the source sets free, in the order to send it; at its end, all that is left.

        Args:
            subscriptions: those that somebody listens to; at least one.
        """
        if self._source.next_due_s() is None:
            self._flushed = True
            return flushed(self._stages)
        event = self._source.pull(subscriptions)
        return pushed(self._stages, (event,)) if self._stages else [event]


def frames(
    config: SimulatorConfig, subscriptions: Sequence[str], clock_ns: Callable[[], int] = time.time_ns
) -> Iterator[bytes]:
    """What a simulator of this config sends a client with these subscriptions, without socket or waiting.

    With a start time in the config (or a replay file) it is the same each time.

    Raises:
        ConfigError: the replay file can't be read, or a subscription is no trade channel.
    """
    stream = EventStream(venue_of(config, clock_ns))
    while not stream.ended:
        for event in stream.advance(subscriptions):
            if event.subscription is None or event.subscription in subscriptions:
                yield event.frame
