"""Frames -> trades, in columns: the part of the aggregation that runs in Spark's Python workers.

The rules of a trade are those of `model.trade`, and so is their reader: what the feed's client takes, the stream and
the batch take. Arrow batches in, Arrow batches out; no Spark in here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade, naming, read_trade, read_trades
from cryptoflow.spark.fold import candles

US_PER_S = 1_000_000
NS_PER_US = 1_000

NO_NUMBER = 2**63 - 1
"""The `id_number` of an id that is none, or none that fits."""

MOST_DIGITS = 18
"""Digits of an id that always fits."""

TOO_FAR_AHEAD = "its exchange time is too far ahead of the time Kafka received it"

NO_TRADE = Trade("-", "-", "-", "0", "-", 0, 0.0, 0.0, 0.0)
"""Stands where a frame could not be read."""

TRADES = pa.schema(
    [
        pa.field("pair", pa.string()),
        pa.field("id", pa.string()),
        pa.field("id_number", pa.int64()),
        pa.field("price", pa.float64()),
        pa.field("quantity", pa.float64()),
        pa.field("total", pa.float64()),
        pa.field("time_ns", pa.int64()),
        pa.field("side", pa.int32()),
        pa.field("event_time", pa.timestamp("us", "UTC")),
        pa.field("ahead", pa.bool_()),
        pa.field("readable", pa.bool_()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
"""A trade in the query.

`pair` is MARKET~COIN~CURRENCY; `side` the bits BUY and SELL of the flags; `event_time` the exchange time, or where
that is `ahead` of the receive time by more than allowed, the latest that is: so far it moves the watermark.
"""

ID_NUMBER = TRADES.get_field_index("id_number")

READ = TRADES.remove(ID_NUMBER)
"""A trade as it is read: the number of its id is for the stream's order alone."""

FITTING = ("pair", "id", "price", "quantity", "total", "time_ns", "side", "partition", "offset")
"""The columns of a trade that make candles."""

NUMBER = pa.field("number", pa.int64())
"""What steps by one from trade to trade of a pair, for who asks for it."""

BLOCKS = pa.schema(
    [
        pa.field("bucket", pa.int32()),
        pa.field("trades", pa.binary()),
        pa.field("rows", pa.int64()),
        pa.field("unreadable", pa.int64()),
        pa.field("late", pa.int64()),
        pa.field("newest_us", pa.int64()),
    ]
)
"""Trades of a bucket of pairs, as an Arrow stream of the columns `FITTING`, and of `NUMBER` if that is asked for.

So Spark moves some 100,000 as one row. The counts are those of all records that were read with it, in one of the rows.
"""

BLOCK_TRADES = 100_000
"""Trades that are packed together: some 8 MB."""

REFUSED = pa.schema(
    [
        pa.field("value", pa.binary()),
        pa.field("reason", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
"""A record that is no readable trade."""

FRAMES = pa.schema(
    [
        pa.field("value", pa.binary()),
        pa.field("timestamp", pa.timestamp("us", "UTC")),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
"""A frame, when it was received, and where it lies: what a source hands in."""


class Frames(NamedTuple):
    """Some frames of `FRAMES`, as Python takes them; all but the values are arrays."""

    values: Sequence[bytes | None]
    received_us: Any
    """Since the epoch."""
    partition: Any
    offset: Any

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "Frames":
        """Those of a batch of `FRAMES`."""
        received = batch.column("timestamp").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        places = (batch.column(name).to_numpy() for name in ("partition", "offset"))
        return cls(batch.column("value").to_pylist(), received.to_numpy(), *places)

    def batch(self) -> pa.RecordBatch:
        """The batch of `FRAMES`."""
        received = pa.array(self.received_us, pa.int64()).cast(pa.timestamp("us", "UTC"))
        columns = [pa.array(self.values, pa.binary()), received, pa.array(self.partition), pa.array(self.offset)]
        return pa.RecordBatch.from_arrays(columns, schema=FRAMES)


Decode = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def decoder(ahead_s: float) -> Decode:
    """Makes batches of `TRADES` out of batches of `FRAMES`.

    Args:
        ahead_s: how far ahead of its receive time, in s, a trade is not `ahead` yet.
    """

    def decode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            trades = _trades(Frames.of(batch), ahead_s)
            numbers = pa.array(map(id_number, trades["id"].to_pylist()), pa.int64())
            yield trades.add_column(ID_NUMBER, TRADES.field(ID_NUMBER), numbers)

    return decode


def blocks(
    ahead_s: float, finished_ns: int, counted: Mapping[int, int], buckets: int, numbered: bool = False
) -> Callable[[Iterable[Frames]], Iterator[pa.RecordBatch]]:
    """Makes `BLOCKS` out of frames: the trades that fit into candles, many to a row, and what became of the others.

    Args:
        ahead_s: how far ahead of its receive time, in s, a trade is not `ahead` yet.
        finished_ns: windows that begin earlier are finished.
        counted: what comes before these offsets was counted before.
        buckets: in how many parts the trades are taken apart, all trades of a pair in one.
        numbered: whether the trades keep their numbers.
    """

    def packed(frames: Iterable[Frames]) -> Iterator[pa.RecordBatch]:
        read: list[pa.RecordBatch] = []
        for some in frames:
            read.append(_trades(some, ahead_s, numbered))
            if sum(map(len, read)) >= BLOCK_TRADES:
                yield _packed(pa.Table.from_batches(read), finished_ns, counted, buckets)
                read = []
        if read:
            yield _packed(pa.Table.from_batches(read), finished_ns, counted, buckets)

    return packed


def _packed(trades: pa.Table, finished_ns: int, counted: Mapping[int, int], buckets: int) -> pa.RecordBatch:
    readable, ahead, time_ns = (trades[name].to_numpy() for name in ("readable", "ahead", "time_ns"))
    partition, offset = trades["partition"].to_numpy(), trades["offset"].to_numpy()
    new = np.ones(len(trades), bool)
    for place, before in counted.items():
        new &= (partition != place) | (offset >= before)
    fit = readable & ~ahead & (time_ns >= finished_ns)
    event_us = trades["event_time"].cast(pa.int64()).to_numpy()[readable]
    columns = [*FITTING, *[NUMBER.name] * (NUMBER.name in trades.column_names)]
    of_fit = trades.select(columns).filter(pa.array(fit)).combine_chunks()
    pairs = of_fit["pair"].dictionary_encode().combine_chunks()
    of_fit = of_fit.set_column(0, "pair", pairs)
    bucket_of = np.array([crc32(pair.encode()) % buckets for pair in pairs.dictionary.to_pylist()], np.int32)
    bucket = bucket_of[pairs.indices.to_numpy()]
    together = of_fit.take(pa.array(np.argsort(bucket, kind="stable")))
    edges = np.searchsorted(np.sort(bucket), np.arange(buckets + 1))
    parts = [(number, together[begin:end]) for number, (begin, end) in enumerate(pairwise(edges)) if begin < end]
    rows = [{"bucket": number, "trades": _written(part)} for number, part in parts] or [{"bucket": 0}]
    rows[0] |= {
        "rows": np.count_nonzero(new),
        "unreadable": np.count_nonzero(new & ~readable),
        "late": np.count_nonzero(new & readable & ~fit),
        "newest_us": event_us.max() if len(event_us) else None,
    }
    return pa.RecordBatch.from_pylist(rows, BLOCKS)


def _written(trades: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, trades.schema) as writer:
        writer.write_table(trades)
    return bytes(sink.getvalue())


def folder(window_s: int, numbered: bool = False) -> Decode:
    """Makes the `fold.CANDLES` of windows of a length, in s, out of all `BLOCKS` of a bucket; or `fold.NUMBERED`."""

    def folded(blocks: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        texts = [text for batch in blocks for text in batch.column("trades") if text.is_valid]
        tables = [pa.ipc.open_stream(text.as_buffer()).read_all() for text in texts]
        tables.sort(key=lambda table: (table["partition"][0].as_py(), table["offset"][0].as_py()))
        if tables:
            yield from candles(pa.concat_tables(tables), window_s).to_batches()

    return folded


def refused(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Makes batches of `REFUSED` out of the same, of those that can't be read."""
    for frames in map(Frames.of, batches):
        trades, _, reasons = _read(frames.values)
        for row in np.flatnonzero(_too_far(_seconds(trades), frames.received_us)):
            reasons[int(row)] = TOO_FAR_AHEAD
        rows = sorted(reasons)
        columns = [
            pa.array([frames.values[row] for row in rows], pa.binary()),
            pa.array([reasons[row] for row in rows], pa.string()),
            pa.array(frames.partition[rows], pa.int32()),
            pa.array(frames.offset[rows], pa.int64()),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=REFUSED)


def _read(values: Sequence[bytes | None]) -> tuple[list[Trade], list[tuple[str, int]], dict[int, str]]:
    """(the trades, with `NO_TRADE` in the place of each that can't be read; their `naming`; by its place, why)."""
    try:
        trades = read_trades(values)  # type: ignore[arg-type]  # of None it says so itself
        return trades, _namings(trades), {}
    except (UnreadableFrameError, TypeError):
        pass  # which of them, is found out below
    trades, reasons = [], {}
    for row, value in enumerate(values):
        try:
            trades.append(read_trade(value or b""))
        except UnreadableFrameError as error:
            trades.append(NO_TRADE)
            reasons[row] = str(error)
    return trades, _namings(trades), reasons


def _namings(trades: Sequence[Trade]) -> list[tuple[str, int]]:
    return [naming(trade.market, trade.from_coin, trade.to_currency, trade.flags) for trade in trades]


def _seconds(trades: Sequence[Trade]) -> Any:
    return np.array([trade.time_s for trade in trades], np.int64)


def _too_far(time_s: Any, received_us: Any) -> Any:
    return time_s > received_us // US_PER_S + MAX_AHEAD_S


def _trades(frames: Frames, ahead_s: float, numbered: bool = False) -> pa.RecordBatch:
    """The rows of `READ`, with `NUMBER` if that is asked for."""
    trades, namings, reasons = _read(frames.values)
    time_s, received_us = _seconds(trades), frames.received_us
    readable = ~_too_far(time_s, received_us)
    readable[list(reasons)] = False
    time_ns = time_s * NS_PER_S + np.array([trade.rest_ns for trade in trades], np.int64)
    latest_us = received_us + int(ahead_s * US_PER_S)
    event_us = np.minimum(time_ns // NS_PER_US, latest_us)
    columns = [
        pa.array([pair for pair, _ in namings], pa.string()),
        pa.array([trade.id for trade in trades], pa.string()),
        pa.array([trade.price for trade in trades], pa.float64()),
        pa.array([trade.quantity for trade in trades], pa.float64()),
        pa.array([trade.total for trade in trades], pa.float64()),
        pa.array(time_ns),
        pa.array([side for _, side in namings], pa.int32()),
        pa.array(event_us).cast(pa.timestamp("us", "UTC")),
        pa.array(time_ns // NS_PER_US > latest_us),
        pa.array(readable),
        pa.array(frames.partition, pa.int32()),
        pa.array(frames.offset, pa.int64()),
    ]
    if numbered:
        columns.append(pa.array([trade.sequence for trade in trades], pa.int64()))
    return pa.RecordBatch.from_arrays(columns, schema=READ.append(NUMBER) if numbered else READ)


def id_number(id: str) -> int:
    """The number that an id is; `NO_NUMBER` for others and for those that don't fit."""
    if len(id) <= MOST_DIGITS:
        return int(id) if id.isascii() and id.isdecimal() else NO_NUMBER
    bare = id.lstrip("0")
    return int(bare or "0") if len(bare) <= MOST_DIGITS and id.isascii() and id.isdecimal() else NO_NUMBER
