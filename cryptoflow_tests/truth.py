"""What is true: candles computed in plain Decimal arithmetic, apart from all of the project's own code."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Key = tuple[str, str, str, int]
"""(market, from coin, to currency, window start in s)."""

SIDES = {1: "SELL", 2: "BUY"}
"""By the last two bits of a trade's flags."""


def true_candles(frames: Iterable[bytes], window_s: int = 60) -> dict[Key, dict[str, Any]]:
    """The candles of the readable trades among `frames`; a trade that comes again is not counted again."""
    windows: dict[Key, _Window] = defaultdict(_Window)
    seen = set()
    for frame in frames:
        try:
            trade = json.loads(frame, parse_float=Decimal, parse_int=int)
            identity = (trade["M"], trade["FSYM"], trade["TSYM"], trade["ID"])
            windows_key = (*identity[:3], trade["TS"] // window_s * window_s)
            numbers = [trade[name] for name in ("P", "Q", "TOTAL")]
            readable = trade["TYPE"] == "0" and int(trade["F"]) >= 0 and trade["P"] > 0 <= trade["Q"]
        except (ValueError, KeyError, TypeError):
            continue
        if readable and all(isinstance(number, int | Decimal) for number in numbers) and identity not in seen:
            seen.add(identity)
            windows[windows_key].add(trade)
    return {key: window.candle() for key, window in windows.items()}


class _Window:
    """The sums of a window, trade by trade: a feed of hours does not fit into memory."""

    def __init__(self) -> None:
        self._trades: Counter[str] = Counter()
        self._sums: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._first: tuple[Any, ...] = ()
        self._last: tuple[Any, ...] = ()
        self._high, self._low = Decimal("-Infinity"), Decimal("Infinity")

    def add(self, trade: dict[str, Any]) -> None:
        price = trade["P"]
        placed = (trade["TS"], trade.get("TSNS", 0), int(trade["ID"]), price)
        self._first, self._last = min(self._first or placed, placed), max(self._last, placed)
        self._high, self._low = max(self._high, price), min(self._low, price)
        for side in {"ALL", SIDES.get(int(trade["F"]) & 3, "ALL")}:
            self._trades[side] += 1
            for name in ("P", "Q", "TOTAL"):
                self._sums[side, name] += trade[name]

    def _sum(self, side: str, name: str) -> float:
        return float(self._sums[side, name])

    def candle(self) -> dict[str, Any]:
        return {
            "open": float(self._first[-1]),
            "high": float(self._high),
            "low": float(self._low),
            "close": float(self._last[-1]),
            "trades": self._trades["ALL"],
            "quantity": self._sum("ALL", "Q"),
            "volume": self._sum("ALL", "TOTAL"),
            "buy_quantity": self._sum("BUY", "Q"),
            "sell_quantity": self._sum("SELL", "Q"),
            "sides": {side: self._side(side) for side in SIDES.values() if self._trades[side]},
        }

    def _side(self, side: str) -> tuple[int, float, float, float]:
        trades = self._trades[side]
        return trades, float(self._sums[side, "P"] / trades), self._sum(side, "Q"), self._sum(side, "TOTAL")
