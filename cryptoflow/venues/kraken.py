"""Kraken's websocket v2: the channel `trade`, and its past trades.

Format: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/trade and /api/docs/rest-api/get-recent-trades.
Amounts are JSON numbers, the side is the taker's, a frame holds several trades, the ids of a pair step by one. The
websocket says BTC and DOGE where REST still says XBT and XDG.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal
from urllib.parse import urlencode

import msgspec

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedRefusedError, UnreadableFrameError
from cryptoflow.model.parity import MINUTE_S, Bar
from cryptoflow.model.trade import DECODE_ERRORS, MAX_TIME_S, NS_PER_S, Direction, Pair
from cryptoflow.venues.base import Limits, Venue
from cryptoflow.venues.events import Alive, Event, Left, Other, Received, Recorded, Unreadable
from cryptoflow.venues.past import Answer, Page, Request, Wanted, answered, by_id, page_of, past_trades, whole_number
from cryptoflow.venues.reading import EXACT, MAX_SAID, AmountsRow, Number, readable, recorded, utc_ns
from cryptoflow.venues.session import SUBSCRIBE, UNSUBSCRIBE, Method, VenueSession

REST_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
"""What REST calls a currency, where its name differs."""

CHANNEL = "trade"

US_PER_S = Decimal(10**6)
NS_PER_US = 1_000

MARGINS_S = (60, 3600, 86_400)
"""How far before a stretch its first answer begins, so that it has the last trade before it; tried one by one."""

SEEKING, CROWDED = 1, 2
"""How the state of a request begins that looks for that trade, with the number of tries before; and of one after a
page of one time alone, with the highest id of it."""

BUSY = ("EAPI:Rate limit", "EGeneral:Too many requests", "EGeneral:Temporary lockout")
TROUBLED = ("EService", "EGeneral:Internal error")
"""How errors of REST begin that ask for fewer requests, and those of its own trouble."""

FOR_NOW = ("Exceeded msg rate", *BUSY, *TROUBLED)
"""How the websocket's begin that are no word on a symbol. The first came to some of many symbols at once
(https://docs.kraken.com/api/docs/guides/spot-ratelimits)."""


class _Trade(msgspec.Struct, frozen=True):
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    qty: Decimal
    trade_id: Number
    timestamp: str


class _Result(msgspec.Struct, frozen=True):
    symbol: str = ""


class _Frame(msgspec.Struct, frozen=True):
    """Any frame: one of a channel, or the answer to a request."""

    channel: str = ""
    data: list[msgspec.Raw] = []
    method: str = ""
    success: bool | None = None
    error: str = ""
    fault: str = msgspec.field(name="Error", default="")
    """The same, as the guide on limits writes it."""
    symbol: str = ""
    result: _Result | None = None


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A trade, as REST has it."""

    price: Decimal
    volume: Decimal
    time: Decimal
    side: Literal["b", "s"]
    kind: str
    misc: str
    trade_id: Number


class _Bar(AmountsRow, frozen=True):
    start_s: Number
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    vwap: Decimal
    volume: Decimal
    count: Number


class _Past(msgspec.Struct, frozen=True):
    error: list[str] = []
    result: dict[str, list[msgspec.Raw] | str | int] = {}
    """The rows by the pair, under whatever name, and `last`."""


_decoder = msgspec.json.Decoder(_Frame)
_trade_decoder = msgspec.json.Decoder(_Trade)
_row_decoder = msgspec.json.Decoder(_Row)
_bar_decoder = msgspec.json.Decoder(_Bar)
_past_decoder = msgspec.json.Decoder(_Past)


class KrakenSession(VenueSession):
    """A socket's session. Kraken answers a request for many symbols one by one."""

    def _requests(self, method: Method, symbols: Sequence[str]) -> list[str]:
        params: dict[str, object] = {"channel": CHANNEL, "symbol": list(symbols)}
        if method == SUBSCRIBE:
            params["snapshot"] = True  # the last 50: they join what a reconnect would else have lost
        return [msgspec.json.encode({"method": method, "params": params}).decode()]

    def _read(self, frame: bytes, now_s: float) -> Received:
        said = _decoder.decode(frame)
        if said.channel == CHANNEL:
            return self._trades(said, now_s)
        if said.channel:
            return (), (Alive() if said.channel == "heartbeat" else Other(said.channel[:MAX_SAID]),)
        if error := said.error or said.fault:
            return (), (self._failed(said, error),)
        if said.method:
            return (), (self._done(said),)
        return (), (Unreadable(frame, "it has neither a channel nor a method"),)

    def _trades(self, said: _Frame, now_s: float) -> Received:
        def read(row: msgspec.Raw) -> Recorded:
            trade = _trade_decoder.decode(row)
            taker: Direction = "BUY" if trade.side == "buy" else "SELL"
            pair, time_ns = self._pair(trade.symbol), utc_ns(trade.timestamp)
            return recorded(pair, trade.trade_id, time_ns, trade.price, trade.qty, taker, now_s)

        trades, broken = readable(said.data, read)
        unreadable = [Unreadable(_frame_of(each.frame), each.reason) for each in broken]
        return trades, unreadable or (() if trades else (Other(CHANNEL),))

    def _failed(self, said: _Frame, error: str) -> Event:
        if not error.startswith(FOR_NOW):
            return self._refuse(said.symbol, error)
        if said.method == SUBSCRIBE and said.symbol in self._subs:
            self._outgoing += self._requests(SUBSCRIBE, [said.symbol])
            return Other("asked again")
        raise FeedDisconnectedError(f"the feed said {error[:MAX_SAID]}")

    def _done(self, said: _Frame) -> Event:
        symbol = said.result.symbol if said.result else ""
        if said.method == SUBSCRIBE:
            return self._accept(symbol) or Other(SUBSCRIBE)
        if said.method == UNSUBSCRIBE and symbol in self._accepted:
            self._accepted.remove(symbol)
            return Other(UNSUBSCRIBE) if self._accepted else Left()
        return Other(said.method[:MAX_SAID])


class Kraken(Venue):
    """Kraken's spot market."""

    name = "kraken"
    market = "Kraken"
    url = "wss://ws.kraken.com/v2"
    rest_url = "https://api.kraken.com"
    rest_look = "/0/public/Time"
    limits = Limits(
        min_delay_s=5,  # some 150 connects in 10 minutes and address
        messages_per_s=2,  # unpublished, and less under load
        silent_after_s=15,  # it has a heartbeat a second
        rest_interval_s=3,  # by address and pair; users met one in 3 to 9 s
    )
    most_bars = 720  # it has no older ones

    def session(self, subscriptions: Sequence[str], secret: str | None = None) -> KrakenSession:
        """As for all."""
        return KrakenSession(subscriptions, symbol)

    def ask(self, wanted: Wanted) -> Request:
        """As for all. Ids are not asked for: the stretch is read from a time before its begin."""
        if wanted.first is None:
            return self._page(wanted, wanted.from_ns - MARGINS_S[0] * NS_PER_S, (SEEKING, 0))
        return self._page(wanted, wanted.from_ns - NS_PER_S)

    def read(self, request: Request, answer: Answer) -> Page:
        """As for all."""
        rows, last_ns = _result(answer)
        wanted = request.wanted
        trades, unreadable = past_trades(rows, lambda row: _past_trade(wanted.pair, _row_decoder.decode(row)))
        if (wider := self._wider(request, trades)) is not None:
            return Page(next=wider)
        next_ = self._newer(request, len(rows), trades, last_ns)
        return page_of(wanted, trades, next_, unreadable, _lost(request, trades))

    def _page(self, wanted: Wanted, since_ns: int, state: tuple[int, ...] = ()) -> Request:
        query = (("pair", rest_pair(wanted.pair)), ("since", str(max(0, since_ns))), ("count", str(self.page)))
        return Request(wanted, "/0/public/Trades", query, state)

    def _wider(self, request: Request, trades: Sequence[Recorded]) -> Request | None:
        """The same from an earlier time on, where the first answer has no trade before the stretch."""
        wanted = request.wanted
        match request.state:
            case (state, tries) if (
                state == SEEKING and tries + 1 < len(MARGINS_S) and dict(request.query)["since"] != "0"
            ):
                if all(trade.event_time_ns >= wanted.from_ns for trade, _ in trades):
                    since_ns = wanted.from_ns - MARGINS_S[tries + 1] * NS_PER_S
                    return self._page(wanted, since_ns, (SEEKING, tries + 1))
        return None

    def _newer(self, request: Request, rows: int, trades: Sequence[Recorded], last_ns: int) -> Request | None:
        """The next page up, unless this one reaches the stretch's end or all there is.

        It begins with what has the time of the last trade, as more trades may. Where a page holds no other time, what
        else has it can't be asked for, and is left behind: first by that time itself, which Kraken may leave out.
        """
        wanted = request.wanted
        if rows < self.page or not trades:
            return None
        newest_ns = max(trade.event_time_ns for trade, _ in trades)
        highest = max(map(by_id, trades))
        if newest_ns > wanted.to_ns if wanted.last is None else highest >= wanted.last:
            return None
        asked_ns = int(dict(request.query)["since"])
        if last_ns < asked_ns:
            raise FeedDisconnectedError(f"an answer that goes on at {last_ns} where {asked_ns} was asked for")
        if last_ns - 1 > asked_ns:
            return self._page(wanted, last_ns - 1)
        return self._page(wanted, last_ns if asked_ns < last_ns else last_ns + 1, (CROWDED, highest))

    def bars_target(self, pair: Pair, start_s: int, end_s: int) -> str:
        """As for all: Kraken tells all from a time on, and no more than the newest."""
        query = {"pair": rest_pair(pair), "interval": 1, "since": start_s - MINUTE_S}
        return f"/0/public/OHLC?{urlencode(query)}"

    def read_bars(self, answer: Answer) -> list[Bar]:
        """As for all; what comes after `last` is still open."""
        rows, last_s = _result(answer)
        try:
            bars = [_bar_decoder.decode(row) for row in rows]
        except DECODE_ERRORS as error:
            raise FeedDisconnectedError(f"a candle that can't be read ({error})") from None
        return [
            Bar(bar.start_s, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.count)
            for bar in bars
            if bar.start_s <= last_s
        ]


def symbol(pair: Pair) -> str:
    """The websocket's name of a pair: BTC/USD."""
    return f"{pair[1]}/{pair[2]}".upper()


def rest_pair(pair: Pair) -> str:
    """REST's name of a pair: XBTUSD."""
    return "".join(REST_NAMES.get(name.upper(), name.upper()) for name in pair[1:])


def _frame_of(row: bytes) -> bytes:
    """A frame with one row alone, so that a session can read it again."""
    return b'{"channel":"trade","data":[%b]}' % row


def _past_trade(pair: Pair, row: _Row) -> Recorded:
    """The trade, its time cut to the microseconds that the websocket has: both are to tell one time of one trade."""
    if not (row.time.is_finite() and 0 <= row.time < MAX_TIME_S):
        raise UnreadableFrameError(f"{row.time} is no time")
    time_ns = int(EXACT.multiply(row.time, US_PER_S)) * NS_PER_US
    taker: Direction = "BUY" if row.side == "b" else "SELL"
    return recorded(pair, row.trade_id, time_ns, row.price, row.volume, taker)


def _lost(request: Request, trades: Sequence[Recorded]) -> str:
    """What was left behind before this page, by its ids."""
    match request.state:
        case (state, highest) if state == CROWDED and trades and (first := min(map(by_id, trades))) > highest + 1:
            return (
                f"Kraken has more trades of one time than an answer holds: the {first - highest - 1} with ids from "
                f"{highest + 1} to {first - 1}, as far as there are any, can't be asked for."
            )
    return ""


def _result(answer: Answer) -> tuple[list[msgspec.Raw], int]:
    """The rows of an answer, and its `last`: from where the next one goes on; 0: Kraken does not say."""
    past = answered(answer, _past_decoder)
    if past.error:
        raise _refusal(", ".join(past.error)[:MAX_SAID])
    rows = next((value for value in past.result.values() if isinstance(value, list)), [])
    return rows, whole_number(past.result.get("last")) or 0


def _refusal(said: str) -> FeedDisconnectedError | FeedRefusedError:
    if said.startswith(BUSY):
        return FeedBusyError(said)
    return FeedDisconnectedError(said) if said.startswith(TROUBLED) else FeedRefusedError(said)
