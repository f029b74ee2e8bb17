"""Frames -> trades, in columns: the part of the aggregation that runs in Spark's Python workers.

The rules of a trade are those of `model.trade`, and so is their reader: what the feed's client takes, the stream and
the batch take. Arrow batches in, Arrow batches out; no Spark in here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import BUY, MAX_AHEAD_S, NS_PER_S, SELL, Trade, read_trade

US_PER_S = 1_000_000
NS_PER_US = 1_000

NO_NUMBER = 2**63 - 1
"""The `id_number` of an id that is none, or none that fits."""

MOST_DIGITS = 18
"""Digits of an id that always fits."""

TOO_FAR_AHEAD = "its exchange time is too far ahead of the time Kafka received it"

NO_TRADE = Trade("", "", "", "0", "", 0, 0.0, 0.0, 0.0)
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

REFUSED = pa.schema(
    [
        pa.field("value", pa.binary()),
        pa.field("reason", pa.string()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
"""A record that is no readable trade."""

Decode = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def decoder(ahead_s: float) -> Decode:
    """Makes batches of `TRADES` out of batches of `value`, `timestamp`, `partition` and `offset`.

    Args:
        ahead_s: how far ahead of its receive time, in s, a trade is not `ahead` yet.
    """

    def decode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pairs: dict[tuple[str, str, str], str] = {}
        for batch in batches:
            yield _trades(batch, int(ahead_s * US_PER_S), pairs)

    return decode


def refused(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Makes batches of `REFUSED` out of the same, of those that can't be read."""
    for batch in batches:
        values = batch.column("value").to_pylist()
        trades, reasons = _read(values)
        for row in np.flatnonzero(_too_far(trades, _micros(batch))):
            reasons[int(row)] = TOO_FAR_AHEAD
        rows = sorted(reasons)
        places = [batch.column(name).take(pa.array(rows, pa.int64())) for name in ("partition", "offset")]
        texts = [pa.array([values[row] for row in rows], pa.binary()), pa.array([reasons[row] for row in rows])]
        yield pa.RecordBatch.from_arrays([texts[0], texts[1].cast(pa.string()), *places], schema=REFUSED)


def _read(values: Sequence[bytes | None]) -> tuple[list[Trade], dict[int, str]]:
    """The trades, with `NO_TRADE` in the place of each that can't be read, and why, by its place."""
    trades, reasons = [], {}
    for row, value in enumerate(values):
        try:
            trades.append(read_trade(value or b""))
        except UnreadableFrameError as error:
            trades.append(NO_TRADE)
            reasons[row] = str(error)
    return trades, reasons


def _micros(batch: pa.RecordBatch) -> Any:
    """When each record was received, in us since the epoch."""
    return batch.column("timestamp").cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()


def _too_far(trades: Sequence[Trade], received_us: Any) -> Any:
    time_s = np.array([trade.time_s for trade in trades], np.int64)
    return time_s > received_us // US_PER_S + MAX_AHEAD_S


def _trades(batch: pa.RecordBatch, ahead_us: int, pairs: dict[tuple[str, str, str], str]) -> pa.RecordBatch:
    trades, reasons = _read(batch.column("value").to_pylist())
    received_us = _micros(batch)
    readable = ~_too_far(trades, received_us)
    readable[list(reasons)] = False
    time_s = np.array([trade.time_s for trade in trades], np.int64)
    time_ns = time_s * NS_PER_S + np.array([trade.time_ns for trade in trades], np.int64)
    latest_us = received_us + ahead_us
    event_us = np.minimum(time_ns // NS_PER_US, latest_us)
    ids = [trade.id for trade in trades]
    columns = [
        pa.array([pairs.get(trade.pair) or _named(trade.pair, pairs) for trade in trades], pa.string()),
        pa.array(ids, pa.string()),
        pa.array([id_number(id) for id in ids], pa.int64()),
        pa.array([trade.price for trade in trades], pa.float64()),
        pa.array([trade.quantity for trade in trades], pa.float64()),
        pa.array([trade.total for trade in trades], pa.float64()),
        pa.array(time_ns),
        pa.array([int(trade.flags) & (BUY | SELL) for trade in trades], pa.int32()),
        pa.array(event_us).cast(pa.timestamp("us", "UTC")),
        pa.array(time_ns // NS_PER_US > latest_us),
        pa.array(readable),
        batch.column("partition"),
        batch.column("offset"),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TRADES)


def _named(pair: tuple[str, str, str], pairs: dict[tuple[str, str, str], str]) -> str:
    name = pairs[pair] = "~".join(pair)
    return name


def id_number(id: str) -> int:
    """The number that an id is; `NO_NUMBER` for others and for those that don't fit."""
    if len(id) <= MOST_DIGITS:
        return int(id) if id.isascii() and id.isdecimal() else NO_NUMBER
    bare = id.lstrip("0")
    return int(bare or "0") if len(bare) <= MOST_DIGITS and id.isascii() and id.isdecimal() else NO_NUMBER
