"""The candle of a window, its rows in the tables, and the reference that says what is right.

`candles_of` is plain and slow on purpose: the tests hold the streaming aggregation against it, and it serves
whoever has a handful of trades and no Spark. Pure.
"""

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal
from hashlib import blake2b
from typing import Annotated, NamedTuple

import msgspec

from cryptoflow.model.trade import Direction, Pair, Trade
from cryptoflow.model.window import floor_window, utc_midnight, window

CandleKey = tuple[str, str, str, datetime]
"""(market, from coin, to currency, window start): what tells the candles of one window length apart."""

GREGORIAN_EPOCH = datetime.fromisoformat("1582-10-15T00:00:00+00:00")
"""Where the clock of a version-1 UUID starts (RFC 9562, 5.1)."""

MULTICAST_BIT = 1 << 40
"""Marks a UUID's node as no network card's address (RFC 9562, 6.10)."""


EXACT = Context(prec=1000)
"""Decimal arithmetic that never rounds a sum of doubles' decimals: these lie between 1e308 and 1e-341."""


class Side(msgspec.Struct, frozen=True):
    """The trades of one direction in a window."""

    trades: int = 0
    quantity: float = 0.0
    volume: float = 0.0
    """The sum of TOTAL, in the to currency."""
    price_sum: float = 0.0


class Candle(msgspec.Struct, frozen=True):
    """All trades of a pair on a market in one window; those of unknown side count here, but in no `Side`."""

    market: str
    from_coin: str
    to_currency: str
    window_start: datetime
    """Aware UTC."""
    window_s: int
    open: float
    high: float
    low: float
    close: float
    trades: int
    quantity: float
    volume: float
    """The sum of TOTAL, in the to currency."""
    buy: Side
    sell: Side

    @property
    def pair(self) -> Pair:
        """What it is of."""
        return self.market, self.from_coin, self.to_currency

    @property
    def key(self) -> CandleKey:
        """(market, from coin, to currency, window start)."""
        return *self.pair, self.window_start

    @property
    def window_end(self) -> datetime:
        """Aware UTC; the first moment after the window."""
        return self.window_start + timedelta(seconds=self.window_s)

    @property
    def date(self) -> datetime:
        """UTC midnight of the window's end."""
        return utc_midnight(self.window_end)

    @property
    def vwap(self) -> float:
        """The volume-weighted average price; the close where nothing was traded but zeros."""
        return self.volume / self.quantity if self.quantity else self.close

    @property
    def buy_quantity(self) -> float:
        """The quantity of the BUY side."""
        return self.buy.quantity

    @property
    def sell_quantity(self) -> float:
        """The quantity of the SELL side."""
        return self.sell.quantity

    def sides(self) -> list[tuple[Direction, Side]]:
        """(direction, side) of each side that has trades."""
        both: list[tuple[Direction, Side]] = [("BUY", self.buy), ("SELL", self.sell)]
        return [(direction, side) for direction, side in both if side.trades]


class DirectionRow(NamedTuple):
    """A row of the table `trademsgs1minutewindow`: its columns, in order. Times are aware UTC."""

    date: datetime
    window_start: datetime
    window_end: datetime
    market: str
    direction: str
    fromcoin: str
    tocurrency: str
    avgprice: float
    totalquantity: float
    totalvol: float
    counttxns: int
    uuid: uuid.UUID


class CandleRow(NamedTuple):
    """A row of the table `candles`: its columns, in order. Times are aware UTC."""

    market: str
    fromcoin: str
    tocurrency: str
    window_seconds: Annotated[int, "int"]
    date: datetime
    window_start: datetime
    open: float
    high: float
    low: float
    close: float
    vwap: float
    quantity: float
    volume: float
    buy_quantity: float
    sell_quantity: float
    trades: int


def candle_row(candle: Candle) -> CandleRow:
    """The candle as a row of `candles`."""
    return CandleRow(
        market=candle.market,
        fromcoin=candle.from_coin,
        tocurrency=candle.to_currency,
        window_seconds=candle.window_s,
        date=candle.date,
        window_start=candle.window_start,
        open=candle.open,
        high=candle.high,
        low=candle.low,
        close=candle.close,
        vwap=candle.vwap,
        quantity=candle.quantity,
        volume=candle.volume,
        buy_quantity=candle.buy_quantity,
        sell_quantity=candle.sell_quantity,
        trades=candle.trades,
    )


def direction_rows(candle: Candle) -> list[DirectionRow]:
    """The candle as rows of `trademsgs1minutewindow`: one for each side that has trades."""
    return [_direction_row(candle, direction, side) for direction, side in candle.sides()]


def _direction_row(candle: Candle, direction: Direction, side: Side) -> DirectionRow:
    return DirectionRow(
        date=candle.date,
        window_start=candle.window_start,
        window_end=candle.window_end,
        market=candle.market,
        direction=direction,
        fromcoin=candle.from_coin,
        tocurrency=candle.to_currency,
        avgprice=side.price_sum / side.trades,
        totalquantity=side.quantity,
        totalvol=side.volume,
        counttxns=side.trades,
        uuid=row_uuid(*candle.key, candle.window_s, direction),
    )


def row_uuid(
    market: str, from_coin: str, to_currency: str, window_start: datetime, window_s: int, direction: Direction
) -> uuid.UUID:
    """The version-1 UUID of a direction's row: a function of its key, so that a replay writes the same row.

    The time is the window's start (aware); clock sequence and node are a hash of the whole key.
    """
    ticks = (window_start - GREGORIAN_EPOCH) // timedelta(microseconds=1) * 10
    key = [market, from_coin, to_currency, window_start.timestamp(), window_s, direction]
    digest = int.from_bytes(blake2b(json.dumps(key).encode(), digest_size=8).digest())
    clock_sequence, node = digest >> 50, digest & (1 << 48) - 1 | MULTICAST_BIT
    time_low, time_mid, time_high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
    fields = (time_low, time_mid, time_high, clock_sequence >> 8, clock_sequence & 0xFF, node)
    return uuid.UUID(fields=fields, version=1)


def id_order(id: str) -> tuple[bool, int, str]:
    """The sort key of trade ids: numbers by value and before all others, which go by their text."""
    number = id.isascii() and id.isdecimal()
    return not number, int(id) if number else 0, id


def candles_of(trades: Iterable[Trade], window_s: int) -> dict[CandleKey, Candle]:
    """The candles of `trades`, in whatever order they come; of trades of one identity the first counts.

    Sums are exact (of the decimal numbers that the feed sent) before they are rounded to a float, once.
    """
    first: dict[tuple[str, ...], Trade] = {}
    for trade in trades:
        first.setdefault(trade.identity, trade)
    windows: dict[CandleKey, list[Trade]] = defaultdict(list)
    for trade in first.values():
        windows[*trade.pair, window(trade.event_time_ns, window_s)[0]].append(trade)
    return {key: _candle(key, members, window_s) for key, members in windows.items()}


def _candle(key: CandleKey, trades: Sequence[Trade], window_s: int) -> Candle:
    in_order = sorted(trades, key=lambda trade: (trade.event_time_ns, id_order(trade.id)))
    prices = [trade.price for trade in in_order]
    return Candle(
        *key,
        window_s,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        trades=len(trades),
        quantity=exact_sum(trade.quantity for trade in trades),
        volume=exact_sum(trade.total for trade in trades),
        buy=_side([trade for trade in trades if trade.direction == "BUY"]),
        sell=_side([trade for trade in trades if trade.direction == "SELL"]),
    )


def _side(trades: Sequence[Trade]) -> Side:
    return Side(
        trades=len(trades),
        quantity=exact_sum(trade.quantity for trade in trades),
        volume=exact_sum(trade.total for trade in trades),
        price_sum=exact_sum(trade.price for trade in trades),
    )


def exact_sum(values: Iterable[float]) -> float:
    """The sum of the shortest decimals that `values` stand for, rounded once: their order never matters."""
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, Decimal(repr(value)))
    return float(total)


def merged(rows: Iterable[CandleRow], window_s: int) -> CandleRow:
    """The candle of a longer window, out of the rows of one pair's shorter ones in it; at least one, in any order.

    Prices and the number of trades are exact. A sum is the exact one of the decimals that the rows' sums stand for,
    rounded once; so it is exact too, but for that rounding, where these have 15 digits or fewer. In any case each step
    from the trades to the shortest candles, and on to longer ones, adds at most 2**-53 to its relative error.

    Args:
        window_s: a multiple of the rows' own length.
    """
    in_order = sorted(rows, key=lambda row: row.window_start)
    first, last = in_order[0], in_order[-1]
    start = floor_window(first.window_start, window_s)
    quantity, volume = exact_sum(row.quantity for row in in_order), exact_sum(row.volume for row in in_order)
    return first._replace(
        window_seconds=window_s,
        date=utc_midnight(start + timedelta(seconds=window_s)),
        window_start=start,
        high=max(row.high for row in in_order),
        low=min(row.low for row in in_order),
        close=last.close,
        vwap=volume / quantity if quantity else last.close,
        quantity=quantity,
        volume=volume,
        buy_quantity=exact_sum(row.buy_quantity for row in in_order),
        sell_quantity=exact_sum(row.sell_quantity for row in in_order),
        trades=sum(row.trades for row in in_order),
    )
