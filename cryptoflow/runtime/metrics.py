"""What the parts of a run measure, stated once: names with their units, what they mean, and how they move.

The files of a run's status hold these structs; its log, its metadata, the plots of its assets and its screen take their
figures from them, by the fields' names. `catalog` has what a registry of metrics asks for: name, kind and meaning.
"""

from enum import StrEnum
from functools import cache
from typing import Annotated, NamedTuple, get_origin, get_type_hints

import msgspec
from msgspec import Meta


class Kind(StrEnum):
    """How a metric moves."""

    COUNTER = "counter"
    """It only grows, from 0 at the part's start."""
    GAUGE = "gauge"
    """It goes up and down."""
    TIME = "time"
    """A moment, in s since the epoch."""


class Metric(NamedTuple):
    """A metric as a registry has it; its unit, where it is none of the things it counts, ends its name."""

    kind: Kind
    meaning: str


def _counter(meaning: str) -> Meta:
    return Meta(description=meaning, extra={"kind": Kind.COUNTER})


def _gauge(meaning: str) -> Meta:
    return Meta(description=meaning, extra={"kind": Kind.GAUGE})


def _time(meaning: str) -> Meta:
    return Meta(description=meaning, extra={"kind": Kind.TIME})


class Metrics(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Some metrics, and groups of them, also one for each of several things; None is not known yet."""

    def figures(self) -> dict[str, float]:
        """Those that are known, by name; groups are laid flat, but not those of several things."""
        found: dict[str, float] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Metrics):
                found |= value.figures()
            elif value is not None and not isinstance(value, dict):
                found[name] = value
        return found


@cache
def own(kind: type[Metrics]) -> dict[str, Metric]:
    """The metrics of a kind itself by name, without those of its groups."""
    hints = get_type_hints(kind, include_extras=True).items()
    metas = {name: hint.__metadata__[0] for name, hint in hints if get_origin(hint) is Annotated}
    return {name: Metric(meta.extra["kind"], meta.description) for name, meta in metas.items()}


@cache
def catalog(kind: type[Metrics]) -> dict[str, Metric]:
    """The metrics of a kind of part by name, as `figures` has them."""
    found: dict[str, Metric] = {}
    for name, hint in get_type_hints(kind).items():
        if name in own(kind):
            found[name] = own(kind)[name]
        elif isinstance(hint, type) and issubclass(hint, Metrics):
            found |= catalog(hint)
    return found


class MarketMetrics(Metrics, frozen=True):
    """Of a market's trades, as a feed's client receives them."""

    trades: Annotated[int, _counter("new trades received")] = 0
    newest_trade_s: Annotated[float | None, _time("when its newest trade was received")] = None
    delay_s: Annotated[float | None, _gauge("from the exchange's time of its newest trade until that was received")] = (
        None
    )
    silent_pairs: Annotated[int, _gauge("pairs silent for longer than their pace suggests, and not proven quiet")] = 0


class FeedMetrics(Metrics, frozen=True):
    """Of a feed's client."""

    frames: Annotated[int, _counter("frames received")] = 0
    trades: Annotated[int, _counter("new trades received")] = 0
    duplicates: Annotated[int, _counter("trades received once more")] = 0
    unreadable: Annotated[int, _counter("frames that could not be read")] = 0
    connects: Annotated[int, _counter("sockets opened")] = 0
    gaps: Annotated[int, _counter("stretches of time in which the feed may have sent trades that did not come")] = 0
    filled: Annotated[int, _counter("trades that the feed did not send, and that REST did")] = 0
    refused_subscriptions: Annotated[int, _counter("subscriptions that the feed has refused, those that differ")] = 0
    silent_pairs: Annotated[int, _gauge("pairs silent for longer than their pace suggests, and not proven quiet")] = 0
    markets: dict[str, MarketMetrics] = {}


class StreamMetrics(Metrics, frozen=True):
    """Of a Spark stream."""

    lag_trades: Annotated[int | None, _gauge("trades in Kafka and in no committed batch")] = None
    rows_per_s: Annotated[float | None, _gauge("rows that the newest batch took in a second")] = None
    batch_ms: Annotated[int | None, _gauge("how long the newest batch took")] = None


class IngestMetrics(Metrics, frozen=True):
    """Of an ingester."""

    feed: FeedMetrics = FeedMetrics()
    acknowledged: Annotated[int, _counter("trades that Kafka has acknowledged")] = 0

    @property
    def taken(self) -> int:
        """The trades that it has taken."""
        return self.feed.trades


class AggregateMetrics(Metrics, frozen=True):
    """Of an aggregation."""

    input_rows: Annotated[int, _counter("records taken from Kafka, each once")] = 0
    late: Annotated[int, _counter("trades too late, or too far ahead, for the stream: they wait for a repair")] = 0
    duplicates: Annotated[int, _counter("trades that had come before")] = 0
    unreadable: Annotated[int, _counter("records that are no readable trades")] = 0
    rows_written: Annotated[int, _counter("rows written, of both tables")] = 0
    batches: Annotated[int, _counter("batches committed")] = 0
    waiting_trades: Annotated[int | None, _gauge("trades that wait for a repair, of all runs")] = None
    backlog_trades: Annotated[int | None, _gauge("trades of a backlog that are left; 0: there is none")] = None
    backlog_done_trades: Annotated[int | None, _gauge("trades of a backlog that are worked off")] = None
    backlog_trades_per_s: Annotated[float | None, _gauge("how fast a backlog is worked off")] = None
    backlog_left_s: Annotated[float | None, _gauge("how long a backlog will take, at that pace")] = None
    watermark_s: Annotated[float | None, _time("the stream's watermark: what is not newer is late")] = None
    stream: StreamMetrics = StreamMetrics()

    @property
    def taken(self) -> int:
        """The trades that it has taken."""
        return self.input_rows

    @property
    def aggregated(self) -> int:
        """The trades that are in candles."""
        return self.input_rows - self.late - self.duplicates - self.unreadable


class MemoryMetrics(Metrics, frozen=True):
    """Of memory mode; duplicates and unreadable frames are those of its client and of its stream together."""

    feed: FeedMetrics = FeedMetrics()
    late: Annotated[int, _counter("trades too late, or too far ahead, for the stream: they are in no candle")] = 0
    stream: StreamMetrics = StreamMetrics()

    @property
    def taken(self) -> int:
        """The trades that it has taken."""
        return self.feed.trades


class RepairMetrics(Metrics, frozen=True):
    """Of a repair."""

    hours: Annotated[int, _counter("hours repaired")] = 0
    hours_left: Annotated[int, _gauge("hours that are to be repaired yet")] = 0
    trades_read: Annotated[int, _counter("records read from Kafka")] = 0

    @property
    def taken(self) -> int:
        """The trades that it has taken."""
        return self.trades_read


class HistoryMetrics(Metrics, frozen=True):
    """Of what fetches the past."""

    partitions: Annotated[int, _counter("days of pairs that are in the history topic")] = 0
    partitions_left: Annotated[int, _gauge("days of pairs that are to be fetched yet")] = 0
    pages: Annotated[int, _counter("answers of the venues' REST")] = 0
    past_trades: Annotated[int, _counter("trades written into the history topic")] = 0
    share_done: Annotated[float, _gauge("the part of all days that is fetched")] = 0
    left_s: Annotated[float | None, _gauge("how long the rest will take, at the pace so far")] = None

    @property
    def taken(self) -> int:
        """The trades that it has taken."""
        return self.past_trades


PartMetrics = IngestMetrics | AggregateMetrics | MemoryMetrics | RepairMetrics | HistoryMetrics
"""Of a part of a run."""


class ProcessMetrics(Metrics, frozen=True):
    """What follows from two looks at a part and its process."""

    trades_per_s: Annotated[float | None, _gauge("trades that it takes in a second")] = None
    watermark_delay_s: Annotated[float | None, _gauge("how far the watermark is behind the clock")] = None
    memory_mb: Annotated[float | None, _gauge("resident memory of the process and its children")] = None


class RunMetrics(Metrics, frozen=True):
    """Of a part of a run, as its lease tells."""

    live: Annotated[int, _gauge("runs whose process works")] = 0
    stalled: Annotated[int, _gauge("those of them that are overdue with their progress")] = 0


class StoreMetrics(Metrics, frozen=True):
    """Of Kafka, or of Cassandra."""

    up: Annotated[int, _gauge("1: it has answered at the last look; 0: what it knows is left out here")] = 0


class LogMetrics(Metrics, frozen=True):
    """Of the topics, by what Kafka and the table `progress` say: they know of all runs, on all machines."""

    records: Annotated[int | None, _counter("records that the topic of trades was ever given")] = None
    dead_letters: Annotated[int | None, _counter("dead letters that were ever written")] = None
    lag_trades: Annotated[int | None, _gauge("trades in Kafka and in no committed batch")] = None
    lag_s: Annotated[float | None, _gauge("how long the oldest of them waits; 0: there is none")] = None
    deleted_trades: Annotated[int | None, _gauge("trades that Kafka has deleted before they were aggregated")] = None


class TablesMetrics(Metrics, frozen=True):
    """Of the tables as a whole."""

    finished_s: Annotated[float | None, _time("windows that end by then are finished")] = None
    aggregating: Annotated[int | None, _gauge("1: a run, on whichever machine, holds the lease of aggregation")] = None


class PairMetrics(Metrics, frozen=True):
    """Of a pair on a market, by the tables."""

    newest_candle_s: Annotated[float | None, _time("the end of the newest window that has a candle")] = None
    waiting_trades: Annotated[int, _gauge("trades that wait for a repair")] = 0
    repairable_trades: Annotated[int, _gauge("those of them whose windows are finished, so that a repair can run")] = 0
    last_repair_s: Annotated[float | None, _time("the last repair of one of its hours")] = None


class VerdictMetrics(Metrics, frozen=True):
    """Of a verdict on the hours of a pair."""

    hours: Annotated[int, _gauge("hours, of the newest that have a verdict, with this one")] = 0


class HomeMetrics(Metrics, frozen=True):
    """Of the disk that CRYPTOFLOW_HOME is on."""

    disk_free_bytes: Annotated[int, _gauge("bytes that are free")] = 0
    disk_size_bytes: Annotated[int, _gauge("bytes that it holds")] = 0


EXPORTED: tuple[type[Metrics], ...] = (
    FeedMetrics,
    MarketMetrics,
    StreamMetrics,
    IngestMetrics,
    AggregateMetrics,
    MemoryMetrics,
    RepairMetrics,
    HistoryMetrics,
    RunMetrics,
    StoreMetrics,
    LogMetrics,
    TablesMetrics,
    PairMetrics,
    VerdictMetrics,
    HomeMetrics,
)
"""The kinds that a monitoring system is told."""
