"""Binance spot as its server speaks it: streams `@trade`, past trades, aggregates and klines over REST.

Format: https://github.com/binance/binance-spot-api-docs, web-socket-streams.md, rest-api.md and errors.md. A stream of
a symbol that there is not is accepted, and stays silent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from cryptoflow.model.trade import DECODE_ERRORS, NS_PER_S, Pair
from cryptoflow.simulator.bars import Bar
from cryptoflow.simulator.events import Event, Kind
from cryptoflow.simulator.generator import QUANTITY_DECIMALS
from cryptoflow.simulator.limits import Limit, Window
from cryptoflow.simulator.market import Traded, decimal_text, decimal_units
from cryptoflow.simulator.past import Past
from cryptoflow.simulator.rest import Answer, Request, answer, whole, whole_seconds
from cryptoflow.simulator.stages import Fields
from cryptoflow.simulator.venue import Arrival, Exchange, Inbound, Subscriber

NS_PER_MS = 1_000_000
MS_PER_S = 1000

DECIMALS = 8
"""Of every amount."""

EVENT_AFTER_MS = 1
"""How long after the trade its event is made."""

STREAMS = 1024
"""Of one socket."""

CONNECTS, CONNECTS_PERIOD_S = 300, 300.0

WEIGHT, WEIGHT_PERIOD_S = 6000, 60.0
"""What one address may ask for."""

WEIGHTS = {"trades": 25, "historicalTrades": 25, "aggTrades": 4, "klines": 2, "exchangeInfo": 20}

BAN_AFTER, BAN_S = 10, 120.0
"""Requests in spite of a 429 until the address is banned, and for how long."""

PAGE, MOST = 500, 1000
"""Rows of an answer: if nothing is said, and at most."""

INTERVALS_S = {
    "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800,
    "1h": 3600, "2h": 7200, "4h": 14_400, "6h": 21_600, "8h": 28_800, "12h": 43_200, "1d": 86_400,
}  # fmt: skip

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

CURRENCIES = (
    "FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD1", "DAI", "BTC", "ETH", "BNB",
    "EUR", "GBP", "TRY", "BRL", "JPY", "AUD", "USD",
)  # fmt: skip
"""What a symbol may end with, the ones that end like another first."""

TRADE_STREAM = "@trade"


def text_of(units: int, decimals: int) -> str:
    """An amount as the venue writes it."""
    if decimals > DECIMALS:
        return decimal_text(units, decimals)
    return decimal_text(units * 10 ** (DECIMALS - decimals), DECIMALS)


@dataclass
class Patience:
    """How the venue bears one address; times in s, from any monotonic clock."""

    refused_until_s: float = 0.0
    """What its last 429 said."""
    ignored: int = 0
    """Requests that came before that."""
    banned_until_s: float = 0.0

    def ask(self, now_s: float) -> float:
        """Counts a request; gives how long the address is banned from now on."""
        self.ignored = self.ignored + 1 if now_s < self.refused_until_s else 0
        if self.ignored >= BAN_AFTER:
            self.ignored = 0
            self.banned_until_s = now_s + BAN_S
        return max(0.0, self.banned_until_s - now_s)


class Binance(Exchange):
    """The venue."""

    name = "Binance"
    rest_path = "/api/"
    ping_s = 20.0
    pong_within_s = 60.0
    lifetime_s = 86_400.0
    inbound = Inbound(5, 1.0, pongs_count=True)
    default_pairs = ("BTC-USDT", "ETH-USDT")
    resolution_ns = NS_PER_MS
    fields = Fields(("data",), "p", "t", "T")

    def __init__(self, config: Any, clock_ns: Callable[[], int]) -> None:
        super().__init__(config, clock_ns)
        self._patience: dict[str, Patience] = {}

    def symbol(self, pair: Pair) -> str:
        return pair[1] + pair[2]

    def named(self, symbol: str) -> Pair | None:
        for currency in CURRENCIES:
            if symbol.endswith(currency) and symbol != currency:
                return self.name, symbol.removesuffix(currency), currency
        return None

    def encode(self, trades: Sequence[Traded]) -> bytes:
        (trade,) = trades
        symbol = self.symbol(trade.pair)
        time_ms = trade.time_ns // NS_PER_MS
        return (
            f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{time_ms + EVENT_AFTER_MS},"s":"{symbol}",'
            f'"t":{trade.id},"p":"{text_of(trade.price, trade.price_decimals)}",'
            f'"q":"{text_of(trade.quantity, trade.quantity_decimals)}","T":{time_ms},'
            f'"m":{"false" if trade.buy else "true"},"M":true}}}}'
        ).encode()

    def decode(self, frame: bytes) -> Sequence[Traded]:
        whole_frame = msgspec.json.decode(frame)
        data = whole_frame.get("data", whole_frame)
        if data.get("e") != "trade":
            return ()
        pair, id_, time = self.named(data["s"]), data["t"], data["T"]
        if pair is None or not isinstance(id_, int) or not isinstance(time, int):
            raise ValueError("a trade without symbol, id or time")
        time_ns = time * (1000 if time >= 10**15 else NS_PER_MS)
        amounts = *decimal_units(data["p"]), *decimal_units(data["q"])
        return (Traded(pair, id_, id_, time_ns, *amounts, not data["m"]),)

    def connects(self) -> Limit:
        return Window(CONNECTS * self.config.limit_factor, CONNECTS_PERIOD_S)

    def admit(self, arrival: Arrival) -> Subscriber:
        return BinanceSubscriber(self, arrival.target)

    # The REST

    def check(self, request: Request, now_s: float) -> Answer | None:
        patience = self._patience.setdefault(request.client, Patience())
        if banned_s := patience.ask(now_s):
            self.tally.requests[request.target] += 1
            self.tally.refused["ban"] += 1
            said = "Way too much request weight used; IP banned until {}. Please use WebSocket Streams for live updates"
            until_ms = self.now_ns() // NS_PER_MS + round(banned_s * MS_PER_S)
            return _failed(418, -1003, said.format(until_ms), Retry_After=whole_seconds(banned_s))
        refused = super().check(request, now_s)
        if refused is not None and refused.status == 429:
            patience.refused_until_s = now_s + float(refused.headers["Retry-After"])
        return refused

    def limits(self, request: Request) -> Iterable[tuple[str, object, Callable[[], Limit], float]]:
        weight = WEIGHTS.get(request.path.rpartition("/")[2], 1)
        yield "weight", request.client, self._window, weight

    def _window(self) -> Window:
        return Window(WEIGHT * self.config.limit_factor, WEIGHT_PERIOD_S)

    def too_many(self, wait_s: float) -> Answer:
        said = f"Too much request weight used; current limit is {WEIGHT} request weight per 1 MINUTE. "
        advice = "Please use WebSocket Streams for live updates to avoid polling the API."
        return _failed(429, -1003, said + advice, Retry_After=whole_seconds(wait_s))

    def failure(self) -> Answer:
        return _failed(500, -1001, "Internal error; unable to process your request. Please try again.")

    def unknown(self) -> Answer:
        return Answer(404, b"<html><body><h2>404 Not found</h2></body></html>", {"Content-Type": "text/html"})

    def bad_parameter(self, name: str) -> Answer:
        return _failed(400, -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")

    def outage(self, *, maintenance: bool) -> Answer:
        if maintenance:
            return _failed(503, -1016, "This service is no longer available.")
        return super().outage(maintenance=maintenance)

    def tell(self, request: Request) -> Answer:
        told = super().tell(request)
        used = self._limits.get(("weight", request.client))
        weight = str(int(used.used)) if isinstance(used, Window) else "1"
        return told._replace(headers=dict(told.headers) | {"X-MBX-USED-WEIGHT-1M": weight})

    def route(self, request: Request) -> Answer:
        query = request.query
        match request.path:
            case "/api/v3/ping":
                return answer({})
            case "/api/v3/time":
                return answer({"serverTime": self.now_ns() // NS_PER_MS})
            case "/api/v3/exchangeInfo":
                return self._info(query.get("symbol"))
        tell = {
            "/api/v3/trades": self._newest_trades,
            "/api/v3/historicalTrades": self._trades,
            "/api/v3/aggTrades": self._aggregates,
            "/api/v3/klines": self._klines,
        }.get(request.path)
        if tell is None:
            return self.unknown()
        if not query.get("symbol"):
            return _failed(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if self.has(query["symbol"]) is None:
            return _failed(400, -1121, "Invalid symbol.")
        return tell(self.pairs[query["symbol"]], query)

    def _info(self, symbol: str | None) -> Answer:
        if symbol is not None and self.has(symbol) is None:
            return _failed(400, -1121, "Invalid symbol.")
        symbols = [
            {"symbol": name, "status": "TRADING", "baseAsset": pair[1], "quoteAsset": pair[2]}
            for name, pair in list(self.pairs.items())
            if symbol in (None, name)
        ]
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": WEIGHT}]
        now_ms = self.now_ns() // NS_PER_MS
        return answer({"timezone": "UTC", "serverTime": now_ms, "rateLimits": limits, "symbols": symbols})

    def _newest_trades(self, pair: Pair, query: dict[str, str]) -> Answer:
        return self._trades(pair, {name: text for name, text in query.items() if name != "fromId"})

    def _trades(self, pair: Pair, query: dict[str, str]) -> Answer:
        """From `fromId` on, else the newest; oldest first."""
        tape, most = self.tape(pair), rows_of(query)
        from_id, visible = whole(query, "fromId"), self.visible(tape)
        numbers = (
            list(_first(tape.before(visible), most))[::-1]
            if from_id is None
            else list(_first(tape.between(from_id - tape.offset, visible), most))
        )
        return answer([trade_row(tape.trade(number)) for number in numbers])

    def _aggregates(self, pair: Pair, query: dict[str, str]) -> Answer:
        """From `fromId` on, else of the times from `startTime` to `endTime`, both included, else the newest."""
        tape, most = self.tape(pair), rows_of(query)
        from_id, start_ms, end_ms = (whole(query, name) for name in ("fromId", "startTime", "endTime"))
        if from_id is not None and (start_ms is not None or end_ms is not None):
            return _failed(400, -1128, "Combination of optional parameters invalid.")
        visible = self.visible(tape)
        end = visible if end_ms is None else min(visible, tape.at((end_ms + 1) * NS_PER_MS))
        shift = tape.aggregate_of(tape.offset)
        last = tape.aggregate_of(end - 1)
        if from_id is not None:
            first = max(from_id - shift, tape.aggregate_of(tape.first))
        elif start_ms is not None:
            first = tape.aggregate_of(max(tape.at(start_ms * NS_PER_MS), tape.first))
        else:
            first = max(last - most + 1, tape.aggregate_of(tape.first))
        rows = (self._aggregate(tape, number, end, shift) for number in range(first, last + 1))
        return answer(list(_first((row for row in rows if row is not None), most)))

    def _aggregate(self, tape: Past, aggregate: int, end: int, shift: int) -> dict[str, Any] | None:
        """None if it holds no trade; that is so if its ids are among the lost ones."""
        numbers = tape.of_aggregate(aggregate)
        trades = [tape.trade(number) for number in tape.between(numbers[0], min(numbers[-1] + 1, end))]
        if not trades:
            return None
        first = trades[0]
        quantity = sum(trade.quantity for trade in trades)
        return {
            "a": aggregate + shift,
            "p": text_of(first.price, first.price_decimals),
            "q": text_of(quantity, first.quantity_decimals),
            "f": first.id,
            "l": trades[-1].id,
            "T": first.time_ns // NS_PER_MS,
            "m": not first.buy,
            "M": True,
        }

    def _klines(self, pair: Pair, query: dict[str, str]) -> Answer:
        width_s = INTERVALS_S.get(query.get("interval", ""))
        if width_s is None:
            return _failed(400, -1120, "Invalid interval.")
        most = rows_of(query)
        start_ms, end_ms = whole(query, "startTime"), whole(query, "endTime")
        now_s = self.now_ns() // NS_PER_S
        last_s = now_s if end_ms is None else min(now_s, end_ms // MS_PER_S)
        end_s = (last_s // width_s + 1) * width_s
        if start_ms is None:
            start_s = end_s - most * width_s
        else:
            begin_s = max(-(-start_ms // MS_PER_S), self.listed_s(pair))
            start_s = -(-begin_s // width_s) * width_s
            end_s = min(end_s, start_s + most * width_s)
        decimals = self.tape(pair).price_decimals
        return answer([kline(bar, width_s, decimals) for bar in self.bars(pair, start_s, end_s, width_s)])


def rows_of(query: dict[str, str]) -> int:
    """How many rows are asked for."""
    return max(1, min(whole(query, "limit") or PAGE, MOST))


def _first(items: Iterable[Any], most: int) -> Iterable[Any]:
    for item, _ in zip(items, range(most), strict=False):
        yield item


def _failed(status: int, code: int, said: str, **headers: str) -> Answer:
    return answer({"code": code, "msg": said}, status, **headers)


def trade_row(trade: Traded) -> dict[str, Any]:
    """A trade as the REST tells it."""
    return {
        "id": trade.id,
        "price": text_of(trade.price, trade.price_decimals),
        "qty": text_of(trade.quantity, trade.quantity_decimals),
        "quoteQty": quote_text(trade.price * trade.quantity, trade.price_decimals),
        "time": trade.time_ns // NS_PER_MS,
        "isBuyerMaker": not trade.buy,
        "isBestMatch": True,
    }


def quote_text(units: int, price_decimals: int) -> str:
    """Price times quantity, in the venue's decimals."""
    less = 10 ** (price_decimals + QUANTITY_DECIMALS - DECIMALS)
    return decimal_text((units + less // 2) // less, DECIMALS)


def kline(bar: Bar, width_s: int, price_decimals: int) -> list[Any]:
    """A candle as the REST tells it."""
    opened_ms = bar.start_s * MS_PER_S
    return [
        opened_ms,
        *(text_of(price, price_decimals) for price in (bar.open, bar.high, bar.low, bar.close)),
        text_of(bar.quantity, QUANTITY_DECIMALS),
        opened_ms + width_s * MS_PER_S - 1,
        quote_text(bar.volume, price_decimals),
        bar.trades,
        text_of(bar.buy_quantity, QUANTITY_DECIMALS),
        quote_text(bar.buy_volume, price_decimals),
        "0",
    ]


class BinanceSubscriber(Subscriber):
    """One client.

    Args:
        target: of its request: /ws, /ws/STREAM or /stream?streams=STREAM/STREAM, with `timeUnit` if it likes.
    """

    def __init__(self, venue: Binance, target: str) -> None:
        self._venue = venue
        url = urlsplit(target)
        query = parse_qs(url.query)
        self._combined = url.path.startswith("/stream")
        self._micros = query.get("timeUnit", [""])[0].upper() == "MICROSECOND"
        self._streams: dict[str, str | None] = {}
        """And the subscription that each stands for, if it is one to trades of a pair that there is."""
        asked = query.get("streams", [""])[0] if self._combined else url.path.removeprefix("/ws").strip("/")
        self._add([stream for stream in asked.split("/") if stream])

    def _add(self, streams: Iterable[str]) -> None:
        for stream in streams:
            symbol = stream.removesuffix(TRADE_STREAM) if stream.endswith(TRADE_STREAM) else ""
            lower = symbol == symbol.lower()
            self._streams[stream] = self._venue.has(symbol.upper()) if symbol and lower else None

    @property
    def subscriptions(self) -> Iterable[str]:
        return [subscription for subscription in self._streams.values() if subscription is not None]

    @property
    def subscribed(self) -> bool:
        return bool(self._streams)

    def receive(self, frame: bytes) -> list[Event]:
        try:
            request = msgspec.json.decode(frame)
        except DECODE_ERRORS:
            return [_said({"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})]
        if not isinstance(request, dict) or "method" not in request:
            return [_invalid("missing field `method`")]
        id_, params = request.get("id"), request.get("params", [])
        if isinstance(id_, bool) or not isinstance(id_, int | str | None):
            return [_invalid("request ID must be an unsigned integer")]
        if request["method"] not in METHODS:
            expected = ", ".join(f"`{method}`" for method in METHODS)
            return [_invalid(f"unknown variant `{request['method']}`, expected one of {expected}")]
        if not isinstance(params, list):
            return [_invalid("params must be an array")]
        return [_said(self._act(request["method"], params, id_))]

    def _act(self, method: str, params: Sequence[Any], id_: object) -> dict[str, Any]:
        result: Any = None
        match method:
            case "SUBSCRIBE":
                streams = [str(stream) for stream in params]
                most = self._venue.faults.max_subscriptions
                if len(self._streams.keys() | set(streams)) > (STREAMS if most is None else most):
                    self._venue.tally.broken["subscriptions"] += 1
                    return {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": id_}
                self._add(streams)
            case "UNSUBSCRIBE":
                for stream in params:
                    self._streams.pop(str(stream), None)
            case "LIST_SUBSCRIPTIONS":
                result = list(self._streams)
            case _ if params[:1] != ["combined"]:
                return {"code": 0, "msg": "Unknown property", "id": id_}
            case "GET_PROPERTY":
                result = self._combined
            case _ if not isinstance(params[-1], bool):
                return {"code": 1, "msg": "Invalid value type: expected Boolean"}
            case _:
                self._combined = params[-1]
        return {"result": result, "id": id_}

    def goodbye(self) -> list[bytes]:
        now_ms = self._venue.now_ns() // NS_PER_MS
        return [self.dress(b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":%d}}' % now_ms)]

    def dress(self, frame: bytes) -> bytes:
        if self._combined and not self._micros:
            return frame
        begin = frame.find(b'"data":')
        if begin < 0:
            return frame
        if self._micros:
            frame = _in_micros(frame)
        return frame if self._combined else frame[begin + 7 : -1]


def _in_micros(frame: bytes) -> bytes:
    try:
        whole_frame = msgspec.json.decode(frame)
        for name in ("E", "T"):
            if name in whole_frame["data"]:
                whole_frame["data"][name] *= 1000
    except (*DECODE_ERRORS, TypeError, KeyError):  # a frame that a fault has broken
        return frame
    return msgspec.json.encode(whole_frame)


def _said(data: dict[str, Any]) -> Event:
    return Event(msgspec.json.encode(data), None, 0, Kind.CONTROL)


def _invalid(what: str) -> Event:
    return _said({"code": 2, "msg": f"Invalid request: {what}"})
