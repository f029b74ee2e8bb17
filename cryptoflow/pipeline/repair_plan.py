"""What a repair of an hour reads of the log: where the hour's trades lie, and whether Kafka still has them all.

The progress on record tells where an hour's trades lie, and marks tell where those lie that came late; so what is read
is bounded.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

import msgspec
from cassandra.cluster import Session

from cryptoflow.kafka_io.log import Log
from cryptoflow.kafka_io.records import cut_of
from cryptoflow.model.offsets import Offsets, records
from cryptoflow.model.trade import MAX_AHEAD_S
from cryptoflow.model.window import HOUR, epoch_ns
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark.kafka_log import Stretch
from cryptoflow.tables import progress
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.schema import HourRow, MarkRow

Interval = tuple[int, int, int]
"""(partition, first offset, offset behind the last)."""

LatePlace = tuple[str, int, int, int]
"""The id of a topic, and the interval of it where trades lie that came late."""


class Plan(msgspec.Struct, frozen=True):
    """What a repair of an hour reads and what it may touch; times are aware UTC."""

    hour: datetime
    start: datetime
    end: datetime
    """The windows from `start` to `end` are repaired: those that are finished, and that the topic is to have."""
    stretches: list[Stretch]
    cut: bool
    """Whether the log does not hold all trades of these windows: their rows stay as they are."""
    partly: bool
    """Whether that is so of other windows of the hour."""

    @property
    def size(self) -> int:
        """The records to read."""
        return sum(records(stretch.begin, stretch.end) for stretch in self.stretches)


class Planner:
    """Plans repairs of a topic's hours."""

    def __init__(self, session: Session, kafka: KafkaSettings, log: Log, place: Place) -> None:
        self._session, self._kafka, self._log, self._place = session, kafka, log, place

    def plan(self, hour: datetime, at: Progress, known: Iterable[HourRow], marks: Sequence[MarkRow]) -> Plan:
        """The plan of an hour that has finished windows.

        Args:
            at: how far the aggregation has come, read after the marks.
            known: what is known of the hour, by pair.
            marks: those of the hour; what is marked later is repaired later.
        """
        begins, ends = self._log.begins(), self._log.ends()
        start, end = max(hour, min(at.origin, hour + HOUR)), min(hour + HOUR, at.finished)
        bounds = progress.bounds(self._session, self._place, start, end)
        first = bounds.begins or self._log.at(_since_ms(hour), ends)
        last = at.offsets if end == at.finished else bounds.ends or ends
        places = [(place, first.get(place, 0), min(last.get(place, over), over)) for place, over in ends.items()]
        late = {*(place for row in known for place in late_places(row)), *map(late_place, marks)}
        places += [(place, begin, over) for topic_id, place, begin, over in late if topic_id == self._log.topic_id]
        kept = [(place, max(begin, begins.get(place, 0)), over) for place, begin, over in places]
        return Plan(
            hour,
            start,
            end,
            merged(self._kafka.topic, kept),
            cut=start >= end or self._is_cut(hour, places, begins, bounds.begins is not None),
            partly=at.origin > hour or any(mark.topic_id != self._log.topic_id for mark in marks),
        )

    def _is_cut(self, hour: datetime, places: Iterable[Interval], begins: Offsets, on_record: bool) -> bool:
        """Whether Kafka has deleted trades that may belong to the hour."""
        if any(begin < begins.get(place, 0) for place, begin, end in places if begin < end):
            return True
        if on_record:
            return False
        cut = cut_of(self._kafka, self._kafka.topic, begins)
        return cut.emptied or cut.until_ms > _since_ms(hour)


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
