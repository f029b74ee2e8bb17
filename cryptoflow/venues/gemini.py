"""Gemini: the stream `@trade` of each pair, and its past trades.

Format: https://developer.gemini.com/specs/asyncapi/websocket.yaml and /trading/rest-api/market-data/list-trades.
Amounts are strings, `m` says that the buyer was the maker, times are ns. Ids rise and do not step by one, so what is
missing is known by outages alone. No recording of it has been met.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import DECODE_ERRORS, Direction, Pair
from cryptoflow.venues.base import Limits, Venue
from cryptoflow.venues.events import Other, Received, Recorded, Unreadable
from cryptoflow.venues.past import Answer, Page, Request, Wanted, answered, page_of, past_trades
from cryptoflow.venues.reading import MAX_SAID, Number, recorded
from cryptoflow.venues.streams import Fault, StreamSession

NS_PER_MS = 1_000_000

GRANTED = 200
"""The status of an answer to a request that was granted."""

TAKER: dict[str, Direction] = {"buy": "BUY", "sell": "SELL"}
"""The taker's side, by the type of a past trade; auctions and blocks have none."""


class _Trade(msgspec.Struct, frozen=True):
    symbol: str = msgspec.field(name="s")
    id: Number = msgspec.field(name="t")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    time_ns: Number = msgspec.field(name="E")
    buyer_is_maker: bool = msgspec.field(name="m")


class _Any(msgspec.Struct, frozen=True):
    """Whatever else Gemini sends: an event of another stream, or the answer to a request."""

    e: str = ""
    m: Any = msgspec.UNSET
    u: Any = msgspec.UNSET
    id: int | None = None
    status: int | None = None
    error: Fault | None = None


class _Row(msgspec.Struct, frozen=True):
    """A trade, as REST has it."""

    tid: Number
    price: Decimal
    amount: Decimal
    timestampms: Number
    type: Literal["buy", "sell", "auction", "block"]
    broken: bool = False


_trade_decoder = msgspec.json.Decoder(_Trade)
_any_decoder = msgspec.json.Decoder(_Any)
_rows_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_row_decoder = msgspec.json.Decoder(_Row)


class GeminiSession(StreamSession):
    """A socket's session."""

    def _read(self, frame: bytes, now_s: float) -> Received:
        try:
            trade = _trade_decoder.decode(frame)
        except DECODE_ERRORS as error:
            return self._read_other(frame, str(error))
        taker: Direction = "SELL" if trade.buyer_is_maker else "BUY"
        pair = self._pair(trade.symbol.upper())
        return (
            recorded(pair, trade.id, trade.time_ns, trade.price, trade.quantity, taker, now_s, consecutive=False),
        ), ()

    def _read_other(self, frame: bytes, reason: str) -> Received:
        said = _any_decoder.decode(frame)
        if said.m is not msgspec.UNSET:
            return (), (Unreadable(frame, reason),)
        if said.e or said.u is not msgspec.UNSET:
            return (), (Other(said.e[:MAX_SAID] or "bookTicker"),)
        if said.error:
            return (), self._refused(said.id, said.error)
        if said.status is not None:
            return (), self._done(said.id) if said.status == GRANTED else self._refused(said.id, Fault(said.status))
        return (), (Unreadable(frame, reason),)


class Gemini(Venue):
    """Gemini's spot market."""

    name = "gemini"
    market = "Gemini"
    url = "wss://ws.gemini.com"
    rest_url = "https://api.gemini.com"
    rest_look = "/v1/symbols"
    limits = Limits(
        min_delay_s=2,  # 300 connects in 5 minutes, as its method `conninfo` has told others
        messages_per_s=5,  # a weight of 7000 in 10 s
        silent_after_s=60,  # it pings every 20 s
        rest_interval_s=1,  # 120 requests a minute, one a second recommended
    )
    consecutive = False
    page = 500

    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> GeminiSession:
        """As for all."""
        return GeminiSession(subscriptions, symbol)

    def ask(self, wanted: Wanted) -> Request:
        """As for all. Gemini keeps seven days."""
        if wanted.first is not None:
            return self._page(wanted, since_tid=wanted.first - 1)
        return self._page(wanted, timestamp=max(0, wanted.from_ns // NS_PER_MS - 1))

    def read(self, request: Request, answer: Answer) -> Page:
        """As for all."""
        rows = answered(answer, _rows_decoder)
        wanted = request.wanted
        trades, unreadable = past_trades(rows, lambda row: _past_trade(wanted.pair, _row_decoder.decode(row)))
        return page_of(wanted, trades, self._newer(request, len(rows), trades), unreadable)

    def _page(self, wanted: Wanted, **since: int) -> Request:
        query = {**since, "limit_trades": self.page}
        texts = tuple((name, str(value)) for name, value in query.items())
        return Request(wanted, f"/v1/trades/{quote(symbol(wanted.pair), safe='')}", texts)

    def _newer(self, request: Request, rows: int, trades: Sequence[Recorded]) -> Request | None:
        """The next page up, unless this one reaches the stretch's end or all there is."""
        wanted = request.wanted
        if rows < self.page or not trades:
            return None
        newest = max((trade for trade, _ in trades), key=lambda trade: int(trade.id))
        ended = newest.event_time_ns > wanted.to_ns if wanted.last is None else int(newest.id) >= wanted.last
        asked = int(dict(request.query).get("since_tid", -1))
        return None if ended or int(newest.id) <= asked else self._page(wanted, since_tid=int(newest.id))


def symbol(pair: Pair) -> str:
    """Gemini's name of a pair: BTCUSD; its streams' names are in lower case."""
    return f"{pair[1]}{pair[2]}".upper()


def _past_trade(pair: Pair, row: _Row) -> Recorded:
    if row.broken:
        raise UnreadableFrameError("the trade was broken")
    time_ns = row.timestampms * NS_PER_MS
    return recorded(pair, row.tid, time_ns, row.price, row.amount, TAKER.get(row.type), consecutive=False)
