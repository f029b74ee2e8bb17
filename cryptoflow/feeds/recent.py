"""A bounded memory of trades, to drop those that the feed replays after each subscription."""

from collections import deque

from cryptoflow.model.trade import Trade

REMEMBERED = 10_000
"""Trades remembered for each pair; the feed replays about 20."""


class RecentTrades:
    """The last `size` trade ids of each pair.

    A trade is told by its identity; one that fell out of the memory counts as new again.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._size = size
        self._pairs: dict[tuple[str, str, str], tuple[set[str], deque[str]]] = {}

    def add(self, trade: Trade) -> bool:
        """Remember `trade`; whether it was new."""
        known, order = self._pairs.setdefault(trade.pair, (set(), deque()))
        if trade.id in known:
            return False
        known.add(trade.id)
        order.append(trade.id)
        if len(order) > self._size:
            known.discard(order.popleft())
        return True
