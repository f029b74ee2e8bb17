"""Candles of two engines, compared row by row."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

TOLERANCE = 1e-9
"""Relative; engines add in different orders."""

TOLD = 3
"""Differences in an error, at most."""

Key = tuple[str, str, str, int]
"""(market, from coin, to currency, window start in s since the epoch)."""


class Row(NamedTuple):
    """A candle with its two sides; a side without trades is all zeros."""

    open: float
    high: float
    low: float
    close: float
    vwap: float
    trades: int
    quantity: float
    volume: float
    buy_trades: int
    buy_quantity: float
    buy_volume: float
    buy_mean_price: float
    sell_trades: int
    sell_quantity: float
    sell_volume: float
    sell_mean_price: float


Rows = dict[Key, Row]

PRICES = ("open", "high", "low", "close")
"""What a duplicate does not change."""


class DifferentError(Exception):
    """Two engines found other candles: neither's time counts."""


def rows_of(lists: Iterable[Sequence[float | str | None]]) -> Rows:
    """Rows from lists of a key and a `Row`'s fields, of which None is nothing."""
    return {
        (str(key[0]), str(key[1]), str(key[2]), int(key[3] or 0)): Row._make(value or 0 for value in values)
        for key, values in ((line[:4], line[4:]) for line in lists)
    }


def require_equal(left: Rows, right: Rows, fields: Sequence[str] = Row._fields) -> None:
    """Hold every row of the one against the other's.

    Raises:
        DifferentError: a row is missing, or a field differs by more than TOLERANCE.
    """
    found = list(differences(left, right, fields))
    if found:
        raise DifferentError(f"{len(found)} differences: {'; '.join(found[:TOLD])}")


def differences(left: Rows, right: Rows, fields: Sequence[str]) -> Iterator[str]:
    """A sentence for each row that one side lacks, and for each field that differs."""
    yield from (f"{key} is only in one of them" for key in left.keys() ^ right.keys())
    for key in left.keys() & right.keys():
        for name in fields:
            one, other = getattr(left[key], name), getattr(right[key], name)
            if not math.isclose(one, other, rel_tol=TOLERANCE):
                yield f"{key}: {name} is {one!r} and {other!r}"
