"""Longer candles in the table `candles`, made of the stored ones of the shortest length; trades are not read again.

What is stored of the shortest length is the truth. The first time that a process touches a day of a pair (or whatever
the longest length is) it makes all longer candles of it from that truth, which also mends what a crash or an earlier
setting left; after that each is made from those of the next shorter length, so that little is read. As long as nobody
else writes, what was read and made is remembered, and nothing is read.

Where candles expire, the shorter ones go first. A longer one of which some may have gone keeps their trades, and none
is made that is longer than the time to live.

Two may do this at once, an aggregation and a repair. Each writes above what it found, and then reads back what it
has read and written: if anything differs, it makes all of that anew. So the last one to write has seen everything.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import NamedTuple

import msgspec
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent

from cryptoflow.model.candle import CandleKey, CandleRow, merged
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import as_utc, floor_window, utc_midnight
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.lease import Lease
from cryptoflow.tables.reader import time_to_live_s
from cryptoflow.tables.schema import CANDLES
from cryptoflow.tables.writer import CONCURRENT_REQUESTS, TableWriter

DAY = timedelta(days=1)

AT_ONCE = 64
"""Days of pairs that are in memory at a time."""

Rows = dict[datetime, CandleRow]
"""The candles of one pair and length, by the start of their windows."""

Place = tuple[Pair, datetime]
"""A window of the longest length of a pair."""


class Stretch(NamedTuple):
    """The windows of one length that begin from `start` on and before `end`; aware UTC."""

    window_s: int
    start: datetime
    end: datetime


class Found(msgspec.Struct):
    """What is stored in some stretches, one for each length, the shortest first."""

    levels: list[Rows]
    stamp_us: int = 0
    """The newest time that a longer one of them was written at."""


class Changes(msgspec.Struct):
    """Rows to write and to remove."""

    written: list[CandleRow] = []
    removed: list[CandleRow] = []

    def add(self, before: Sequence[Rows], after: Sequence[Rows]) -> None:
        """What makes longer candles out of what they are."""
        for old, new in zip(before[1:], after[1:], strict=True):
            self.written += [row for start, row in new.items() if old.get(start) != row]
            self.removed += [row for start, row in old.items() if start not in new]


class Kept(NamedTuple):
    """What is stored of a window of the longest length."""

    since: datetime
    """All that the longer candles of windows are made of that begin then or later."""
    found: Found


class Work(msgspec.Struct, eq=False):
    """Windows of the shortest length, all in one place, whose longer candles are due."""

    place: Place
    touched: dict[datetime, CandleRow | None] = {}
    """Their candles, by start; None where it is not known what is stored."""

    @property
    def rows(self) -> Rows | None:
        """Their candles; None unless all are known."""
        rows = {start: row for start, row in self.touched.items() if row}
        return rows if len(rows) == len(self.touched) else None


class LongerCandles:
    """Makes longer candles, to the holder of a lease.

    Args:
        base_s: the length of the stored candles that they are made of, in s.
    """

    def __init__(
        self, session: Session, settings: CassandraSettings, base_s: int, lease: Lease, writer: TableWriter
    ) -> None:
        self._session, self._settings, self._lease, self._writer = session, settings, lease, writer
        self._ttl_s = time_to_live_s(session)
        longer_s = (each for each in settings.longer_s(base_s) if not self._ttl_s or each <= self._ttl_s)
        self._lengths_s = [base_s, *longer_s]
        self._known: set[Place] = set()
        self._kept: dict[Place, Kept] = {}
        self._others: Mapping[tuple[str, int], bool] = {}
        where = " AND ".join(f"{name} = ?" for name in CANDLES.partition)
        self._select = session.prepare(
            f"SELECT {', '.join(CANDLES.columns)}, writetime(close) FROM candles"
            f" WHERE {where} AND window_start >= ? AND window_start < ?"
        )

    def make(self, touched: Mapping[CandleKey, CandleRow | None], timestamp: int) -> None:
        """Make the longer candles of windows whose candles are stored by now, or removed.

        Args:
            touched: the stored candles by their keys; None: it has to be read what is stored, if anything is.
            timestamp: in us, of the writes; later where what is stored is later.

        Raises:
            CassandraError: they could not be read or written.
        """
        works = iter(self._works(touched))
        while part := list(islice(works, AT_ONCE)):
            while part := self._contested(part, timestamp):
                timestamp = self._later_timestamp()

    def _later_timestamp(self) -> int:
        """One above all that anybody else has written or removed by now."""
        patiently(self._lease.catch_up, self._settings)
        return patiently(self._lease.timestamp, self._settings)

    def _works(self, touched: Mapping[CandleKey, CandleRow | None]) -> Iterable[Work]:
        works: dict[Place, Work] = {}
        if len(self._lengths_s) > 1:
            for (*pair, start), row in touched.items():
                place = (pair[0], pair[1], pair[2]), floor_window(start, self._lengths_s[-1])
                works.setdefault(place, Work(place)).touched[start] = row
        return works.values()

    def _contested(self, works: Sequence[Work], timestamp: int) -> list[Work]:
        """Makes the longer candles; gives those that are to be made anew, as somebody else was at it meanwhile."""
        stretches = {work: self._stretches(work, whole=work.place not in self._known) for work in works}
        stored = {work: found for work in works if (found := self._remembered(work, stretches[work]))}
        stored |= self._read({work: stretches[work] for work in works if work not in stored})
        made: dict[Work, Found] = {}
        due: dict[int, Changes] = defaultdict(Changes)
        for work, found in stored.items():
            made[work] = Found(self._merged(work, found.levels), max(timestamp, found.stamp_us + 1))
            due[made[work].stamp_us].add(found.levels, made[work].levels)
        for stamp_us, changes in due.items():
            self._writer.put(CANDLES, changes.written, stamp_us)
            self._writer.remove(CANDLES, changes.removed, stamp_us)
        again: list[Work] = []
        if self._is_shared():
            self._kept.clear()
            again = [work for work, found in self._read(stretches).items() if found.levels != made[work].levels]
        else:
            self._kept |= {work.place: self._to_keep(work, made[work]) for work in works if work.rows}
        self._known |= {work.place for work in works}
        self._known -= {work.place for work in again}
        return again

    def _remembered(self, work: Work, stretches: Sequence[Stretch]) -> Found | None:
        """What is stored, without reading it; None: that is not known."""
        kept = self._kept.pop(work.place, None)
        if kept is None or not work.rows or min(work.touched) < kept.since:
            return None
        levels = _within(stretches, kept.found.levels)
        return Found([levels[0] | work.rows, *levels[1:]], kept.found.stamp_us)

    def _to_keep(self, work: Work, made: Found) -> Kept:
        levels = _within(self._stretches(work, whole=False), made.levels)
        return Kept(floor_window(min(work.touched), self._lengths_s[1]), Found(levels, made.stamp_us))

    def _is_shared(self) -> bool:
        """Whether another holder of a lease is at work, or was since this was asked last."""
        before, self._others = self._others, patiently(self._lease.others, self._settings)
        if changed := self._others != before:
            # What was removed hides what is written below, and does not tell its timestamp.
            patiently(self._lease.catch_up, self._settings)
        return changed or any(self._others.values())

    def _stretches(self, work: Work, *, whole: bool) -> list[Stretch]:
        """Of each length the windows that the longer candles are made of, down to the end of the place.

        Args:
            whole: all that are in the place.
        """
        spans = [self._lengths_s[-1]] * len(self._lengths_s) if whole else [*self._lengths_s[1:], self._lengths_s[-1]]
        first, end = min(work.touched), work.place[1] + timedelta(seconds=self._lengths_s[-1])
        return [
            Stretch(length_s, floor_window(first, span_s), end)
            for length_s, span_s in zip(self._lengths_s, spans, strict=True)
        ]

    def _read(self, stretches: Mapping[Work, Sequence[Stretch]]) -> dict[Work, Found]:
        asked = [
            (work, level, [*work.place[0], stretch.window_s, date, stretch.start, stretch.end])
            for work, each in stretches.items()
            for level, stretch in enumerate(each)
            for date in _dates(stretch)
        ]
        statements = [(self._select, values) for _, _, values in asked]
        call = partial(execute_concurrent, self._session, statements, concurrency=CONCURRENT_REQUESTS)
        found = {work: Found([{} for _ in self._lengths_s]) for work in stretches}
        for (work, level, _), (_, rows) in zip(asked, patiently(call, self._settings), strict=True):
            for *columns, stamp_us in rows:
                row = CandleRow(*columns)
                row = row._replace(date=as_utc(row.date), window_start=as_utc(row.window_start))
                found[work].levels[level][row.window_start] = row
                found[work].stamp_us = max(found[work].stamp_us, stamp_us if level else 0)
        return found

    def _merged(self, work: Work, stored: Sequence[Rows]) -> list[Rows]:
        """All that is to be stored in the stretches, by the truth of the shortest length."""
        levels = [stored[0]]
        for length_s, before in zip(self._lengths_s[1:], stored[1:], strict=True):
            parts: dict[datetime, list[CandleRow]] = defaultdict(list)
            for start, row in levels[-1].items():
                parts[floor_window(start, length_s)].append(row)
            if work.place in self._known:
                touched = {floor_window(start, length_s) for start in work.touched}
                kept = {start: row for start, row in before.items() if start not in touched}
            else:
                touched, kept = set(parts), {}
            made = kept | {start: merged(parts[start], length_s) for start in touched if start in parts}
            levels.append(made | self._outlasting(before, made))
        return levels

    def _outlasting(self, stored: Rows, made: Rows) -> Rows:
        """The stored candles that have more trades than what is left of those that they were made of."""
        if not self._ttl_s:
            return {}
        expired = datetime.now(UTC) - timedelta(seconds=self._ttl_s)
        return {
            start: row
            for start, row in stored.items()
            if start < expired and row.trades > (made[start].trades if start in made else 0)
        }


def _within(stretches: Sequence[Stretch], levels: Sequence[Rows]) -> list[Rows]:
    return [
        {start: row for start, row in rows.items() if stretch.start <= start < stretch.end}
        for stretch, rows in zip(stretches, levels, strict=True)
    ]


def _dates(stretch: Stretch) -> Iterator[datetime]:
    """The dates of a stretch's windows, each that of a window's end."""
    date = utc_midnight(stretch.start + timedelta(seconds=stretch.window_s))
    while date <= stretch.end:
        yield date
        date += DAY
