"""Candles of windows that are open, trade by trade: what `candles_of` would give for the trades so far. Pure.

A trade costs the same however many its window has: sums are kept as exact decimals, and rounded once, when a candle is
asked for.
"""

from collections import defaultdict
from decimal import Decimal

from cryptoflow.model.candle import EXACT, Candle, Side, id_order
from cryptoflow.model.trade import Direction, Pair, Trade
from cryptoflow.model.window import utc_time, window_start_ns

ZERO = Decimal(0)

FormingKey = tuple[Pair, int]
"""(pair, start of the window in ns)."""


_Priced = tuple[tuple[int, tuple[bool, int, str]], float]
"""((exchange time in ns, order of the id), price)."""


class _Sums:
    __slots__ = ("price", "quantity", "trades", "volume")

    def __init__(self) -> None:
        self.trades, self.quantity, self.volume, self.price = 0, ZERO, ZERO, ZERO

    def add(self, price: Decimal, quantity: Decimal, total: Decimal) -> None:
        self.trades += 1
        self.price = EXACT.add(self.price, price)
        self.quantity = EXACT.add(self.quantity, quantity)
        self.volume = EXACT.add(self.volume, total)

    def side(self) -> Side:
        return Side(self.trades, float(self.quantity), float(self.volume), float(self.price))


class _Window:
    """One candle that grows."""

    __slots__ = ("_all", "_first", "_high", "_last", "_low", "_sides", "ids")

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self._all = _Sums()
        self._sides: dict[Direction | None, _Sums] = defaultdict(_Sums)
        self._first: _Priced | None = None
        self._last: _Priced | None = None
        self._high, self._low = 0.0, float("inf")

    def add(self, trade: Trade) -> None:
        self.ids.add(trade.id)
        amounts = [Decimal(repr(float(amount))) for amount in (trade.price, trade.quantity, trade.total)]
        self._all.add(*amounts)
        self._sides[trade.direction].add(*amounts)
        at = (trade.event_time_ns, id_order(trade.id)), trade.price
        if self._first is None or at < self._first:
            self._first = at
        if self._last is None or at > self._last:
            self._last = at
        self._high, self._low = max(self._high, trade.price), min(self._low, trade.price)

    def candle(self, key: FormingKey, window_s: int) -> Candle:
        assert self._first
        assert self._last
        (pair, start_ns), whole = key, self._all.side()
        return Candle(
            *pair,
            window_start=utc_time(start_ns),
            window_s=window_s,
            open=self._first[1],
            high=self._high,
            low=self._low,
            close=self._last[1],
            trades=whole.trades,
            quantity=whole.quantity,
            volume=whole.volume,
            buy=self._sides["BUY"].side(),
            sell=self._sides["SELL"].side(),
        )


class Forming:
    """The candles of all pairs that are not settled yet, of one window length.

    Args:
        window_s: in s.
        floor_ns: windows that begin before it are not for this one: their first trades were not seen.
    """

    def __init__(self, window_s: int, floor_ns: int = 0) -> None:
        self.window_s, self._floor_ns = window_s, floor_ns
        self._windows: dict[Pair, dict[int, _Window]] = defaultdict(dict)
        self._settled: dict[Pair, set[int]] = defaultdict(set)

    def add(self, trade: Trade) -> FormingKey | None:
        """Fold a trade; gives the candle that it changed, None where it changed none.

        None are changed by a duplicate, by a trade of a settled window, and by one from before the floor.
        """
        start_ns = window_start_ns(trade.event_time_ns, self.window_s)
        pair = trade.pair
        windows = self._windows[pair]
        if start_ns < self._floor_ns or start_ns in self._settled[pair]:
            return None
        if any(trade.id in window.ids for window in windows.values()):
            return None
        windows.setdefault(start_ns, _Window()).add(trade)
        return pair, start_ns

    def candle(self, key: FormingKey) -> Candle | None:
        """The candle as it is now; None: it has no trade, or is settled."""
        pair, start_ns = key
        found = self._windows.get(pair, {}).get(start_ns)
        return found.candle(key, self.window_s) if found else None

    def keys(self, pair: Pair) -> list[FormingKey]:
        """The windows of a pair that are not settled, the oldest first."""
        return [(pair, start_ns) for start_ns in sorted(self._windows.get(pair, ()))]

    def pairs(self) -> list[Pair]:
        """The pairs that have a window that is not settled."""
        return [pair for pair, windows in list(self._windows.items()) if windows]

    def settle(self, key: FormingKey) -> None:
        """Forget a window: what is stored of it is all that there is, until a repair."""
        pair, start_ns = key
        self._windows[pair].pop(start_ns, None)
        if start_ns >= self._floor_ns:
            self._settled[pair].add(start_ns)

    def raise_floor(self, floor_ns: int) -> None:
        """Forget all windows that begin before it."""
        self._floor_ns = max(self._floor_ns, floor_ns)
        for windows in self._windows.values():
            for start_ns in [start_ns for start_ns in windows if start_ns < self._floor_ns]:
                del windows[start_ns]
        for settled in self._settled.values():
            settled.difference_update({start_ns for start_ns in settled if start_ns < self._floor_ns})
