"""Coinbase Exchange as its server speaks it: channels `matches` and `heartbeat`, trades and candles over REST.

Format: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels and .../rest-api; the order of the first
frames is that of a recording.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from cryptoflow.errors import BadParameterError, SocketLeftError
from cryptoflow.model.trade import DECODE_ERRORS, NS_PER_S, Pair
from cryptoflow.simulator.events import Event, Kind
from cryptoflow.simulator.generator import QUANTITY_DECIMALS, mixed
from cryptoflow.simulator.limits import Bucket, Limit
from cryptoflow.simulator.market import Traded, decimal_text, decimal_units, order_of
from cryptoflow.simulator.rest import Answer, Request, answer, whole
from cryptoflow.simulator.stages import Fields
from cryptoflow.simulator.venue import Arrival, Exchange, Inbound, Subscriber

CHANNELS = ("matches", "heartbeat")

PAGE = 1000
"""Trades of a page, at most and if nothing is said."""

CANDLES = 300
"""Of one answer."""

GRANULARITIES_S = (60, 300, 900, 3600, 21_600, 86_400)

REQUESTS_PER_S, REQUESTS_BURST = 10, 15
CONNECTS_PER_S, CONNECTS_BURST = 8, 20
"""Of one address."""

MATCH, LAST_MATCH = b'{"type":"match"', b'{"type":"last_match"'

SEQUENCES_PER_TRADE = 128
"""A product's sequence counts its orders, too: it steps by about so much from trade to trade."""


def time_text(time_ns: int) -> str:
    """A time as the venue writes it, in microseconds."""
    seconds, ns = divmod(time_ns, NS_PER_S)
    return f"{_second_text(seconds)}.{ns // 1000:06}Z"


@lru_cache(maxsize=1000)
def _second_text(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def time_of(text: str) -> int:
    """The time of a text as the venue writes it, in ns since the epoch.

    Raises:
        ValueError: it is none.
    """
    seconds = datetime.fromisoformat(text[:19] + "+00:00")
    return int(seconds.timestamp()) * NS_PER_S + int(text[20:].rstrip("Z").ljust(9, "0") or 0)


def short(text: str) -> str:
    """A decimal number without the zeros at its end."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def order_id(side: str, product: str, number: int) -> str:
    """An order's id, made up from the number of its trade."""
    half = mixed(_key(side, product), number)
    digits = f"{half:016x}{mixed(half, 1):016x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


@lru_cache(maxsize=1000)
def _key(side: str, product: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{side} {product}".encode(), digest_size=8).digest())


class Coinbase(Exchange):
    """The venue."""

    name = "Coinbase"
    rest_path = "/"
    heartbeat_s = 1.0
    subscribe_within_s = 5.0
    inbound = Inbound(100, 1.0)
    default_pairs = ("BTC-USD", "ETH-USD")
    resolution_ns = 1000
    fields = Fields((), "price", "trade_id", "time")

    def symbol(self, pair: Pair) -> str:
        return f"{pair[1]}-{pair[2]}"

    def named(self, symbol: str) -> Pair | None:
        coin, _, currency = symbol.partition("-")
        return (self.name, coin, currency) if coin and currency else None

    def encode(self, trades: Sequence[Traded]) -> bytes:
        (trade,) = trades
        product = self.symbol(trade.pair)
        return (
            f'{{"type":"match","trade_id":{trade.id},"maker_order_id":"{order_id("maker", product, trade.number)}",'
            f'"taker_order_id":"{order_id("taker", product, order_of(trade.number))}","side":"{maker_side(trade)}",'
            f'"size":"{short(trade.quantity_text)}","price":"{trade.price_text}","product_id":"{product}",'
            f'"sequence":{sequence(trade.id)},"time":"{time_text(trade.time_ns)}"}}'
        ).encode()

    def decode(self, frame: bytes) -> Sequence[Traded]:
        match msgspec.json.decode(frame):
            case {"type": "match" | "last_match", "product_id": product, "trade_id": int(id_)} as match:
                pair = self.named(product)
                if pair is None:
                    raise ValueError(product)
                amounts = *decimal_units(match["price"]), *decimal_units(match["size"])
                return (Traded(pair, id_, id_, time_of(match["time"]), *amounts, match["side"] == "sell"),)
            case {"type": "match" | "last_match"}:
                raise ValueError("a match without an id")
        return ()

    def sign(self, frame: bytes) -> str | None:
        match msgspec.json.decode(frame):
            case {"type": "heartbeat", "product_id": str(product)}:
                return self.has(product)
        return None

    def admit(self, arrival: Arrival) -> Subscriber:
        return CoinbaseSubscriber(self)

    def heartbeat(self, product: str, subscription: str) -> bytes:
        """A sign of life, with the id of the product's last trade."""
        last = self.last(subscription, 1)
        last_id = last[0].id if last and not self.faults.zero_last_trade_id else 0
        return msgspec.json.encode(
            {
                "type": "heartbeat",
                "last_trade_id": last_id,
                "product_id": product,
                "sequence": sequence(last[0].id if last else 0) + 1,
                "time": time_text(self.now_ns()),
            }
        )

    def connects(self) -> Limit:
        factor = self.config.limit_factor
        return Bucket(CONNECTS_PER_S * factor, CONNECTS_BURST * factor)

    # The REST

    def limits(self, request: Request) -> Iterable[tuple[str, object, Callable[[], Limit], float]]:
        factor = self.config.limit_factor
        yield "requests", request.client, lambda: Bucket(REQUESTS_PER_S * factor, REQUESTS_BURST * factor), 1

    def too_many(self, wait_s: float) -> Answer:
        return answer({"message": "Public rate limit exceeded"}, 429)

    def failure(self) -> Answer:
        return answer({"message": "Internal server error"}, 500)

    def unknown(self) -> Answer:
        return answer({"message": "NotFound"}, 404)

    def bad_parameter(self, name: str) -> Answer:
        return answer({"message": f"Invalid {name}"}, 400)

    def outage(self, *, maintenance: bool) -> Answer:
        if maintenance:
            return answer({"message": "Service is undergoing maintenance"}, 503)
        return super().outage(maintenance=maintenance)

    def route(self, request: Request) -> Answer:
        match request.path.strip("/").split("/"):
            case ["time"]:
                return answer({"iso": time_text(self.now_ns()), "epoch": self.now_ns() / NS_PER_S})
            case ["products"]:
                return answer([product(name, pair) for name, pair in list(self.pairs.items())])
            case ["products", name] if self.has(name):
                return answer(product(name, self.pairs[name]))
            case ["products", name, "trades"] if self.has(name):
                return self._trades(self.pairs[name], request.query)
            case ["products", name, "candles"] if self.has(name):
                return self._candles(self.pairs[name], request.query)
        return self.unknown()

    def _trades(self, pair: Pair, query: dict[str, str]) -> Answer:
        """Newest first: those older than `after`, else those newer than `before`, from the newest on."""
        tape = self.tape(pair)
        most = min(whole(query, "limit") or PAGE, PAGE)
        after, before = whole(query, "after"), whole(query, "before")
        end = self.visible(tape) if after is None else min(self.visible(tape), after - tape.offset)
        if most <= 0 or (after is not None and after <= 0):
            return self.bad_parameter("limit" if most <= 0 else "after")
        numbers = list(islice(tape.before(end), most))
        if before is not None:
            numbers = [number for number in numbers if number + tape.offset > before]
        trades = [tape.trade(number) for number in numbers]
        told = answer([trade_row(trade) for trade in trades])
        return told._replace(headers={"CB-BEFORE": str(trades[0].id), "CB-AFTER": str(trades[-1].id)} if trades else {})

    def _candles(self, pair: Pair, query: dict[str, str]) -> Answer:
        """[start, low, high, open, close, volume], newest first, without the empty ones."""
        width_s = whole(query, "granularity") or GRANULARITIES_S[0]
        if width_s not in GRANULARITIES_S:
            return answer({"message": "Unsupported granularity"}, 400)
        now_s = self.now_ns() // NS_PER_S
        end_s = moment(query, "end", now_s)
        start_s = moment(query, "start", end_s - (CANDLES - 1) * width_s)
        if (end_s - start_s) // width_s > CANDLES:
            too_many = f"Count of aggregations requested exceeds {CANDLES}"
            return answer({"message": f"granularity too small for the requested time range. {too_many}"}, 400)
        first_s = -(-start_s // width_s) * width_s
        last_s = min(end_s, now_s) // width_s * width_s
        decimals = self.tape(pair).price_decimals
        rows = [
            [bar.start_s, *(number(each, decimals) for each in (bar.low, bar.high, bar.open, bar.close)),
             number(bar.quantity, QUANTITY_DECIMALS)]
            for bar in self.bars(pair, first_s, last_s + width_s, width_s)
            if bar.trades
        ]  # fmt: skip
        return answer(rows[::-1])


def maker_side(trade: Traded) -> str:
    """What the maker did: the side that the venue tells."""
    return "sell" if trade.buy else "buy"


def sequence(trade_id: int) -> int:
    """The product's sequence at a trade."""
    return trade_id * SEQUENCES_PER_TRADE + mixed(0, trade_id) % SEQUENCES_PER_TRADE


def number(units: int, decimals: int) -> float:
    """An amount as a JSON number."""
    return float(decimal_text(units, decimals))


def product(name: str, pair: Pair) -> dict[str, Any]:
    """A product as the list of all tells it."""
    return {
        "id": name,
        "base_currency": pair[1],
        "quote_currency": pair[2],
        "display_name": name.replace("-", "/"),
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
    }


def trade_row(trade: Traded) -> dict[str, Any]:
    """A trade as the REST tells it."""
    return {
        "time": time_text(trade.time_ns),
        "trade_id": trade.id,
        "price": decimal_text(trade.price * 10 ** max(0, 8 - trade.price_decimals), max(8, trade.price_decimals)),
        "size": trade.quantity_text,
        "side": maker_side(trade),
    }


def moment(query: dict[str, str], name: str, default_s: int) -> int:
    """A time in a query, in s since the epoch: ISO 8601, or that number.

    Raises:
        BadParameterError: it is neither.
    """
    text = query.get(name)
    if text is None:
        return default_s
    try:
        if text.isdecimal():
            return int(text)
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadParameterError(name) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


class CoinbaseSubscriber(Subscriber):
    """One client."""

    def __init__(self, venue: Coinbase) -> None:
        self._venue = venue
        self._channels: dict[str, dict[str, str]] = {channel: {} for channel in CHANNELS}
        """Of each: its products, and their subscriptions."""

    @property
    def subscriptions(self) -> Iterable[str]:
        return self._channels["matches"].values()

    @property
    def subscribed(self) -> bool:
        return any(self._channels.values())

    def receive(self, frame: bytes) -> list[Event]:
        try:
            request = msgspec.json.decode(frame)
        except DECODE_ERRORS:
            return [_error("Malformed JSON")]
        match request:
            case {"type": "subscribe" | "unsubscribe" as what}:
                return self._change(request, what)
        return [_error("Type has to be either subscribe or unsubscribe")]

    def _change(self, request: dict[str, Any], what: str) -> list[Event]:
        try:
            wanted = list(_wanted(request))
            found = [(channel, name, self._found(channel, name)) for channel, name in wanted]
        except _RefusedError as refused:
            return [_error(f"Failed to {what}", str(refused))]
        answers: list[Event] = []
        for channel, name, subscription in found:
            if what == "unsubscribe":
                self._channels[channel].pop(name, None)
            elif name not in self._channels[channel]:
                self._channels[channel][name] = subscription
                answers += self._last_match(subscription) if channel == "matches" else ()
        return [*answers, Event(self._told(), None, 0, Kind.CONTROL)]

    def _found(self, channel: str, name: str) -> str:
        subscription = self._venue.has(name)
        if subscription is None:
            raise _RefusedError(f"{name} is not a valid product")
        active = self._channels[channel]
        most = self._venue.faults.max_subscriptions
        if most is not None and name not in active and len(active) >= most:
            self._venue.tally.broken["subscriptions"] += 1
            raise _RefusedError(f"{name} is one product too many")
        return subscription

    def _last_match(self, subscription: str) -> list[Event]:
        times = 2 if self._venue.faults.duplicate_last_match else 1
        return [
            Event(
                self._venue.encode([trade]).replace(MATCH, LAST_MATCH, 1),
                subscription,
                trade.time_ns,
                Kind.DUPLICATE,
                (trade.id,),
            )
            for trade in self._venue.last(subscription, 1) * times
        ]

    def _told(self) -> bytes:
        channels = [
            {"name": channel, "product_ids": list(products)} for channel, products in self._channels.items() if products
        ]
        return msgspec.json.encode({"type": "subscriptions", "channels": channels})

    def beat(self, *, idle: bool) -> list[bytes]:
        return [self._venue.heartbeat(name, subscription) for name, subscription in self._channels["heartbeat"].items()]

    def too_fast(self) -> list[bytes]:
        raise SocketLeftError([_error("ErrSlowRead").frame], 1008, "ErrSlowRead")


class _RefusedError(Exception):
    """A subscription can't be had; the message is the reason that the venue gives."""


def _wanted(request: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The (channel, product) of a request."""
    everywhere = request.get("product_ids", [])
    for item in request.get("channels") or [""]:
        channel = item.get("name") if isinstance(item, dict) else item
        products = item.get("product_ids", everywhere) if isinstance(item, dict) else everywhere
        if channel not in CHANNELS:
            raise _RefusedError(f"{channel} is not a valid channel")
        if not isinstance(products, list) or not products:
            raise _RefusedError(f"{channel} needs product_ids")
        for product_id in products:
            yield channel, str(product_id)


def _error(message: str, reason: str | None = None) -> Event:
    said = {"type": "error", "message": message} | ({} if reason is None else {"reason": reason})
    return Event(msgspec.json.encode(said), None, 0, Kind.CONTROL)
