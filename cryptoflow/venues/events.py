"""What a venue's frame may hold: trades, and what is none of them."""

from collections.abc import Sequence

import msgspec

from cryptoflow.model.trade import Pair, Trade

Recorded = tuple[Trade, bytes]
"""A trade, and its record for Kafka: a frame in CryptoCompare's dialect."""


class Event(msgspec.Struct, frozen=True):
    """What a frame turned out to be, if it is no trade."""


class Alive(Event, frozen=True):
    """The venue is there: a heartbeat."""


class Reached(Alive, frozen=True):
    """The venue has a trade of the pair with that id, which `time_ns` (since the epoch) is not older than."""

    pair: Pair
    number: int
    time_ns: int


class Subscribed(Event, frozen=True):
    """One subscription was accepted."""

    sub: str

    def __str__(self) -> str:
        return f"Subscribed to {self.sub}."


class Refused(Event, frozen=True):
    """The feed refused a request; the other subscriptions live on."""

    sub: str | None
    """The subscription, where the feed names it."""
    message: str
    info: str

    def __str__(self) -> str:
        return f"The feed refused {self.sub or 'a request'}: {self.message}. {self.info}".rstrip()


class Left(Event, frozen=True):
    """All that was to be left is left: nothing follows."""


class Closing(Event, frozen=True):
    """The venue is about to close the socket."""


class Unreadable(Event, frozen=True):
    """No frame of the protocol, or a trade that breaks a trade's limits."""

    frame: bytes
    reason: str


class Other(Event, frozen=True):
    """A well-formed frame of a type that is not used here."""

    type: str


Received = tuple[Sequence[Recorded], Sequence[Event]]
"""What a frame holds: one thing at least, whatever its bytes."""
