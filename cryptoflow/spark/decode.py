"""Frames -> trades, in columns: the part of the aggregation that runs in Spark's Python workers.

The rules of a trade are those of `model.trade`, and so is their reader: what the feed's client takes, the stream and
the batch take. Arrow batches in, Arrow batches out; no Spark in here.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade, naming, read_trade, read_trades
from cryptoflow.model.window import NS_PER_US

US_PER_S = 1_000_000

TOO_FAR_AHEAD = "its exchange time is too far ahead of the time Kafka received it"

NO_TRADE = Trade("-", "-", "-", "0", "-", 0, 0.0, 0.0, 0.0)
"""Stands where a frame could not be read."""

TRADES = pa.schema(
    [
        pa.field("pair", pa.string()),
        pa.field("id", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("quantity", pa.float64()),
        pa.field("total", pa.float64()),
        pa.field("time_ns", pa.int64()),
        pa.field("side", pa.int32()),
        pa.field("event_us", pa.int64()),
        pa.field("ahead", pa.bool_()),
        pa.field("readable", pa.bool_()),
        pa.field("partition", pa.int32()),
        pa.field("offset", pa.int64()),
    ]
)
"""A trade for each frame; those that are not `readable` have no meaning otherwise.

`pair` is MARKET~COIN~CURRENCY; `side` the bits BUY and SELL of the flags; `event_us` the exchange time, or where
that is `ahead` of the receive time by more than allowed, the latest that is: so far it moves the watermark.
"""

NUMBER = pa.field("number", pa.int64())
"""What steps by one from trade to trade of a pair, for who asks for it."""

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


def refused(parts: Iterable[Frames]) -> Iterator[pa.RecordBatch]:
    """Batches of `REFUSED`: those of the frames that can't be read."""
    for frames in parts:
        found, _, reasons = _read(frames.values)
        for row in np.flatnonzero(_too_far(_seconds(found), frames.received_us)):
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


def trades(frames: Frames, ahead_s: float, numbered: bool = False) -> pa.RecordBatch:
    """The row of `TRADES` of each frame, with its `NUMBER` if that is asked for.

    Args:
        ahead_s: how far ahead of its receive time, in s, a trade is not `ahead` yet.
    """
    found, namings, reasons = _read(frames.values)
    time_s, received_us = _seconds(found), frames.received_us
    readable = ~_too_far(time_s, received_us)
    readable[list(reasons)] = False
    time_ns = time_s * NS_PER_S + np.array([trade.rest_ns for trade in found], np.int64)
    latest_us = received_us + int(ahead_s * US_PER_S)
    columns = [
        pa.array([pair for pair, _ in namings], pa.string()),
        pa.array([trade.id for trade in found], pa.string()),
        pa.array([trade.price for trade in found], pa.float64()),
        pa.array([trade.quantity for trade in found], pa.float64()),
        pa.array([trade.total for trade in found], pa.float64()),
        pa.array(time_ns),
        pa.array([side for _, side in namings], pa.int32()),
        pa.array(np.minimum(time_ns // NS_PER_US, latest_us)),
        pa.array(time_ns // NS_PER_US > latest_us),
        pa.array(readable),
        pa.array(frames.partition, pa.int32()),
        pa.array(frames.offset, pa.int64()),
    ]
    if numbered:
        columns.append(pa.array([trade.sequence for trade in found], pa.int64()))
    return pa.RecordBatch.from_arrays(columns, schema=TRADES.append(NUMBER) if numbered else TRADES)
