"""One socket's side of a venue's protocol: it takes frames and gives trades, events, and frames to send out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import DECODE_ERRORS, Pair
from cryptoflow.venues.events import Received, Refused, Subscribed, Unreadable
from cryptoflow.venues.reading import MAX_SAID, subscribed_pairs

BINARY = "binary frame"

Method = Literal["subscribe", "unsubscribe"]
SUBSCRIBE: Method = "subscribe"
UNSUBSCRIBE: Method = "unsubscribe"


class Session(ABC):
    """One socket's side of a venue's protocol.

    Args:
        subscriptions: what to subscribe to, each `0~MARKET~COIN~CURRENCY`.
    """

    def __init__(self, subscriptions: Sequence[str]) -> None:
        self.subscriptions = tuple(subscriptions)
        self._outgoing: list[str] = []

    @abstractmethod
    def receive(self, frame: bytes, now_s: float, *, binary: bool = False) -> Received:
        """What one frame holds, received at `now_s` (s since the epoch).

        Raises:
            FeedDisconnectedError: the venue wants this socket closed; another one may be opened later.
            FeedError: it wants no other one either.
        """

    @abstractmethod
    def leave(self) -> None:
        """Ask for the end of the subscriptions that the venue has accepted."""

    def frames_to_send(self) -> list[str]:
        """The text frames to send now, in order; each is handed out once."""
        frames, self._outgoing = self._outgoing, []
        return frames


class VenueSession(Session):
    """A session with a venue that has names of its own for pairs, and asks for no key.

    Args:
        symbol: gives the venue's name of a pair.
    """

    def __init__(self, subscriptions: Sequence[str], symbol: Callable[[Pair], str]) -> None:
        super().__init__(subscriptions)
        pairs = {sub: pair for sub in subscriptions for pair in subscribed_pairs([sub])}
        self._pairs = {symbol(pair): pair for pair in pairs.values()}
        self._subs = {symbol(pair): sub for sub, pair in pairs.items()}
        self._accepted: list[str] = []
        self._leaving = False
        self._outgoing += self._requests(SUBSCRIBE, list(self._subs))

    @abstractmethod
    def _requests(self, method: Method, symbols: Sequence[str]) -> list[str]:
        """The frames that subscribe to the symbols, one at least, or leave them."""

    def leave(self) -> None:
        """As for all."""
        if self._accepted:
            self._leaving = True
            self._outgoing += self._requests(UNSUBSCRIBE, self._accepted)

    @abstractmethod
    def _read(self, frame: bytes, now_s: float) -> Received:
        """What a text frame holds; may raise what the decoders raise, and UnreadableFrameError."""

    def receive(self, frame: bytes, now_s: float, *, binary: bool = False) -> Received:
        """As for all."""
        if binary:
            return (), (Unreadable(frame, BINARY),)
        try:
            return self._read(frame, now_s)
        except (*DECODE_ERRORS, UnreadableFrameError) as error:
            return (), (Unreadable(frame, str(error)),)

    def _pair(self, symbol: str) -> Pair:
        if pair := self._pairs.get(symbol):
            return pair
        raise UnreadableFrameError(f"{symbol[:MAX_SAID]} is not subscribed")

    def _accept(self, symbol: str) -> Subscribed | None:
        """The event of a subscription that is accepted for the first time."""
        sub = self._subs.get(symbol)
        if sub is None or symbol in self._accepted:
            return None
        self._accepted.append(symbol)
        return Subscribed(sub)

    def _refuse(self, symbol: str | None, message: str, info: str = "") -> Refused:
        return Refused(self._subs.get(symbol or ""), message[:MAX_SAID], info[:MAX_SAID])
