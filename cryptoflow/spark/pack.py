"""Trades -> blocks of many, and candles out of blocks: how trades go from task to task of Spark, some 100,000 as a row.

No Spark in here; the tasks of the stream, of a batch and of a repair by this process run the same functions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa

from cryptoflow.model.window import NS_PER_US
from cryptoflow.spark import decode
from cryptoflow.spark.arrow import to_bytes, to_table
from cryptoflow.spark.decode import NUMBER, Frames
from cryptoflow.spark.fold import SUMS, candles, starts_s
from cryptoflow.spark.state import State

HOUR_S = 3600

FITTING = ("pair", "id", "price", "quantity", "total", "time_ns", "side", "partition", "offset", "new")
"""The columns of a trade that make candles, and whether it is `new`, so that nobody has counted it before."""

LEFT_OUT = pa.schema(
    [
        pa.field("pair", pa.string()),
        pa.field("hour_s", pa.int64()),
        pa.field("partition", pa.int32()),
        pa.field("first_offset", pa.int64()),
        pa.field("last_offset", pa.int64()),
        pa.field("trades", pa.int64()),
        pa.field("newest_ns", pa.int64()),
    ]
)
"""Trades of a pair and an hour in a partition of the log, that are in no candle."""

COUNTS = (pa.field("rows", pa.int64()), pa.field("unreadable", pa.int64()), pa.field("newest_us", pa.int64()))
"""How many records were new, how many of them no trade, and the newest `event_us` of all; 0: there is none."""

BLOCKS = pa.schema(
    [pa.field("bucket", pa.int32()), pa.field("trades", pa.binary()), pa.field("left_out", pa.binary()), *COUNTS]
)
"""Trades of a bucket of pairs, as an Arrow stream of the columns `FITTING`, and of `NUMBER` if that is asked for.

`left_out`, a stream of `LEFT_OUT`, and the counts are those of all records that were read with it, in one of the rows.
"""

FOLDED = pa.schema(
    [pa.field("candles", pa.binary()), pa.field("left_out", pa.binary()), pa.field("duplicates", pa.int64()), *COUNTS]
)
"""What became of the blocks of a bucket: Arrow streams of `fold.CANDLES`, or `fold.NUMBERED`, and of `LEFT_OUT`.

`duplicates` are those among the new records.
"""

BLOCK_TRADES = 100_000
"""Trades that are packed together: some 8 MB."""

Row = Mapping[str, Any]
"""A row of `BLOCKS`; its streams are bytes, or a buffer of them."""


class Rules(NamedTuple):
    """Which of the log's trades a stream or a batch puts into candles."""

    window_s: int
    ahead_s: float
    """How far ahead of its receive time, in s, a trade is not left out yet."""
    finished_ns: int = 0
    """Windows that begin earlier are finished."""
    counted: Mapping[int, int] = {}
    """What comes before these offsets was counted before; of partitions left out, nothing was."""
    buckets: int = 1
    """In how many parts the trades are taken apart, all trades of a pair in one."""
    numbered: bool = False
    """Whether the numbers of the trades are asked for."""

    def blocks(self, frames: Iterable[Frames]) -> Iterator[pa.RecordBatch]:
        """`BLOCKS` of the trades that fit into candles, many to a row, and what became of the others."""
        read: list[pa.RecordBatch] = []
        for some in frames:
            read.append(decode.trades(some, self.ahead_s, self.numbered))
            if sum(map(len, read)) >= BLOCK_TRADES:
                yield self._packed(pa.Table.from_batches(read))
                read = []
        if read:
            yield self._packed(pa.Table.from_batches(read))

    def _packed(self, trades: pa.Table) -> pa.RecordBatch:
        readable, ahead, time_ns = (trades[name].to_numpy() for name in ("readable", "ahead", "time_ns"))
        new = self._is_new(trades)
        fit = readable & ~ahead & (time_ns >= self.finished_ns)
        event_us = trades["event_us"].to_numpy()[readable]
        columns = [*FITTING, *[NUMBER.name] * self.numbered]
        of_fit = trades.append_column("new", pa.array(new)).select(columns).filter(pa.array(fit)).combine_chunks()
        pairs = of_fit["pair"].dictionary_encode().combine_chunks()
        of_fit = of_fit.set_column(0, "pair", pairs)
        bucket_of = np.array([crc32(pair.encode()) % self.buckets for pair in pairs.dictionary.to_pylist()], np.int32)
        bucket = bucket_of[pairs.indices.to_numpy()]
        together = of_fit.take(pa.array(np.argsort(bucket, kind="stable")))
        edges = np.searchsorted(np.sort(bucket), np.arange(self.buckets + 1))
        parts = [(number, together[begin:end]) for number, (begin, end) in enumerate(pairwise(edges)) if begin < end]
        nothing = dict.fromkeys((field.name for field in COUNTS), 0)
        rows = [nothing | {"bucket": number, "trades": to_bytes(part)} for number, part in parts] or [{"bucket": 0}]
        rows[0] |= {
            "rows": np.count_nonzero(new),
            "unreadable": np.count_nonzero(new & ~readable),
            "newest_us": event_us.max(initial=0),
            "left_out": _left_out(trades.filter(pa.array(new & readable & ~fit))),
        }
        return pa.RecordBatch.from_pylist(rows, BLOCKS)

    def _is_new(self, trades: pa.Table) -> Any:
        partition, offset = trades["partition"].to_numpy(), trades["offset"].to_numpy()
        new = np.ones(len(trades), bool)
        for place, before in self.counted.items():
            new &= (partition != place) | (offset >= before)
        return new

    def folded(self, blocks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The one row of `FOLDED` of all `BLOCKS` of a bucket."""
        rows = [row for batch in blocks for row in _rows(batch)]
        if rows:
            trades = _in_order(rows)
            made = candles(trades, self.window_s)
            yield pa.RecordBatch.from_pylist([_folded(rows, made, sum(map(_new, trades)) - _new(made))], FOLDED)

    def streamed(self, state: State, rows: Sequence[Row], watermark_us: int) -> tuple[State, dict[str, Any]]:
        """(the state after some rows of `BLOCKS`, what became of them as a row of `FOLDED`).

        Args:
            watermark_us: trades up to it are late.
        """
        state = state.after(watermark_us, self.window_s)
        late, all_fresh, duplicates = [], [SUMS.empty_table()], 0
        for trades in _in_order(rows):
            is_late = trades["time_ns"].to_numpy() // NS_PER_US <= watermark_us
            late.append(_left_out(trades.filter(pa.array(is_late & trades["new"].to_numpy()))))
            in_time = trades.filter(pa.array(~is_late))
            state, fresh = state.plus(in_time, self.window_s)
            all_fresh.append(fresh)
            duplicates += _new(in_time) - _new(fresh)
        return state, _folded(rows, state.candles(pa.concat_tables(all_fresh)), duplicates, late)


def _rows(blocks: pa.RecordBatch) -> Iterator[Row]:
    """The rows of `BLOCKS`, whose streams are not copied."""
    streams = [name for name in BLOCKS.names if pa.types.is_binary(BLOCKS.field(name).type)]
    for number, row in enumerate(blocks.drop_columns(streams).to_pylist()):
        yield row | {name: blocks[name][number].as_buffer() for name in streams}


def _in_order(rows: Iterable[Row]) -> list[pa.Table]:
    """The trades of each row, in the log's order."""
    tables = [to_table(row["trades"]) for row in rows if row["trades"] is not None]
    return sorted(tables, key=lambda table: (table["partition"][0].as_py(), table["offset"][0].as_py()))


def _new(trades: pa.Table) -> int:
    """How many of some trades, or of those in candles or `SUMS`, are new."""
    return int(trades["new"].to_numpy().sum())


def _left_out(trades: pa.Table) -> bytes | None:
    """The stream of `LEFT_OUT` of some trades."""
    if not len(trades):
        return None
    hour_s = starts_s(trades["time_ns"].to_numpy(), HOUR_S)
    pairs = trades["pair"].cast(pa.string())
    columns = {"pair": pairs, "hour_s": hour_s} | {name: trades[name] for name in ("partition", "offset", "time_ns")}
    groups = pa.table(columns).group_by(["pair", "hour_s", "partition"], use_threads=False)
    found = groups.aggregate([("offset", "min"), ("offset", "max"), ("offset", "count"), ("time_ns", "max")])
    return to_bytes(found.rename_columns(LEFT_OUT.names).cast(LEFT_OUT))


def _folded(rows: Sequence[Row], made: pa.Table, duplicates: int, late: Iterable[bytes | None] = ()) -> dict[str, Any]:
    streams = [*(row["left_out"] for row in rows), *late]
    left_out = [to_table(stream) for stream in streams if stream is not None]
    return {
        "candles": to_bytes(made),
        "left_out": to_bytes(pa.concat_tables(left_out)) if left_out else None,
        "duplicates": duplicates,
        "rows": sum(row["rows"] for row in rows),
        "unreadable": sum(row["unreadable"] for row in rows),
        "newest_us": max(row["newest_us"] for row in rows),
    }
