"""What a venue is: its names and limits, its socket's session and its past, all of it without I/O.

A session takes the frames of one socket and gives trades, events, and frames to send out. The past is asked for by
`Request`s, plain values that whoever has a REST client carries over, and read from the `Answer`s page by page.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote, quote_plus, urlencode

import msgspec
from msgspec import Meta

from cryptoflow.errors import (
    FeedBusyError,
    FeedDisconnectedError,
    FeedError,
    FeedRefusedError,
    UnreadableFrameError,
)
from cryptoflow.model.parity import Bar
from cryptoflow.model.trade import (
    DECODE_ERRORS,
    MAX_AHEAD_S,
    NS_PER_S,
    TRADE_TYPE,
    Direction,
    Pair,
    Trade,
    exact_frame,
    read_trade,
)

MAX_SAID = 1000
"""Characters kept of each text in a frame that is not a trade: more is no message for people, and fills memory."""

EXACT = Context(prec=80, traps=[])
"""Keeps all digits of the product of two amounts."""

UTC = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?Z", re.ASCII)

IN_THE_FUTURE = "exchange time is in the future"
BINARY = "binary frame"

Method = Literal["subscribe", "unsubscribe"]
SUBSCRIBE: Method = "subscribe"
UNSUBSCRIBE: Method = "unsubscribe"

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A trade id that is a number."""

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


def recorded(
    pair: Pair,
    number: int,
    time_ns: int,
    price: Decimal,
    quantity: Decimal,
    taker: Direction | None,
    now_s: float | None = None,
    *,
    consecutive: bool = True,
) -> Recorded:
    """A venue's own trade, its numbers exact as sent.

    Args:
        number: its id.
        taker: the side of the order that came second; None: nobody's.
        now_s: when it was received, in s since the epoch; None: long ago.
        consecutive: whether the ids of a pair step by one, so that they are its sequence, too.

    Raises:
        UnreadableFrameError: it breaks a trade's limits; the message says which.
    """
    frame = exact_frame(
        pair,
        str(number),
        time_ns,
        price=price,
        quantity=quantity,
        total=EXACT.multiply(price, quantity),
        direction=taker,
        sequence=number if consecutive else None,
    )
    trade = read_trade(frame)
    if now_s is not None and trade.time_s > now_s + MAX_AHEAD_S:
        raise UnreadableFrameError(IN_THE_FUTURE)
    return trade, frame


def utc_ns(text: str) -> int:
    """The ns since the epoch of a time in UTC, such as 2026-08-25T03:35:57.096368Z; digits past the ninth are cut.

    Raises:
        UnreadableFrameError: it is no such time.
    """
    match = UTC.fullmatch(text)
    if match is None:
        raise UnreadableFrameError(f"{text[:MAX_SAID]} is no time in UTC")
    return _second(match[1]) * NS_PER_S + int(f"{match[2] or '':0<9.9}")


@lru_cache(64)
def _second(text: str) -> int:
    try:
        return int(datetime.fromisoformat(f"{text}+00:00").timestamp())
    except ValueError:
        raise UnreadableFrameError(f"{text} is no time") from None


def hide(text: str, secret: str | None) -> str:
    """`text` without the `secret`, as it is or as a URL or JSON holds it."""
    in_json = msgspec.json.encode(secret)[1:-1].decode()
    for form in {secret, in_json, quote(secret, safe=""), quote_plus(secret)} if secret else ():
        text = text.replace(form, "***")
    return text


def subscribed_pairs(subscriptions: Iterable[str]) -> Iterator[Pair]:
    """The pairs of those that are trades, `0~MARKET~COIN~CURRENCY`."""
    for subscription in subscriptions:
        match subscription.split("~"):
            case [channel, market, coin, currency] if channel == TRADE_TYPE:
                yield market, coin, currency


class Wanted(NamedTuple):
    """A stretch of a pair's past: by ids where `first` and `last` are given, else by exchange time; ends are in it."""

    pair: Pair
    from_ns: int
    """Since the epoch; with ids: no wanted trade is older."""
    to_ns: int
    first: int | None = None
    last: int | None = None

    def holds(self, trade: Trade) -> bool:
        """Whether the trade is part of it."""
        if self.first is None or self.last is None:
            return self.from_ns <= trade.event_time_ns <= self.to_ns
        return self.first <= int(trade.id) <= self.last


class Request(NamedTuple):
    """One GET request of a venue's REST: a plain value, so that it can be kept and sent again."""

    wanted: Wanted
    path: str
    query: tuple[tuple[str, str], ...] = ()
    state: tuple[int, ...] = ()
    """What the reader of its answer has to know besides."""

    @property
    def target(self) -> str:
        """The path and the query, as they stand in a URL."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


class Answer(NamedTuple):
    """The answer to a request."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {}
    """By their names in lower case."""


class Page(NamedTuple):
    """What an answer holds: trades of the wanted stretch, in no certain order, and what to ask next."""

    trades: Sequence[Recorded] = ()
    next: Request | None = None
    unreadable: Sequence[Unreadable] = ()
    beyond: Sequence[Recorded] = ()
    """Trades that are not of the stretch: of one by time, the last before it and the first after it among them, as far
    as the venue has them. Where ids are consecutive, they prove that none is missing at its ends."""
    lost: str = ""
    """Which trades the venue may have and can't be asked for, in a sentence."""


def page_of(
    wanted: Wanted,
    trades: Sequence[Recorded],
    next_: Request | None,
    unreadable: Sequence[Unreadable] = (),
    lost: str = "",
) -> Page:
    """A page with what of `trades` is wanted, and what is not."""
    held = [wanted.holds(trade) for trade, _ in trades]
    found = [each for each, is_wanted in zip(trades, held, strict=True) if is_wanted]
    beyond = [each for each, is_wanted in zip(trades, held, strict=True) if not is_wanted]
    return Page(found, next_, unreadable, beyond, lost)


def by_id(recorded: Recorded) -> int:
    """The id of a trade whose venue counts them."""
    return int(recorded[0].id)


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
        """Whether the venue has the pair, by the answer to `listing`."""
        return True

    def ask(self, wanted: Wanted) -> Request:
        """The first request for a stretch of the past."""
        raise FeedRefusedError(f"{self.name} gives no past trades.")

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


def pages(venue: Venue, wanted: Wanted, fetch: Callable[[Request], Answer]) -> Iterator[Page]:
    """All pages of a stretch of the past.

    Raises:
        FeedError: as `Venue.read`.
    """
    request: Request | None = venue.ask(wanted)
    while request:
        page = venue.read(request, fetch(request))
        yield page
        request = page.next


def answered(answer: Answer, decoder: "msgspec.json.Decoder[Any]") -> Any:
    """The body of an answer, decoded.

    Raises:
        FeedBusyError: the venue asks for fewer requests.
        FeedDisconnectedError: it has trouble of its own, or the body is broken.
        FeedRefusedError: it refuses the request.
    """
    said = f"HTTP {answer.status} {answer.body[:MAX_SAID].decode(errors='replace')}".strip()
    if answer.status in (418, 429):
        raise FeedBusyError(said, _retry_after_s(answer.headers))
    if answer.status >= 500:
        raise FeedDisconnectedError(said)
    if answer.status != 200:
        raise FeedRefusedError(said)
    try:
        return decoder.decode(answer.body)
    except DECODE_ERRORS as error:
        raise FeedDisconnectedError(f"an answer that can't be read ({error})") from None


def readable(
    rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Recorded]
) -> tuple[list[Recorded], list[Unreadable]]:
    """The rows of a frame or an answer that are trades, in their order, and those that are not."""
    trades, unreadable = [], []
    for row in rows:
        try:
            trades.append(read(row))
        except (*DECODE_ERRORS, UnreadableFrameError) as error:
            unreadable.append(Unreadable(bytes(row), str(error)))
    return trades, unreadable


def past_trades(
    rows: Sequence[msgspec.Raw], read: Callable[[msgspec.Raw], Recorded]
) -> tuple[list[Recorded], list[Unreadable]]:
    """As `readable`, of an answer.

    Raises:
        FeedRefusedError: there are several rows, and none is a trade: it is not known where to go on.
    """
    trades, unreadable = readable(rows, read)
    if len(unreadable) > 1 and not trades:
        raise FeedRefusedError(f"none of {len(unreadable)} rows can be read ({unreadable[0].reason})")
    return trades, unreadable


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    said = headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdecimal() else None
