"""What is wrong with the data: the counting behind the checks, from what Kafka and the tables hold.

Only finished windows are compared, and only with trades up to the offsets that the aggregation has committed. The
comparison is thus exact however far the aggregation is behind: a trade of a finished window that comes later is late.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from cassandra.cluster import Session

from cryptoflow.kafka_io.columns import frames_between
from cryptoflow.kafka_io.log import open_log
from cryptoflow.kafka_io.offsets import beginning_offsets, end_offsets, offsets_for_times
from cryptoflow.kafka_io.records import cut_of, times_ms, topic_id, trades_of
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import BUY, MAX_AHEAD_S, SELL, Pair, Trade
from cryptoflow.model.window import EPOCH, HOUR, utc_hour
from cryptoflow.pipeline.repair_plan import late_places, merged
from cryptoflow.settings import KafkaSettings
from cryptoflow.tables import hours, progress
from cryptoflow.tables.progress import Place
from cryptoflow.tables.reader import batches_since, candle_trades, marks, query_ids, side_trades
from cryptoflow.tables.schema import BatchRecord

SIDES = {BUY: "BUY", SELL: "SELL"}
SIDE_BITS = BUY | SELL

Key = tuple[str, ...]
"""What is counted apart: (market, from coin, to currency), and the direction where there is one."""


class Span(NamedTuple):
    """From `start` on and before `end`; aware UTC, both the starts of windows."""

    start: datetime
    end: datetime


class Committed(NamedTuple):
    """How far the aggregation of a topic into the tables has come."""

    queries: tuple[str, ...]
    """The ids of its queries, in the table `batches`."""
    offsets: Offsets
    """What comes before them is in a committed batch."""
    watermark: datetime | None
    """Windows that end by then are finished; None: there are none."""


class Comparison(msgspec.Struct, frozen=True):
    """Trades in the topic against trades in a table, by key."""

    topic: Mapping[Key, int]
    """Distinct trades, with those of the past that repairs have put into the span."""
    table: Mapping[Key, int]
    late: int
    """Trades of the span that wait for a repair: so many may be missing at most."""

    def differences(self) -> dict[Key, int]:
        """Trades that the table lacks (or, negative, has too many of), by key; only what differs."""
        keys = sorted({*self.topic, *self.table})
        found = {key: self.topic.get(key, 0) - self.table.get(key, 0) for key in keys}
        return {key: difference for key, difference in found.items() if difference}

    @property
    def unexplained(self) -> int:
        """Trades that the table has too many of, and those that it lacks beyond the late ones."""
        differences = self.differences().values()
        missing = sum(difference for difference in differences if difference > 0)
        excess = -sum(difference for difference in differences if difference < 0)
        return excess + max(0, missing - self.late)


class FinishedHour(NamedTuple):
    """The newest finished hour, in Kafka and in the tables."""

    span: Span
    candles: Comparison
    sides: Comparison
    cut: bool
    """Whether Kafka has deleted trades that may belong to it."""


class Backlog(NamedTuple):
    """Trades that are in Kafka and in no committed batch."""

    trades: int
    oldest_s: float | None
    """How long ago Kafka received the oldest of them; None: there is none."""
    deleted: int
    """Trades that Kafka has deleted before they were aggregated."""


class DeadLetters(NamedTuple):
    """Frames that could not be read, and how many there were."""

    frames: int
    found_in_feed: int
    found_in_topic: int

    @property
    def share(self) -> float:
        """The unreadable part of the frames, from 0 to 1."""
        return (self.found_in_feed + self.found_in_topic) / self.frames if self.frames else 0.0


class TradeCount:
    """Counts the distinct trades of each pair and direction; a trade takes eight bytes.

    They are told apart by 62 bits of a hash of their id: that two of a million are taken for one has odds of one to
    nine million.
    """

    def __init__(self) -> None:
        self._seen: defaultdict[Pair, array[int]] = defaultdict(lambda: array("q"))

    def add(self, trade: Trade) -> None:
        """Count the trade, unless it has been."""
        self._seen[trade.pair].append(hash(trade.id) & ~SIDE_BITS | int(trade.flags) & SIDE_BITS)

    def by_pair(self) -> dict[Key, int]:
        """Distinct trades by pair."""
        return {pair: sum(self._sides(pair).values()) for pair in self._seen}

    def by_side(self) -> dict[Key, int]:
        """Distinct trades by pair and direction; those of unknown side are left out."""
        return {
            (*pair, SIDES[side]): count
            for pair in self._seen
            for side, count in self._sides(pair).items()
            if side in SIDES
        }

    def _sides(self, pair: Pair) -> dict[int, int]:
        """Distinct trades by the bits of the side; of a trade that came again the first counts."""
        seen = np.frombuffer(self._seen[pair], dtype=np.int64)
        _, first = np.unique(seen & ~SIDE_BITS, return_index=True)
        sides, counts = np.unique(seen[first] & SIDE_BITS, return_counts=True)
        return dict(zip(sides.tolist(), counts.tolist(), strict=True))


def committed(kafka: KafkaSettings, session: Session, window_s: int) -> Committed:
    """How far the aggregation has come, whichever run and machine did it.

    Raises:
        KafkaError, CassandraError: as they are asked.
    """
    place = Place(window_s, kafka.topic, topic_id(kafka))
    done = progress.read(session, place)
    queries = tuple(query for query in query_ids(session) if query.startswith(f"{kafka.topic}/"))
    if done is None:
        return Committed(queries, {}, None)
    return Committed(queries, done.offsets, done.finished)


def finished_span(watermark: datetime | None) -> Span | None:
    """The newest hour that ends by the watermark (aware); None: none does, as it stands at the epoch at first."""
    if watermark is None or watermark <= EPOCH:
        return None
    end = utc_hour(watermark)
    return Span(end - HOUR, end)


def finished_hour(kafka: KafkaSettings, session: Session, window_s: int) -> FinishedHour | None:
    """The newest finished hour; None: none is.

    Raises:
        As `committed`.
    """
    done = committed(kafka, session, window_s)
    span = finished_span(done.watermark)
    if span is None:
        return None
    since = span.start - timedelta(seconds=MAX_AHEAD_S)  # a trade is received then at the earliest
    since_ms = max(0, int(since.timestamp() * 1000))
    count = TradeCount()
    begin = offsets_for_times(kafka, kafka.topic, dict.fromkeys(done.offsets, since_ms))
    frames = frames_between(kafka, kafka.topic, begin, done.offsets)
    source, past_id = _topic_ids(kafka)
    for trade in trades_of(chain(frames, _filled(kafka, session, span.start, past_id)), *span):
        count.add(trade)
    waiting = (
        mark for mark in marks(session) if mark.topic_id in (source, past_id) and span.start <= mark.hour < span.end
    )
    late = sum(mark.trades for mark in waiting)
    in_candles: Counter[Key] = Counter()
    for (pair, _), trades in candle_trades(session, window_s, *span).items():
        in_candles[pair] += trades
    in_sides: Mapping[Any, int] = side_trades(session, window_s, *span)
    candles = Comparison(count.by_pair(), in_candles, late)
    cut = cut_of(kafka, kafka.topic, beginning_offsets(kafka, kafka.topic))
    # A partition that is empty by now can't tell when what it had was received.
    lacking = cut.emptied and not candles.table.keys() <= candles.topic.keys()
    is_cut = cut.until_ms > since_ms or lacking
    return FinishedHour(span, candles, Comparison(count.by_side(), in_sides, late), is_cut)


def _topic_ids(kafka: KafkaSettings) -> tuple[str, str | None]:
    """The ids of the topic of trades, and of that of the past; None: there is none."""
    with open_log(kafka) as log:
        past = log.beside(kafka.history_topic)
        return log.topic_id, past.topic_id if past else None


def _filled(
    kafka: KafkaSettings, session: Session, hour: datetime, past_id: str | None
) -> Iterator[tuple[int, bytes | None]]:
    """The frames of the topic of the past that repairs have put into an hour, among others."""
    places = (place for row in hours.of_hour(session, hour) for place in late_places(row))
    spans = [(partition, begin, end) for source, partition, begin, end in places if source == past_id]
    for stretch in merged(kafka.history_topic, spans):
        yield from frames_between(kafka, stretch.topic, stretch.begin, stretch.end)


def _batches_since(session: Session, queries: Sequence[str], since: datetime) -> Iterator[BatchRecord]:
    for query in queries:
        yield from batches_since(session, query, since)


def missing_windows(
    kafka: KafkaSettings, session: Session, window_s: int, pairs: Iterable[Pair]
) -> tuple[Span, dict[Pair, list[datetime]]] | None:
    """The newest finished hour, and by pair the windows of it that have no candle; None: no hour is finished."""
    span = finished_span(committed(kafka, session, window_s).watermark)
    return span and (span, gaps(pairs, candle_trades(session, window_s, *span), span, window_s))


def gaps(
    pairs: Iterable[Pair], found: Iterable[tuple[Pair, datetime]], span: Span, window_s: int
) -> dict[Pair, list[datetime]]:
    """The starts of the windows of the span that are not among those `found`, by pair; only pairs that lack some."""
    windows = (span.end - span.start) // timedelta(seconds=window_s)
    starts = [span.start + timedelta(seconds=number * window_s) for number in range(windows)]
    there = set(found)
    missing = {pair: [start for start in starts if (pair, start) not in there] for pair in pairs}
    return {pair: lacking for pair, lacking in missing.items() if lacking}


def backlog(kafka: KafkaSettings, session: Session, window_s: int, now_s: float) -> Backlog:
    """What of the topic is in no committed batch.

    Raises:
        As `committed`.
    """
    done = committed(kafka, session, window_s).offsets
    begins, ends = beginning_offsets(kafka, kafka.topic), end_offsets(kafka, kafka.topic)
    nexts = {partition: max(begin, done.get(partition, 0)) for partition, begin in begins.items()}
    waiting = times_ms(kafka, kafka.topic, nexts)
    return Backlog(
        trades=sum(max(0, ends[partition] - offset) for partition, offset in nexts.items()),
        oldest_s=now_s - min(waiting.values()) / 1000 if waiting else None,
        deleted=sum(max(0, begins[partition] - offset) for partition, offset in done.items()),
    )


def dead_letters(kafka: KafkaSettings, session: Session, since: datetime) -> DeadLetters:
    """The unreadable frames since then (aware): those the aggregation found in the topic, and those the feed sent.

    What the feed finds goes into the topic of dead letters only; it is what that has got beyond the aggregation's.
    """
    queries = [query for query in query_ids(session) if query.startswith(f"{kafka.topic}/")]
    batches = list(_batches_since(session, queries, since))
    found_in_topic = sum(batch.unreadable for batch in batches)
    ends = end_offsets(kafka, kafka.dead_letter_topic)
    begins = offsets_for_times(kafka, kafka.dead_letter_topic, dict.fromkeys(ends, int(since.timestamp() * 1000)))
    found_in_feed = max(0, sum(ends.values()) - sum(begins.values()) - found_in_topic)
    return DeadLetters(sum(batch.input_rows for batch in batches) + found_in_feed, found_in_feed, found_in_topic)
