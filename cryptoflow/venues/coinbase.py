"""Coinbase Exchange: its channels `matches` and `heartbeat`, and its past trades.

Format: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels and /exchange/rest-api. Amounts are strings, and
the side of a trade is the MAKER's. The ids of a product step by one; `sequence` counts its orders and tells no loss.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from cryptoflow.errors import FeedDisconnectedError
from cryptoflow.model.trade import DECODE_ERRORS, Direction, Pair
from cryptoflow.venues.base import (
    MAX_SAID,
    SUBSCRIBE,
    Alive,
    Answer,
    Event,
    Left,
    Limits,
    Method,
    Number,
    Other,
    Page,
    Reached,
    Received,
    Recorded,
    Request,
    Unreadable,
    Venue,
    VenueSession,
    Wanted,
    answered,
    readable,
    recorded,
    utc_ns,
)

CHANNELS = ("matches", "heartbeat")

TAKER: dict[str, Direction] = {"buy": "SELL", "sell": "BUY"}
"""The taker's side, by the maker's."""

CUT_OFF = ("ErrSlow", "Message too big")
"""How errors begin after which Coinbase closes the socket."""

Side = Literal["buy", "sell"]


class _Row(msgspec.Struct, frozen=True):
    """A trade, as REST has it."""

    trade_id: Number
    side: Side
    size: Decimal
    price: Decimal
    time: str


class _Match(_Row, frozen=True, tag_field="type", tag="match", kw_only=True):
    product_id: str


class _LastMatch(_Match, frozen=True, tag="last_match"):
    """The last trade before the subscription: as real as any."""


class _Heartbeat(msgspec.Struct, frozen=True, tag_field="type", tag="heartbeat"):
    product_id: str
    last_trade_id: Number
    time: str


class _Channel(msgspec.Struct, frozen=True):
    name: str
    product_ids: list[str] = []


class _Subscriptions(msgspec.Struct, frozen=True, tag_field="type", tag="subscriptions"):
    """All that the socket is subscribed to by now."""

    channels: list[_Channel]


class _Error(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    message: str = ""
    reason: str = ""


class _Typed(msgspec.Struct):
    type: str


_KNOWN_TYPES = frozenset(("match", "last_match", "heartbeat", "subscriptions", "error"))

_decoder = msgspec.json.Decoder(_Match | _LastMatch | _Heartbeat | _Subscriptions | _Error)
_type_decoder = msgspec.json.Decoder(_Typed)
_rows_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_row_decoder = msgspec.json.Decoder(_Row)


class CoinbaseSession(VenueSession):
    """A socket's session; Coinbase cuts it if it does not subscribe within 5 s.

    Each product is asked for by itself: a request with one that Coinbase lacks is refused as a whole.
    """

    def _requests(self, method: Method, symbols: Sequence[str]) -> list[str]:
        groups = [[symbol] for symbol in symbols] if method == SUBSCRIBE else [symbols]
        return [
            msgspec.json.encode({"type": method, "product_ids": group, "channels": CHANNELS}).decode()
            for group in groups
        ]

    def _read(self, frame: bytes, now_s: float) -> Received:
        try:
            message: Any = _decoder.decode(frame)
        except DECODE_ERRORS as error:
            return (), (_unreadable(frame, error),)
        if isinstance(message, _Match):
            return (_trade(self._pair(message.product_id), message, now_s),), ()
        if type(message) is _Heartbeat:
            return (), (self._heartbeat(message),)
        return (), (self._fault(message),) if type(message) is _Error else self._subscribed(message)

    def _heartbeat(self, heartbeat: _Heartbeat) -> Event:
        pair, time_ns = self._pair(heartbeat.product_id), utc_ns(heartbeat.time)
        if heartbeat.last_trade_id == 0:  # for months it was, on every product
            return Alive()
        return Reached(pair, heartbeat.last_trade_id, time_ns)

    def _subscribed(self, said: _Subscriptions) -> Sequence[Event]:
        listed = [symbol for channel in said.channels if channel.name == CHANNELS[0] for symbol in channel.product_ids]
        if self._leaving and not listed:
            return (Left(),)
        return [event for symbol in listed if (event := self._accept(symbol))] or (Alive(),)

    def _fault(self, error: _Error) -> Event:
        if error.message.startswith(CUT_OFF) or error.reason.startswith(CUT_OFF):
            raise FeedDisconnectedError(f"the feed said {error.message[:MAX_SAID]} {error.reason[:MAX_SAID]}".strip())
        named = [symbol for symbol in self._subs if symbol in error.reason or symbol in error.message]
        return self._refuse(max(named, key=len, default=None), error.message, error.reason)


class Coinbase(Venue):
    """Coinbase Exchange."""

    name = "coinbase"
    market = "Coinbase"
    url = "wss://ws-feed.exchange.coinbase.com"
    rest_url = "https://api.exchange.coinbase.com"
    limits = Limits(
        min_delay_s=1,  # 8 requests a second and address, 20 at once
        messages_per_s=50,  # 100
        silent_after_s=15,  # each product has a heartbeat a second
        rest_interval_s=0.2,  # 10 requests a second and address, 15 at once
    )

    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> CoinbaseSession:
        """As for all."""
        return CoinbaseSession(subscriptions, product_id)

    def ask(self, wanted: Wanted) -> Request:
        """As for all. Times are not asked for: the id at the stretch's end is sought first."""
        if wanted.last is not None:
            return self._page(wanted, wanted.last + 1)
        return _request(wanted, limit=1)

    def read(self, request: Request, answer: Answer) -> Page:
        """As for all."""
        rows = answered(answer, _rows_decoder)
        wanted = request.wanted
        trades, unreadable = readable(rows, lambda row: _trade(wanted.pair, _row_decoder.decode(row)))
        if request.state != PAGING:
            return Page(next=self._sought(request, trades), unreadable=unreadable)
        found = [each for each in trades if wanted.holds(each[0])]
        return Page(found, self._older(request, answer, trades), unreadable)

    def _page(self, wanted: Wanted, after: int) -> Request:
        return _request(wanted, PAGING, limit=self.page, after=after)

    def _older(self, request: Request, answer: Answer, trades: Sequence[Recorded]) -> Request | None:
        """The next page down, unless this one reaches the stretch's begin or all there is."""
        wanted = request.wanted
        if not trades:
            return None
        oldest = min((trade for trade, _ in trades), key=lambda trade: int(trade.id))
        begun = oldest.event_time_ns < wanted.from_ns if wanted.first is None else int(oldest.id) <= wanted.first
        said = answer.headers.get("cb-after", oldest.id)
        cursor = int(said) if said.isascii() and said.isdecimal() else int(oldest.id)
        before = int(dict(request.query)["after"])
        return None if begun or not 0 < cursor < before else self._page(wanted, cursor)

    def _sought(self, request: Request, trades: Sequence[Recorded]) -> Request | None:
        """The next step to the newest trade of the stretch: ids rise with the time, so it is found by halves.

        The state is (an id at or before its end, one after it, the id up to which the newest was asked for).
        """
        wanted = request.wanted
        newest = max((trade for trade, _ in trades), key=lambda trade: int(trade.id), default=None)
        late = newest is not None and newest.event_time_ns > wanted.to_ns
        if not request.state:
            if newest is None:
                return None
            if not late:
                return self._page(wanted, int(newest.id) + 1)
            low, high = 0, int(newest.id)
        else:
            low, high, asked = request.state
            low, high = (low, int(newest.id)) if newest is not None and late else (asked, high)
        if high - low <= self.page:
            return self._page(wanted, high)
        middle = (low + high) // 2
        return _request(wanted, (low, high, middle), limit=1, after=middle + 1)


def product_id(pair: Pair) -> str:
    """Coinbase's name of a pair: BTC-USD."""
    return f"{pair[1]}-{pair[2]}".upper()


PAGING = (0,)
"""The state of a request that goes through the stretch, from its end down."""


def _request(wanted: Wanted, state: tuple[int, ...] = (), **query: int) -> Request:
    texts = tuple((name, str(value)) for name, value in query.items())
    return Request(wanted, f"/products/{product_id(wanted.pair)}/trades", texts, state)


def _trade(pair: Pair, match: _Row, now_s: float | None = None) -> Recorded:
    taker = TAKER[match.side]
    return recorded(pair, match.trade_id, utc_ns(match.time), match.price, match.size, taker, now_s)


def _unreadable(frame: bytes, error: Exception) -> Unreadable | Other:
    found = _type_decoder.decode(frame).type
    return Unreadable(frame, str(error)) if found in _KNOWN_TYPES else Other(found[:MAX_SAID])
