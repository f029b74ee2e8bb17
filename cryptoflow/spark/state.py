"""The stream's state: what has been added up of the windows that are open, and of which trades.

Ids that are numbers are kept as runs from the first to the last, so a venue that counts its trades makes a state of a
few numbers, however many trades there are. Pure; Arrow in, Arrow out.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cryptoflow.spark.arrow import to_bytes, to_table
from cryptoflow.spark.decode import US_PER_S
from cryptoflow.spark.fold import KEY, SUMS, added, candles_of, distinct, joined, starts_s, sums

NUMBER = r"^(0|[1-9][0-9]{0,17})$"
"""An id that a number of 64 bits stands for, and for no other id."""

NUMBERS = pa.schema([*KEY, pa.field("first", pa.int64()), pa.field("last", pa.int64())])
"""Ids that are numbers: the runs of those of a pair and window."""

TEXTS = pa.schema([*KEY, pa.field("id", pa.string())])
"""The other ids."""

START_BITS = 33
"""Bits of a window's start, in s: more than any has."""


class State(NamedTuple):
    """What is kept of the windows that may still change."""

    sums: pa.Table = SUMS.empty_table()
    numbers: pa.Table = NUMBERS.empty_table()
    texts: pa.Table = TEXTS.empty_table()

    @classmethod
    def read(cls, streams: tuple[bytes, ...]) -> "State":
        """The one that was `written`."""
        return cls(*map(to_table, streams))

    def written(self) -> tuple[bytes, ...]:
        """Its tables as Arrow streams."""
        return tuple(map(to_bytes, self))

    def after(self, watermark_us: int, window_s: int) -> "State":
        """The part of windows that end after a watermark: the trades of others are late."""
        ended_s = watermark_us // US_PER_S - window_s
        return State(*(table.filter(pc.greater(table["start_s"], ended_s)) for table in self))

    def plus(self, trades: pa.Table, window_s: int) -> tuple["State", pa.Table]:
        """(the state with some trades, the `fold.SUMS` of those of them that it did not have).

        Args:
            trades: rows with the columns of `pack.FITTING`, in the log's order, none of which is late.
        """
        if not len(trades):
            return self, SUMS.empty_table()
        trades = trades.combine_chunks()
        rows, copies = distinct(trades)
        pairs, ids = trades["pair"].chunk(0), trades["id"].chunk(0).take(pa.array(rows))
        names, pair = pairs.dictionary, pairs.indices.to_numpy()[rows]
        start_s = starts_s(trades["time_ns"].to_numpy()[rows], window_s)
        numeric = pc.match_substring_regex(ids, NUMBER)
        number = pc.if_else(numeric, ids, "-1").cast(pa.int64()).to_numpy()
        is_number = numeric.to_numpy(zero_copy_only=False)

        new = np.ones(len(rows), bool)
        new[is_number] = ~_within(self.numbers, names, pair[is_number], number[is_number])
        texts = _texts(names, pair[~is_number], start_s[~is_number], ids.filter(pc.invert(numeric)))
        new[~is_number] = ~pc.is_in(_joint(texts, "id"), _joint(self.texts, "id")).to_numpy()

        fresh = sums(trades, rows[new], copies[new], window_s)
        numbers = new & is_number
        state = State(
            added([self.sums, fresh]),
            _with(self.numbers, names, pair[numbers], start_s[numbers], number[numbers]),
            pa.concat_tables([self.texts, texts.filter(pa.array(new[~is_number]))]),
        )
        return state, fresh

    def candles(self, fresh: pa.Table) -> pa.Table:
        """The `fold.CANDLES` of the pairs and windows of some new `fold.SUMS`."""
        return candles_of(self.sums.filter(pc.is_in(_joint(self.sums, "start_s"), _joint(fresh, "start_s"))))


def _joint(table: pa.Table, other: str) -> pa.ChunkedArray:
    """A text for each row, that tells its pair and another of its columns."""
    return pc.binary_join_element_wise(table["pair"], table[other].cast(pa.string()), "~")


def _texts(names: pa.StringArray, pair: Any, start_s: Any, ids: pa.StringArray) -> pa.Table:
    return pa.Table.from_arrays([names.take(pa.array(pair)), pa.array(start_s), ids], schema=TEXTS)


def _within(runs: pa.Table, names: pa.StringArray, pair: Any, number: Any) -> Any:
    """Which numbers lie within the runs of their pair, whose name's place is `pair`, in ascending order."""
    place = pc.index_in(runs["pair"], value_set=names).fill_null(-1).to_numpy()
    in_order = np.lexsort((runs["first"].to_numpy(), place))
    place, first, last = (column[in_order] for column in (place, runs["first"].to_numpy(), runs["last"].to_numpy()))
    found = np.zeros(len(number), bool)
    pairs = np.arange(len(names) + 1)
    edges = zip(np.searchsorted(place, pairs), np.searchsorted(pair, pairs), strict=True)
    (begin, number_begin), *rest = edges
    for end, number_end in rest:
        if begin < end:
            of_pair = slice(number_begin, number_end)
            at = np.searchsorted(first[begin:end], number[of_pair], "right") - 1
            found[of_pair] = (at >= 0) & (number[of_pair] <= last[begin:end][at])
        begin, number_begin = end, number_end
    return found


def _with(runs: pa.Table, names: pa.StringArray, pair: Any, start_s: Any, number: Any) -> pa.Table:
    """The runs with more numbers, which are in none of them."""
    all_pairs = pa.concat_arrays([*runs["pair"].chunks, names.take(pa.array(pair))]).dictionary_encode()
    starts = np.append(runs["start_s"].to_numpy(), start_s)
    group = all_pairs.indices.to_numpy().astype(np.int64) << START_BITS | starts
    firsts, lasts = (np.append(runs[name].to_numpy(), number) for name in ("first", "last"))
    group, first, last = joined(group, firsts, lasts)
    pair = all_pairs.dictionary.take(pa.array(group >> START_BITS))
    return pa.Table.from_arrays(
        [pair, pa.array(group & (1 << START_BITS) - 1), pa.array(first), pa.array(last)], schema=NUMBERS
    )
