"""What a repair of an hour reads of the log: where the hour's trades lie, and whether Kafka still has them all.

The log is two topics: live trades, and those of the past. The progress on record tells where an hour's trades lie in
the first, and marks tell where those lie that came late, and those in the second; so what is read is bounded. Hours
whose trades lie in one slice of a backlog are read together.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from cassandra.cluster import Session

from cryptoflow.kafka_io.log import Log
from cryptoflow.kafka_io.records import cut_of
from cryptoflow.model.offsets import Offsets, later, records
from cryptoflow.model.trade import MAX_AHEAD_S
from cryptoflow.model.window import HOUR, ceil_window, epoch_ns
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.tables import progress
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.schema import HourRow, MarkRow

Interval = tuple[int, int, int]
"""(partition, first offset, offset behind the last)."""

LatePlace = tuple[str, int, int, int]
"""The id of a topic, and the interval of it where trades lie that came late."""

BESIDE = 1000
"""Records read beside each stretch of the past: about a page of a venue's, which has the trades next to the hour's."""


class Plan(msgspec.Struct, frozen=True):
    """What a repair of an hour reads and what it may touch; times are aware UTC."""

    hour: datetime
    start: datetime
    end: datetime
    """The windows from `start` to `end` are repaired: those that are finished, and that the topic is to have."""
    stretches: list[Stretch]
    """Live ones first: of a trade that is in both topics, the live one counts."""
    cut: bool
    """Whether the log may not hold all trades of these windows: rows stay as they are, unless numbers prove it does."""
    partly: bool
    """Whether that is so of windows of the hour that are before them, or of which some trades are elsewhere."""
    topic: str
    ids: tuple[str, str]
    """The ids of the topic of trades, and of the one of the past; that is empty where there is none."""

    @property
    def to_its_end(self) -> bool:
        """Whether the hour is finished as a whole."""
        return self.end >= self.hour + HOUR

    @property
    def size(self) -> int:
        """The records to read."""
        return size_of(self.stretches)


def size_of(stretches: Iterable[Stretch]) -> int:
    """The records in stretches."""
    return sum(records(stretch.begin, stretch.end) for stretch in stretches)


def together(plans: Iterable[Plan]) -> list[Stretch]:
    """What plans of one log read, each record once, and live ones first."""
    places: dict[str, list[Interval]] = {}
    for plan in plans:
        places.setdefault(plan.topic, [])
        for stretch in plan.stretches:
            spans = ((place, stretch.begin[place], end) for place, end in stretch.end.items())
            places.setdefault(stretch.topic, []).extend(spans)
    return [stretch for topic, spans in places.items() for stretch in merged(topic, spans)]


def is_shared(plans: Sequence[Plan], more: Plan) -> bool:
    """Whether at least half of what another plan reads is read for those anyway."""
    added = size_of(together([*plans, more])) - size_of(together(plans))
    return 2 * added <= more.size


class Planner:
    """Plans repairs of a topic's hours.

    Args:
        log: the topic of trades, of which `place` is.
        past: the topic of trades of the past; None: there is none.
    """

    def __init__(self, session: Session, kafka: KafkaSettings, log: Log, past: Log | None, place: Place) -> None:
        self._session, self._kafka, self._log, self._past, self._place = session, kafka, log, past, place

    def plan(self, hour: datetime, at: Progress, known: Iterable[HourRow], marks: Sequence[MarkRow]) -> Plan:
        """The plan of an hour that has finished windows.

        Args:
            at: how far the aggregation has come, read after the marks.
            known: what is known of the hour, by pair.
            marks: those of the hour; what is marked later is repaired later.
        """
        begins, ends = self._log.begins(), self._log.ends()
        start, end = max(hour, min(at.origin, hour + HOUR)), min(hour + HOUR, at.finished)
        bounds = progress.bounds(self._session, self._place, hour, end)
        first = self._first(hour, bounds.begins, begins, ends)
        last = at.offsets if end == at.finished else bounds.ends or ends
        ids = self._log.topic_id, self._past.topic_id if self._past else ""
        late: dict[str, set[Interval]] = defaultdict(set)
        kept = {each for row in known for each in late_places(row)}
        # Trades of an hour that is all this topic's were filled in out of one of the past that is gone, or left.
        past_is_gone = at.origin <= hour and any(topic_id not in ids for topic_id, *_ in kept)
        for topic_id, place, begin, over in {*kept, *map(late_place, marks)}:
            late[topic_id].add((place, begin, over))
        places = [(place, first.get(place, 0), min(last.get(place, over), over)) for place, over in ends.items()]
        places += late[self._log.topic_id]
        past, past_is_cut = _of_past(self._past, late[self._past.topic_id]) if self._past else ([], False)
        if _begins_later(places, begins) or bounds.begins is None:
            # Not before the log has all trades of a window, by when Kafka received what it has deleted.
            whole_from = cut_of(self._kafka, self._kafka.topic, begins).whole_from(MAX_AHEAD_S)
            start = max(start, min(ceil_window(whole_from, self._place.window_s), hour + HOUR))
        return Plan(
            hour,
            start,
            end,
            [*merged(self._kafka.topic, _kept(places, begins)), *past],
            cut=start >= end or past_is_cut or past_is_gone,
            partly=start > hour or any(mark.topic_id not in ids for mark in marks),
            topic=self._kafka.topic,
            ids=ids,
        )

    def _first(self, hour: datetime, on_record: Mapping[int, int] | None, begins: Offsets, ends: Offsets) -> Offsets:
        """Before which place none of the hour's trades lies, but for the marked ones."""
        by_time = self._log.at(_since_ms(hour), ends)
        if on_record is None:
            return by_time
        # Where Kafka still has an older record, it has all that came after that one.
        return later(on_record, {place: first for place, first in by_time.items() if first > begins.get(place, 0)})


def _of_past(past: Log, places: Collection[Interval]) -> tuple[list[Stretch], bool]:
    """What to read of places in the topic of the past, and whether Kafka has deleted some of it."""
    if not places:
        return [], False
    begins, ends = past.begins(), past.ends()
    wide = [(place, first - BESIDE, min(over + BESIDE, ends.get(place, 0))) for place, first, over in places]
    return merged(past.topic, _kept(wide, begins)), _begins_later(places, begins)


def _kept(places: Iterable[Interval], begins: Offsets) -> list[Interval]:
    """What Kafka has of the places."""
    return [(place, max(first, begins.get(place, 0)), over) for place, first, over in places]


def _begins_later(places: Iterable[Interval], begins: Offsets) -> bool:
    """Whether Kafka has deleted records of the places."""
    return any(first < begins.get(place, 0) for place, first, over in places if first < over)


def _since_ms(hour: datetime) -> int:
    """When a trade of the hour was received at the earliest."""
    return max(0, epoch_ns(hour - timedelta(seconds=MAX_AHEAD_S)) // 1_000_000)


def late_places(row: HourRow) -> list[LatePlace]:
    """Where trades of the hour lie that came late and were repaired into it."""
    return msgspec.json.decode(row.stretches, type=list[LatePlace]) if row.stretches else []


def late_place(mark: MarkRow) -> LatePlace:
    """Where the trades lie that a mark is of."""
    return mark.topic_id, mark.partition, mark.first_offset, mark.last_offset + 1


def with_late(known: HourRow | None, marks: Iterable[MarkRow]) -> str:
    """The column `stretches` of an hour: what was known, and the places of the marks that name one."""
    places = set(late_places(known) if known else ())
    places |= {late_place(mark) for mark in marks if mark.first_offset <= mark.last_offset}
    return msgspec.json.encode(sorted(places)).decode()


def merged(topic: str, intervals: Iterable[Interval]) -> list[Stretch]:
    """Stretches, as few as can be, that hold each record of the intervals once."""
    by_partition: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for partition, first, end in intervals:
        if first < end:
            by_partition[partition].append((first, end))
    layers: list[Stretch] = []
    for partition, spans in by_partition.items():
        for layer, (first, end) in enumerate(_joined(sorted(spans))):
            if layer == len(layers):
                layers.append(Stretch(topic, {}, {}))
            begins, ends = layers[layer].begin, layers[layer].end
            layers[layer] = Stretch(topic, {**begins, partition: first}, {**ends, partition: end})
    return layers


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans, which ascend, those made one that meet."""
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
