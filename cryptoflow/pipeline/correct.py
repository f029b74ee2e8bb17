"""An hour's rows made what the log says: what differs is written, what the log lacks removed, and a verdict left."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from cassandra.cluster import Session

from cryptoflow.model.candle import Candle, CandleRow, DirectionRow, candle_row, direction_rows
from cryptoflow.model.trade import Pair
from cryptoflow.model.verdict import ALL_THERE, COMPLETE, DIFFERENT, LATE_TRADES, LOG_CUT, REPAIRED, SUSPECT
from cryptoflow.model.window import HOUR
from cryptoflow.pipeline.recompute import Made
from cryptoflow.pipeline.repair_plan import Plan, with_late
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import reader
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.lease import Lease
from cryptoflow.tables.schema import CANDLES, HOURS, MARKS, TRADE_WINDOWS, HourRow, MarkRow, pair_of
from cryptoflow.tables.writer import TableWriter

SAME = 1e-12
"""Relative difference of two sums of the same numbers, at most: they may be rounded once more or less."""

RowOfPair = TypeVar("RowOfPair", MarkRow, CandleRow, DirectionRow)


class RepairedHour(msgspec.Struct, frozen=True):
    """What was done about an hour of a pair."""

    row: HourRow
    written: int
    """Candles that were written, as they differed or were missing."""
    removed: int
    """Candles that were removed, as the log has no trade of theirs."""


class Stored(msgspec.Struct, frozen=True):
    """The rows of a pair in an hour, as the tables have them."""

    candles: Sequence[CandleRow] = ()
    sides: Sequence[DirectionRow] = ()

    @property
    def trades(self) -> int:
        """The trades in the candles."""
        return sum(row.trades for row in self.candles)

    def differing(self, made: Iterable[Candle]) -> list[Candle]:
        """Those of the candles that the tables have otherwise, or not at all."""
        rows = {row.window_start: row for row in self.candles}
        sides = {(row.window_start, row.direction): row for row in self.sides}
        return [
            candle
            for candle in made
            if not _same(candle_row(candle), rows.get(candle.window_start))
            or not all(_same(row, sides.get((row.window_start, row.direction))) for row in direction_rows(candle))
        ]

    def extra(self, made: Iterable[Candle]) -> "Stored":
        """The rows that the candles don't have."""
        windows, sides = set(), set()
        for candle in made:
            windows.add(candle.window_start)
            sides |= {(candle.window_start, direction) for direction, _ in candle.sides()}
        return Stored(
            [row for row in self.candles if row.window_start not in windows],
            [row for row in self.sides if (row.window_start, row.direction) not in sides],
        )


def _same(one: tuple[object, ...], other: tuple[object, ...] | None) -> bool:
    return other is not None and all(map(_equal, one, other))


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=SAME)
    return one == other


class Corrector:
    """Corrects hours, to the holder of the lease of repairs."""

    def __init__(self, session: Session, settings: CassandraSettings, window_s: int, lease: Lease) -> None:
        self._session, self._settings, self._window_s, self._lease = session, settings, window_s, lease
        self._writer = TableWriter(session, settings)

    def correct(
        self,
        plan: Plan,
        made: Mapping[Pair, Made],
        known: Mapping[Pair, HourRow],
        marks: Mapping[MarkRow, int],
        wanted: Callable[[Pair], bool],
    ) -> list[RepairedHour]:
        """Write what differs, then the hour's verdicts, and last take away the marks that were worked off.

        Args:
            made: what the log says, by pair; of a plan that is cut, nothing.
            known: what is known of the hour, by pair.
            marks: those that are worked off by it, each with the time that it was written at.
            wanted: whether to repair a pair.
        """
        patiently(self._lease.catch_up, self._settings)
        timestamp = patiently(self._lease.timestamp, self._settings)
        candles = _by_pair(reader.candle_rows(self._session, self._window_s, plan.start, plan.end))
        sides = _by_pair(reader.direction_rows(self._session, self._window_s, plan.start, plan.end))
        late = _by_pair(marks)
        done = [
            self._corrected(
                pair,
                plan,
                made.get(pair, Made()),
                Stored(candles.get(pair, ()), sides.get(pair, ())),
                known.get(pair),
                late.get(pair, ()),
                timestamp,
            )
            for pair in sorted(filter(wanted, {*made, *candles, *sides, *known, *late}))
        ]
        self._writer.put(HOURS, [each.row for each in done], timestamp)
        # At the time of its own writing: one that was written anew meanwhile, with more trades, stays.
        for mark, time in marks.items():
            self._writer.remove(MARKS, [mark], time)
        return done

    def _corrected(
        self,
        pair: Pair,
        plan: Plan,
        made: Made,
        stored: Stored,
        known: HourRow | None,
        late: Sequence[MarkRow],
        timestamp: int,
    ) -> RepairedHour:
        different: list[Candle] = []
        extra = Stored()
        if not plan.cut:
            different, extra = stored.differing(made.candles), stored.extra(made.candles)
            self._writer.put_candles(different, timestamp)
            self._writer.remove(CANDLES, extra.candles, timestamp)
            self._writer.remove(TRADE_WINDOWS, extra.sides, timestamp)
        changed = bool(different or extra.candles or extra.sides)
        row = hour_row(pair, plan, made, stored.trades, known, late, changed)
        return RepairedHour(row, len(different), len(extra.candles))


def hour_row(
    pair: Pair,
    plan: Plan,
    made: Made,
    before: int,
    known: HourRow | None,
    late: Sequence[MarkRow],
    changed: bool,
) -> HourRow:
    """What is known of an hour of a pair after its repair.

    Args:
        before: the trades in its candles before that.
        known: what was known before.
        late: the marks that were worked off.
        changed: whether the repair has changed a row.
    """
    in_log = before if plan.cut else sum(candle.trades for candle in made.candles)
    repaired_before = bool(known and known.verdict == REPAIRED)
    verdict, reason = verdict_of(plan, changed or repaired_before, bool(late or (known and known.late)))
    return HourRow(
        *pair,
        date=plan.hour.replace(hour=0),
        hour=plan.hour,
        in_log=in_log,
        in_candles=in_log,
        duplicates=made.duplicates,
        late=(known.late if known else 0) + max(0, in_log - before),
        gaps=known.gaps if known else 0,
        verdict=verdict,
        reason=reason if plan.end >= plan.hour + HOUR else f"{reason}, until {plan.end:%H:%M}",
        repaired_at=datetime.now(UTC),
        stretches=with_late(known, late),
    )


def verdict_of(plan: Plan, changed: bool, late: bool) -> tuple[str, str]:
    """The verdict on an hour of a pair, and why it is that."""
    if plan.cut or plan.partly:
        return SUSPECT, LOG_CUT
    if changed:
        return REPAIRED, LATE_TRADES if late else DIFFERENT
    return COMPLETE, ALL_THERE


def _by_pair(rows: Iterable[RowOfPair]) -> dict[Pair, list[RowOfPair]]:
    found: dict[Pair, list[RowOfPair]] = defaultdict(list)
    for row in rows:
        found[pair_of(row)].append(row)
    return found
