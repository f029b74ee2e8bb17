"""What is true: candles computed in plain Decimal arithmetic, apart from all of the project's own code."""

import json
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

Key = tuple[str, str, str, int]
"""(market, from coin, to currency, window start in s)."""


def true_candles(frames: Iterable[bytes], window_s: int = 60) -> dict[Key, dict[str, Any]]:
    """The candles of the readable trades among `frames`; a trade that comes again is not counted again."""
    windows: dict[Key, list[dict[str, Any]]] = defaultdict(list)
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
            windows[windows_key].append(trade)
    return {key: _candle(trades) for key, trades in windows.items()}


def _candle(trades: list[dict[str, Any]]) -> dict[str, Any]:
    ordered = sorted(trades, key=lambda trade: (trade["TS"], trade.get("TSNS", 0), int(trade["ID"])))
    prices = [trade["P"] for trade in ordered]
    sides = {side: [t for t in ordered if int(t["F"]) & 3 == bit] for side, bit in (("BUY", 2), ("SELL", 1))}
    return {
        "open": float(prices[0]),
        "high": float(max(prices)),
        "low": float(min(prices)),
        "close": float(prices[-1]),
        "trades": len(ordered),
        "quantity": float(_sum(ordered, "Q")),
        "volume": float(_sum(ordered, "TOTAL")),
        "buy_quantity": float(_sum(sides["BUY"], "Q")),
        "sell_quantity": float(_sum(sides["SELL"], "Q")),
        "sides": {
            side: (len(of), float(_sum(of, "P") / len(of)), float(_sum(of, "Q")), float(_sum(of, "TOTAL")))
            for side, of in sides.items()
            if of
        },
    }


def _sum(trades: list[dict[str, Any]], name: str) -> Decimal:
    return sum((Decimal(trade[name]) for trade in trades), Decimal())
