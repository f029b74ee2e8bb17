"""What Spark's tasks have made of a stream's batch, or of a stretch of the log, as Python takes it."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from cryptoflow.model.candle import Candle, Side
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.verdict import Run
from cryptoflow.model.window import NS_PER_US, utc_time
from cryptoflow.spark.arrow import to_table


class Found(msgspec.Struct, frozen=True):
    """A candle, and where in the log the trades lie that made it."""

    candle: Candle
    copies: int
    """Those trades, with their duplicates."""
    partitions: range
    first_offset: int
    """None of them lies before it."""
    runs: Sequence[Run] = ()
    """The numbers of its trades, if they were asked for."""

    @property
    def first(self) -> Offsets:
        """Before which place none of them lies, in a log of one topic: several are a million partitions apart."""
        return dict.fromkeys(self.partitions, self.first_offset)


class LeftOut(msgspec.Struct, frozen=True):
    """Trades of a pair and an hour in a partition of the log, that are in no candle."""

    pair: str
    hour_s: int
    partition: int
    first_offset: int
    last_offset: int
    trades: int
    newest_ns: int

    def plus(self, more: "LeftOut") -> "LeftOut":
        """With more of the same pair, hour and partition."""
        return LeftOut(
            self.pair,
            self.hour_s,
            self.partition,
            min(self.first_offset, more.first_offset),
            max(self.last_offset, more.last_offset),
            self.trades + more.trades,
            max(self.newest_ns, more.newest_ns),
        )


class Counts(msgspec.Struct, frozen=True):
    """What became of some records; those that an earlier stream or batch had counted are left out."""

    rows: int = 0
    unreadable: int = 0
    late: int = 0
    """Trades that wait for a repair: of windows that are finished, too late for the stream, or too far ahead."""
    duplicates: int = 0
    newest_us: int = 0
    """The newest exchange time, those of trades too far ahead cut; 0: there is no trade."""

    @property
    def newest(self) -> datetime | None:
        """The same as a time, aware UTC."""
        return utc_time(self.newest_us * NS_PER_US) if self.newest_us else None

    def plus(self, more: "Counts") -> "Counts":
        """Those of more records added."""
        return Counts(
            self.rows + more.rows,
            self.unreadable + more.unreadable,
            self.late + more.late,
            self.duplicates + more.duplicates,
            max(self.newest_us, more.newest_us),
        )


class Folded(NamedTuple):
    """What became of a batch."""

    found: Sequence[Found] = ()
    counts: Counts = Counts()
    left_out: Sequence[LeftOut] = ()


def read(rows: Iterable[Mapping[str, Any]], window_s: int) -> Folded:
    """What all rows of `pack.FOLDED` tell together."""
    found: list[Found] = []
    counts = Counts()
    left_out: dict[tuple[str, int, int], LeftOut] = {}
    for row in rows:
        found += [_found(candle, window_s) for candle in to_table(row["candles"]).to_pylist()]
        late = 0
        for each in [] if row["left_out"] is None else to_table(row["left_out"]).to_pylist():
            one = LeftOut(**each)
            key = one.pair, one.hour_s, one.partition
            left_out[key] = left_out[key].plus(one) if key in left_out else one
            late += one.trades
        counts = counts.plus(Counts(row["rows"], row["unreadable"], late, row["duplicates"], row["newest_us"]))
    return Folded(found, counts, list(left_out.values()))


def _found(row: Mapping[str, Any], window_s: int) -> Found:
    market, from_coin, to_currency = row["pair"].split("~")
    candle = Candle(
        market=market,
        from_coin=from_coin,
        to_currency=to_currency,
        window_start=datetime.fromtimestamp(row["start_s"], UTC),
        window_s=window_s,
        open=row["open"],
        high=row["high"],
        low=row["low"],
        close=row["close"],
        trades=row["trades"],
        quantity=row["quantity"],
        volume=row["volume"],
        buy=Side(**row["buy"]),
        sell=Side(**row["sell"]),
    )
    partitions = range(row["first_partition"], row["last_partition"] + 1)
    runs = [(run["first"], run["last"]) for run in row.get("runs", ())]
    return Found(candle, row["copies"], partitions, row["first_offset"], runs)
