"""CryptoCompare streamer v2 without I/O: frames in, events and frames to send out.

Format: https://min-api.cryptocompare.com/documentation/websockets; each is one JSON object in a
text frame, told apart by its TYPE, a string. A trade's event is the Trade itself.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import field

from cryptoflow.errors import FeedDisconnectedError, FeedError, UnauthorizedError, UnreadableFrameError
from cryptoflow.model.trade import DECODE_ERRORS, MAX_AHEAD_S, TRADE_TYPE, Trade, checked
from cryptoflow.venues.base import Limits, Venue
from cryptoflow.venues.events import Alive, Event, Left, Other, Received, Refused, Subscribed, Unreadable
from cryptoflow.venues.reading import IN_THE_FUTURE, MAX_SAID, hide
from cryptoflow.venues.session import BINARY, Session

HTTP_UNAUTHORIZED = (401, 403)
"""A handshake answered with one of these refuses the key."""

KEY_HINT = (
    "CryptoCompare's free plan has ended, its keys are paid for: set CRYPTOCOMPARE_API_KEY to a valid one, "
    "take a source that needs none, such as `--source coinbase,binance,kraken`, or unset it to use the simulator."
)


class Welcome(Event, frozen=True, tag_field="TYPE", tag="20"):
    """The first frame; its fields are for people to read, so nothing in them makes it unreadable."""

    server_name: Any = field(name="SERVER_NAME", default=None)
    socket_id: Any = field(name="SOCKET_ID", default=None)
    sockets_remaining: Any = field(name="SOCKETS_REMAINING", default=None)


class _Subscribed(msgspec.Struct, frozen=True, tag_field="TYPE", tag="16"):
    sub: str = field(name="SUB")


class LoadComplete(Event, frozen=True, tag_field="TYPE", tag="3"):
    """All valid subscriptions are loaded."""


class Unsubscribed(Event, frozen=True, tag_field="TYPE", tag="17"):
    """One subscription was left."""

    sub: str = field(name="SUB", default="")


class UnsubscribedAll(Left, frozen=True, tag_field="TYPE", tag="18"):
    """Everything a SubRemove asked for is left: nothing follows."""


class Heartbeat(Alive, frozen=True, tag_field="TYPE", tag="999"):
    """The feed is alive."""

    time_ms: int = field(name="TIMEMS")


class Ticker(Event, frozen=True, tag_field="TYPE", tag="2"):
    """A price update; not used."""


class _Fault(msgspec.Struct, frozen=True, tag_field="TYPE"):
    message: str = field(name="MESSAGE", default="")
    parameter: Any = field(name="PARAMETER", default="")
    info: Any = field(name="INFO", default="")
    sub: Any = field(name="SUB", default="")


class _Unauthorized(_Fault, frozen=True, tag="401"):
    pass


class _TooMany(_Fault, frozen=True, tag="429"):
    pass


class _Error(_Fault, frozen=True, tag="500"):
    pass


_Frame = (
    Trade | Welcome | _Subscribed | LoadComplete | Unsubscribed | UnsubscribedAll | Heartbeat | Ticker
    | _Unauthorized | _TooMany | _Error
)  # fmt: skip

_KNOWN_TYPES = frozenset((TRADE_TYPE, "20", "16", "3", "17", "18", "999", "2", "401", "429", "500"))


class _Typed(msgspec.Struct):
    type: str = field(name="TYPE")


_decoder = msgspec.json.Decoder(_Frame)
_type_decoder = msgspec.json.Decoder(_Typed)


class Protocol(Session):
    """One connection's side of the protocol.

    Args:
        subscriptions: what to subscribe to, each `0~MARKET~COIN~CURRENCY`.
        secret: a text, the API key, that must not come out in any event or error, should the feed repeat it.
    """

    def __init__(self, subscriptions: Sequence[str], secret: str | None = None) -> None:
        super().__init__(subscriptions)
        self._secret = secret
        self._accepted: list[str] = []

    def receive(self, frame: bytes, now_s: float, *, binary: bool = False) -> Received:
        """As for all.

        Raises:
            UnauthorizedError: the feed refuses the key.
            FeedDisconnectedError: the feed wants this socket closed; another one may be opened later.
        """
        if binary:
            return (), (Unreadable(frame, BINARY),)
        try:
            event = _decoder.decode(frame)
        except DECODE_ERRORS as error:
            return (), (_unreadable(frame, error),)
        if type(event) is Trade:
            if event.time_s > now_s + MAX_AHEAD_S:
                return (), (Unreadable(frame, IN_THE_FUTURE),)
            try:
                return ((checked(event), frame),), ()
            except UnreadableFrameError as error:
                return (), (Unreadable(frame, str(error)),)
        return (), (self._control(event),)

    def leave(self) -> None:
        """Ask for the end of the subscriptions that the feed has accepted."""
        if self._accepted:
            self._outgoing.append(_request("SubRemove", self._accepted))

    def _control(self, event: Any) -> Event:
        if isinstance(event, _Fault):
            return self._fault(event)
        if type(event) is Welcome:
            self._outgoing.append(_request("SubAdd", self.subscriptions))
        elif type(event) is _Subscribed:
            return self._subscribed(event)
        return event  # type: ignore[no-any-return]  # of _Frame, that is all that is left

    def _subscribed(self, event: _Subscribed) -> Subscribed:
        """Note what to leave again: no more than was asked for, whatever the feed says."""
        if event.sub not in self._accepted and len(self._accepted) < len(self.subscriptions):
            self._accepted.append(event.sub)
        return Subscribed(event.sub[:MAX_SAID])

    def _fault(self, frame: _Fault) -> Refused:
        message, parameter, info = (
            hide(str(text), self._secret)[:MAX_SAID] for text in (frame.message, frame.parameter, frame.info)
        )
        verdict = judge(type(frame).__struct_config__.tag, message, parameter, info)
        if isinstance(verdict, FeedError):
            raise verdict
        return Refused(_named(self.subscriptions, (frame.sub, frame.parameter, frame.info)), message, info)


def judge(
    tag: object, message: str, parameter: str = "", info: str = ""
) -> UnauthorizedError | FeedDisconnectedError | Literal["refused"]:
    """What an error frame of TYPE `tag` means: never try again, try later, or only a request was refused."""
    if tag == "401" or message.startswith("INVALID_API_KEY"):
        said = ", ".join(text for text in (message, parameter, info) if text)
        return UnauthorizedError(f"The feed refused the API key ({said}). {KEY_HINT}")
    socket_refused = tag == "429" and not message.startswith("TOO_MANY_SUBSCRIPTIONS")
    if socket_refused or message.startswith("FORCE_DISCONNECT"):
        return FeedDisconnectedError(" ".join(text for text in (f"the feed said {message}", info) if text))
    return "refused"


def judge_status(status: int) -> UnauthorizedError | FeedDisconnectedError:
    """What a handshake refused with the HTTP `status` means: never try again, or later."""
    if status in HTTP_UNAUTHORIZED:
        return UnauthorizedError(f"The feed refused the API key (HTTP {status}). {KEY_HINT}")
    return FeedDisconnectedError(f"HTTP {status} instead of a websocket")


def _request(action: str, subscriptions: Sequence[str]) -> str:
    return msgspec.json.encode({"action": action, "subs": subscriptions}).decode()


def _unreadable(frame: bytes, error: Exception) -> Unreadable | Other:
    try:
        found = _type_decoder.decode(frame).type
    except DECODE_ERRORS:
        return Unreadable(frame, str(error))
    return Unreadable(frame, str(error)) if found in _KNOWN_TYPES else Other(found)


def _named(subscriptions: Sequence[str], texts: Sequence[object]) -> str | None:
    """The subscription that the first telling text names: the longest, as one can begin another."""
    for text in map(str, texts):
        found = [sub for sub in subscriptions if sub in text]
        if found:
            return max(found, key=len)
    return None


class CryptoCompare(Venue):
    """CryptoCompare's streamer: the trades of many markets, each with its sequence on most of them."""

    name = "cryptocompare"
    market = None
    url = "wss://streamer.cryptocompare.com/v2"
    rest_url = None
    limits = Limits(min_delay_s=5)  # it asks for them; and allows 60 connects a minute
    patience_s = 10

    def takes(self, subscription: str) -> bool:
        """Whatever market it is of."""
        return True

    def has_made(self, trade: Trade) -> bool:
        """As for all: its sequence is no market's id."""
        return str(trade.sequence) != trade.id

    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> Protocol:
        """As for all."""
        return Protocol(subscriptions, secret)

    def judge_status(self, status: int) -> FeedError:
        """As for all; 401 and 403 refuse the key."""
        return judge_status(status)
