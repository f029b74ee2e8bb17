"""The trades of a pair as a venue's REST tells them: what it asks for, and those of a recording.

A market's own are `market.Tape`.
"""

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from cryptoflow.model.trade import Pair
from cryptoflow.simulator.generator import QUANTITY_DECIMALS, Draw, Draws
from cryptoflow.simulator.market import Traded

KEPT = 1_000_000
"""Trades of a pair that a recording's REST still tells, at least: 56 MB."""

MAX_UNITS = 2**63
"""Of an amount; a trade with a larger one, or a negative one, or with such a number, is not told."""

MAX_DECIMALS = 18
"""Likewise."""


class Past(Protocol):
    """All trades of a pair that its venue has, by their numbers, which rise with the time."""

    pair: Pair
    offset: int
    """What an id is more than its number."""

    @property
    def first(self) -> int:
        """The number of the oldest."""

    @property
    def next(self) -> int:
        """The number of the first trade that is not made yet."""

    @property
    def price_decimals(self) -> int:
        """Of the prices in draws."""

    def random(self, number: int) -> int:
        """64 random bits of a number."""

    def time_ns(self, number: int) -> int:
        """When a trade is made, in ns since the epoch."""

    def at(self, time_ns: int) -> int:
        """The number of the first trade at a time or after it."""

    def trade(self, number: int) -> Traded:
        """A trade."""

    def draw(self, number: int) -> Draw:
        """What a trade is, without its time."""

    def draws(self, first: int, end: int) -> Draws:
        """What the trades from `first` to before `end` are."""

    def between(self, first: int, end: int) -> Iterator[int]:
        """The numbers of the trades from `first` to before `end`."""

    def before(self, end: int) -> Iterator[int]:
        """The numbers of the trades before `end`, newest first."""

    def aggregate_of(self, number: int) -> int:
        """Which aggregate a trade is part of."""

    def of_aggregate(self, aggregate: int) -> range:
        """The numbers of the trades that an aggregate is made of."""


class RecordedPast:
    """Those of a recording, as far as it was replayed: each number is an id, and each trade an aggregate of its own.

    One thread adds trades while another one reads.
    """

    offset = 0

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.price_decimals = 0
        self._numbers = array("q")
        self._times_ns = array("q")
        self._prices, self._quantities = array("q"), array("q")
        self._price_decimals, self._quantity_decimals = array("b"), array("b")
        self._buys = array("b")
        self._lock = threading.Lock()

    def add(self, trade: Traded) -> None:
        """Take a trade in, unless it is there, or its numbers are none that a venue has."""
        amounts = trade.price, trade.quantity, trade.price_decimals, trade.quantity_decimals
        values = trade.id, trade.time_ns, *amounts, trade.buy
        if min(values) < 0 or max(values) >= MAX_UNITS or max(values[4:6]) > MAX_DECIMALS:
            return
        with self._lock:
            place = bisect_left(self._numbers, trade.id)
            if place < len(self._numbers) and self._numbers[place] == trade.id:
                return
            for column, value in zip(self._columns, values, strict=True):
                column.insert(place, value)
            self.price_decimals = max(self.price_decimals, needed_decimals(trade.price, trade.price_decimals))
            if len(self._numbers) >= 2 * KEPT:
                for column in self._columns:
                    del column[:KEPT]

    @property
    def _columns(self) -> "tuple[array[int], ...]":
        amounts = self._prices, self._quantities, self._price_decimals, self._quantity_decimals
        return self._numbers, self._times_ns, *amounts, self._buys

    @property
    def first(self) -> int:
        """As for all; 0 without a trade."""
        with self._lock:
            return self._numbers[0] if self._numbers else 0

    @property
    def next(self) -> int:
        """As for all."""
        with self._lock:
            return self._numbers[-1] + 1 if self._numbers else 0

    def random(self, number: int) -> int:
        """As for all: nothing is wrong with a recording's candles."""
        return 2**64 - 1

    def time_ns(self, number: int) -> int:
        """As for all."""
        return self.trade(number).time_ns

    def at(self, time_ns: int) -> int:
        """As for all, where ids rise with the times."""
        with self._lock:
            place = bisect_left(self._times_ns, time_ns)
            if place < len(self._numbers):
                return self._numbers[place]
        return self.next

    def trade(self, number: int) -> Traded:
        """As for all."""
        with self._lock:
            place = bisect_left(self._numbers, number)
            _, time_ns, price, quantity, price_decimals, quantity_decimals, buy = (
                column[place] for column in self._columns
            )
        return Traded(
            self.pair, number, number, time_ns, price, price_decimals, quantity, quantity_decimals, buy=bool(buy)
        )

    def draw(self, number: int) -> Draw:
        """As for all."""
        trade = self.trade(number)
        return Draw(
            scaled(trade.price, trade.price_decimals, self.price_decimals),
            scaled(trade.quantity, trade.quantity_decimals, QUANTITY_DECIMALS),
            trade.buy,
        )

    def draws(self, first: int, end: int) -> Draws:
        """As for all."""
        found = [self.draw(number) for number in self.between(first, end)]
        return Draws(
            np.array([each.price for each in found], dtype=np.int64),
            np.array([each.quantity for each in found], dtype=np.int64),
            np.array([each.buy for each in found], dtype=np.bool_),
        )

    def between(self, first: int, end: int) -> Iterator[int]:
        """As for all."""
        while (number := self._from(first)) is not None and number < end:
            yield number
            first = number + 1

    def before(self, end: int) -> Iterator[int]:
        """As for all."""
        while (number := self._below(end)) is not None:
            yield number
            end = number

    def _from(self, first: int) -> int | None:
        with self._lock:
            place = bisect_left(self._numbers, first)
            return self._numbers[place] if place < len(self._numbers) else None

    def _below(self, end: int) -> int | None:
        with self._lock:
            place = bisect_left(self._numbers, end)
            return self._numbers[place - 1] if place else None

    def aggregate_of(self, number: int) -> int:
        """As for all."""
        return number

    def of_aggregate(self, aggregate: int) -> range:
        """As for all."""
        return range(aggregate, aggregate + 1)


def needed_decimals(units: int, decimals: int) -> int:
    """The decimals of an amount without the zeros at its end."""
    while decimals and units % 10 == 0:
        units, decimals = units // 10, decimals - 1
    return decimals


def scaled(units: int, decimals: int, wanted: int) -> int:
    """The units of an amount in other decimals; what these can't hold is cut."""
    more: int = 10 ** abs(wanted - decimals)
    return units * more if wanted >= decimals else units // more
