"""The candles that a venue itself tells, computed from its market; exact, in whole units."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cryptoflow.model.trade import NS_PER_S
from cryptoflow.simulator.past import Past

MINUTE_S = 60

KEPT = 50_000
"""Minutes that are kept once they were computed."""

PART_BITS = 14
"""Of a quantity: times a price of up to 2**32 units and 2**17 trades a minute, 63 bits."""

OFF_QUANTITY = 10_000
"""What a trade too many holds, in units of quantity."""


class Bar(NamedTuple):
    """One candle; amounts in the units of the pair."""

    start_s: int
    open: int
    high: int
    low: int
    close: int
    quantity: int = 0
    volume: int = 0
    """Sum of price times quantity."""
    trades: int = 0
    buy_quantity: int = 0
    """What takers bought."""
    buy_volume: int = 0


def flat(start_s: int, price: int) -> Bar:
    """A candle without trades."""
    return Bar(start_s, price, price, price, price)


def merged(bars: Iterable[Bar]) -> Bar:
    """One candle of several in a row, at least one."""
    bars = list(bars)
    traded = [bar for bar in bars if bar.trades] or bars[-1:]
    return Bar(
        bars[0].start_s,
        traded[0].open,
        max(bar.high for bar in traded),
        min(bar.low for bar in traded),
        traded[-1].close,
        sum(bar.quantity for bar in traded),
        sum(bar.volume for bar in traded),
        sum(bar.trades for bar in traded),
        sum(bar.buy_quantity for bar in traded),
        sum(bar.buy_volume for bar in traded),
    )


class Bars:
    """The candles of one pair.

    Args:
        off: the share of minutes that count one trade more than there was.
    """

    def __init__(self, tape: Past, off: float) -> None:
        self._tape = tape
        self._off = int(off * 2**20)
        self._closed: OrderedDict[int, Bar | None] = OrderedDict()

    def range(self, start_s: int, end_s: int, width_s: int, visible: int) -> list[Bar]:
        """The candles that begin from `start_s` to before `end_s`, flat ones included, in order.

        Args:
            width_s: of each, whole minutes; both ends are multiples of it.
            visible: the number of the first trade that is not told yet; minutes after it are flat.
        """
        bars = []
        for begin_s in range(start_s, end_s, width_s):
            minutes = [self._minute(at_s, visible) for at_s in range(begin_s, begin_s + width_s, MINUTE_S)]
            if found := [minute for minute in minutes if minute is not None]:
                bars.append(merged(found)._replace(start_s=begin_s))
        return bars

    def _minute(self, start_s: int, visible: int) -> Bar | None:
        """None before the first trade of all."""
        if start_s in self._closed:
            return self._closed[start_s]
        tape = self._tape
        first, end = tape.at(start_s * NS_PER_S), tape.at((start_s + MINUTE_S) * NS_PER_S)
        bar = self._computed(start_s, first, min(end, visible))
        if end <= visible:
            self._closed[start_s] = bar
            if len(self._closed) > KEPT:
                self._closed.popitem(last=False)
        return bar

    def _computed(self, start_s: int, first: int, end: int) -> Bar | None:
        tape = self._tape
        prices, quantities, bought = tape.draws(first, end)
        if not len(prices):
            before = next(tape.before(min(first, end)), None)
            return None if before is None else flat(start_s, tape.draw(before).price)
        more = OFF_QUANTITY if tape.random(start_s) & 0xFFFFF < self._off else 0
        return Bar(
            start_s,
            int(prices[0]),
            int(prices.max()),
            int(prices.min()),
            int(prices[-1]),
            int(quantities.sum()) + more,
            _volume(prices, quantities) + more * int(prices[-1]),
            len(prices) + bool(more),
            int(quantities[bought].sum()),
            _volume(prices[bought], quantities[bought]),
        )


def _volume(prices: NDArray[np.int64], quantities: NDArray[np.int64]) -> int:
    """The exact sum of the products, a few bits at a time, as 64 do not hold that of a busy minute."""
    parts = ((quantities >> shift & 2**PART_BITS - 1, shift) for shift in range(0, 64, PART_BITS))
    return sum(int(prices @ part) << shift for part, shift in parts)
