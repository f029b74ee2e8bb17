"""Three markets of one coin, as three days of an aggregation and its repairs leave them in the tables."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from cryptoflow.model.candle import CandleRow, DirectionRow, row_uuid
from cryptoflow.model.trade import Direction, Pair
from cryptoflow.model.window import floor_window, utc_midnight
from cryptoflow.tables.schema import CANDLES, HOURS, TRADE_WINDOWS, HourRow
from cryptoflow_tests.watching import Watched

COINBASE, KRAKEN, BINANCE = ("Coinbase", "BTC", "USD"), ("Kraken", "BTC", "USD"), ("Binance", "BTC", "USDT")
MINUTES = 3 * 24 * 60
MINUTE = timedelta(minutes=1)
GAP = range(200, 224)
"""Minutes before the last one in which Coinbase had no trade."""

SUSPECT_AGO, REPAIRED_AGO, QUIET_AGO = 2, 9, 17
"""How many hours ago an hour of Coinbase was suspect, repaired and quiet."""


def newest_window(now: datetime) -> datetime:
    """The last window that is finished."""
    return floor_window(now, 60) - MINUTE


def minutes(pair: Pair, end: datetime, offset: float, seed: int) -> list[CandleRow]:
    """A walk of prices, the same one for all markets but for an offset that breathes."""
    walk, own, price, found = random.Random(7), random.Random(seed), 91_400.0, []
    for ago in range(MINUTES - 1, -1, -1):
        drift = walk.gauss(0, 14) + (91_000 - price) * 0.0004
        close = price + drift
        spread = abs(walk.gauss(0, 11)) + 2
        quantity = round(0.4 + abs(walk.gauss(0, 1)) * (1 + abs(drift) / 9), 6)
        shift = offset + own.gauss(0, 2.2)
        bought = quantity * min(0.95, max(0.05, 0.5 + drift / 60 + own.gauss(0, 0.08)))
        if not (pair == COINBASE and ago in GAP):
            ends = [price + shift, close + shift]
            found.append(_row(pair, end - ago * MINUTE, ends, spread, quantity, round(bought, 6)))
        price = close
    return found


def _row(
    pair: Pair, start: datetime, ends: Sequence[float], spread: float, quantity: float, bought: float
) -> CandleRow:
    first, last = (round(price, 2) for price in ends)
    vwap = (first + last) / 2
    return CandleRow(
        *pair,
        window_seconds=60,
        date=utc_midnight(start + MINUTE),
        window_start=start,
        open=first,
        high=round(max(first, last) + spread, 2),
        low=round(min(first, last) - spread, 2),
        close=last,
        vwap=vwap,
        quantity=quantity,
        volume=round(quantity * vwap, 2),
        buy_quantity=bought,
        sell_quantity=round(quantity - bought, 6),
        trades=int(20 + quantity * 40),
    )


def longer(rows: Sequence[CandleRow], window_s: int) -> Iterator[CandleRow]:
    """Longer candles out of minutes."""
    for start, group in groupby(rows, key=lambda row: floor_window(row.window_start, window_s)):
        each = list(group)
        quantity, volume = (sum(getattr(row, name) for row in each) for name in ("quantity", "volume"))
        yield each[0]._replace(
            window_seconds=window_s,
            window_start=start,
            date=utc_midnight(start + timedelta(seconds=window_s)),
            high=max(row.high for row in each),
            low=min(row.low for row in each),
            close=each[-1].close,
            vwap=volume / quantity,
            quantity=quantity,
            volume=volume,
            buy_quantity=sum(row.buy_quantity for row in each),
            sell_quantity=sum(row.sell_quantity for row in each),
            trades=sum(row.trades for row in each),
        )


def hours(pair: Pair, end: datetime) -> Iterator[HourRow]:
    """Verdicts of the hours that are over."""
    for ago in range(1, MINUTES // 60):
        hour = floor_window(end, 3600) - timedelta(hours=ago)
        verdict, reason, in_log = "complete", "the candles have all trades of the log", 3600
        if pair == COINBASE and ago in (SUSPECT_AGO, SUSPECT_AGO + 1):
            verdict, reason, in_log = "suspect", "58 ids are missing and the venue has them no more", 3542
        elif ago == REPAIRED_AGO:
            verdict, reason = "repaired", "late trades"
        elif ago == QUIET_AGO:
            verdict, reason = "quiet", "the venue says that nothing was traded"
        yield HourRow(
            *pair, utc_midnight(hour), hour, in_log, in_log, 12, 0, 0, verdict, reason, datetime.now(UTC), "[]"
        )


def sides(row: CandleRow) -> Iterator[DirectionRow]:
    """The rows of `trademsgs1minutewindow` of a candle."""
    pair = row.market, row.fromcoin, row.tocurrency
    quantities: dict[Direction, float] = {"BUY": row.buy_quantity, "SELL": row.sell_quantity}
    for direction, quantity in quantities.items():
        uuid = row_uuid(*pair, row.window_start, 60, direction)
        end, count = row.window_start + MINUTE, row.trades // 2
        key = row.date, row.window_start, end, pair[0], direction, *pair[1:]
        yield DirectionRow(*key, row.vwap, quantity, quantity * row.vwap, count, uuid)


def fill(server: Watched, now: datetime) -> None:
    """Write them."""
    end = newest_window(now)
    for seed, (pair, offset) in enumerate([(COINBASE, 0.0), (KRAKEN, -6.5), (BINANCE, 21.0)]):
        rows = minutes(pair, end, offset, seed)
        server.put(CANDLES, rows)
        for window_s in (300, 900, 3600, 86400):
            server.put(CANDLES, list(longer(rows, window_s)))
        server.put(HOURS, list(hours(pair, end)))
        server.put(TRADE_WINDOWS, [side for row in rows[-20:] for side in sides(row)])
