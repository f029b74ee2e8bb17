"""Coinbase Exchange: its channels `matches` and `heartbeat`, and its past trades.

Format: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels and /exchange/rest-api. Amounts are strings, and
the side of a trade is the MAKER's. The ids of a product step by one; `sequence` counts its orders and tells no loss.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from cryptoflow.errors import FeedDisconnectedError
from cryptoflow.model.parity import MINUTE_S, Bar
from cryptoflow.model.trade import DECODE_ERRORS, Direction, Pair
from cryptoflow.venues.base import Limits, Venue
from cryptoflow.venues.events import Alive, Event, Left, Other, Reached, Received, Recorded, Unreadable
from cryptoflow.venues.past import Answer, Page, Request, Wanted, answered, by_id, page_of, past_trades, whole_number
from cryptoflow.venues.reading import MAX_SAID, AmountsRow, Number, recorded, utc_ns
from cryptoflow.venues.session import SUBSCRIBE, Method, VenueSession

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


class _Bar(AmountsRow, frozen=True):
    start_s: Number
    low: Decimal
    high: Decimal
    open: Decimal
    close: Decimal
    quantity: Decimal


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
_bars_decoder = msgspec.json.Decoder(list[_Bar])


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
    rest_look = "/time"
    limits = Limits(
        min_delay_s=1,  # 8 requests a second and address, 20 at once
        messages_per_s=50,  # 100
        silent_after_s=15,  # each product has a heartbeat a second
        rest_interval_s=0.2,  # 10 requests a second and address, 15 at once
    )
    newest_first = True
    most_bars = 300
    tells_empty_bars = False

    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> CoinbaseSession:
        """As for all."""
        return CoinbaseSession(subscriptions, product_id)

    def ask(self, wanted: Wanted) -> Request:
        """As for all. Times are not asked for: the page at the stretch's end is sought first."""
        return self._page(wanted) if wanted.last is None else self._page(wanted, PAGING, wanted.last + 1)

    def read(self, request: Request, answer: Answer) -> Page:
        """As for all."""
        rows = answered(answer, _rows_decoder)
        wanted = request.wanted
        trades, unreadable = past_trades(rows, lambda row: _trade(wanted.pair, _row_decoder.decode(row)))
        if request.state != PAGING and (elsewhere := self._sought(request, len(rows), trades)):
            return Page(next=elsewhere)
        return page_of(wanted, trades, self._older(request, answer, trades), unreadable)

    def _page(self, wanted: Wanted, state: tuple[int, ...] = (), after: int | None = None) -> Request:
        query = (("limit", str(self.page)), *(() if after is None else (("after", str(after)),)))
        return Request(wanted, f"{_path(wanted.pair)}/trades", query, state)

    def _older(self, request: Request, answer: Answer, trades: Sequence[Recorded]) -> Request | None:
        """The next page down, unless this one reaches the stretch's begin or all there is."""
        wanted = request.wanted
        if not trades:
            return None
        oldest, _ = min(trades, key=by_id)
        begun = oldest.event_time_ns < wanted.from_ns if wanted.first is None else int(oldest.id) <= wanted.first
        said = whole_number(answer.headers.get("cb-after"))
        cursor = int(oldest.id) if said is None else said
        before = dict(request.query).get("after")
        ended = begun or cursor <= 0 or (before is not None and cursor >= int(before))
        return None if ended else self._page(wanted, PAGING, cursor)

    def _sought(self, request: Request, rows: int, trades: Sequence[Recorded]) -> Request | None:
        """Where to look next for the page that the stretch ends in; None: it is this one, or there is none.

        Raises:
            FeedDisconnectedError: the page is not the one that was asked for, so that looking would have no end.
        """
        to_ns, seen = request.wanted.to_ns, _Seen(*request.state)
        newest, oldest = max(trades, key=by_id, default=None), min(trades, key=by_id, default=None)
        after = dict(request.query).get("after")
        if newest and after and by_id(newest) >= int(after):
            raise FeedDisconnectedError(f"trades before {after} were asked for, and newer ones came")
        if newest is None or oldest is None or newest[0].event_time_ns <= to_ns:
            if not request.state:
                return None
            low = by_id(newest) if newest else int(dict(request.query)["after"]) - 1
            seen = seen._replace(low=low, low_ns=newest[0].event_time_ns if newest else 0)
        elif oldest[0].event_time_ns <= to_ns or rows < self.page:
            return None
        else:
            seen = seen._replace(high=by_id(oldest), high_ns=oldest[0].event_time_ns)
        at = seen.high if seen.high - seen.low < self.page else seen.next(to_ns, trades, self.page)
        return self._page(request.wanted, seen._replace(looks=seen.looks + 1), at + 1)

    def bars_target(self, pair: Pair, start_s: int, end_s: int) -> str:
        """As for all; the last minute that is asked for is told, too."""
        query = {"granularity": MINUTE_S, "start": _iso(start_s), "end": _iso(end_s - MINUTE_S)}
        return f"{_path(pair)}/candles?{urlencode(query)}"

    def read_bars(self, answer: Answer) -> list[Bar]:
        """As for all; Coinbase does not count trades."""
        rows = answered(answer, _bars_decoder)
        return [Bar(row.start_s, row.open, row.high, row.low, row.close, row.quantity) for row in rows]


class _Seen(NamedTuple):
    """What is known of where a stretch ends, as it stands in the state of a request: ids rise with the time.

    Attributes:
        low, low_ns: an id at or before the end, and its time; 0: not known.
        high, high_ns: an id behind it, and its time.
        looks: how many were taken.
    """

    low: int = 0
    low_ns: int = 0
    high: int = 0
    high_ns: int = 0
    looks: int = 0

    def next(self, to_ns: int, trades: Sequence[Recorded], page: int) -> int:
        """The newest id to ask for: that of `to_ns` by the rate of the newest answer's trades, by that between the two
        ids, and the middle of them, in turn, so that no market is uneven enough to make it long."""
        if self.low_ns and self.looks % 3 == 0:
            guess = self.low + (self.high - self.low) * (to_ns - self.low_ns) // max(1, self.high_ns - self.low_ns)
        elif trades and (not self.low_ns or self.looks % 3 == 1):
            (new, _), (old, _) = max(trades, key=by_id), min(trades, key=by_id)
            ids, took_ns = int(new.id) - int(old.id), max(1, new.event_time_ns - old.event_time_ns)
            guess = int(new.id) + (to_ns - new.event_time_ns) * ids // took_ns
        else:
            return (self.low + self.high) // 2
        return min(max(guess + page // 2, self.low + 1), self.high - 1)


def product_id(pair: Pair) -> str:
    """Coinbase's name of a pair: BTC-USD."""
    return f"{pair[1]}-{pair[2]}".upper()


def _path(pair: Pair) -> str:
    return f"/products/{quote(product_id(pair), safe='')}"


PAGING = (0,)
"""The state of a request that goes through the stretch, from its end down."""


def _trade(pair: Pair, match: _Row, now_s: float | None = None) -> Recorded:
    taker = TAKER[match.side]
    return recorded(pair, match.trade_id, utc_ns(match.time), match.price, match.size, taker, now_s)


def _iso(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _unreadable(frame: bytes, error: Exception) -> Unreadable | Other:
    found = _type_decoder.decode(frame).type
    return Unreadable(frame, str(error)) if found in _KNOWN_TYPES else Other(found[:MAX_SAID])
