"""The laws of metrics: each is stated with all that a registry asks for, and has one name wherever it shows."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.runtime.metrics import (
    AggregateMetrics,
    FeedMetrics,
    IngestMetrics,
    Kind,
    MemoryMetrics,
    Metrics,
    ProcessMetrics,
    RepairMetrics,
    StreamMetrics,
    catalog,
)

PARTS: list[type[Metrics]] = [IngestMetrics, AggregateMetrics, MemoryMetrics, RepairMetrics]

every_kind = pytest.mark.parametrize("kind", [*PARTS, ProcessMetrics], ids=lambda kind: kind.__name__)
numbers = st.none() | st.integers(0, 2**63)


@every_kind
def test_each_says_what_it_is_under_a_name_that_a_registry_takes(kind: type[Metrics]) -> None:
    assert catalog(kind)
    for name, metric in catalog(kind).items():
        assert re.fullmatch(r"[a-z][a-z_]*", name)
        assert metric.meaning
        assert metric.kind is not Kind.TIME or name.endswith("_s")


@every_kind
def test_the_figures_are_those_of_the_catalog_that_are_known(kind: type[Metrics]) -> None:
    assert set(kind().figures()) <= set(catalog(kind))
    counters = {name for name, metric in catalog(kind).items() if metric.kind is Kind.COUNTER}
    assert counters <= set(kind().figures())


def test_a_group_and_its_part_share_no_name() -> None:
    for kind in PARTS:
        groups = [group for group in (FeedMetrics, StreamMetrics) if set(catalog(group)) <= set(catalog(kind))]
        own = set(kind.__struct_fields__) - {"feed", "stream"}
        assert len(catalog(kind)) == len(own) + sum(len(catalog(group)) for group in groups)


@given(numbers, numbers, numbers)
def test_what_is_not_known_is_left_out(lag: int | None, waiting: int | None, rows: int | None) -> None:
    stream = StreamMetrics(lag_trades=lag, batch_ms=rows)
    told = AggregateMetrics(waiting_trades=waiting, stream=stream).figures()
    known = {"lag_trades": lag, "waiting_trades": waiting, "batch_ms": rows}
    assert {name: told.get(name) for name in known} == known
    assert None not in told.values()


def test_what_a_part_has_taken_is_its_trades() -> None:
    feed = FeedMetrics(trades=7)
    parts = (IngestMetrics(feed=feed), AggregateMetrics(input_rows=7), MemoryMetrics(feed=feed))
    assert [part.taken for part in parts] == [7, 7, 7]
    assert RepairMetrics(trades_read=7).taken == 7
