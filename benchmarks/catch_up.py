"""Catch-up of a backlog: cryptoflow and Flink SQL on the same topics, in turns; equal candles before a time counts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import flink, tables
from benchmarks.compare import PRICES, DifferentError, Row, Rows, require_equal
from benchmarks.fill import fill
from benchmarks.measured import Run, await_quiet
from cryptoflow.settings import CassandraSettings, KafkaSettings

CRYPTOFLOW = "cryptoflow"
SMALL_SHARE = 4
"""The small topic has so much less than the large one. What the large one takes more is without start and warm-up."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Topics:
    """Where the trades are, and how many."""

    small: KafkaSettings
    large: KafkaSettings
    small_trades: int
    large_trades: int


@dataclass(frozen=True)
class Taken:
    """What an engine took, round by round."""

    small: list[Run]
    large: list[Run]

    def figures(self, topics: Topics) -> dict[str, Any]:
        """The medians, for the file of results. Rates are in trades/s, times in s, memory in MiB."""
        small_s, large_s = (median(run.seconds for run in runs) for runs in (self.small, self.large))
        small_cpu_s, large_cpu_s = (median(run.cpu_s for run in runs) for runs in (self.small, self.large))
        more = topics.large_trades - topics.small_trades
        return {
            "trades_per_s": round(topics.large_trades / large_s),
            "warm_trades_per_s": warm(more, large_s - small_s),
            "small_s": round(small_s, 1),
            "large_s": round(large_s, 1),
            "small_cpu_s": round(small_cpu_s, 1),
            "large_cpu_s": round(large_cpu_s, 1),
            "warm_cpu_us_per_trade": round((large_cpu_s - small_cpu_s) / more * 1e6, 2),
            "peak_mib": round(max(run.peak_bytes for run in self.large) / 2**20),
            "others_cores": [round(run.others_cores, 2) for run in (*self.small, *self.large)],
        }


def warm(more: int, seconds: float) -> int | None:
    """The rate of what the large topic has more; None where noise hid it."""
    return round(more / seconds) if seconds > 0 else None


def fill_both(kafka: KafkaSettings, trades: int) -> Topics:
    """The two topics, filled."""
    small, large = (kafka.model_copy(update={"topic": f"{kafka.topic}-{name}"}) for name in ("small", "large"))
    topics = Topics(small, large, trades // SMALL_SHARE, trades)
    fill(small, topics.small_trades)
    fill(large, topics.large_trades)
    return topics


def measure(
    topics: Topics, cassandra: CassandraSettings, variants: Sequence[str], rounds: int, patience_s: float, tell: Tell
) -> dict[str, Taken]:
    """By engine (cryptoflow, and the variants of Flink) what it took.

    Args:
        patience_s: how long to wait before each run for a quiet machine.

    Raises:
        DifferentError: two engines found other candles.
        ProgramError: an engine failed.
    """
    taken = {engine: Taken([], []) for engine in (CRYPTOFLOW, *variants)}
    for turn in range(rounds):
        for name, kafka, trades in (
            ("small", topics.small, topics.small_trades),
            ("large", topics.large, topics.large_trades),
        ):
            keyspace = cassandra.model_copy(update={"keyspace": f"bench_{name}_{turn}"})
            for engine, run in _turn(kafka, keyspace, variants, trades, patience_s):
                tell(
                    f"{engine}, {trades:,} trades: {run.seconds:.1f} s, {run.cpu_s:.1f} s of the cores; "
                    f"others used {run.others_cores:.1f} cores"
                )
                getattr(taken[engine], name).append(run)
    return taken


def _turn(
    kafka: KafkaSettings, cassandra: CassandraSettings, variants: Sequence[str], trades: int, patience_s: float
) -> Iterator[tuple[str, Run]]:
    await_quiet(patience_s)
    run, rows = tables.catch_up(kafka, cassandra)
    yield CRYPTOFLOW, run
    for variant in variants:
        await_quiet(patience_s)
        run, found = flink.catch_up(kafka, variant)
        _require_same(rows, found, variant, trades)
        yield variant, run


def _require_same(ours: Rows, found: Rows, variant: str, trades: int) -> None:
    """Without deduplication only the prices are the same; then every record of the topic has to be in a candle."""
    if variant != "none":
        return require_equal(ours, found, Row._fields)
    require_equal(ours, found, PRICES)
    if (counted := sum(row.trades for row in found.values())) != trades:
        raise DifferentError(f"{counted} of {trades} records are in a candle")
    return None
