"""Trades, in columns -> sums -> candles, in columns: the part of the aggregation that deduplicates and adds up.

All pairs and windows of a table are folded at once. A trade is a candle of one trade, so what adds trades up adds up
what has been added up before. Pure; Arrow in, Arrow out.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cryptoflow.model.candle import id_order
from cryptoflow.model.trade import BUY, NS_PER_S, SELL

GRIDS = tuple(1.5 * 2.0**52 / 2**bits for bits in (16, 52))
"""Adding and taking away one of these rounds a double to a multiple of 2**-16, and of 2**-52; see `AMOUNTS`."""

SIDES = {"buy": BUY, "sell": SELL}

AMOUNTS = {
    "quantity": ("quantity", None),
    "volume": ("total", None),
    **{
        f"{side}_{name}": (column, bit)
        for side, bit in SIDES.items()
        for name, column in (("quantity", "quantity"), ("volume", "total"), ("price_sum", "price"))
    },
}
"""The sums of doubles: of which column of the trades, and of which side.

Each double is split into a multiple of 2**-16, whose sum is exact up to 2**37, one of 2**-52 of what is left, whose sum
is exact for 2**18 trades, and a rest that no sum of amounts shows: so it does not depend on the order. The parts are
added up apart.
"""

PARTS = range(len(GRIDS) + 1)

EDGES = {"open": np.minimum, "close": np.maximum}
"""The prices that exchange time and id decide, with what the time is."""

REDUCED = {
    "high": (pa.float64(), np.maximum),
    "low": (pa.float64(), np.minimum),
    **{name: (pa.int64(), np.add) for name in ("trades", "buy_trades", "sell_trades", "copies", "new")},
    **{f"{name}_{part}": (pa.float64(), np.add) for name in AMOUNTS for part in PARTS},
    "first_partition": (pa.int32(), np.minimum),
    "last_partition": (pa.int32(), np.maximum),
    "first_offset": (pa.int64(), np.minimum),
}
"""How each other column of `SUMS` is made of those that are put together."""

OF_TRADE = {
    "high": "price",
    "low": "price",
    "first_partition": "partition",
    "last_partition": "partition",
    "first_offset": "offset",
}
"""What a column of `SUMS` is of a single trade."""

KEY = (pa.field("pair", pa.string()), pa.field("start_s", pa.int64()))

SUMS = pa.schema(
    [
        *KEY,
        *(
            pa.field(f"{edge}{part}", type)
            for edge in EDGES
            for part, type in (("", pa.float64()), ("_ns", pa.int64()), ("_id", pa.string()))
        ),
        *(pa.field(name, type) for name, (type, _) in REDUCED.items()),
    ]
)
"""The trades of a pair in a window, added up so far.

`first_partition`, `last_partition` and `first_offset` tell before which place of the log none of them lies; `copies`
are the trades with the duplicates that came with them (a stream's later ones are not among these), and `new` those of
the trades that nobody has counted before.
"""

CANDLES = pa.schema(
    [
        *KEY,
        *(pa.field(price, pa.float64()) for price in ("open", "high", "low", "close")),
        pa.field("trades", pa.int64()),
        pa.field("quantity", pa.float64()),
        pa.field("volume", pa.float64()),
        *(
            pa.field(
                side,
                pa.struct(
                    [
                        pa.field("trades", pa.int64()),
                        *(pa.field(name, pa.float64()) for name in ("quantity", "volume", "price_sum")),
                    ]
                ),
            )
            for side in SIDES
        ),
        *(SUMS.field(name) for name in ("first_partition", "last_partition", "first_offset", "copies", "new")),
    ]
)
"""A candle, shaped like `model.candle.Candle`, and what `SUMS` tells of its trades."""

RUN = pa.struct([pa.field("first", pa.int64()), pa.field("last", pa.int64())])

NUMBERED = CANDLES.append(pa.field("runs", pa.list_(RUN)))
"""The same with the numbers of its trades, in order: each run from the first to the last."""


def candles(tables: Sequence[pa.Table], window_s: int) -> pa.Table:
    """A row of `CANDLES` for each pair and window; of trades of one identity the first counts.

    Args:
        tables: rows with the columns of `pack.FITTING`, in the log's order; if they have numbers, too, the candles are
            `NUMBERED`.
    """
    if not tables:
        return CANDLES.empty_table()
    # Its columns stay in pieces, as they came: in one piece, they would all be in the memory twice.
    trades = pa.concat_tables(tables).unify_dictionaries()
    rows, copies = distinct(trades)
    rows, copies, begins = _grouped(trades, rows, copies, window_s)
    made = candles_of(_summed(trades, rows, copies, begins, window_s))
    if "number" not in trades.column_names:
        return made
    numbers = trades["number"].take(pa.array(rows)).combine_chunks()
    return made.append_column(NUMBERED.field("runs"), _runs(numbers, begins))


def distinct(trades: pa.Table) -> tuple[Any, Any]:
    """(the row of the first trade of each identity, pair by pair; how many trades have it)."""
    known = trades["id"].dictionary_encode().combine_chunks()
    pair = trades["pair"].combine_chunks().indices.to_numpy()
    identity = pair.astype(np.int64) * len(known.dictionary) + known.indices.to_numpy()
    _, rows, copies = np.unique(identity, return_index=True, return_counts=True)
    return rows, copies


def sums(trades: pa.Table, rows: Any, copies: Any, window_s: int) -> pa.Table:
    """A row of `SUMS` for each pair and window of some `rows` of trades, each of which came so many times."""
    return _summed(trades, *_grouped(trades, rows, copies, window_s), window_s) if len(rows) else SUMS.empty_table()


def added(tables: Iterable[pa.Table]) -> pa.Table:
    """A row of `SUMS` for each pair and window of all tables of the same, in the order of both."""
    table = pa.concat_tables(tables).sort_by([("pair", "ascending"), ("start_s", "ascending")]).combine_chunks()
    if not len(table):
        return table
    begins = begins_of(table["pair"].chunk(0).dictionary_encode().indices.to_numpy(), table["start_s"].to_numpy())
    at_begins = pa.array(begins)
    columns = {field.name: table[field.name].take(at_begins) for field in KEY}
    for edge, extreme in EDGES.items():
        ids = table[f"{edge}_id"]
        rows = pa.array(_decided(table[f"{edge}_ns"].to_numpy(), lambda row: ids[row].as_py(), begins, extreme))  # noqa: B023
        columns |= {name: table[name].take(rows) for name in (edge, f"{edge}_ns", f"{edge}_id")}
    columns |= {name: how.reduceat(table[name].to_numpy(), begins) for name, (_, how) in REDUCED.items()}
    return pa.Table.from_pydict(columns, SUMS)


def candles_of(sums: pa.Table) -> pa.Table:
    """Each row of `SUMS` as one of `CANDLES`."""
    amounts = {name: sum(sums[f"{name}_{part}"].to_numpy() for part in reversed(PARTS)) for name in AMOUNTS}

    def side(name: str) -> pa.StructArray:
        fields = list(CANDLES.field(name).type)
        parts = [sums[f"{name}_trades"].to_numpy(), *(amounts[f"{name}_{field.name}"] for field in fields[1:])]
        return pa.StructArray.from_arrays(list(map(pa.array, parts)), fields=fields)

    columns = {name: side(name) if name in SIDES else amounts.get(name) for name in CANDLES.names}
    return pa.Table.from_arrays(
        [sums[name] if column is None else pa.array(column) for name, column in columns.items()], schema=CANDLES
    )


def _grouped(trades: pa.Table, rows: Any, copies: Any, window_s: int) -> tuple[Any, Any, Any]:
    """(the rows in the order of pair and window, their copies, where a pair or window begins)."""
    pair, start_s = (
        trades["pair"].combine_chunks().indices.to_numpy()[rows],
        starts_s(trades["time_ns"].to_numpy()[rows], window_s),
    )
    in_order = np.lexsort((start_s, pair))
    return rows[in_order], copies[in_order], begins_of(pair[in_order], start_s[in_order])


def starts_s(time_ns: Any, window_s: int) -> Any:
    """The starts of the windows of exchange times, in s."""
    return time_ns // (window_s * NS_PER_S) * window_s


def _summed(trades: pa.Table, rows: Any, copies: Any, begins: Any, window_s: int) -> pa.Table:
    pairs, ids = trades["pair"].combine_chunks(), trades["id"]
    numbers = ("time_ns", "price", "quantity", "total", "side", "partition", "offset", "new")
    of = {name: trades[name].to_numpy()[rows] for name in numbers}
    columns: dict[str, Any] = {
        "pair": pairs.dictionary.take(pairs.indices.take(pa.array(rows[begins]))),
        "start_s": starts_s(of["time_ns"][begins], window_s),
    }
    for edge, extreme in EDGES.items():
        at = _decided(of["time_ns"], lambda row: ids[rows[row]].as_py(), begins, extreme)
        columns |= {edge: of["price"][at], f"{edge}_ns": of["time_ns"][at], f"{edge}_id": ids.take(pa.array(rows[at]))}

    def reduced(name: str, values: Any) -> None:
        columns[name] = REDUCED[name][1].reduceat(values, begins)

    for name, column in OF_TRADE.items():
        reduced(name, of[column])
    reduced("trades", np.ones(len(rows), np.int64))
    reduced("copies", copies)
    reduced("new", of["new"].astype(np.int64))
    its = {bit: of["side"] == bit for bit in SIDES.values()}
    for side, bit in SIDES.items():
        reduced(f"{side}_trades", its[bit].astype(np.int64))
    for name, (column, of_side) in AMOUNTS.items():
        amounts = of[column] if of_side is None else np.where(its[of_side], of[column], 0.0)
        for part, grid in enumerate(GRIDS):
            coarse = (amounts + grid) - grid
            reduced(f"{name}_{part}", coarse)
            amounts = amounts - coarse
        reduced(f"{name}_{PARTS[-1]}", amounts)
    return pa.Table.from_pydict(columns, SUMS)


def _decided(time_ns: Any, id_of: Callable[[int], str], begins: Any, extreme: Any) -> Any:
    """Of each window the row whose exchange time, and of those of one time whose id, is the extreme."""
    ends = np.append(begins[1:], len(time_ns))
    rows = np.flatnonzero(time_ns == np.repeat(extreme.reduceat(time_ns, begins), ends - begins))
    edges = np.append(np.searchsorted(rows, begins), len(rows))
    chosen = rows[edges[:-1]]
    choose = min if extreme is np.minimum else max
    for window in np.flatnonzero(np.diff(edges) > 1):
        among = rows[edges[window] : edges[window + 1]]
        chosen[window] = choose(among, key=lambda row: id_order(id_of(row)))
    return chosen


def _runs(numbers: pa.Int64Array, begins: Any) -> pa.ListArray:
    """The numbers of each window, joined to runs; trades without one are left out."""
    window = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(numbers))))
    there = numbers.is_valid().to_numpy(zero_copy_only=False)
    number = numbers.drop_null().to_numpy()
    window, first, last = joined(window[there], number, number)
    runs = pa.StructArray.from_arrays([pa.array(first), pa.array(last)], fields=list(RUN))
    edges = np.searchsorted(window, np.arange(len(begins) + 1))
    return pa.ListArray.from_arrays(pa.array(edges, pa.int32()), runs)


def joined(group: Any, first: Any, last: Any) -> tuple[Any, Any, Any]:
    """(group, first, last) of the fewest runs with the same numbers; those that overlap are alike."""
    if not len(group):
        return group, first, last
    in_order = np.lexsort((first, group))
    group, first, last = group[in_order], first[in_order], last[in_order]
    follows = (group[1:] == group[:-1]) & (first[1:] <= last[:-1] + 1)
    begins = np.append(0, np.flatnonzero(~follows) + 1)
    return group[begins], first[begins], last[np.append(begins[1:] - 1, len(last) - 1)]


def begins_of(*columns: Any) -> Any:
    """The rows at which one of the columns has another value than in the row before."""
    changes = [column[1:] != column[:-1] for column in columns]
    return np.append(0, np.flatnonzero(np.logical_or.reduce(changes)) + 1)
