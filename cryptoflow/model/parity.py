"""Whether a minute's candle is the venue's own: exact, off by something, pending, or none to compare it with. Pure."""

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from cryptoflow.model.candle import CandleRow
from cryptoflow.model.window import EPOCH

MINUTE_S = 60

LAST_DECIMAL = 1e-8
"""Venues tell quantities in 8 decimals: a sum that they round is off by half of the last one at most."""


class Bar(NamedTuple):
    """A venue's own candle of a minute, its amounts as it tells them."""

    start_s: int
    """Since the epoch."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    quantity: Decimal
    """Of the coin; 0: nothing was traded, and the prices are an earlier one."""
    trades: int | None = None
    """None: the venue does not tell."""


class Parity(StrEnum):
    """What came out for a minute."""

    EXACT = "exact"
    OFF = "off"
    PENDING = "pending"
    """The minute is not finished here, or waits for a repair."""
    NONE = "none"
    """The venue tells no candle of it, or no more."""


class Compared(NamedTuple):
    """A minute, here against there."""

    start_s: int
    """Since the epoch."""
    parity: Parity
    trades: int = 0
    """How many more trades the candle here has; 0 also where the venue does not count them."""
    quantity: float = 0.0
    """How much more of the coin."""
    prices: tuple[str, ...] = ()
    """Which prices differ: open, high, low, close."""

    def __str__(self) -> str:
        parts = [f"{self.trades:+,} trades"] * bool(self.trades)
        parts += [f"{self.quantity:+.6g} traded"] * bool(self.quantity)
        parts += [f"other {', '.join(self.prices)}"] * bool(self.prices)
        return "; ".join(parts) or str(self.parity)


def compared(start_s: int, ours: CandleRow | None, theirs: Bar) -> Compared:
    """A finished minute; None: it has no candle here, as nothing was traded.

    Prices and counts are compared exactly, and quantities to half of the venue's last decimal, beside what the double
    that holds ours can't tell.
    """
    quantity, trades = (ours.quantity, ours.trades) if ours else (0.0, 0)
    more = float(Decimal(quantity) - theirs.quantity)
    more = 0.0 if abs(more) <= LAST_DECIMAL / 2 + math.ulp(quantity) else more
    counted = 0 if theirs.trades is None else trades - theirs.trades
    prices = _other_prices(ours, theirs) if ours and theirs.quantity else ()
    off = counted or more or prices
    return Compared(start_s, Parity.OFF if off else Parity.EXACT, counted, more, prices)


def _other_prices(ours: CandleRow, theirs: Bar) -> tuple[str, ...]:
    return tuple(
        name for name in ("open", "high", "low", "close") if getattr(ours, name) != float(getattr(theirs, name))
    )


class Share(NamedTuple):
    """How many minutes came out how."""

    exact: int = 0
    off: int = 0
    pending: int = 0
    none: int = 0

    @property
    def of_compared(self) -> float | None:
        """The part of exact ones among those that could be compared; None: none could."""
        return self.exact / (self.exact + self.off) if self.exact + self.off else None

    @property
    def text(self) -> str:
        """That part in percent; as many digits as it takes that 100 means all."""
        share = self.of_compared
        if share is None:
            return "-"
        return "100 %" if self.off == 0 else f"{math.floor(share * 10_000) / 100:.2f} %"


def share_of(minutes: Iterable[Compared]) -> Share:
    """The counts of some minutes."""
    found = [minute.parity for minute in minutes]
    return Share(*(found.count(parity) for parity in Parity))


def disagreement(minutes: Sequence[Compared]) -> str | None:
    """What a venue's candles say otherwise of an hour, in words.

    Returns:
        Empty: nothing. None: that can't be told of all its minutes, yet or any more.
    """
    share = share_of(minutes)
    if share.pending or (share.none and not share.off):
        return None
    if not share.off:
        return ""
    first = next(minute for minute in minutes if minute.parity is Parity.OFF)
    at = EPOCH + timedelta(seconds=first.start_s)
    many = "1 minute" if share.off == 1 else f"{share.off} minutes"
    return f"the venue's own candles differ in {many}, first at {at:%H:%M}: {first}"
