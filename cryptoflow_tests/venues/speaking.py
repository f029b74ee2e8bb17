"""What the venues say: frames and REST answers of trades that the tests make up, written as each venue documents it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from cryptoflow.model.trade import NS_PER_S, Pair
from cryptoflow.venues import VENUES
from cryptoflow.venues.base import Venue
from cryptoflow.venues.past import Answer, Page, Request, Wanted

dumped = msgspec.json.Encoder(decimal_format="number").encode


class Deal(NamedTuple):
    """A trade, as a venue knows it; amounts are decimal numbers as text."""

    id: int
    time_ns: int
    price: str
    quantity: str
    buy: bool
    """Whether the taker bought."""

    @property
    def time(self) -> str:
        """In UTC, with microseconds."""
        second = datetime.fromtimestamp(self.time_ns // NS_PER_S, UTC)
        return f"{second:%Y-%m-%dT%H:%M:%S}.{self.time_ns % NS_PER_S // 1000:06}Z"


Rest = Callable[[Request], Answer]


@dataclass(frozen=True)
class Tongue:
    """How a venue says things."""

    venue: Venue
    pair: Pair
    resolution_ns: int
    frame: Callable[[Deal], bytes]
    """A frame with one trade of the pair."""
    accepted: bytes
    """What accepts the only subscription."""
    left: bytes
    """What says that it is left."""
    rest: Callable[[Sequence[Deal]], Rest]
    """A REST that knows these trades of the pair, which rise by id and time."""

    @property
    def sub(self) -> str:
        """The subscription of its pair."""
        return "0~" + "~".join(self.pair)


def coinbase_match(deal: Deal, kind: str = "match", product: str = "BTC-USD") -> dict[str, Any]:
    """A trade of Coinbase; the side is the maker's."""
    return {
        "type": kind, "trade_id": deal.id, "maker_order_id": "f07e510f", "taker_order_id": "55c8b85c",
        "side": "sell" if deal.buy else "buy", "size": deal.quantity, "price": deal.price, "product_id": product,
        "sequence": 7 * deal.id, "time": deal.time,
    }  # fmt: skip


def coinbase_rest(deals: Sequence[Deal]) -> Rest:
    """Newest first, older than `after`."""

    def answer(request: Request) -> Answer:
        assert request.path == "/products/BTC-USD/trades"
        query = dict(request.query)
        older = [deal for deal in deals if deal.id < int(query.get("after", 2**63))]
        rows = [coinbase_match(deal) for deal in older[::-1][: int(query["limit"])]]
        headers = {"cb-before": str(rows[0]["trade_id"]), "cb-after": str(rows[-1]["trade_id"])} if rows else {}
        return Answer(dumped(rows), headers=headers)

    return answer


def binance_trade(deal: Deal, symbol: str = "BTCUSDT") -> dict[str, Any]:
    """A trade of Binance, in a stream of its own."""
    time_ms = deal.time_ns // 1_000_000
    return {
        "e": "trade", "E": time_ms + 1, "s": symbol, "t": deal.id, "p": deal.price, "q": deal.quantity, "T": time_ms,
        "m": not deal.buy, "M": True,
    }  # fmt: skip


def binance_rest(deals: Sequence[Deal]) -> Rest:
    """Oldest first, from an id or a time on."""

    def answer(request: Request) -> Answer:
        query = dict(request.query)
        assert query["symbol"] == "BTCUSDT"
        found = historical if request.path == "/api/v3/historicalTrades" else aggregates
        assert found is historical or request.path == "/api/v3/aggTrades"
        return Answer(dumped(found(query)))

    def historical(query: dict[str, str]) -> list[dict[str, Any]]:
        newer = [deal for deal in deals if deal.id >= int(query["fromId"])]
        return [
            {"id": deal.id, "price": deal.price, "qty": deal.quantity, "quoteQty": "0",
             "time": deal.time_ns // 1_000_000, "isBuyerMaker": not deal.buy, "isBestMatch": True}
            for deal in newer[: int(query["limit"])]
        ]  # fmt: skip

    def aggregates(query: dict[str, str]) -> list[dict[str, Any]]:
        newer = [deal for deal in deals if deal.time_ns // 1_000_000 >= int(query["startTime"])]
        groups = [list(group) for _, group in groupby(newer, key=lambda deal: (deal.time_ns, deal.price, deal.buy))]
        return [
            {"a": number, "p": group[0].price, "q": "1", "f": group[0].id, "l": group[-1].id,
             "T": group[0].time_ns // 1_000_000, "m": not group[0].buy, "M": True}
            for number, group in enumerate(groups[: int(query["limit"])])
        ]  # fmt: skip

    return answer


def kraken_trade(deal: Deal, symbol: str = "BTC/USD") -> dict[str, Any]:
    """A trade of Kraken, one of a frame; amounts are numbers."""
    return {
        "symbol": symbol, "side": "buy" if deal.buy else "sell", "price": Decimal(deal.price),
        "qty": Decimal(deal.quantity), "ord_type": "market", "trade_id": deal.id, "timestamp": deal.time,
    }  # fmt: skip


def kraken_frame(*deals: Deal, kind: str = "update") -> bytes:
    """A frame with trades."""
    return dumped({"channel": "trade", "type": kind, "data": [kraken_trade(deal) for deal in deals]})


def kraken_rest(deals: Sequence[Deal]) -> Rest:
    """Oldest first, later than `since`, with more digits of the time than the websocket has."""

    def answer(request: Request) -> Answer:
        query = dict(request.query)
        assert (request.path, query["pair"]) == ("/0/public/Trades", "XBTUSD")
        later = [deal for deal in deals if deal.time_ns > int(query["since"])][: int(query["count"])]
        rows = [
            [deal.price, deal.quantity, Decimal(deal.time_ns) / NS_PER_S, "b" if deal.buy else "s", "l", "", deal.id]
            for deal in later
        ]
        last = later[-1].time_ns if later else int(query["since"])
        return Answer(dumped({"error": [], "result": {"XXBTZUSD": rows, "last": str(last)}}))

    return answer


def gemini_trade(deal: Deal) -> dict[str, Any]:
    """A trade of Gemini, in nanoseconds."""
    return {
        "E": deal.time_ns, "s": "btcusd", "t": deal.id, "p": deal.price, "q": deal.quantity, "m": not deal.buy
    }  # fmt: skip


def gemini_rest(deals: Sequence[Deal]) -> Rest:
    """Later than an id or a time, newest first."""

    def answer(request: Request) -> Answer:
        assert request.path == "/v1/trades/BTCUSD"
        query = {name: int(value) for name, value in request.query}
        if "since_tid" in query:
            later = [deal for deal in deals if deal.id > query["since_tid"]]
        else:
            later = [deal for deal in deals if deal.time_ns // 1_000_000 > query["timestamp"]]
        return Answer(
            dumped(
                [
                    {"timestamp": deal.time_ns // NS_PER_S, "timestampms": deal.time_ns // 1_000_000, "tid": deal.id,
                     "price": deal.price, "amount": deal.quantity, "exchange": "gemini",
                     "type": "buy" if deal.buy else "sell"}
                    for deal in reversed(later[: query["limit_trades"]])
                ]
            )
        )  # fmt: skip

    return answer


def _combined(deal: Deal) -> bytes:
    return dumped({"stream": "btcusdt@trade", "data": binance_trade(deal)})


COINBASE = Tongue(
    VENUES["coinbase"],
    ("Coinbase", "BTC", "USD"),
    1_000,
    lambda deal: dumped(coinbase_match(deal)),
    b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]},'
    b'{"name":"heartbeat","product_ids":["BTC-USD"]}]}',
    b'{"type":"subscriptions","channels":[]}',
    coinbase_rest,
)
BINANCE = Tongue(
    VENUES["binance"],
    ("Binance", "BTC", "USDT"),
    1_000_000,
    _combined,
    b'{"result":null,"id":1}',
    b'{"result":null,"id":2}',
    binance_rest,
)
KRAKEN = Tongue(
    VENUES["kraken"],
    ("Kraken", "BTC", "USD"),
    1_000,
    kraken_frame,
    b'{"method":"subscribe","result":{"channel":"trade","snapshot":true,"symbol":"BTC/USD"},"success":true}',
    b'{"method":"unsubscribe","result":{"channel":"trade","symbol":"BTC/USD"},"success":true}',
    kraken_rest,
)
GEMINI = Tongue(
    VENUES["gemini"],
    ("Gemini", "BTC", "USD"),
    1,
    lambda deal: dumped(gemini_trade(deal)),
    b'{"id":1,"status":200}',
    b'{"id":2,"status":200}',
    gemini_rest,
)
TONGUES = [COINBASE, BINANCE, KRAKEN, GEMINI]


def pages(venue: Venue, wanted: Wanted, fetch: Rest) -> Iterator[Page]:
    """All pages of a stretch of the past.

    Raises:
        FeedError: as `Venue.read`.
    """
    request: Request | None = venue.ask(wanted)
    while request:
        page = venue.read(request, fetch(request))
        yield page
        request = page.next
