"""Trades, in columns -> candles, in columns: the part of the aggregation that deduplicates and adds up.

All pairs and windows of a table are folded at once. Pure; Arrow in, Arrow out.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from cryptoflow.model.candle import id_order
from cryptoflow.model.trade import BUY, NS_PER_S, SELL

GRID = 1.5 * 2.0**52 / 2**16
"""Adding and taking away this rounds a double to a multiple of 2**-16; see `_total`."""

CANDLES = pa.schema(
    [
        pa.field("pair", pa.string()),
        pa.field("start_s", pa.int64()),
        pa.field("open", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("close", pa.float64()),
        pa.field("trades", pa.int64()),
        pa.field("quantity", pa.float64()),
        pa.field("volume", pa.float64()),
        *(
            pa.field(
                side,
                pa.struct(
                    [
                        pa.field("trades", pa.int64()),
                        pa.field("quantity", pa.float64()),
                        pa.field("volume", pa.float64()),
                        pa.field("price_sum", pa.float64()),
                    ]
                ),
            )
            for side in ("buy", "sell")
        ),
        pa.field("first_partition", pa.int32()),
        pa.field("last_partition", pa.int32()),
        pa.field("first_offset", pa.int64()),
        pa.field("copies", pa.int64()),
    ]
)
"""A candle, shaped like `model.candle.Candle`, with the trades that made it and their duplicates (`copies`).

`first_partition`, `last_partition` and `first_offset` tell before which place of the log none of its trades lies.
"""

RUN = pa.struct([pa.field("first", pa.int64()), pa.field("last", pa.int64())])

NUMBERED = CANDLES.append(pa.field("runs", pa.list_(RUN)))
"""The same with the numbers of its trades, in order: each run from the first to the last."""


def schema_of(numbered: bool) -> pa.Schema:
    """The columns of a candle, with or without the numbers of its trades."""
    return NUMBERED if numbered else CANDLES


def candles(trades: pa.Table, window_s: int) -> pa.Table:
    """A row of `CANDLES` for each pair and window; of trades of one identity the first counts.

    Args:
        trades: rows with the columns of `decode.FITTING`, in the log's order; if they have numbers, too, the rows are
            of `NUMBERED`.
    """
    schema = schema_of("number" in trades.column_names)
    if not len(trades):
        return schema.empty_table()
    trades = trades.unify_dictionaries().combine_chunks()
    pairs, ids = trades["pair"].chunk(0), trades["id"].chunk(0)
    pair, time_ns = pairs.indices.to_numpy(), trades["time_ns"].to_numpy()
    rows, copies = _distinct(pair, ids)
    by_time = np.lexsort((time_ns[rows], pair[rows]))
    rows, copies = rows[by_time], copies[by_time]
    pair, time_ns = pair[rows], time_ns[rows]
    start_s = time_ns // (window_s * NS_PER_S) * window_s

    begins = _begins(pair, start_s)
    ends = np.append(begins[1:], len(rows))
    moments = np.append(_begins(pair, start_s, time_ns), len(rows))

    def decided(first: Any, by: Callable[..., int]) -> Any:
        """Of each window's trades of one moment, whose places in `moments` are `first`, the one that an id decides."""
        chosen = moments[first].copy()
        for at in np.flatnonzero(moments[first + 1] - chosen > 1):
            among = range(chosen[at], moments[first[at] + 1])
            chosen[at] = by(among, key=lambda row: id_order(ids[rows[row]].as_py()))
        return chosen

    price, quantity, total = (trades[name].to_numpy()[rows] for name in ("price", "quantity", "total"))
    side, partition, offset = (trades[name].to_numpy()[rows] for name in ("side", "partition", "offset"))

    def of_side(bit: int) -> pa.StructArray:
        its = side == bit
        sums = (_total(np.where(its, amount, 0.0), begins) for amount in (quantity, total, price))
        return pa.StructArray.from_arrays(
            [pa.array(array) for array in (np.add.reduceat(its.astype(np.int64), begins), *sums)],
            fields=list(CANDLES.field("buy").type),
        )

    columns = [
        pairs.dictionary.take(pa.array(pair[begins])),
        start_s[begins],
        price[decided(np.searchsorted(moments, begins), min)],
        np.maximum.reduceat(price, begins),
        np.minimum.reduceat(price, begins),
        price[decided(np.searchsorted(moments, ends) - 1, max)],
        ends - begins,
        _total(quantity, begins),
        _total(total, begins),
        of_side(BUY),
        of_side(SELL),
        np.minimum.reduceat(partition, begins),
        np.maximum.reduceat(partition, begins),
        np.minimum.reduceat(offset, begins),
        np.add.reduceat(copies, begins),
    ]
    if schema is NUMBERED:
        columns.append(_runs(trades["number"].combine_chunks().take(pa.array(rows)), begins))
    return pa.Table.from_arrays([pa.array(column) for column in columns], schema=schema)


def _runs(numbers: pa.Int64Array, begins: Any) -> pa.ListArray:
    """The numbers of each window, joined to runs; trades without one are left out."""
    window = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(numbers))))
    there = numbers.is_valid().to_numpy(zero_copy_only=False)
    window, number = window[there], numbers.drop_null().to_numpy()
    in_order = np.lexsort((number, window))
    window, number = window[in_order], number[in_order]
    if not len(number):
        return pa.array([[]] * len(begins), NUMBERED.field("runs").type)
    follows = (window[1:] == window[:-1]) & (number[1:] <= number[:-1] + 1)
    firsts = np.append(0, np.flatnonzero(~follows) + 1)
    lasts = np.append(firsts[1:] - 1, len(number) - 1)
    runs = pa.StructArray.from_arrays([pa.array(number[firsts]), pa.array(number[lasts])], fields=list(RUN))
    edges = np.searchsorted(window[firsts], np.arange(len(begins) + 1))
    return pa.ListArray.from_arrays(pa.array(edges, pa.int32()), runs)


def _distinct(pair: Any, ids: pa.StringArray) -> tuple[Any, Any]:
    """(the row of the first trade of each identity, how many trades have it)."""
    known = ids.dictionary_encode()
    identity = pair.astype(np.int64) * len(known.dictionary) + known.indices.to_numpy()
    _, rows, copies = np.unique(identity, return_index=True, return_counts=True)
    return rows, copies


def _begins(*columns: Any) -> Any:
    """The rows at which one of the columns has another value than in the row before."""
    changes = [column[1:] != column[:-1] for column in columns]
    return np.append(0, np.flatnonzero(np.logical_or.reduce(changes)) + 1)


def _total(amounts: Any, begins: Any) -> Any:
    """The sums of doubles without the rounding of each step, so that they do not depend on their order.

    Each is split into a multiple of 2**-16, whose sums are exact up to 2**37, and a rest so small that the
    rounding of its sum is lost in the last digit of the whole.
    """
    coarse = (amounts + GRID) - GRID
    return np.add.reduceat(coarse, begins) + np.add.reduceat(amounts - coarse, begins)
