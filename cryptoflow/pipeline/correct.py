"""An hour's rows made what the log says: what differs is written, what the log lacks removed, and verdicts left."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

import msgspec
from cassandra.cluster import Session

from cryptoflow.model.candle import Candle, CandleKey, CandleRow, DirectionRow, candle_row, direction_rows
from cryptoflow.model.trade import Pair
from cryptoflow.model.verdict import LOG_CUT
from cryptoflow.model.window import HOUR
from cryptoflow.pipeline.judge import Beside, Finding, find, has_trades, hour_row, settled
from cryptoflow.pipeline.marking import EVERY_PAIR, JOINED, whole_mark
from cryptoflow.pipeline.recompute import Made
from cryptoflow.pipeline.repair_plan import Plan
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import hours, reader
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.lease import Lease
from cryptoflow.tables.longer import LongerCandles
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

    def since(self, start: datetime) -> "Stored":
        """Those of the windows that begin at a time (aware) or later."""
        return Stored(
            [row for row in self.candles if row.window_start >= start],
            [row for row in self.sides if row.window_start >= start],
        )

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
        self._longer = LongerCandles(session, settings, window_s, lease, self._writer)

    def correct(
        self,
        plan: Plan,
        made: Mapping[Pair, Made],
        known: Mapping[Pair, HourRow],
        marks: Mapping[MarkRow, int],
        wanted: Callable[[Pair], bool],
    ) -> list[RepairedHour]:
        """Write what differs, then the verdicts, and last take away the marks that were worked off.

        Args:
            made: what the log says, by pair.
            known: what is known of the hour, by pair.
            marks: those that are worked off by it, each with the time that it was written at.
            wanted: whether to repair a pair.
        """
        patiently(self._lease.catch_up, self._settings)
        timestamp = patiently(self._lease.timestamp, self._settings)
        candles = _by_pair(reader.candle_rows(self._session, self._window_s, plan.hour, plan.end))
        sides = _by_pair(reader.direction_rows(self._session, self._window_s, plan.hour, plan.end))
        late = _by_pair(marks)
        beside = Beside(plan.hour, partial(hours.of_day, self._session))
        found = {pair: find(each, beside.earlier(pair), beside.later(pair)) for pair, each in made.items()}
        concerned = {pair for pair, each in made.items() if each.candles or found[pair].proven}
        concerned |= {*candles, *sides, *known, *late, *(self._followed(plan, beside) if plan.to_its_end else ())}
        done, others = [], []
        for pair in sorted(filter(wanted, concerned - {EVERY_PAIR})):
            earlier, later = beside.earlier(pair), beside.later(pair)
            finding = found.get(pair) or find(Made(), earlier, later)
            stored = Stored(candles.get(pair, ()), sides.get(pair, ()))
            facts = made.get(pair, Made()), finding, stored, known.get(pair), late.get(pair, ())
            done.append(self._corrected(pair, plan, *facts, timestamp))
            others += settled(finding, earlier, later, plan.ids[1])
        self._longer.make({key: None for key in _windows(made, candles) if wanted(key[:3])}, timestamp)
        self._writer.put(HOURS, [*(each.row for each in done), *others], timestamp)
        self._writer.put(MARKS, [_joined_mark(row, plan) for row in others if _is_to_repair(row)], timestamp)
        # At the time of its own writing: one that was written anew meanwhile, with more trades, stays.
        for mark, time in marks.items():
            self._writer.remove(MARKS, [mark], time)
        return done

    def _followed(self, plan: Plan, beside: Beside) -> Iterator[Pair]:
        """The pairs that had a verdict on the hour before, and a trade not too long ago."""
        for row in hours.of_hour(self._session, plan.hour - HOUR):
            if has_trades(beside.earlier(pair_of(row))):
                yield pair_of(row)

    def _corrected(
        self,
        pair: Pair,
        plan: Plan,
        made: Made,
        finding: Finding,
        stored: Stored,
        known: HourRow | None,
        late: Sequence[MarkRow],
        timestamp: int,
    ) -> RepairedHour:
        # Fewer trades than the candles have would be a proof of something else.
        proven = finding.proven and made.trades >= stored.trades
        start = plan.hour if proven else plan.start
        different: list[Candle] = []
        before = trades = stored.trades
        extra = Stored()
        if proven or not plan.cut:
            candles = [candle for candle in made.candles if candle.window_start >= start]
            touched = stored.since(start)
            different, extra = touched.differing(candles), touched.extra(candles)
            self._writer.put_candles(different, timestamp)
            self._writer.remove(CANDLES, extra.candles, timestamp)
            self._writer.remove(TRADE_WINDOWS, extra.sides, timestamp)
            trades += sum(candle.trades for candle in candles) - touched.trades
        row = hour_row(
            pair,
            plan,
            finding,
            known,
            late,
            trades=trades,
            added=max(0, trades - before),
            duplicates=made.duplicates,
            rewritten=len(different) + len(extra.candles or extra.sides),
            cut=(plan.cut or plan.partly) and not proven,
        )
        return RepairedHour(row, len(different), len(extra.candles))


def _is_to_repair(row: HourRow) -> bool:
    """Whether numbers prove by now that the log has all trades of an hour that was left as it is."""
    return row.reason == LOG_CUT and not hours.ranges_of(row)


def _joined_mark(row: HourRow, plan: Plan) -> MarkRow:
    return whole_mark(row.hour, pair_of(row), plan.topic, plan.ids[0], JOINED)


def _by_pair(rows: Iterable[RowOfPair]) -> dict[Pair, list[RowOfPair]]:
    found: dict[Pair, list[RowOfPair]] = defaultdict(list)
    for row in rows:
        found[pair_of(row)].append(row)
    return found


def _windows(made: Mapping[Pair, Made], stored: Mapping[Pair, Sequence[CandleRow]]) -> set[CandleKey]:
    """The windows that have a candle, or had one."""
    keys = {candle.key for each in made.values() for candle in each.candles}
    return keys | {(*pair, row.window_start) for pair, rows in stored.items() for row in rows}
