"""A bounded memory of trades, to drop those that the feed replays after each subscription."""

from collections import deque
from collections.abc import Iterable

from cryptoflow.model.trade import Pair, Trade

REMEMBERED = 10_000
"""Trades remembered for each pair; the feed replays about 20."""


class RecentTrades:
    """The last `size` trades of each of `pairs`; all other pairs share one more memory of that size.

    A trade is told by its identity; one that fell out of the memory counts as new again.
    """

    def __init__(self, pairs: Iterable[Pair], size: int = REMEMBERED) -> None:
        self._pairs = {pair: _Memory(size) for pair in pairs}
        self._others = _Memory(size)

    def add(self, trade: Trade) -> bool:
        """Remember `trade`; whether it was new."""
        memory = self._pairs.get(trade.pair)
        return self._others.add(trade.identity) if memory is None else memory.add(trade.id)

    def knows(self, trade: Trade) -> bool:
        """Whether it remembers `trade`."""
        memory = self._pairs.get(trade.pair)
        return trade.identity in self._others if memory is None else trade.id in memory

    @property
    def remembered(self) -> int:
        """How many trades it holds."""
        return sum(len(memory) for memory in (*self._pairs.values(), self._others))


class _Memory:
    """The last `size` of the things that were added."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: set[object] = set()
        self._order: deque[object] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, thing: object) -> bool:
        return thing in self._known

    def add(self, thing: object) -> bool:
        if thing in self._known:
            return False
        self._known.add(thing)
        self._order.append(thing)
        if len(self._order) > self._size:
            self._known.discard(self._order.popleft())
        return True
