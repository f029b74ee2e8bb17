"""Typed metrics as Prometheus has them: families with names, units and labels. Pure.

The catalog of `runtime/metrics.py` is the one place that metrics come from. A group is named after its class, units are
base units, and a counter ends in `_total`, as Prometheus' conventions ask for: `cryptoflow_feed_trades_total`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cryptoflow.runtime.metrics import (
    HomeMetrics,
    Kind,
    LogMetrics,
    MarketMetrics,
    Metrics,
    PairMetrics,
    RunMetrics,
    StoreMetrics,
    TablesMetrics,
    VerdictMetrics,
    own,
)

PREFIX = "cryptoflow"

BASE_UNITS = (("_per_s", "_per_second", 1.0), ("_ms", "_seconds", 1e-3), ("_s", "_seconds", 1.0))
"""(our ending, Prometheus', factor), the longest first."""

OF_A_PART = ("run", "part")

COUNTED = re.compile("_(hours|days)")
PARTITIONS = "_partitions"
"""Hours and days that are counted would be taken for units: they go by what Dagster calls them."""

LABELS: Mapping[type[Metrics], tuple[str, ...]] = {
    MarketMetrics: (*OF_A_PART, "market"),
    RunMetrics: ("part",),
    StoreMetrics: ("store",),
    LogMetrics: (),
    TablesMetrics: (),
    PairMetrics: ("market", "pair"),
    VerdictMetrics: ("market", "pair", "verdict"),
    HomeMetrics: (),
}
"""What tells the series of a kind of metrics apart; the others are of a part of a run."""


class Sample(NamedTuple):
    """Some metrics, and what they are of: a value for each label of their kind."""

    metrics: Metrics
    of: tuple[str, ...] = ()


class Exported(NamedTuple):
    """A metric as Prometheus has it."""

    field: str
    name: str
    kind: Kind
    meaning: str
    factor: float
    """From our unit to its base unit."""


def exported(kind: type[Metrics]) -> Iterator[Exported]:
    """The metrics of a kind itself, without those of its groups."""
    group = kind.__name__.removesuffix("Metrics").lower()
    for field, metric in own(kind).items():
        name, factor = _named(f"{PREFIX}_{group}_{field}", metric.kind)
        yield Exported(field, name, metric.kind, f"{metric.meaning[0].upper()}{metric.meaning[1:]}.", factor)


def _named(name: str, kind: Kind) -> tuple[str, float]:
    name = COUNTED.sub(PARTITIONS, name)
    ours, theirs, factor = next((unit for unit in BASE_UNITS if name.endswith(unit[0])), ("", "", 1.0))
    if kind is Kind.TIME:
        theirs = f"_timestamp{theirs}"
    return name.removesuffix(ours) + theirs + ("_total" if kind is Kind.COUNTER else ""), factor


def families(samples: Iterable[Sample]) -> Iterator[Metric]:
    """The families of the samples, with a series for each; what is not known has none."""
    by_kind: dict[type[Metrics], list[Sample]] = {}
    for sample in samples:
        for part in _with_groups(sample):
            by_kind.setdefault(type(part.metrics), []).append(part)
    for kind, found in by_kind.items():
        for each in exported(kind):
            yield _family(each, LABELS.get(kind, OF_A_PART), found)


def _with_groups(sample: Sample) -> Iterator[Sample]:
    """A part's groups have families of their own; those of several things have a label for them."""
    yield sample
    for field in sample.metrics.__struct_fields__:
        value = getattr(sample.metrics, field)
        if isinstance(value, Metrics):
            yield from _with_groups(Sample(value, sample.of))
        elif isinstance(value, dict):
            for name, each in value.items():
                yield from _with_groups(Sample(each, (*sample.of, name)))


def _family(metric: Exported, labels: tuple[str, ...], samples: Iterable[Sample]) -> Metric:
    make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.meaning, labels=labels)
    for sample in samples:
        value = getattr(sample.metrics, metric.field)
        if value is not None:
            family.add_metric(sample.of, value * metric.factor)
    return family
