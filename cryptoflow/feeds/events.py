"""What a client tells while it runs: events, each a sentence, and its stats."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cryptoflow.feeds.gaps import Filled, Gap, Unfilled
from cryptoflow.feeds.pace import PairBack, PairSilent
from cryptoflow.model.trade import Trade
from cryptoflow.venues.events import Refused, Subscribed

MAX_GAPS = 1000
"""Gaps kept in the stats; all are counted and handed to `on_event`."""

MAX_MARKETS = 1000
"""Markets that are told of by themselves."""

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


@dataclass(frozen=True)
class NotFilling:
    """The REST of a venue gives no past trades of a pair for now; they are asked for again in `retry_in_s`."""

    reason: str
    retry_in_s: float

    def __str__(self) -> str:
        return f"{self.reason.rstrip('.')}. Its gaps are filled in {self.retry_in_s:.0f} s at the earliest."


@dataclass(frozen=True)
class ManyGaps:
    """What became of gaps in a while, beyond those that were told one by one."""

    within_s: float
    gaps: int = 0
    missing: int = 0
    """Trades, of those gaps that have numbers."""
    filled: int = 0
    unfilled: int = 0

    def __str__(self) -> str:
        return (
            f"Within {self.within_s:g} s: {self.gaps:,} more gaps, with {self.missing:,} missing trades; "
            f"{self.filled:,} gaps were filled, {self.unfilled:,} can't be."
        )


GapEvent = Gap | Filled | Unfilled

ClientEvent = (
    Connected
    | Disconnected
    | GivenUp
    | Subscribed
    | Refused
    | GapEvent
    | ManyGaps
    | NotFilling
    | ClocksDiffer
    | PairSilent
    | PairBack
)


class GapDigest:
    """Tells of gaps one by one where they are few, and else how many there were.

    Args:
        tell: called with what is to be told.
        within_s, most: so many are told one by one in so many seconds.
    """

    def __init__(self, tell: Callable[[ClientEvent], None], within_s: float = 10.0, most: int = 5) -> None:
        self._tell, self._within_s, self._most = tell, within_s, most
        self._began_s: float | None = None
        self._told = 0
        self._rest = ManyGaps(within_s)

    def take(self, event: GapEvent, now_s: float) -> None:
        """Tell an event, or count it; `now_s` is of any monotonic clock."""
        self.due(now_s)
        if self._began_s is None:
            self._began_s = now_s
        if self._told < self._most:
            self._told += 1
            self._tell(event)
        else:
            self._rest = _with(self._rest, event)

    def due(self, now_s: float) -> None:
        """Tell what was counted, if it is time to."""
        if self._began_s is not None and now_s - self._began_s >= self._within_s:
            self.end()

    def end(self) -> None:
        """Tell what was counted."""
        rest, self._rest = self._rest, ManyGaps(self._within_s)
        self._began_s, self._told = None, 0
        if rest != self._rest:
            self._tell(rest)


def _with(many: ManyGaps, event: GapEvent) -> ManyGaps:
    match event:
        case Gap():
            return replace(many, gaps=many.gaps + 1, missing=many.missing + (event.missing or 0))
        case Filled():
            return replace(many, filled=many.filled + 1)
        case Unfilled():
            return replace(many, unfilled=many.unfilled + 1)


@dataclass(slots=True)
class MarketStats:
    """What a client has seen of a market's trades so far."""

    trades: int = 0
    """New trades handed to the sink."""
    newest: Trade | None = None
    """The last of them."""
    newest_s: float | None = None
    """When that came, in s since the epoch."""
    silent_pairs: int = 0
    """Pairs that are silent for longer than their pace suggests now."""


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
    filled: int = 0
    """Trades that the feed did not send, and REST did."""
    markets: dict[str, MarketStats] = field(default_factory=dict)
    """By name; the first ones."""
    last_frame_s: float | None = None
    """When the last frame came, in s since the epoch."""

    @property
    def silent_pairs(self) -> int:
        """Pairs that are silent for longer than their pace suggests now."""
        return sum(market.silent_pairs for market in list(self.markets.values()))

    def market(self, name: str) -> MarketStats:
        """That of a market; what is noted of one beyond the first `MAX_MARKETS` is lost."""
        if (known := self.markets.get(name)) is not None:
            return known
        made = MarketStats()
        if len(self.markets) < MAX_MARKETS:
            self.markets[name] = made
        return made
