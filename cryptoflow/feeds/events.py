"""What a client tells while it runs: events, each a sentence, and its stats."""

from collections import deque
from dataclasses import dataclass, field

from cryptoflow.feeds.gaps import Filled, Gap
from cryptoflow.venues.base import Refused, Subscribed

MAX_GAPS = 1000
"""Gaps kept in the stats; all are counted and handed to `on_event`."""

THE_FEED = "the feed"


@dataclass(frozen=True)
class Connected:
    """The websocket is open."""

    address: str

    def __str__(self) -> str:
        return f"Connected to the feed at {self.address}."


@dataclass(frozen=True)
class Disconnected:
    """The websocket was lost, or could not be opened; the next try comes in `retry_in_s`."""

    reason: str
    retry_in_s: float
    feed: str = THE_FEED

    def __str__(self) -> str:
        return f"No connection to {self.feed}: {self.reason}; the next try is in {self.retry_in_s:.1f} s."


@dataclass(frozen=True)
class GivenUp:
    """A venue will not be tried again in this run; the others go on."""

    feed: str
    reason: str

    def __str__(self) -> str:
        return f"{self.feed} is left out of this run: {self.reason}"


@dataclass(frozen=True)
class ClocksDiffer:
    """A market's trades come from the future, by this machine's clock."""

    market: str
    ahead_s: float

    def __str__(self) -> str:
        return (
            f"Trades of {self.market} are {self.ahead_s:.0f} s ahead of this machine's clock: one of the two is wrong. "
            "None is lost, but they come into their candles by repairs; `cryptoflow doctor` looks at this clock."
        )


ClientEvent = Connected | Disconnected | GivenUp | Subscribed | Refused | Gap | Filled | ClocksDiffer


@dataclass
class FeedStats:
    """What a client has seen so far; any thread may read it."""

    frames: int = 0
    trades: int = 0
    """New trades handed to the sink."""
    duplicates: int = 0
    unreadable: int = 0
    tickers: int = 0
    heartbeats: int = 0
    connects: int = 0
    """Websockets opened."""
    disconnects: int = 0
    """Websockets lost and failed tries to open one."""
    subscribed: set[str] = field(default_factory=set)
    """The subscriptions that the feed has accepted."""
    refused: list[Refused] = field(default_factory=list)
    """The first refusals that differ."""
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=MAX_GAPS))
    """The latest gaps."""
    gap_count: int = 0
    last_frame_s: float | None = None
    """When the last frame came, in s since the epoch."""
