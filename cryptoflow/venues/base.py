"""What a venue is: its names and limits, its socket's session and its past, all of it without I/O."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cryptoflow.errors import FeedDisconnectedError, FeedError, FeedRefusedError
from cryptoflow.model.parity import Bar
from cryptoflow.model.trade import Pair, Trade
from cryptoflow.venues.past import Answer, Page, Request, Wanted
from cryptoflow.venues.reading import subscribed_pairs
from cryptoflow.venues.session import Session


@dataclass(frozen=True)
class Limits:
    """What a venue lets a client do; far enough below what it forbids that another client has room."""

    min_delay_s: float
    """Between two connects."""
    messages_per_s: float = 5
    """Sent into a socket."""
    subscriptions: int = 1000
    """Of one socket."""
    lifetime_s: float | None = None
    """Of a socket, after which the venue cuts it; it is to be replaced a little before."""
    silent_after_s: float = 60
    """A socket without a frame, pings of the venue too, for so long is dead."""
    rest_interval_s: float = 1
    """Between two requests of REST."""


class Venue(ABC):
    """A source of trades with a protocol of its own."""

    name: ClassVar[str]
    """As `--source` names it."""
    market: ClassVar[str | None]
    """As subscriptions and candles name it; None: it has the trades of many."""
    url: ClassVar[str]
    """The official address of its websocket."""
    rest_url: ClassVar[str | None]
    """The official address of its REST: scheme and host. None: it gives no past trades."""
    rest_look: ClassVar[str] = "/"
    """The target of a request of REST that costs next to nothing: whether it answers."""
    limits: ClassVar[Limits]
    consecutive: ClassVar[bool] = True
    """Whether the sequence of a pair's trades steps by one, so that what is missing is known."""
    page: ClassVar[int] = 1000
    """Trades in one answer of REST, at most."""
    newest_first: ClassVar[bool] = False
    """Whether a stretch of its past is read from its end down."""
    most_bars: ClassVar[int] = 0
    """Candles of a minute in one answer of REST, at most; 0: none are asked for."""
    tells_empty_bars: ClassVar[bool] = True
    """Whether a minute without a trade has a candle: where it has, one that is missing is not known any more."""
    patience_s: ClassVar[float] = 2
    """For how long a missing trade may still come, out of order."""

    @abstractmethod
    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> Session:
        """A session for a socket that was opened just now.

        Args:
            secret: a text, the API key, that must not come out in any event or error.
        """

    def takes(self, subscription: str) -> bool:
        """Whether a subscription is one of this venue's market."""
        return any(pair[0] == self.market for pair in subscribed_pairs([subscription]))

    def has_made(self, trade: Trade) -> bool:
        """Whether the record of a trade of its market is its own, and not another source's of the same market."""
        return str(trade.sequence) == trade.id if self.consecutive else trade.sequence is None

    def socket_url(self, url: str) -> str:
        """The address to connect to, where the venue's address is `url`."""
        return url

    def judge_status(self, status: int) -> FeedError:
        """What a handshake refused with the HTTP `status` means: FeedDisconnectedError is worth another try."""
        return FeedDisconnectedError(f"HTTP {status} instead of a websocket")

    def listing(self, pair: Pair) -> str | None:
        """The target of a request of REST that tells whether the venue has a pair; None: its websocket tells."""
        return None

    def lists(self, answer: Answer) -> bool:
        """Whether the venue has the pair, by the answer to `listing`.

        Raises:
            FeedDisconnectedError: it does not tell now (FeedBusyError: and asks for fewer requests).
        """
        return True

    def ask(self, wanted: Wanted) -> Request:
        """The first request for a stretch of the past."""
        raise FeedRefusedError(f"{self.name} gives no past trades.")

    def newest(self, pair: Pair) -> Request | None:
        """The request for the newest trade of a pair, which its page has as one `beyond`.

        None: its websocket tells after each subscription.
        """
        return None

    def read(self, request: Request, answer: Answer) -> Page:
        """What the answer to `request` holds.

        Raises:
            FeedDisconnectedError: the same request may be answered later (FeedBusyError: and not before that).
            FeedRefusedError: it never will.
        """
        raise FeedRefusedError(f"{self.name} gives no past trades.")

    def bars_target(self, pair: Pair, start_s: int, end_s: int) -> str:
        """The target of the request for the candles of the minutes from `start_s` to before `end_s`.

        Args:
            start_s, end_s: since the epoch, whole minutes, no more of them than `most_bars`.
        """
        raise FeedRefusedError(f"{self.name} gives no candles.")

    def read_bars(self, answer: Answer) -> list[Bar]:
        """The candles of the answer, in any order; some may be of other minutes, or still open.

        Raises:
            FeedDisconnectedError, FeedRefusedError: as `read`.
        """
        raise FeedRefusedError(f"{self.name} gives no candles.")
