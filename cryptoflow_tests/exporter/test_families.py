"""Typed metrics as Prometheus has them: its conventions are kept, nothing is left out, and values are in base units."""

import inspect

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric

from cryptoflow.exporter.families import LABELS, OF_A_PART, Sample, exported, families
from cryptoflow.runtime import metrics
from cryptoflow.runtime.metrics import (
    EXPORTED,
    AggregateMetrics,
    FeedMetrics,
    IngestMetrics,
    Kind,
    LogMetrics,
    MarketMetrics,
    Metrics,
    PairMetrics,
    ProcessMetrics,
    StreamMetrics,
    catalog,
)
from cryptoflow_tests.prometheus import promtool, registry_of

every_kind = pytest.mark.parametrize("kind", EXPORTED, ids=lambda kind: kind.__name__)


def by_name(*samples: Sample) -> dict[str, Metric]:
    return {family.name: family for family in families(samples)}


def value_of(family: Metric) -> float:
    [sample] = family.samples
    return float(sample.value)


def test_every_kind_of_metrics_is_exported_but_what_prometheus_works_out_itself() -> None:
    kinds = {kind for _, kind in inspect.getmembers(metrics, inspect.isclass) if issubclass(kind, Metrics)}
    assert kinds - set(EXPORTED) == {Metrics, ProcessMetrics}


@every_kind
def test_the_catalog_has_them_all_with_their_meanings(kind: type[Metrics]) -> None:
    known = catalog(kind)
    for metric in exported(kind):
        assert (metric.kind, metric.meaning.lower()) == (
            known[metric.field].kind,
            f"{known[metric.field].meaning.lower()}.",
        )


def test_no_two_have_one_name() -> None:
    names = [metric.name for kind in EXPORTED for metric in exported(kind)]
    assert len(names) == len(set(names))


@every_kind
def test_prometheus_finds_no_fault_with_the_names_and_meanings(kind: type[Metrics]) -> None:
    known = kind(**dict.fromkeys((metric.field for metric in exported(kind)), 1))
    told = families([Sample(known, ("x",) * len(LABELS.get(kind, OF_A_PART)))])
    promtool("check", "metrics", stdin=generate_latest(registry_of(told)))


@every_kind
def test_units_are_base_units_and_only_counters_are_totals(kind: type[Metrics]) -> None:
    for metric in exported(kind):
        assert not metric.name.endswith(("_s", "_ms", "_mb"))
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert "_timestamp_seconds" in metric.name or metric.kind is not Kind.TIME


def test_values_are_in_base_units() -> None:
    stream = StreamMetrics(batch_ms=1500, rows_per_s=2.5)
    found = by_name(Sample(AggregateMetrics(watermark_s=7.5, stream=stream), ("r", "aggregate_trades")))
    assert value_of(found["cryptoflow_stream_batch_seconds"]) == 1.5
    assert value_of(found["cryptoflow_stream_rows_per_second"]) == 2.5
    assert value_of(found["cryptoflow_aggregate_watermark_timestamp_seconds"]) == 7.5


def test_a_series_tells_what_it_is_of_in_its_groups_too() -> None:
    found = by_name(Sample(IngestMetrics(feed=FeedMetrics(trades=3), acknowledged=2), ("r", "ingest_trades")))
    for name, value in (("cryptoflow_feed_trades", 3), ("cryptoflow_ingest_acknowledged", 2)):
        [sample] = found[name].samples
        assert (sample.labels, sample.value) == ({"run": "r", "part": "ingest_trades"}, value)


def test_what_is_of_one_of_several_markets_says_of_which() -> None:
    markets = {"Kraken": MarketMetrics(trades=2), "Coinbase": MarketMetrics(trades=1, delay_s=0.5)}
    found = by_name(Sample(IngestMetrics(feed=FeedMetrics(trades=3, markets=markets)), ("r", "ingest_trades")))
    assert {each.labels["market"]: each.value for each in found["cryptoflow_market_trades"].samples} == {
        "Kraken": 2,
        "Coinbase": 1,
    }
    [delay] = found["cryptoflow_market_delay_seconds"].samples
    assert delay.labels == {"run": "r", "part": "ingest_trades", "market": "Coinbase"}


def test_what_is_not_known_has_no_series() -> None:
    found = by_name(Sample(LogMetrics(records=5)), Sample(PairMetrics(), ("Kraken", "BTC-USD")))
    assert [sample.value for sample in found["cryptoflow_log_records"].samples] == [5]
    assert found["cryptoflow_log_lag_trades"].samples == []
    assert found["cryptoflow_pair_newest_candle_timestamp_seconds"].samples == []


def test_a_registry_writes_them_with_their_meanings() -> None:
    text = generate_latest(registry_of(families([Sample(LogMetrics(records=5))]))).decode()
    assert "# HELP cryptoflow_log_records_total Records that the topic of trades was ever given.\n" in text
    assert "# TYPE cryptoflow_log_records_total counter\ncryptoflow_log_records_total 5.0\n" in text
