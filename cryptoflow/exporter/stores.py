"""What Kafka and the tables say, as samples: the facts that belong to no process, and outlive all of them."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cassandra.cluster import Session
from msgspec.structs import replace

from cryptoflow.errors import KafkaError, KafkaUnreachableError
from cryptoflow.exporter.families import Sample
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.model.candle import CandleRow
from cryptoflow.model.trade import Pair
from cryptoflow.pipeline.audit import backlog
from cryptoflow.runtime.metrics import LogMetrics, PairMetrics, StoreMetrics, TablesMetrics, VerdictMetrics
from cryptoflow.settings import KafkaSettings
from cryptoflow.tables import hours, lease, progress, reader
from cryptoflow.tables.reader import LatestCandles
from cryptoflow.tables.schema import HourRow, MarkRow, pair_of

VERDICT_HOURS = 24
"""Hours of each pair whose verdicts are counted: the newest that have one."""


@dataclass
class Look:
    """A look at both stores, over a session that stays open."""

    kafka: KafkaSettings
    session: Session
    window_s: int

    def __post_init__(self) -> None:
        self._candles = LatestCandles(self.session, self.window_s)
        self._finished: datetime | None = None

    def samples(self) -> list[Sample]:
        """All that they say now.

        Raises:
            CassandraError: it does not answer, or has no tables yet.
        """
        now = datetime.now(UTC)
        marks = reader.marks(self.session)
        known = hours.newest(self.session, VERDICT_HOURS)
        holder = lease.read(self.session, lease.AGGREGATE)
        log, finished = of_log(self.kafka, self._lag), self._finished
        finished_s = finished.timestamp() if finished else None
        tables = TablesMetrics(finished_s=finished_s, aggregating=int(bool(holder and holder.holder)))
        pairs = of_pairs(self._candles.newest(now), marks, known, finished)
        return [up("cassandra"), Sample(tables), *log, *pairs, *of_verdicts(known)]

    def _lag(self) -> LogMetrics:
        place = progress.Place(self.window_s, self.kafka.topic, topic_id(self.kafka))
        if done := progress.read(self.session, place):
            self._finished = done.finished
        waiting = backlog(self.kafka, self.session, self.window_s, time.time())
        return LogMetrics(lag_trades=waiting.trades, lag_s=waiting.oldest_s or 0.0, deleted_trades=waiting.deleted)


def of_log(kafka: KafkaSettings, lag: Callable[[], LogMetrics] = LogMetrics) -> list[Sample]:
    """What Kafka says by itself, and how far the aggregation is behind, which `lag` finds out."""
    try:
        behind = lag()
        records = sum(end_offsets(kafka, kafka.topic).values())
        dead_letters = sum(end_offsets(kafka, kafka.dead_letter_topic).values())
    except KafkaUnreachableError:
        return [down("kafka")]
    except KafkaError:  # there is no topic yet
        return [up("kafka")]
    return [up("kafka"), Sample(replace(behind, records=records, dead_letters=dead_letters))]


def up(store: str) -> Sample:
    """It has answered."""
    return Sample(StoreMetrics(up=1), (store,))


def down(store: str) -> Sample:
    """It has not."""
    return Sample(StoreMetrics(up=0), (store,))


def of_pairs(
    candles: Iterable[CandleRow], marks: Sequence[MarkRow], hours: Iterable[HourRow], finished: datetime | None
) -> Iterator[Sample]:
    """What is known of each pair.

    Args:
        candles: the newest of each pair, or more.
        finished: windows that end by then are finished; None: it is not known.
    """
    newest: dict[Pair, float] = {}
    for candle in candles:
        end_s = candle.window_start.timestamp() + candle.window_seconds
        newest[pair_of(candle)] = max(end_s, newest.get(pair_of(candle), 0.0))
    repaired: dict[Pair, float] = {}
    for row in hours:
        if row.repaired_at:
            repaired[pair_of(row)] = max(row.repaired_at.timestamp(), repaired.get(pair_of(row), 0.0))
    waiting, ready = _trades(marks), _trades(mark for mark in marks if finished and mark.until <= finished)
    for pair in sorted({*newest, *repaired, *waiting}):
        metrics = PairMetrics(
            newest_candle_s=newest.get(pair),
            waiting_trades=waiting[pair],
            repairable_trades=ready[pair],
            last_repair_s=repaired.get(pair),
        )
        yield Sample(metrics, labels_of(pair))


def _trades(marks: Iterable[MarkRow]) -> Counter[Pair]:
    found: Counter[Pair] = Counter()
    for mark in marks:
        found[pair_of(mark)] += mark.trades
    return found


def of_verdicts(hours: Iterable[HourRow]) -> Iterator[Sample]:
    """How many hours of each pair have which verdict."""
    found = Counter((pair_of(row), row.verdict) for row in hours)
    for (pair, verdict), count in sorted(found.items()):
        yield Sample(VerdictMetrics(hours=count), (*labels_of(pair), verdict))


def labels_of(pair: Pair) -> tuple[str, str]:
    """Market and pair, as users name them."""
    market, from_coin, to_currency = pair
    return market, f"{from_coin}-{to_currency}"
