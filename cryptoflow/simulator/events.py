"""What the simulated feed sends: one frame, what it is of, and why it is sent."""

import re
from enum import Enum
from typing import NamedTuple

from cryptoflow.model.trade import NS_PER_S, TRADE_TYPE

TRADE_CHANNEL = re.compile(r"0~([^~\s]{1,64})~([^~\s]{1,64})~([^~\s]{1,64})")
"""A subscription to trades, 0~MARKET~COIN~CURRENCY; the names as `trades.Name` has them."""


class Kind(Enum):
    """Why a frame is sent."""

    TRADE = "trade"
    LATE = "late"
    """A trade sent long after its exchange time."""
    DUPLICATE = "duplicate"
    """A trade that was sent before."""
    MALFORMED = "malformed"
    """No readable trade."""
    CONTROL = "control"
    """The protocol's own: an answer, an error, a heartbeat."""


FRESH = (Kind.TRADE, Kind.LATE)  # a tuple: the hash of an enum is slow
"""The kinds of a trade that is sent for the first time."""


class Event(NamedTuple):
    """One frame and its place in the stream."""

    frame: bytes
    subscription: str | None
    """Whose subscribers get it; None: everybody who has subscribed to something."""
    stream_ns: int
    """The newest exchange time of the stream when this frame's turn came, in ns since the epoch."""
    kind: Kind = Kind.TRADE
    ids: tuple[int, ...] = ()
    """The ids of its trades, where they are numbers and the venue's own."""

    @property
    def trades(self) -> int:
        """How many trades the frame holds, if it holds any."""
        return len(self.ids) or 1


def subscription_of(pair: tuple[str, str, str]) -> str:
    """The trade channel of (market, from coin, to currency)."""
    return "~".join((TRADE_TYPE, *pair))


def pair_of(subscription: str) -> tuple[str, str, str] | None:
    """(market, from coin, to currency) of a trade channel; None if it is no trade channel."""
    channel = TRADE_CHANNEL.fullmatch(subscription)
    if channel is None:
        return None
    market, from_coin, to_currency = channel.groups()
    return market, from_coin, to_currency


def in_ns(seconds: float) -> int:
    """Seconds as whole ns."""
    return round(seconds * NS_PER_S)
