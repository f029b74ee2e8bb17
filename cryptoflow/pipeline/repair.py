"""Hours that lack trades: computed anew from the log, and their rows written where they differ.

A repair touches finished windows only, so it stands beside the live aggregation; and only those of which the log
provably holds all trades. What it reads is bounded: the progress on record tells where an hour's trades lie, and marks
tell where those lie that came late.
"""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
from cassandra.cluster import Session
from pyspark.sql import SparkSession

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.kafka_io.log import Log, Offsets, open_log
from cryptoflow.kafka_io.records import first_times_ms, records_between
from cryptoflow.local import jars
from cryptoflow.model.candle import Candle, CandleRow, DirectionRow, candle_row, candles_of, direction_rows
from cryptoflow.model.trade import MAX_AHEAD_S, Trade, read_trade
from cryptoflow.model.window import EPOCH
from cryptoflow.pipeline.place import ns
from cryptoflow.pipeline.supervision import Control
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.spark.batch import candles_between
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.spark.session import spark_session
from cryptoflow.tables import lease, progress, reader
from cryptoflow.tables.connection import connect, ensure_schema, patiently
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.reader import Pair
from cryptoflow.tables.schema import CANDLES, HOURS, MARKS, TRADE_WINDOWS, HourRow, MarkRow
from cryptoflow.tables.writer import TableWriter

HOUR = timedelta(hours=1)

SMALL = 150_000
"""Records up to which plain Python takes less time than Spark takes to start."""

SAME = 1e-12
"""Relative difference of two sums of the same numbers, at most: they may be rounded once more or less."""

COMPLETE, REPAIRED, SUSPECT = "complete", "repaired", "suspect"
"""Verdicts: the candles had all that the log has; they have it now; it can't be told, or not be mended."""

LogStretch = tuple[str, int, int, int]
"""(topic id, partition, first offset, offset behind the last) of trades that came late."""

RowOfPair = TypeVar("RowOfPair", MarkRow, CandleRow, DirectionRow)

LOG_CUT = "log cut"
"""Why: the log does not hold all trades of the hour, or no more."""

LATE_TRADES, DIFFERENT, ALL_THERE = "late trades", "the rows differed", "the candles have all trades of the log"
"""Why."""


class Wanted(msgspec.Struct, frozen=True):
    """Which hours to repair; of all pairs, or of those that are named."""

    hours: Sequence[datetime] | None = None
    """Aware UTC, whole; None: all that are marked."""
    market: str | None = None
    coins: tuple[str, str] | None = None

    def has(self, pair: Pair) -> bool:
        """Whether a pair is one of them."""
        return self.market in (None, pair[0]) and self.coins in (None, pair[1:])


class RepairedHour(msgspec.Struct, frozen=True):
    """What was done about an hour of a pair."""

    row: HourRow
    written: int
    """Candles that were written, as they differed or were missing."""
    removed: int
    """Candles that were removed, as the log has no trade of theirs."""


class Summary(msgspec.Struct):
    """What a repair did, and what waits."""

    repaired: list[RepairedHour] = []
    waiting: list[datetime] = []
    """Hours that can't be repaired yet: the windows concerned are not finished."""
    finished: datetime | None = None
    """By when windows were finished at last; None: no aggregation of the topic into the tables is on record."""


def hours_between(start: datetime, end: datetime) -> list[datetime]:
    """The whole hours that a stretch of time touches; aware UTC."""
    first = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return [first + HOUR * number for number in range(max(0, math.ceil((end - first) / HOUR)))]


def merged(topic: str, intervals: Iterable[tuple[int, int, int]]) -> list[Stretch]:
    """Stretches that hold each record of the intervals (partition, first, behind the last) once."""
    layers: list[Stretch] = []
    by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for partition, first, end in intervals:
        if first < end:
            by_partition[partition].append((first, end))
    for partition, spans in by_partition.items():
        for layer, (first, end) in enumerate(_joined(sorted(spans))):
            if layer == len(layers):
                layers.append(Stretch(topic, {}, {}))
            layers[layer] = Stretch(
                topic, {**layers[layer].begin, partition: first}, {**layers[layer].end, partition: end}
            )
    return layers


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    held: tuple[int, int] | None = None
    for first, end in spans:
        if held and first <= held[1]:
            held = held[0], max(held[1], end)
        else:
            if held:
                yield held
            held = first, end
    if held:
        yield held


def repair(
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    settings: SparkSettings,
    home: Path,
    control: Control,
    wanted: Wanted,
    on_hour: Callable[[datetime, Sequence[RepairedHour]], None] = lambda hour, done: None,
) -> Summary:
    """Repair hours, the oldest first, until done or told to stop; `on_hour` is told of each as it is done.

    The figures that are reported: `hours` done, `hours_left` and `trades_read`.

    Raises:
        KafkaError, CassandraError: they are not there, gone for too long, or refuse something.
        AlreadyRunningError: another repair works on the keyspace.
        LeaseLostError: another one took over while this one did not answer.
    """
    holder = Holder.current(control.owner, home)
    with (
        connect(cassandra) as session,
        open_log(kafka) as log,
        ExitStack() as stack,
    ):
        ensure_schema(session, cassandra)
        work = f"repairs {cassandra.keyspace}"
        held = stack.enter_context(lease.held(session, lease.REPAIR, holder, work, control.waits()))
        work_at = Repair(session, kafka, cassandra, settings, home, log, held, stack)
        control.await_work(
            lambda: work_at.run(wanted, control.stop.is_set, on_hour), held.alive, work_at.figures, work_at.cancel
        )
        return work_at.summary


class _CanceledError(Exception):
    """The repair has to end before the hour at hand is done; nobody is told, as nobody waits for it."""


class Repair:
    """A repair at work; it starts Spark when it first has much to read.

    Attributes:
        summary: what it has done so far.
    """

    def __init__(
        self,
        session: Session,
        kafka: KafkaSettings,
        cassandra: CassandraSettings,
        settings: SparkSettings,
        home: Path,
        log: Log,
        held: lease.Lease,
        stack: ExitStack,
    ) -> None:
        self._session, self._kafka, self._cassandra, self._settings = session, kafka, cassandra, settings
        self._home, self._log, self._lease, self._stack = home, log, held, stack
        self._writer = TableWriter(session, cassandra)
        self._place = Place(settings.window_s, kafka.topic, log.topic_id)
        self._spark: SparkSession | None = None
        self._canceled = threading.Event()
        self._hours_left = self._hours_done = self._read = 0
        self.summary = Summary()

    def figures(self) -> dict[str, float]:
        """How far it has come."""
        return {"hours": self._hours_done, "hours_left": self._hours_left, "trades_read": self._read}

    def cancel(self) -> None:
        """Give the hour at hand up."""
        self._canceled.set()
        if self._spark:
            self._spark.sparkContext.cancelAllJobs()

    def run(
        self,
        wanted: Wanted,
        stopped: Callable[[], bool],
        on_hour: Callable[[datetime, Sequence[RepairedHour]], None],
    ) -> None:
        """Repair the hours that are wanted."""
        hours = self._wanted(wanted)
        for number, hour in enumerate(hours):
            if stopped():
                return
            self._hours_left = len(hours) - number
            done = self.hour(hour, wanted)
            if done is None:
                self.summary.waiting.append(hour)
            else:
                self.summary.repaired += done
                self._hours_done += 1
                on_hour(hour, done)
        self._hours_left = 0

    def _wanted(self, wanted: Wanted) -> Sequence[datetime]:
        """The hours to repair; marked ones that can't be yet are noted as waiting."""
        at = self._at()
        if wanted.hours is not None:
            return wanted.hours
        marks = [mark for mark in reader.marks(self._session) if wanted.has(_pair_of(mark))]
        ready = reader.ready_hours(marks, at.finished if at else EPOCH)
        self.summary.waiting = sorted({mark.hour for mark in marks} - set(ready))
        return ready

    def _at(self) -> Progress | None:
        at = progress.read(self._session, self._place)
        self.summary.finished = at.finished if at else None
        return at

    def hour(self, hour: datetime, wanted: Wanted) -> list[RepairedHour] | None:
        """Repair an hour; None: none of its windows is finished."""
        marks = {
            mark: time for mark, time in reader.marks_of(self._session, hour).items() if wanted.has(_pair_of(mark))
        }
        at = self._at()
        if at is None or at.finished <= hour:
            return None
        # What is marked later is repaired later: it may lie behind these ends.
        ends = self._log.ends()
        span = max(hour, min(at.origin, hour + HOUR)), min(hour + HOUR, at.finished)
        ready = {mark: time for mark, time in marks.items() if mark.until <= span[1]}
        known = {row[:3]: row for row in reader.hours(self._session, hour)}
        places = [stretch for row in known.values() for stretch in _stretches(row)]
        places += [_stretch_of(mark) for mark in marks]
        plan = self._plan(hour, span, at, places, ends, marks)
        made = {} if plan.cut else self._candles(plan, span)
        return self._written(hour, span, plan, made, known, ready, wanted)

    def _plan(
        self,
        hour: datetime,
        span: tuple[datetime, datetime],
        at: Progress,
        late: Sequence[LogStretch],
        ends: Offsets,
        marks: Iterable[MarkRow],
    ) -> "Plan":
        """What of the log to read, `late` being where late trades lie, and whether it holds all trades of the hour."""
        begins = self._log.begins()
        bounds = progress.bounds(self._session, self._place, span[0], span[1])
        first = bounds.begins or self._log.at(max(0, ns(hour - timedelta(seconds=MAX_AHEAD_S)) // 1_000_000), ends)
        last = at.offsets if span[1] == at.finished else bounds.ends or ends
        places = [(place, first.get(place, 0), min(last.get(place, end), end)) for place, end in ends.items()]
        places += [(place, begin, end) for topic_id, place, begin, end in late if topic_id == self._log.topic_id]
        kept = [(place, max(begin, begins.get(place, 0)), end) for place, begin, end in places]
        return Plan(
            merged(self._kafka.topic, kept),
            finished=span[1],
            cut=span[0] >= span[1] or self._is_cut(hour, places, begins, bounds.begins is not None),
            partly=at.origin > hour or any(mark.topic_id != self._log.topic_id for mark in marks),
        )

    def _is_cut(self, hour: datetime, places: Sequence[tuple[int, int, int]], begins: Offsets, on_record: bool) -> bool:
        """Whether Kafka has deleted trades that may belong to the hour."""
        if any(begin < begins.get(place, 0) for place, begin, end in places if begin < end):
            return True
        if on_record:
            return False
        shortened = [place for place, begin in begins.items() if begin]
        oldest_ms = first_times_ms(self._kafka, self._kafka.topic, shortened)
        since_ms = ns(hour - timedelta(seconds=MAX_AHEAD_S)) // 1_000_000
        return len(oldest_ms) < len(shortened) or any(time_ms > since_ms for time_ms in oldest_ms.values())

    def _candles(self, plan: "Plan", span: tuple[datetime, datetime]) -> "dict[Pair, Made]":
        """The candles of the span by pair, out of the stretches of the log."""
        size = sum(end - stretch.begin[place] for stretch in plan.stretches for place, end in stretch.end.items())
        found = self._by_python(plan, span) if size <= SMALL else self._by_spark(plan, span)
        made: dict[Pair, Made] = {}
        for candle, copies in found:
            pair = made.setdefault((candle.market, candle.from_coin, candle.to_currency), Made())
            pair.candles.append(candle)
            pair.duplicates += copies - candle.trades
        return made

    def _by_spark(self, plan: "Plan", span: tuple[datetime, datetime]) -> Iterator[tuple[Candle, int]]:
        found, counted = candles_between(
            self._session_of_spark(), self._kafka, plan.stretches, self._place.window_s, MAX_AHEAD_S + 1, ns(span[0])
        )
        self._read += counted.rows
        return ((each.candle, each.copies) for each in found if each.candle.window_start < span[1])

    def _session_of_spark(self) -> SparkSession:
        if self._spark is None:
            jars.install(self._home, ["spark"])
            # One core is left to the live aggregation.
            settings = self._settings.model_copy(update={"master": "local[1]", "shuffle_partitions": 2})
            self._spark = self._stack.enter_context(spark_session(settings, self._home, connector=True))
        return self._spark

    def _by_python(self, plan: "Plan", span: tuple[datetime, datetime]) -> Iterator[tuple[Candle, int]]:
        start_ns, end_ns = map(ns, span)
        trades = [trade for trade in self._trades(plan) if start_ns <= trade.event_time_ns < end_ns]
        copies: dict[object, int] = defaultdict(int)
        for trade in trades:
            copies[(*trade.pair, trade.event_time_ns // (self._place.window_s * 10**9))] += 1
        for candle in candles_of(trades, self._place.window_s).values():
            number = ns(candle.window_start) // (self._place.window_s * 10**9)
            yield candle, copies[(candle.market, candle.from_coin, candle.to_currency, number)]

    def _trades(self, plan: "Plan") -> Iterator[Trade]:
        for stretch in plan.stretches:
            for record in records_between(self._kafka, stretch.topic, stretch.begin, stretch.end):
                if self._canceled.is_set():
                    raise _CanceledError
                try:
                    trade = read_trade(record.value or b"")
                except UnreadableFrameError:
                    continue
                self._read += 1
                if trade.time_s <= record.timestamp // 1000 + MAX_AHEAD_S:
                    yield trade

    def _written(
        self,
        hour: datetime,
        span: tuple[datetime, datetime],
        plan: "Plan",
        made: "Mapping[Pair, Made]",
        known: Mapping[Pair, HourRow],
        ready: Mapping[MarkRow, int],
        wanted: Wanted,
    ) -> list[RepairedHour]:
        """Write what differs, then the hour's verdicts, and last take away the marks that were worked off."""
        patiently(self._lease.catch_up, self._cassandra)
        timestamp = patiently(self._lease.timestamp, self._cassandra)
        rows = reader.candle_rows(self._session, self._place.window_s, *span)
        sides = reader.direction_rows(self._session, self._place.window_s, *span)
        pairs = {*made, *map(_pair_of, rows), *map(_pair_of, sides), *known, *map(_pair_of, ready)}
        done = []
        for pair in sorted(pair for pair in pairs if wanted.has(pair)):
            stored = Stored(_of(pair, rows), _of(pair, sides))
            late = _of(pair, ready)
            done.append(self._pair(hour, pair, plan, made.get(pair, Made()), stored, known.get(pair), late, timestamp))
        self._writer.put(HOURS, [each.row for each in done], timestamp)
        # At the time of its own writing: one that was written anew meanwhile, with more trades, stays.
        for mark, time in ready.items():
            self._writer.remove(MARKS, [mark], time)
        return done

    def _pair(
        self,
        hour: datetime,
        pair: Pair,
        plan: "Plan",
        made: "Made",
        stored: "Stored",
        known: HourRow | None,
        late: Sequence[MarkRow],
        timestamp: int,
    ) -> RepairedHour:
        if plan.cut:
            different, extra = [], Stored([], [])
        else:
            different, extra = stored.differing(made.candles), stored.extra(made.candles)
            self._writer.put_candles(different, timestamp)
            self._writer.remove(CANDLES, extra.candles, timestamp)
            self._writer.remove(TRADE_WINDOWS, extra.sides, timestamp)
        before = sum(row.trades for row in stored.candles)
        in_log = before if plan.cut else sum(candle.trades for candle in made.candles)
        changed = bool(different or extra.candles or extra.sides or (known and known.verdict == REPAIRED))
        verdict, reason = _verdict(plan, changed, bool(late or (known and known.late)))
        if plan.finished < hour + HOUR:
            reason += f", until {plan.finished:%H:%M}"
        row = HourRow(
            *pair,
            date=hour.replace(hour=0),
            hour=hour,
            in_log=in_log,
            in_candles=in_log,
            duplicates=made.duplicates,
            late=(known.late if known else 0) + max(0, in_log - before),
            gaps=known.gaps if known else 0,
            verdict=verdict,
            reason=reason,
            repaired_at=datetime.now(UTC),
            stretches=_encoded(known, late),
        )
        return RepairedHour(row, len(different), len(extra.candles))


def _verdict(plan: "Plan", changed: bool, late: bool) -> tuple[str, str]:
    if plan.cut or plan.partly:
        return SUSPECT, LOG_CUT
    if changed:
        return REPAIRED, LATE_TRADES if late else DIFFERENT
    return COMPLETE, ALL_THERE


class Plan(msgspec.Struct, frozen=True):
    """What of the log a repair of an hour reads."""

    stretches: list[Stretch]
    finished: datetime
    """The end of the hour, or of what of it is finished."""
    cut: bool
    """Whether the log does not hold all trades of the windows that it should: their rows stay as they are."""
    partly: bool
    """Whether that is so of other windows of the hour."""


class Made(msgspec.Struct):
    """The candles of a pair in an hour, out of the log."""

    candles: list[Candle] = []
    duplicates: int = 0


class Stored(msgspec.Struct, frozen=True):
    """The rows of a pair in an hour, as the tables have them."""

    candles: list[CandleRow]
    sides: list[DirectionRow]

    def differing(self, made: Sequence[Candle]) -> list[Candle]:
        """Those of the candles that the tables have otherwise, or not at all."""
        rows = {row.window_start: row for row in self.candles}
        sides = {(row.window_start, row.direction): row for row in self.sides}
        return [
            candle
            for candle in made
            if not _same(candle_row(candle), rows.get(candle.window_start))
            or not all(_same(row, sides.get((row.window_start, row.direction))) for row in direction_rows(candle))
        ]

    def extra(self, made: Sequence[Candle]) -> "Stored":
        """The rows that the candles don't have."""
        windows = {candle.window_start for candle in made}
        sides = {(candle.window_start, direction) for candle in made for direction, _ in candle.sides()}
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


def _of(pair: Pair, rows: Iterable[RowOfPair]) -> list[RowOfPair]:
    return [row for row in rows if _pair_of(row) == pair]


def _pair_of(row: MarkRow | CandleRow | DirectionRow) -> Pair:
    return row.market, row.fromcoin, row.tocurrency


def _stretches(row: HourRow) -> list[LogStretch]:
    return msgspec.json.decode(row.stretches, type=list[LogStretch]) if row.stretches else []


def _stretch_of(mark: MarkRow) -> LogStretch:
    return mark.topic_id, mark.partition, mark.first_offset, mark.last_offset + 1


def _encoded(known: HourRow | None, late: Sequence[MarkRow]) -> str:
    stretches = set(_stretches(known) if known else ())
    stretches |= {_stretch_of(mark) for mark in late if mark.first_offset <= mark.last_offset}
    return msgspec.json.encode(sorted(stretches)).decode()
