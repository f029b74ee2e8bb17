"""Kraken as its servers speak it: websocket v2, channel `trade`, an ack for each symbol; trades and OHLC over REST.

Format: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/trade and .../spot-rest-api. The REST answers
a request too many with HTTP 200 and an error, as it was seen to do. `since` gives the trades of that time and later;
the documentation says nothing, and recorded answers show it.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from email.utils import formatdate
from itertools import islice
from typing import Any

import msgspec

from cryptoflow.errors import BadParameterError
from cryptoflow.model.trade import DECODE_ERRORS, NS_PER_S, Pair
from cryptoflow.simulator.bars import Bar
from cryptoflow.simulator.coinbase import time_of, time_text
from cryptoflow.simulator.events import Event, Kind
from cryptoflow.simulator.generator import QUANTITY_DECIMALS
from cryptoflow.simulator.limits import Bucket, Limit, Window
from cryptoflow.simulator.market import Traded, decimal_text, decimal_units, order_of
from cryptoflow.simulator.rest import Answer, Request, answer, whole
from cryptoflow.simulator.stages import Fields
from cryptoflow.simulator.venue import Arrival, Exchange, Inbound, Subscriber

SNAPSHOT = 50
"""Trades of a snapshot."""

PAGE = 1000
"""Trades of an answer, at most and if nothing is said."""

ROWS = 720
"""Candles of an answer; older ones are not to be had."""

INTERVALS_MIN = (1, 5, 15, 30, 60, 240, 1440, 10_080, 21_600)

REQUESTS_PER_S, REQUESTS_BURST = 1 / 3, 15
"""Of one address and pair: the counter that is documented for who has no key."""

CONNECTS, CONNECTS_PERIOD_S = 150, 600.0
"""Of one address, as users met it."""

LEAST_PRICE_DECIMALS = 5
"""Of a price in the REST."""

LATEST_SECONDS = 10**11
"""A `since` below it is in s, else in ns."""

LATEST_NS = 2**63

ASSETS = {"BTC": "XBT", "DOGE": "XDG"}
"""Coins that the REST calls otherwise."""

OLD_COINS = ("XBT", "ETH", "ETC", "LTC", "XRP", "XLM", "XMR", "ZEC", "REP", "MLN")
OLD_CURRENCIES = ("USD", "EUR", "GBP", "JPY", "CAD")
"""Between these, a pair's full name has X before the coin and Z before the currency."""


def full_name(pair: Pair) -> str:
    """What the REST calls a pair in its answers, such as XXBTZUSD."""
    coin, currency = (ASSETS.get(name, name) for name in pair[1:])
    old = coin in OLD_COINS and currency in OLD_CURRENCIES
    return f"X{coin}Z{currency}" if old else coin + currency


def short_name(pair: Pair) -> str:
    """What people call it when they ask, such as XBTUSD."""
    return "".join(ASSETS.get(name, name) for name in pair[1:])


class Kraken(Exchange):
    """The venue."""

    name = "Kraken"
    path = "/v2"
    rest_path = "/0/"
    heartbeat_s = 1.0
    inbound = Inbound(50, 1.0)
    default_pairs = ("BTC-USD", "ETH-USD")
    resolution_ns = 1
    batches = True
    fields = Fields(("data", 0), "price", "trade_id", "timestamp")

    def __init__(self, config: Any, clock_ns: Callable[[], int]) -> None:
        super().__init__(config, clock_ns)
        self.connections = itertools.count(1)

    def symbol(self, pair: Pair) -> str:
        return f"{pair[1]}/{pair[2]}"

    def named(self, symbol: str) -> Pair | None:
        coin, _, currency = symbol.partition("/")
        return (self.name, coin, currency) if coin and currency else None

    def encode(self, trades: Sequence[Traded]) -> bytes:
        return self.message("update", trades)

    def message(self, kind: str, trades: Sequence[Traded]) -> bytes:
        """The frame of trades of one pair; numbers as JSON numbers, in all their decimals."""
        rows = ",".join(self._row(trade) for trade in trades)
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'.encode()

    def _row(self, trade: Traded) -> str:
        return (
            f'{{"symbol":"{self.symbol(trade.pair)}","side":"{"buy" if trade.buy else "sell"}",'
            f'"price":{trade.price_text},"qty":{trade.quantity_text},"ord_type":"{order_type(trade)}",'
            f'"trade_id":{trade.id},"timestamp":"{time_text(trade.time_ns)}"}}'
        )

    def decode(self, frame: bytes) -> Sequence[Traded]:
        message = _decoder.decode(frame)
        if not isinstance(message, dict) or message.get("channel") != "trade" or "data" not in message:
            return ()
        return [self._traded(row) for row in message["data"]]

    def _traded(self, row: dict[str, Any]) -> Traded:
        pair, id_ = self.named(row["symbol"]), int(row["trade_id"])
        if pair is None or not row["price"] >= 0:
            raise ValueError("a trade without symbol or price")
        amounts = *decimal_units(f"{row['price']:f}"), *decimal_units(f"{row['qty']:f}")
        return Traded(pair, id_, id_, time_of(row["timestamp"]), *amounts, row["side"] == "buy")

    def admit(self, arrival: Arrival) -> Subscriber:
        return KrakenSubscriber(self, next(self.connections))

    @property
    def system(self) -> str:
        """What the venue says of itself."""
        return "maintenance" if self.maintained else "online"

    def status(self, connection: int) -> bytes:
        """What every client gets first, and when it changes."""
        data = {"api_version": "v2", "connection_id": connection, "system": self.system, "version": "2.0.9"}
        return msgspec.json.encode({"channel": "status", "type": "update", "data": [data]})

    def connects(self) -> Limit:
        return Window(CONNECTS * self.config.limit_factor, CONNECTS_PERIOD_S)

    # The REST

    def limits(self, request: Request) -> Iterable[tuple[str, object, Callable[[], Limit], float]]:
        pair = self._found(request.query.get("pair", ""))
        yield "requests", (request.client, pair), self._bucket, 1

    def _bucket(self) -> Bucket:
        factor = self.config.limit_factor
        return Bucket(REQUESTS_PER_S * factor, REQUESTS_BURST * factor)

    def too_many(self, wait_s: float) -> Answer:
        return _failed("EGeneral:Too many requests")

    def failure(self) -> Answer:
        return _failed("EGeneral:Internal error", 500)

    def unknown(self) -> Answer:
        return _failed("EGeneral:Unknown method", 404)

    def bad_parameter(self, name: str) -> Answer:
        return _failed(f"EGeneral:Invalid arguments:{name}")

    def outage(self, *, maintenance: bool) -> Answer:
        return _failed("EService:Unavailable") if maintenance else super().outage(maintenance=maintenance)

    def route(self, request: Request) -> Answer:
        query = request.query
        match request.path:
            case "/0/public/Time":
                now_s = self.now_ns() // NS_PER_S
                return _told({"unixtime": now_s, "rfc1123": formatdate(now_s, usegmt=True)})
            case "/0/public/SystemStatus":
                return _told({"status": self.system, "timestamp": time_text(self.now_ns())[:19] + "Z"})
            case "/0/public/AssetPairs":
                return self._pairs(query.get("pair"))
        tell = {"/0/public/Trades": self._trades, "/0/public/OHLC": self._candles}.get(request.path)
        if tell is None:
            return self.unknown()
        if "pair" not in query:
            return _failed("EGeneral:Invalid arguments")
        pair = self._found(query["pair"])
        return _failed("EQuery:Unknown asset pair") if pair is None else tell(pair, query)

    def _found(self, name: str) -> Pair | None:
        """The pair that a request names, in any of its names."""
        for symbol, pair in list(self.pairs.items()):
            names = symbol, symbol.replace("/", ""), short_name(pair), full_name(pair)
            if name.upper() in names and self.has(symbol):
                return pair
        return None

    def _pairs(self, wanted: str | None) -> Answer:
        names = None if wanted is None else [self._found(name) for name in wanted.split(",")]
        if names is not None and None in names:
            return _failed("EQuery:Unknown asset pair")
        return _told(
            {full_name(pair): self._info(pair) for pair in list(self.pairs.values()) if names is None or pair in names}
        )

    def _info(self, pair: Pair) -> dict[str, Any]:
        coin, currency = (ASSETS.get(name, name) for name in pair[1:])
        old = full_name(pair) != short_name(pair)
        return {
            "altname": short_name(pair),
            "wsname": f"{coin}/{currency}",
            "base": f"X{coin}" if old else coin,
            "quote": f"Z{currency}" if old else currency,
            "pair_decimals": self.tape(pair).price_decimals,
            "lot_decimals": QUANTITY_DECIMALS,
            "status": "online",
        }

    def _trades(self, pair: Pair, query: dict[str, str]) -> Answer:
        """From the time `since` on, oldest first; without it the newest."""
        tape = self.tape(pair)
        most = whole(query, "count") or PAGE
        if not 1 <= most <= PAGE:
            return self.bad_parameter("count")
        visible = self.visible(tape)
        if "since" in query:
            since_ns = since_of(query["since"])
            first = tape.at(since_ns + 1 if self.faults.exclusive_since else since_ns)
            numbers = list(islice(tape.between(first, visible), most))
        else:
            numbers = list(islice(tape.before(visible), most))[::-1]
        trades = [tape.trade(number) for number in numbers]
        last_ns = trades[-1].time_ns if trades else since_of(query.get("since", "0"))
        return _told({full_name(pair): [trade_row(trade) for trade in trades], "last": str(last_ns)})

    def _candles(self, pair: Pair, query: dict[str, str]) -> Answer:
        """The newest candles, the one that is still open included; those without a trade have volume 0."""
        interval = whole(query, "interval") or 1
        if interval not in INTERVALS_MIN:
            return self.bad_parameter("interval")
        width_s = interval * 60
        open_s = self.now_ns() // NS_PER_S // width_s * width_s
        oldest_s = open_s - ROWS * width_s
        since_s = (whole(query, "since") or 0) // width_s * width_s
        bars = self.bars(pair, max(oldest_s, min(since_s, open_s)), open_s + width_s, width_s)
        decimals = self.tape(pair).price_decimals
        return _told({full_name(pair): [candle(bar, decimals) for bar in bars], "last": open_s - width_s})


_decoder = msgspec.json.Decoder(float_hook=Decimal)


def order_type(trade: Traded) -> str:
    """The taker's order; of most it is said that they were at market."""
    return "limit" if order_of(trade.number) % 5 == 0 else "market"


def since_of(text: str) -> int:
    """A `since` in ns since the epoch: it may be in s, with decimals or without, or in ns.

    Raises:
        BadParameterError: it is no number.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise BadParameterError("since") from None
    if not value.is_finite() or not 0 <= value < LATEST_NS:
        raise BadParameterError("since")
    return int(value * NS_PER_S) if "." in text or value < LATEST_SECONDS else int(value)


def price_text(price: int, decimals: int) -> str:
    """A price as the REST tells it."""
    more = max(0, LEAST_PRICE_DECIMALS - decimals)
    return decimal_text(price * 10**more, decimals + more)


def trade_row(trade: Traded) -> list[Any]:
    """[price, volume, time in s, side, type of order, miscellaneous, id]; the time is what a double holds of it."""
    return [
        price_text(trade.price, trade.price_decimals),
        trade.quantity_text,
        float(decimal_text(trade.time_ns // 100, 7)),
        "b" if trade.buy else "s",
        order_type(trade)[0],
        "",
        trade.id,
    ]


def candle(bar: Bar, decimals: int) -> list[Any]:
    """[start in s, open, high, low, close, vwap, volume, count]."""
    vwap = (bar.volume + bar.quantity // 2) // bar.quantity if bar.quantity else 0
    prices = (bar.open, bar.high, bar.low, bar.close, vwap)
    quantity = decimal_text(bar.quantity, QUANTITY_DECIMALS)
    return [bar.start_s, *(price_text(price, decimals) for price in prices), quantity, bar.trades]


def _told(result: dict[str, Any]) -> Answer:
    return answer({"error": [], "result": result})


def _failed(error: str, status: int = 200) -> Answer:
    return answer({"error": [error]}, status)


class KrakenSubscriber(Subscriber):
    """One client.

    Args:
        connection: its number, which the venue tells.
    """

    def __init__(self, venue: Kraken, connection: int) -> None:
        self._venue = venue
        self._connection = connection
        self._symbols: dict[str, str] = {}
        self._began = False

    @property
    def subscriptions(self) -> Iterable[str]:
        return self._symbols.values()

    def opened(self) -> list[bytes]:
        return [self._venue.status(self._connection)]

    def receive(self, frame: bytes) -> list[Event]:
        time_in = time_text(self._venue.now_ns())
        try:
            request = msgspec.json.decode(frame)
        except DECODE_ERRORS:
            request = None
        match request:
            case {"method": "ping"}:
                return [self._answer(request, time_in, method="pong")]
            case {"method": "subscribe" | "unsubscribe", "params": {"channel": "trade", "symbol": list(symbols)}}:
                return [event for symbol in symbols for event in self._change(request, str(symbol), time_in)]
        return [self._answer(request, time_in, error="Malformed request", method="error", success=False)]

    def _change(self, request: dict[str, Any], symbol: str, time_in: str) -> list[Event]:
        method, params = request["method"], request["params"]
        subscription = self._venue.has(symbol)
        refused = self._refused(method, symbol, subscription)
        if refused is not None:
            return [self._answer(request, time_in, error=refused, method=method, success=False, symbol=symbol)]
        assert subscription is not None
        result: dict[str, Any] = {"channel": "trade", "symbol": symbol}
        if method == "unsubscribe":
            del self._symbols[symbol]
            return [self._answer(request, time_in, method=method, result=result, success=True)]
        self._symbols[symbol] = subscription
        self._began = True
        snapshot = params.get("snapshot") is True
        result = {"channel": "trade", "snapshot": snapshot, "symbol": symbol}
        ack = self._answer(request, time_in, method=method, result=result, success=True)
        return [ack, *(self._snapshot(subscription) if snapshot else ())]

    def _refused(self, method: str, symbol: str, subscription: str | None) -> str | None:
        most = self._venue.faults.max_subscriptions
        if subscription is None:
            return f"Currency pair not supported {symbol}"
        if method == "unsubscribe":
            return None if symbol in self._symbols else "Subscription Not Found"
        if symbol in self._symbols:
            return "Already subscribed"
        if most is not None and len(self._symbols) >= most:
            self._venue.tally.broken["subscriptions"] += 1
            return "Exceeded the number of subscriptions"
        return None

    def _snapshot(self, subscription: str) -> list[Event]:
        trades = self._venue.last(subscription, SNAPSHOT)
        frame = self._venue.message("snapshot", trades)
        ids = tuple(trade.id for trade in trades)
        return [Event(frame, subscription, max(t.time_ns for t in trades), Kind.DUPLICATE, ids)] if trades else []

    def _answer(self, request: Any, time_in: str, **fields: Any) -> Event:
        id_ = request.get("req_id") if isinstance(request, dict) else None
        times = {"time_in": time_in, "time_out": time_text(self._venue.now_ns())}
        known = {} if id_ is None else {"req_id": id_}
        return Event(msgspec.json.encode(fields | times | known), None, 0, Kind.CONTROL)

    def beat(self, *, idle: bool) -> list[bytes]:
        return [b'{"channel":"heartbeat"}'] if idle and self._began else []

    def goodbye(self) -> list[bytes]:
        return [self._venue.status(self._connection)] if self._venue.maintained else []

    def too_fast(self) -> list[bytes]:
        return [b'{"error":"Exceeded msg rate","success":false}']
