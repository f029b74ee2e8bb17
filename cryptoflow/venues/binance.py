"""Binance spot: the stream `@trade` of each pair, and its past trades.

Format: https://github.com/binance/binance-spot-api-docs, web-socket-streams.md and rest-api.md. Amounts are strings,
`m` says that the buyer was the maker, the ids of a symbol step by one. A quiet symbol sends nothing, and one that
Binance lacks is subscribed like any other.
"""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from cryptoflow.errors import FeedDisconnectedError, FeedError, FeedRefusedError
from cryptoflow.model.parity import Bar
from cryptoflow.model.trade import DECODE_ERRORS, Direction, Pair
from cryptoflow.venues.base import Limits, Venue
from cryptoflow.venues.events import Closing, Other, Received, Recorded, Unreadable
from cryptoflow.venues.past import Answer, Page, Request, Wanted, answered, by_id, page_of, past_trades
from cryptoflow.venues.reading import MAX_SAID, AmountsRow, Number, recorded
from cryptoflow.venues.streams import Fault, StreamSession

COMBINED = "/stream"
"""Where each frame names its stream."""

HTTP_RESTRICTED = 451
"""Where Binance does no business."""

INVALID_SYMBOL = -1121
"""The code of REST's error."""

NS_PER_MS, NS_PER_US = 1_000_000, 1_000

FIRST_US = 10**14
"""Times from here on are microseconds, if `timeUnit=MICROSECOND` stands in the address; in ms it is the year 5138."""


class _Trade(msgspec.Struct, frozen=True, tag_field="e", tag="trade"):
    symbol: str = msgspec.field(name="s")
    id: Number = msgspec.field(name="t")
    price: Decimal = msgspec.field(name="p")
    quantity: Decimal = msgspec.field(name="q")
    time: Number = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")


class _Combined(msgspec.Struct, frozen=True):
    data: _Trade


class _Event(msgspec.Struct, frozen=True):
    e: str = ""


class _Any(msgspec.Struct, frozen=True):
    """Whatever else Binance sends: an event, wrapped or not, or the answer to a request."""

    stream: str = ""
    data: _Event | None = None
    e: str = ""
    id: int | None = None
    result: Any = msgspec.UNSET
    error: Fault | None = None
    code: int | None = None
    msg: str = ""


class _Row(msgspec.Struct, frozen=True):
    """A trade, as REST has it."""

    id: Number
    price: Decimal
    qty: Decimal
    time: Number
    buyer_is_maker: bool = msgspec.field(name="isBuyerMaker")


class _Bar(AmountsRow, frozen=True):
    open_ms: Number
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    quantity: Decimal
    close_ms: Number
    volume: Decimal
    trades: Number


class _Aggregate(msgspec.Struct, frozen=True):
    first: Number = msgspec.field(name="f")


_combined_decoder = msgspec.json.Decoder(_Combined)
_trade_decoder = msgspec.json.Decoder(_Trade)
_any_decoder = msgspec.json.Decoder(_Any)
_fault_decoder = msgspec.json.Decoder(Fault)
_rows_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_row_decoder = msgspec.json.Decoder(_Row)
_bars_decoder = msgspec.json.Decoder(list[_Bar])
_aggregates_decoder = msgspec.json.Decoder(list[_Aggregate])


class BinanceSession(StreamSession):
    """A socket's session."""

    def _read(self, frame: bytes, now_s: float) -> Received:
        try:
            trade = _combined_decoder.decode(frame).data
        except DECODE_ERRORS:
            return self._read_other(frame, now_s)
        return (_recorded(self._pair(trade.symbol), trade, now_s),), ()

    def _read_other(self, frame: bytes, now_s: float) -> Received:
        said = _any_decoder.decode(frame)
        kind = said.data.e or said.stream if said.data else said.e
        if kind == "trade":
            trade = _trade_decoder.decode(frame) if said.e else _combined_decoder.decode(frame).data
            return (_recorded(self._pair(trade.symbol), trade, now_s),), ()
        if kind:
            return (), (Closing() if kind == "serverShutdown" else Other(kind[:MAX_SAID]),)
        if said.error or said.code is not None:
            return (), self._refused(said.id, said.error or Fault(said.code or 0, said.msg))
        if said.result is None:
            return (), self._done(said.id)
        return (), (Unreadable(frame, "it is neither an event nor an answer"),)


class Binance(Venue):
    """Binance's spot market."""

    name = "binance"
    market = "Binance"
    url = "wss://stream.binance.com:9443"
    rest_url = "https://api.binance.com"
    rest_look = "/api/v3/ping"
    limits = Limits(
        min_delay_s=2,  # 300 connects in 5 minutes and address
        messages_per_s=3,  # 5, pongs among them
        subscriptions=1000,  # 1024 streams
        lifetime_s=24 * 3600,
        silent_after_s=60,  # it pings every 20 s
        rest_interval_s=0.5,  # a weight of 6000 a minute and address, 25 of them a page
    )
    most_bars = 1000

    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> BinanceSession:
        """As for all."""
        return BinanceSession(subscriptions, symbol)

    def socket_url(self, url: str) -> str:
        """As for all; an address with a path is taken as it is."""
        parts = urlsplit(url)
        return url if parts.path.strip("/") else parts._replace(path=COMBINED).geturl()

    def judge_status(self, status: int) -> FeedError:
        """As for all; 451 is for good."""
        if status == HTTP_RESTRICTED:
            return FeedRefusedError(
                "Binance serves nobody where this machine is (HTTP 451): leave binance out of the source, or set "
                "BINANCE_URL and BINANCE_REST_URL to what serves you."
            )
        return FeedDisconnectedError(f"HTTP {status} instead of a websocket")

    def listing(self, pair: Pair) -> str:
        """As for all: the websocket takes any name."""
        return f"/api/v3/exchangeInfo?{urlencode({'symbol': symbol(pair)})}"

    def lists(self, answer: Answer) -> bool:
        """As for all."""
        try:
            answered(answer, _fault_decoder)
        except FeedRefusedError:
            with suppress(*DECODE_ERRORS):
                return _fault_decoder.decode(answer.body).code != INVALID_SYMBOL
        return True

    def ask(self, wanted: Wanted) -> Request:
        """As for all. By times, the aggregate at the begin tells the first id: one before it is read, too."""
        if wanted.first is not None:
            return self._page(wanted, wanted.first)
        return _request(wanted, "aggTrades", SEEKING, startTime=-(-wanted.from_ns // NS_PER_MS), limit=1)

    def newest(self, pair: Pair) -> Request:
        """As for all."""
        return _request(Wanted(pair, 0, 0), "trades", limit=1)

    def read(self, request: Request, answer: Answer) -> Page:
        """As for all."""
        wanted = request.wanted
        if request.state == SEEKING:
            found = answered(answer, _aggregates_decoder)
            return Page(next=self._page(wanted, max(0, found[0].first - 1)) if found else None)
        rows = answered(answer, _rows_decoder)
        trades, unreadable = past_trades(rows, lambda row: _recorded(wanted.pair, _row_decoder.decode(row)))
        return page_of(wanted, trades, self._newer(request, len(rows), trades), unreadable)

    def _page(self, wanted: Wanted, first: int) -> Request:
        limit = self.page if wanted.last is None else min(self.page, wanted.last - first + 1)
        return _request(wanted, "historicalTrades", fromId=first, limit=limit)

    def _newer(self, request: Request, rows: int, trades: Sequence[Recorded]) -> Request | None:
        """The next page up, unless this one reaches the stretch's end or all there is."""
        wanted, query = request.wanted, dict(request.query)
        if not trades or rows < int(query["limit"]):
            return None
        newest, _ = max(trades, key=by_id)
        ended = newest.event_time_ns > wanted.to_ns if wanted.last is None else int(newest.id) >= wanted.last
        return None if ended or int(newest.id) < int(query["fromId"]) else self._page(wanted, int(newest.id) + 1)

    def bars_target(self, pair: Pair, start_s: int, end_s: int) -> str:
        """As for all."""
        query = {"symbol": symbol(pair), "interval": "1m", "startTime": start_s * 1000, "endTime": end_s * 1000 - 1}
        return f"/api/v3/klines?{urlencode(query)}&limit={self.most_bars}"

    def read_bars(self, answer: Answer) -> list[Bar]:
        """As for all."""
        rows = answered(answer, _bars_decoder)
        return [
            Bar(row.open_ms // 1000, row.open, row.high, row.low, row.close, row.quantity, row.trades) for row in rows
        ]


SEEKING = (1,)
"""The state of a request that only asks where the stretch begins."""


def symbol(pair: Pair) -> str:
    """Binance's name of a pair: BTCUSDT; its streams' names are in lower case."""
    return f"{pair[1]}{pair[2]}".upper()


def _request(wanted: Wanted, what: str, state: tuple[int, ...] = (), **query: int) -> Request:
    texts = (("symbol", symbol(wanted.pair)), *((name, str(value)) for name, value in query.items()))
    return Request(wanted, f"/api/v3/{what}", texts, state)


def _recorded(pair: Pair, trade: _Trade | _Row, now_s: float | None = None) -> Recorded:
    quantity = trade.quantity if isinstance(trade, _Trade) else trade.qty
    taker: Direction = "SELL" if trade.buyer_is_maker else "BUY"
    time_ns = trade.time * (NS_PER_MS if trade.time < FIRST_US else NS_PER_US)
    return recorded(pair, trade.id, time_ns, trade.price, quantity, taker, now_s)
