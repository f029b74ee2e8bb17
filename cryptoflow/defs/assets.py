"""The data as assets: the feed, the topics and the tables, what they come from, and what the runs tell of them.

All are external: the streaming ops fill them, no run of Dagster makes them anew.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

import dagster as dg

from cryptoflow.runtime.metrics import (
    AggregateMetrics,
    FeedMetrics,
    HistoryMetrics,
    Kind,
    Metrics,
    ProcessMetrics,
    catalog,
)
from cryptoflow.settings import WebSettings, load
from cryptoflow.tables.meanings import meanings
from cryptoflow.tables.schema import CANDLES, TRADE_WINDOWS, Table

FEED, TRADES_TOPIC, DEAD_LETTERS_TOPIC = "feed", "trades_topic", "dead_letters_topic"

VENUE_HISTORY = "venue_history"

STALE_WARNING = timedelta(minutes=15)
"""Three times what may lie between two events of a run that is hours old: a single one that is missing is no news."""

STALE_FAILURE = timedelta(minutes=30)
"""Longer than any run takes to drain, to be relaunched and to tell its first figures."""

OWNERS = ["team:cryptoflow"]
"""Whom to ask, of each asset."""

FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=STALE_FAILURE, warn_window=STALE_WARNING)
"""Judged by Dagster's daemon, by the latest materialization: observations do not count."""


class Reported(NamedTuple):
    """What an op tells of an asset."""

    asset: str
    figures: Mapping[str, str]
    """By the figure's name, the name under which it is plotted."""
    fills: bool = False
    """Whether the op puts new trades into it, which makes it fresh."""
    silent_without: str | None = None
    """A figure without which, or with a zero in it, there is nothing to tell."""


def _plotted(*kinds: type[Metrics]) -> dict[str, str]:
    """All metrics of the kinds, under their names, but for times, which only grow."""
    return {name: name for kind in kinds for name, metric in catalog(kind).items() if metric.kind is not Kind.TIME}


FROM_FEED = _plotted(ProcessMetrics, FeedMetrics)
INTO_TABLES = _plotted(ProcessMetrics, AggregateMetrics)

REPORTED: Mapping[str, tuple[Reported, ...]] = {
    "ingest_trades": (
        Reported(FEED, FROM_FEED),
        Reported(TRADES_TOPIC, {"trades_per_s": "trades_per_s", "acknowledged": "acknowledged"}, fills=True),
        Reported(DEAD_LETTERS_TOPIC, {"unreadable": "found_in_feed"}, silent_without="unreadable"),
    ),
    "aggregate_trades": (
        Reported(CANDLES.name, INTO_TABLES, fills=True),
        Reported(TRADE_WINDOWS.name, INTO_TABLES, fills=True),
        Reported(DEAD_LETTERS_TOPIC, {"unreadable": "found_in_topic"}, silent_without="unreadable"),
    ),
    "aggregate_in_memory": (Reported(FEED, FROM_FEED),),
    VENUE_HISTORY: (Reported(VENUE_HISTORY, _plotted(ProcessMetrics, HistoryMetrics)),),
}
"""By the op's name; counts are of the op's run so far."""


def events_of(op_name: str, figures: Mapping[str, float]) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
    """The figures of an op as events of its assets, with numbers that Dagster plots.

    An asset is materialized when new trades came since the last time (`trades_per_s`), else it is observed: one that
    gets nothing new ages, however long its run goes on.
    """
    flows = figures.get("trades_per_s", 1.0) > 0
    for reported in REPORTED.get(op_name, ()):
        if reported.silent_without is None or figures.get(reported.silent_without):
            kind = dg.AssetMaterialization if reported.fills and flows else dg.AssetObservation
            yield kind(asset_key=reported.asset, metadata=_metadata(reported, figures))


def _metadata(reported: Reported, figures: Mapping[str, float]) -> dict[str, float]:
    found = {label: figures[name] for name, label in reported.figures.items() if name in figures}
    return {label: round(value, 3) for label, value in found.items() if math.isfinite(value)}


def column_schema(table: Table) -> dg.TableSchema:
    """The columns of `table`, as Dagster shows them."""
    said = meanings(table)
    return dg.TableSchema(
        [
            dg.TableColumn(name, kind, said[name] or None, constraints=_constraints(table, name))
            for name, kind in table.columns.items()
        ]
    )


def table_metadata(table: Table) -> dict[str, dg.TableSchema | dg.MetadataValue]:
    """What Dagster shows beside a table: its columns, and where to look at its rows.

    Raises:
        ConfigError: the settings of the page of live candles can't be used.
    """
    page = load(WebSettings)
    url = f"http://{page.host}:{page.port}/"
    return {"dagster/column_schema": column_schema(table), "page": dg.MetadataValue.url(url)}


def _constraints(table: Table, column: str) -> dg.TableColumnConstraints:
    if column in table.partition:
        return dg.TableColumnConstraints(nullable=False, other=["partition key"])
    if column in table.clustering:
        return dg.TableColumnConstraints(nullable=False, other=[f"clustering key {table.clustering[column]}"])
    return dg.TableColumnConstraints()


def _topic(key: str, deps: list[str], description: str, freshness: dg.FreshnessPolicy | None = None) -> dg.AssetSpec:
    return dg.AssetSpec(
        key,
        deps=deps,
        description=description,
        group_name="stream",
        kinds={"kafka"},
        owners=OWNERS,
        freshness_policy=freshness,
    )


def _table(table: Table, description: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        table.name,
        deps=[TRADES_TOPIC],
        description=description,
        group_name="tables",
        kinds={"cassandra"},
        owners=OWNERS,
        metadata=table_metadata(table),
        freshness_policy=FRESHNESS,
    )


ASSETS = [
    dg.AssetSpec(
        FEED,
        description="The websocket of trades: CryptoCompare's streamer, or the simulator where there is no API key.",
        group_name="stream",
        kinds={"websocket"},
        owners=OWNERS,
    ),
    _topic(
        TRADES_TOPIC,
        [FEED],
        "The Kafka topic of trades, the feed's JSON as it came, keyed by market and pair.",
        FRESHNESS,
    ),
    _topic(
        DEAD_LETTERS_TOPIC,
        [FEED, TRADES_TOPIC],
        "The Kafka topic of frames that could not be read, each with the reason in its headers.",
    ),
    _table(CANDLES, "A row for each window, market and pair: open, high, low, close, vwap and sums of all its trades."),
    _table(
        TRADE_WINDOWS, "A row for each window, market, pair and direction: mean price, sums and count of its trades."
    ),
]
