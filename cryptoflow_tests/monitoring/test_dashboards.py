"""Grafana's dashboards: by its own model, and no panel is empty over real tables and recorded metrics."""

import json
import re
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from cassandra.cluster import Session
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, VariableSort
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest

from cryptoflow.exporter.families import exported
from cryptoflow.exporter.registry import Sources, registry
from cryptoflow.runtime.lease import lease
from cryptoflow.runtime.metrics import (
    EXPORTED,
    AggregateMetrics,
    FeedMetrics,
    IngestMetrics,
    MarketMetrics,
    PartMetrics,
    StreamMetrics,
)
from cryptoflow.runtime.status import PartStatus, write_status
from cryptoflow_tests.prometheus import promtool, registry_of, serving
from cryptoflow_tests.repairing import HOUR_S, ONE_HOUR, T0, World, a_trade, moment

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "grafana"
MADE = runpy.run_path(str(FOLDER / "make_dashboards.py"))
DAY_S = 86_400
MIDNIGHT = T0 // DAY_S * DAY_S
FROM_S, TO_S = MIDNIGHT - HOUR_S, MIDNIGHT + HOUR_S
"""The time range that is looked at: over a midnight, so that it touches two partitions."""

PAIRS = [(market, "BTC", "USD") for market in ("Coinbase", "Kraken")]
RECORDED_S = FROM_S
"""When the metrics were recorded: long enough ago for a block of Prometheus."""

every_board = pytest.mark.parametrize("name", MADE["BOARDS"])


def board(name: str) -> dict[str, Any]:
    """A dashboard as Grafana gets it."""
    found: dict[str, Any] = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text())
    return found


def targets(name: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The queries of a dashboard for one kind of data source, each with its panel's title."""
    for panel in board(name)["panels"]:
        for target in panel["targets"]:
            if target["datasource"]["type"] == kind:
                yield panel["title"], target


def cql_of(name: str) -> list[tuple[str, str]]:
    """(panel, CQL) of a dashboard."""
    return [(title, target["target"]) for title, target in targets(name, MADE["CASSANDRA"].type_val)]


def promql() -> list[tuple[str, str]]:
    """(panel, PromQL) of all dashboards."""
    return [(title, target["expr"]) for name in MADE["BOARDS"] for title, target in targets(name, "prometheus")]


def filled(query: str, values: Mapping[str, list[str]]) -> str:
    """A query as Grafana and the data source send it."""
    times = {"__timeFrom": FROM_S * 1000, "__timeTo": TO_S * 1000}
    for name, time_ms in times.items():
        query = query.replace(f"${name}", str(time_ms))
    for name, time_s in (("__from", FROM_S), ("__to", TO_S)):
        query = query.replace(f"${{{name}:date:iso}}", f"{moment(time_s):%Y-%m-%dT%H:%M:%S.000Z}")
    for name, chosen in values.items():
        quoted = ",".join(f"'{value}'" for value in chosen)
        query = query.replace(f"${{{name}:singlequote}}", quoted).replace(f"${name}", chosen[0])
    assert "$" not in query, query
    return query


def chosen(name: str, session: Session) -> dict[str, list[str]]:
    """The variables of a dashboard as it opens: the first value of each, or all where it says so."""
    values: dict[str, list[str]] = {}
    for variable in board(name).get("templating", {}).get("list", []):
        rows = session.execute(filled(variable["query"]["query"], values))
        by_number = variable["sort"] == VariableSort.NUMERICAL_ASC
        found = sorted({row[0] for row in rows}, key=int if by_number else None)
        assert found, variable["name"]
        values[variable["name"]] = found if variable["includeAll"] else found[:1]
    return values


@pytest.fixture
def lively(world: World) -> World:
    """Two markets with trades before and after a midnight, of which an hour was repaired and some trades wait."""
    trades = [a_trade(time_s, time_s, pair) for time_s in range(FROM_S, TO_S, 20) for pair in PAIRS]
    begins = world.log().ends()
    world.send(trades)
    world.commit(trades, moment(TO_S), begins=begins)
    world.repair(moment(FROM_S), moment(MIDNIGHT))
    late = [a_trade(10**6, TO_S - 1, PAIRS[0])]
    world.commit([], moment(TO_S) - ONE_HOUR, [world.mark(late[-1], world.send(late))])
    return world


def recorded(world: World) -> bytes:
    """Two scrapes, a minute apart, of runs at work, in OpenMetrics' form."""
    with (
        lease(world.home, "one", "ingest_trades"),
        lease(world.home, "one", "aggregate_trades"),
        registry(Sources(world.home, world.kafka, world.cassandra, 60), every_s=0.1) as found,
    ):
        families: dict[str, Metric] = {}
        for number in range(2):
            kraken = MarketMetrics(trades=900 * number, newest_trade_s=float(RECORDED_S), delay_s=0.25)
            feed = FeedMetrics(frames=1000 * number, trades=900 * number, markets={"Kraken": kraken})
            _leave(world, "ingest_trades", IngestMetrics(feed=feed, acknowledged=900 * number))
            stream = StreamMetrics(lag_trades=3, batch_ms=400)
            figures = AggregateMetrics(input_rows=900 * number, watermark_s=float(FROM_S), stream=stream)
            _leave(world, "aggregate_trades", figures)
            for family in found.collect():
                kept = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    kept.add_sample(sample.name, sample.labels, sample.value, RECORDED_S + 60 * number)
    for family in families.values():
        family.samples.sort(key=lambda sample: sorted(sample.labels.items()))
    text: bytes = generate_latest(registry_of(families.values()))  # type: ignore[no-untyped-call]
    return text


def _leave(world: World, part: str, metrics: PartMetrics) -> None:
    write_status(world.home, "one", part, PartStatus(metrics))


@every_board
def test_the_file_is_what_the_program_makes(name: str) -> None:
    made = (FOLDER / "dashboards" / f"{name}.json").read_text()
    assert made == MADE["text_of"](name), "run .venv/bin/python docker/grafana/make_dashboards.py"


@every_board
def test_grafanas_own_model_knows_all_that_stands_in_it(name: str) -> None:
    register_default_plugins()
    read = json.loads(json.dumps(Dashboard.from_json(board(name)), cls=JSONEncoder))
    for panel in read["panels"]:
        panel.get("fieldConfig", {}).get("defaults", {}).pop("custom", None)  # the model adds an empty one
    assert read == board(name)


@every_board
def test_every_panel_says_what_it_shows_and_asks_a_source_that_is_provisioned(name: str) -> None:
    text = (FOLDER / "provisioning" / "datasources" / "cryptoflow.yaml").read_text()
    known = {(each["type"], each["uid"]) for each in yaml.safe_load(text)["datasources"]}
    for panel in board(name)["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        for asked in (panel, *panel["targets"]):
            assert (asked["datasource"]["type"], asked["datasource"]["uid"]) in known


def test_no_panel_over_the_tables_is_empty(lively: World) -> None:
    for name in ("candles", "venues"):
        values = chosen(name, lively.session)
        assert len(values["date"]) == 2
        for title, cql in cql_of(name):
            rows = list(lively.session.execute(filled(cql, values)))
            assert rows, f"{name}: {title}"
            if "window_start" in cql:  # all windows of the range, on both sides of the midnight
                markets = set(values["market"])
                assert len(rows) == 120 * len(markets), f"{name}: {title}"
                assert {row.market for row in rows} == markets


def test_no_panel_over_the_metrics_is_empty(lively: World, tmp_path: Path) -> None:
    (tmp_path / "metrics.txt").write_bytes(recorded(lively))
    promtool("tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "metrics.txt"), str(tmp_path / "data"))
    with serving(tmp_path / "data") as url:
        at = ("--time", str(RECORDED_S + 90))
        for title, expression in promql():
            assert promtool("query", "instant", *at, url, expression).strip(), f"{title}: {expression}"
        assert not promtool("query", "instant", *at, url, "cryptoflow_never_was").strip()


def test_the_dashboards_name_only_metrics_that_are_exported() -> None:
    named = {name for _, expression in promql() for name in re.findall(r"cryptoflow_\w+", expression)}
    assert named <= {metric.name for kind in EXPORTED for metric in exported(kind)}
