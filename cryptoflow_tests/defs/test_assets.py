"""Laws of the assets: what they come from, which columns they have, and what is told of them."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.defs.assets import ASSETS, FRESHNESS, REPORTED, STALE_FAILURE, STALE_WARNING, VENUE_HISTORY, events_of
from cryptoflow.defs.ops import aggregate_in_memory, aggregate_trades, ingest_trades
from cryptoflow.defs.streaming import LAST_INTERVAL_S
from cryptoflow.runtime.metrics import (
    AggregateMetrics,
    HistoryMetrics,
    IngestMetrics,
    MemoryMetrics,
    ProcessMetrics,
    StreamMetrics,
    catalog,
)
from cryptoflow.tables.schema import CANDLES, TABLES, TRADE_WINDOWS

Event = dg.AssetMaterialization | dg.AssetObservation

INGESTED = {"trades_per_s": 99.5, "trades": 1000.0, "acknowledged": 990.0, "duplicates": 20.0, "gaps": 1.0}
AGGREGATED = {"trades_per_s": 50.0, "input_rows": 900.0, "rows_written": 30.0, "late": 2.0, "watermark_s": 1e9}

names = st.sampled_from(sorted({name for each in REPORTED.values() for told in each for name in told.figures}))


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in ASSETS}


def key(event: Event) -> str:
    return event.asset_key.to_user_string()


def told(event: Event) -> dict[str, Any]:
    return {name: value.value for name, value in event.metadata.items()}


def test_the_data_flows_from_the_feed_to_the_tables() -> None:
    lineage = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs().items()}
    assert lineage == {
        "feed": set(),
        "trades_topic": {"feed"},
        "dead_letters_topic": {"feed", "trades_topic"},
        "candles": {"trades_topic"},
        "trademsgs1minutewindow": {"trades_topic"},
    }


def test_every_asset_is_described_and_of_a_kind_and_a_group() -> None:
    shown = {name: (spec.kinds, spec.group_name) for name, spec in specs().items()}
    assert shown == {
        "feed": ({"websocket"}, "stream"),
        "trades_topic": ({"kafka"}, "stream"),
        "dead_letters_topic": ({"kafka"}, "stream"),
        "candles": ({"cassandra"}, "tables"),
        "trademsgs1minutewindow": ({"cassandra"}, "tables"),
    }
    assert all(spec.description for spec in ASSETS)


@pytest.mark.parametrize("table", [CANDLES, TRADE_WINDOWS], ids=lambda table: table.name)
def test_a_tables_columns_are_shown_with_its_key(table: Any) -> None:
    schema = specs()[table.name].metadata["dagster/column_schema"]
    assert {column.name: column.type for column in schema.columns} == table.columns
    constraints = {column.name: column.constraints for column in schema.columns}
    assert [name for name, each in constraints.items() if not each.nullable] == [
        name for name in table.columns if name in (*table.partition, *table.clustering)
    ]
    assert constraints["window_start"].other == ["clustering key DESC"]
    assert constraints["date"].other == ["partition key"]


def test_what_the_streaming_ops_fill_can_go_stale() -> None:
    policies = {name: spec.freshness_policy for name, spec in specs().items()}
    filled = {told.asset for each in REPORTED.values() for told in each if told.fills}
    assert {name for name, policy in policies.items() if policy} == filled
    assert {policies[name] for name in filled} == {FRESHNESS}


def test_a_run_that_lives_does_not_go_stale_between_two_events() -> None:
    assert 2 * timedelta(seconds=LAST_INTERVAL_S) < STALE_WARNING < STALE_FAILURE


def test_every_op_that_streams_tells_of_assets_that_exist() -> None:
    assert set(REPORTED) == {ingest_trades.name, aggregate_trades.name, aggregate_in_memory.name, VENUE_HISTORY}
    assert {told.asset for each in REPORTED.values() for told in each} == {*specs(), VENUE_HISTORY}


def test_what_is_plotted_is_what_the_parts_measure() -> None:
    measured = {
        "ingest_trades": catalog(IngestMetrics),
        "aggregate_trades": catalog(AggregateMetrics),
        "aggregate_in_memory": catalog(MemoryMetrics),
        VENUE_HISTORY: catalog(HistoryMetrics),
    }
    for op, each in REPORTED.items():
        known = {*measured[op], *catalog(ProcessMetrics)}
        assert {name for told in each for name in told.figures} <= known


def test_of_another_op_nothing_is_told() -> None:
    assert list(events_of("something_else", {"trades": 1.0})) == []


def test_the_ingester_tells_of_the_feed_and_fills_the_topic() -> None:
    feed, topic = events_of("ingest_trades", INGESTED)
    assert isinstance(feed, dg.AssetObservation)
    assert (key(feed), told(feed)) == ("feed", {k: v for k, v in INGESTED.items() if k != "acknowledged"})
    assert isinstance(topic, dg.AssetMaterialization)
    assert (key(topic), told(topic)) == ("trades_topic", {"trades_per_s": 99.5, "acknowledged": 990.0})


def test_the_aggregation_fills_both_tables() -> None:
    events = list(events_of("aggregate_trades", AGGREGATED))
    assert [key(event) for event in events] == ["candles", "trademsgs1minutewindow"]
    assert all(isinstance(event, dg.AssetMaterialization) for event in events)
    assert [told(event) for event in events] == [{k: v for k, v in AGGREGATED.items() if k != "watermark_s"}] * 2


@pytest.mark.parametrize("op", ["ingest_trades", "aggregate_trades"])
def test_nothing_is_fresh_where_no_trade_came(op: str) -> None:
    events = list(events_of(op, {**INGESTED, **AGGREGATED, "trades_per_s": 0.0}))
    assert {type(event) for event in events} == {dg.AssetObservation}


def test_memory_mode_tells_of_the_feed_alone() -> None:
    [event] = events_of("aggregate_in_memory", MemoryMetrics(late=5, stream=StreamMetrics(lag_trades=1)).figures())
    assert key(event) == "feed"
    assert isinstance(event, dg.AssetObservation)
    assert not {"late", "lag_trades"} & set(told(event))


@pytest.mark.parametrize(("op", "name"), [("ingest_trades", "found_in_feed"), ("aggregate_trades", "found_in_topic")])
def test_dead_letters_are_told_by_who_found_them_and_only_where_there_are_some(op: str, name: str) -> None:
    def dead(unreadable: float) -> Iterator[Event]:
        return (event for event in events_of(op, {"unreadable": unreadable}) if key(event) == "dead_letters_topic")

    assert list(dead(0)) == []
    [event] = dead(3)
    assert told(event) == {name: 3}
    assert isinstance(event, dg.AssetObservation)


@given(st.sampled_from(sorted(REPORTED)), st.dictionaries(names, st.floats() | st.integers(0, 2**70)))
def test_only_finite_numbers_are_told(op: str, figures: dict[str, float]) -> None:
    for event in events_of(op, figures):
        for value in event.metadata.values():
            assert isinstance(value, dg.FloatMetadataValue | dg.IntMetadataValue)
            assert value.value is not None
            assert math.isfinite(value.value)


def test_the_records_of_what_was_done_are_no_assets() -> None:
    records = {"batches", "progress", "marks", "hours", "leases"}
    assert {table.name for table in TABLES} - set(specs()) == records
