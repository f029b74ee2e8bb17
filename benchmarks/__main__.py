"""`python -m benchmarks`: catch-up against Flink SQL, ingest against a client that only receives, and the page under
load; `--help` has more.

Services and data are made for the run. The ratios count: both sides run in turns, on the same topics, on the same day.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import catch_up, ingest, page, start, stream
from benchmarks.catch_up import CRYPTOFLOW, SMALL_SHARE
from benchmarks.flink import VARIANTS
from benchmarks.results import circumstances, keep
from benchmarks.services import services
from benchmarks.trades import WRITERS
from cryptoflow.render import new_console
from cryptoflow.settings import CassandraSettings, KafkaSettings

MOST_INGESTED = 500_000
"""Trades for the ingester; their frames are in the feed's memory."""

MOST_OTHERS_CORES = 0.5
"""What others may use of the cores while it is measured: in catch-up Kafka and Cassandra included."""


def catch_up_part(
    given: argparse.Namespace, kafka: KafkaSettings, cassandra: CassandraSettings, console: Console
) -> dict[str, Any]:
    """Fill, measure, and print the ratios."""
    topics = catch_up.fill_both(kafka, given.trades)
    variants = given.variants if given.flink else []
    taken = catch_up.measure(topics, cassandra, variants, given.rounds, given.patience, console.print)
    engines = {engine: runs.figures(topics) for engine, runs in taken.items()}
    console.print(ratio_table(engines))
    sizes = {"trades": topics.large_trades, "small_trades": topics.small_trades, "rounds": given.rounds}
    return sizes | {"engines": engines, "ratios": ratios(engines)}


def ratios(engines: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """How many times as fast cryptoflow is as each of the others; `cpu`: in trades for a second of a core, warm."""
    ours = engines[CRYPTOFLOW]
    return {
        engine: {
            "start_included": _ratio(ours["trades_per_s"], theirs["trades_per_s"]),
            "warm": _ratio(ours["warm_trades_per_s"], theirs["warm_trades_per_s"]),
            "cpu": _ratio(theirs["large_cpu_s"], ours["large_cpu_s"]),
            "warm_cpu": _ratio(theirs["warm_cpu_us_per_trade"], ours["warm_cpu_us_per_trade"]),
        }
        for engine, theirs in engines.items()
        if engine != CRYPTOFLOW
    }


def _ratio(one: float | None, other: float | None) -> float | None:
    return round(one / other, 2) if one and other else None


def ratio_table(engines: dict[str, dict[str, Any]]) -> Table:
    """A line for each engine."""
    columns = ("trades/s, start included", "warm", "cores, s", "warm, µs/trade", "MiB", "cryptoflow is", "warm")
    table, found = Table("engine", *columns), ratios(engines)
    for engine, figures in engines.items():
        names = ("trades_per_s", "warm_trades_per_s", "large_cpu_s", "warm_cpu_us_per_trade", "peak_mib")
        ratio = found.get(engine, {})
        times = (f"{value} x" if (value := ratio.get(name)) else "-" for name in ("start_included", "warm"))
        name = f"Flink SQL, {VARIANTS[engine]}" if engine in VARIANTS else engine
        table.add_row(name, *(_number(figures[key]) for key in names), *times)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"


def ingest_part(given: argparse.Namespace, kafka: KafkaSettings, console: Console) -> dict[str, Any]:
    """Measure, and print."""
    figures = ingest.measure(min(given.trades // 4, MOST_INGESTED), kafka, given.patience)
    table = Table("socket to Kafka, acknowledged", "trades/s", "of received only", "cores that others used")
    for name, way in figures["ways"].items():
        label = name.replace("_", " ")
        table.add_row(label, f"{way['trades_per_s']:,}", f"{way['share']:.0%}", str(way["others_cores"]))
    console.print(table)
    return figures


def stream_part(given: argparse.Namespace, kafka: KafkaSettings, console: Console) -> dict[str, Any]:
    """Measure, and print."""
    figures = stream.measure(kafka, given.patience)
    table = Table("the stream", "of the cores, µs/trade", "trades/s", "cores that others used")
    for way, found in figures["ways"].items():
        table.add_row(way, *map(_number, found.values()))
    table.add_row("its state", _number(figures["state_cpu_us_per_trade"]), "-", "-")
    console.print(table)
    return figures


def page_part(
    given: argparse.Namespace, kafka: KafkaSettings, cassandra: CassandraSettings, console: Console
) -> dict[str, Any]:
    """Measure, and print."""
    figures = page.measure(kafka, cassandra, given.rounds, given.patience)
    columns = ("ack to page, p50 / p99 ms", "candles/s", "server, cores", "machine, cores", "grown, MiB", "slow ones")
    table = Table(f"viewers, {page.TRADES_PER_S:,} trades/s", *columns)
    for row in page.rows(figures["loads"]):
        table.add_row(*row)
    console.print(table)
    rates = figures["ingest_trades_per_s"]
    console.print(
        f"Ingest: {rates['without_viewers']:,} trades/s without viewers, {rates['with_viewers']:,} with "
        f"{page.VIEWERS}: {figures['ingest_ratio']:.2f} x."
    )
    return figures


def start_part(
    given: argparse.Namespace, kafka: KafkaSettings, cassandra: CassandraSettings, console: Console
) -> dict[str, Any]:
    """Measure, and print."""
    figures = start.measure(kafka, cassandra, given.rounds, given.patience, given.before)
    table = Table("a warm start", "first candle row, s", "of the cores until then, s", "cores while idle")
    for way, found in {**figures["ways"], **figures["ratios"]}.items():
        table.add_row(way.replace("_", " "), *map(str, found.values()))
    console.print(table)
    return figures


def quiet(others_cores: Iterable[float]) -> bool:
    """Whether others left the machine alone in every run: else the ratios are of who was disturbed more."""
    return all(cores <= MOST_OTHERS_CORES for cores in others_cores)


def keep_if_quiet(part: str, figures: dict[str, Any], others_cores: Iterable[float], console: Console) -> None:
    """Into the file of results, unless others disturbed it."""
    if quiet(others_cores):
        keep(part, figures)
    else:
        console.print("Not kept: others used the machine meanwhile, so the times can't be compared.")


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--trades", type=int, default=2_000_000, help="in the large topic; the small one has a quarter")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many counts")
    parser.add_argument("--patience", type=float, default=60.0, help="s to wait before each run for a quiet machine")
    parser.add_argument("--flink", action=argparse.BooleanOptionalAction, default=True, help="measure Flink SQL too")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="of Flink SQL")
    parser.add_argument("--keep", action="store_true", help="keep the figures of a busy machine too")
    parser.add_argument("--only", choices=["catch-up", "stream", "ingest", "page", "start"], help="one part alone")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version, whose start is measured too")
    given = parser.parse_args()
    given.trades -= given.trades % (SMALL_SHARE * WRITERS)  # so that all writers have as many
    return given


def main() -> None:
    """Measure, print tables, and write the file of results."""
    given, console = options(), new_console()
    with services() as (kafka, cassandra):
        if given.only in (None, "catch-up"):
            with circumstances() as told:
                figures = catch_up_part(given, kafka, cassandra, console)
            cores = [cores for engine in figures["engines"].values() for cores in engine["others_cores"]]
            keep_if_quiet(f"catch_up_{given.trades}", told | figures, [] if given.keep else cores, console)
        if given.only in (None, "stream"):
            with circumstances() as told:
                figures = stream_part(given, kafka, console)
            cores = [way["others_cores"] for way in figures["ways"].values()]
            keep_if_quiet("stream", told | figures, [] if given.keep else cores, console)
        if given.only in (None, "ingest"):
            with circumstances() as told:
                figures = ingest_part(given, kafka, console)
            cores = [way["others_cores"] for way in figures["ways"].values()]
            keep_if_quiet("ingest", told | figures, [] if given.keep else cores, console)
        if given.only in (None, "page"):
            with circumstances() as told:
                figures = page_part(given, kafka, cassandra, console)
            cores = [load["others_cores"] for load in figures["loads"]]
            keep_if_quiet("page", told | figures, [] if given.keep else cores, console)
        if given.only in (None, "start"):
            with circumstances() as told:
                figures = start_part(given, kafka, cassandra, console)
            keep_if_quiet("start", told | figures, [] if given.keep else figures["others_cores"], console)


if __name__ == "__main__":
    main()
