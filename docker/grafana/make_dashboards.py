"""Writes Grafana's dashboards, as JSON, by Grafana's own model: `python docker/grafana/make_dashboards.py`.

A panel over Cassandra asks for single days, the partitions of the tables: the hidden variable `date` has those that the
table holds and the time range touches. Rows come grouped by their first column, as the data source has it.
"""

import json
from pathlib import Path

from grafana_foundation_sdk.builders import candlestick, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.candlestick import VizDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

FOLDER = Path(__file__).with_name("dashboards")

CASSANDRA = DataSourceRef("hadesarchitect-cassandra-datasource", "cryptoflow-cassandra")
PROMETHEUS = DataSourceRef("prometheus", "cryptoflow-prometheus")

COLUMNS = 24
"""Of Grafana's grid."""

ALL = VariableOption(text="All", value="$__all")

DATES = "date IN (${date:singlequote})"
TOUCHED = "date >= '${__from:date:iso}' - 1d AND date <= '${__to:date:iso}'"
"""Of the days that a time range touches; a window that ends at midnight belongs to the day that begins then."""

IN_RANGE = "window_start >= $__timeFrom AND window_start <= $__timeTo"
ONE_PAIR = "market = '$market' AND fromcoin = '$coin' AND tocurrency = '$currency'"
ALL_MARKETS = "market IN (${market:singlequote}) AND fromcoin = '$coin' AND tocurrency = '$currency'"


class CassandraQuery(Dataquery):
    """A query of the Cassandra data source, in its editor's form."""

    def __init__(self, cql: str) -> None:
        self.cql = cql

    def to_json(self) -> dict[str, object]:
        """As the data source reads it."""
        return {
            "datasource": CASSANDRA,
            "queryType": "query",
            "rawQuery": True,
            "refId": "A",
            "target": self.cql,
        }


class Cql(Builder[Dataquery]):
    """A CassandraQuery, where a builder is asked for."""

    def __init__(self, cql: str) -> None:
        self._query = CassandraQuery(cql)

    def build(self) -> Dataquery:
        """The query."""
        return self._query


def promql(expression: str, legend: str = "", ref_id: str = "A") -> prometheus.Dataquery:
    """A query of Prometheus."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(ref_id).datasource(PROMETHEUS)


def by_time() -> DataTransformerConfig:
    """The tables give the newest row first; graphs go the other way."""
    return DataTransformerConfig("sortBy", options={"sort": [{"field": "window_start"}]})


def candles(columns: str, where: str = ONE_PAIR) -> Cql:
    """Columns of `candles` over the time range."""
    return Cql(
        f"SELECT market, window_start, {columns} FROM candles"
        f" WHERE {where} AND window_seconds = $window AND {DATES} AND {IN_RANGE}"
    )


def choice(name: str, label: str, cql: str) -> dashboard.QueryVariable:
    """A variable whose values are the first column of a query."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(CASSANDRA)
        .query({"query": cql})
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def choices(where: str, *first: dashboard.QueryVariable) -> list[dashboard.QueryVariable]:
    """The variables of a dashboard over `candles`: after the `first` ones, of their pair, the windows and the days."""
    one_each = "PER PARTITION LIMIT 1 ALLOW FILTERING"
    windows = f"SELECT CAST(window_seconds AS text) FROM candles WHERE {where} {one_each}"
    days = f"SELECT CAST(date AS text) FROM candles WHERE {where} AND window_seconds = $window AND {TOUCHED} {one_each}"
    date = choice("date", "Days", days).multi(True).include_all(True).current(ALL)
    date.hide(VariableHide.HIDE_VARIABLE).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    window = choice("window", "Window in s", windows).sort(VariableSort.NUMERICAL_ASC)  # the shortest one at first
    return [*first, window, date]


def of_partitions(name: str, label: str, column: str, where: str = "") -> dashboard.QueryVariable:
    """A variable of a key column of `candles`."""
    filtered = f" WHERE {where} PER PARTITION LIMIT 1 ALLOW FILTERING" if where else " PER PARTITION LIMIT 1"
    return choice(name, label, f"SELECT {column} FROM candles{filtered}")


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """A dashboard that is empty yet; its uid is its place: /d/UID."""
    others = (
        dashboard.DashboardLink("cryptoflow")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["cryptoflow"])
        .as_dropdown(True)
        .keep_time(True)
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["cryptoflow"])
        .timezone("utc")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("30s")
        .link(others)
    )


def graph(title: str, description: str, unit: str = "short", width: int = 12) -> timeseries.Panel:
    """A graph over time."""
    legend = common.VizLegendOptions().show_legend(True)
    return timeseries.Panel().title(title).description(description).unit(unit).span(width).height(8).legend(legend)


def number(title: str, description: str, unit: str = "short", bad_from: float | None = None) -> stat.Panel:
    """A figure; it is red from `bad_from` on."""
    steps = [Threshold(None, "green"), *([Threshold(bad_from, "red")] if bad_from is not None else [])]
    thresholds = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    panel = stat.Panel().title(title).description(description).unit(unit).span(COLUMNS // 6).height(4)
    return panel.thresholds(thresholds).datasource(PROMETHEUS)


def candles_board() -> dashboard.Dashboard:
    """One pair on one market."""
    fields = candlestick.CandlestickFieldMap().open("open").high("high").low("low").close("close").volume("volume")
    made = board("cryptoflow-candles", "Candles", "One pair on one market, from the table `candles`.")
    made.variables(
        [
            *choices(
                ONE_PAIR,
                of_partitions("market", "Market", "market"),
                of_partitions("coin", "Coin", "fromcoin", "market = '$market'"),
                of_partitions("currency", "Currency", "tocurrency", "market = '$market' AND fromcoin = '$coin'"),
            )
        ]
    )
    made.with_panel(
        candlestick.Panel()
        .title("$market $coin-$currency")
        .description("Open, high, low, close and volume of each window; a window without trades has no candle.")
        .mode(VizDisplayMode.CANDLES_VOLUME)
        .fields(fields)
        .span(COLUMNS)
        .height(14)
        .datasource(CASSANDRA)
        .with_target(candles("open, high, low, close, volume"))
        .with_transformation(by_time())
    )
    for panel, columns in (
        (graph("Price", "The last price of each window, and the mean by quantity (vwap)."), "close, vwap"),
        (graph("Bought and sold", "Quantity by the taker's side."), "buy_quantity, sell_quantity"),
        (graph("Trades", "Trades in each window."), "trades"),
    ):
        made.with_panel(panel.datasource(CASSANDRA).with_target(candles(columns)).with_transformation(by_time()))
    verdicts = "market, hour, verdict, reason, in_log, in_candles, duplicates, late, gaps, repaired_at"
    made.with_panel(
        table.Panel()
        .title("Hours")
        .description("What is known of each hour: complete, repaired, quiet, or suspect and why.")
        .span(12)
        .height(8)
        .datasource(CASSANDRA)
        .with_target(Cql(f"SELECT {verdicts} FROM hours WHERE {ONE_PAIR} AND {DATES}"))
    )
    return made


def venues_board() -> dashboard.Dashboard:
    """One pair on several markets."""
    made = board("cryptoflow-venues", "Venues compared", "One pair on several markets, window by window.")
    pair = "fromcoin = '$coin' AND tocurrency = '$currency'"
    markets = of_partitions("market", "Markets", "market", pair).multi(True).include_all(True).current(ALL)
    made.variables(
        [
            *choices(
                ALL_MARKETS,
                of_partitions("coin", "Coin", "fromcoin"),
                of_partitions("currency", "Currency", "tocurrency", "fromcoin = '$coin'"),
                markets,
            )
        ]
    )
    for title, description, column in (
        ("Close", "The last price of each window.", "close"),
        ("Vwap", "The mean price by quantity.", "vwap"),
        ("Volume", "The sum of price by quantity, in the pair's currency.", "volume"),
        ("Trades", "Trades in each window.", "trades"),
    ):
        panel = graph(title, description).datasource(CASSANDRA).display_name("${__frame.name}")
        made.with_panel(panel.with_target(candles(column, ALL_MARKETS)).with_transformation(by_time()))
    spread = graph(
        "Spread", "Between the highest and the lowest close, in basis points of the lowest.", "short", COLUMNS
    )
    spread.datasource(CASSANDRA).with_target(candles("close", ALL_MARKETS))
    for step in (
        DataTransformerConfig("joinByField", options={"byField": "window_start", "mode": "outer"}),
        _over_rows("max"),
        _over_rows("min"),
        _worked_out("difference", "max", "-", "min"),
        _worked_out("share", "difference", "/", "min"),
        _worked_out("basis points", "share", "*", "10000"),
        DataTransformerConfig("filterFieldsByName", options={"include": {"names": ["window_start", "basis points"]}}),
        by_time(),
    ):
        spread.with_transformation(step)
    return made.with_panel(spread)


def _over_rows(reducer: str) -> DataTransformerConfig:
    options = {"mode": "reduceRow", "reduce": {"reducer": reducer}, "alias": reducer}
    return DataTransformerConfig("calculateField", options=options)


def _worked_out(name: str, left: str, operator: str, right: str) -> DataTransformerConfig:
    options = {"mode": "binary", "binary": {"left": left, "operator": operator, "right": right}, "alias": name}
    return DataTransformerConfig("calculateField", options=options)


NUMBERS = (
    ("Runs at work", "Processes that carry trades and that aggregate.", "short", None, "sum(cryptoflow_run_live)"),
    ("Trades/s", "New trades of all feeds.", "short", None, "sum(rate(cryptoflow_feed_trades_total[5m]))"),
    ("Lag", "How long the oldest trade that is in no candle waits.", "s", 60, "cryptoflow_log_lag_seconds"),
    (
        "Waiting for repair",
        "Trades that came too late for the stream.",
        "short",
        1,
        "sum(cryptoflow_pair_waiting_trades)",
    ),
    (
        "Dead letters, 1 h",
        "Frames that could not be read.",
        "short",
        1,
        "increase(cryptoflow_log_dead_letters_total[1h])",
    ),
    (
        "Last repair",
        "How long ago an hour was repaired.",
        "s",
        None,
        "time() - max(cryptoflow_pair_last_repair_timestamp_seconds)",
    ),
)
"""(title, description, unit, bad from, PromQL)."""

GRAPHS = (
    ("Into Kafka", "Trades received and acknowledged, a second.", "short", (
        ("sum(rate(cryptoflow_feed_trades_total[5m]))", "received"),
        ("sum(rate(cryptoflow_ingest_acknowledged_total[5m]))", "acknowledged"),
    )),
    ("Received", "New trades of each market, a second.", "short", (
        ("sum by (market) (rate(cryptoflow_market_trades_total[5m]))", "{{market}}"),
    )),
    ("On the way", "From the exchange's time of a market's newest trade until that was received.", "s", (
        ("min by (market) (cryptoflow_market_delay_seconds)", "{{market}}"),
    )),
    ("Silence", "How long nothing has come of each market; and its pairs that are silent beyond their pace.", "s", (
        ("time() - max by (market) (cryptoflow_market_newest_trade_timestamp_seconds)", "{{market}}"),
        ("sum by (market) (cryptoflow_market_silent_pairs)", "{{market}}: silent pairs"),
    )),
    ("Into the tables", "Records and rows, a second.", "short", (
        ("sum(rate(cryptoflow_aggregate_input_rows_total[5m]))", "records taken"),
        ("sum(rate(cryptoflow_aggregate_rows_written_total[5m]))", "rows written"),
    )),
    ("Behind", "The oldest trade that waits, and the watermark's distance from the clock.", "s", (
        ("cryptoflow_log_lag_seconds", "lag"),
        ("time() - cryptoflow_aggregate_watermark_timestamp_seconds", "watermark"),
    )),
    ("A batch", "How long the newest one took.", "s", (("cryptoflow_stream_batch_seconds", "{{part}}"),)),
    ("Waiting for repair", "Trades by pair.", "short", (("cryptoflow_pair_waiting_trades", "{{market}} {{pair}}"),)),
    ("Verdicts", "Of the newest 24 hours of each pair.", "short", (
        ("sum by (verdict) (cryptoflow_verdict_partitions)", "{{verdict}}"),
    )),
    ("Newest candle", "How long ago the newest window of each pair ended.", "s", (
        ("time() - cryptoflow_pair_newest_candle_timestamp_seconds", "{{market}} {{pair}}"),
    )),
    ("Left out", "A second: trades that came again, too late, or could not be read; and gaps.", "short", (
        ("sum(rate(cryptoflow_feed_duplicates_total[5m]))", "duplicates"),
        ("sum(rate(cryptoflow_aggregate_late_total[5m]))", "late"),
        ("sum(rate(cryptoflow_feed_unreadable_total[5m]))", "unreadable"),
        ("sum(rate(cryptoflow_feed_gaps_total[5m]))", "gaps"),
    )),
    ("At work", "Runs by part; stores that answer.", "short", (
        ("cryptoflow_run_live", "{{part}}"),
        ("cryptoflow_store_up", "{{store}}"),
    )),
    ("Disk", "The free part of the disk of CRYPTOFLOW_HOME.", "percentunit", (
        ("cryptoflow_home_disk_free_bytes / cryptoflow_home_disk_size_bytes", "free"),
    )),
)  # fmt: skip
"""(title, description, unit, its lines as (PromQL, legend))."""


def health_board() -> dashboard.Dashboard:
    """How it is, from Prometheus."""
    made = board("cryptoflow-health", "Health", "Whether all is well: the metrics of runs, Kafka and the tables.")
    for title, description, unit, bad_from, expression in NUMBERS:
        made.with_panel(number(title, description, unit, bad_from).with_target(promql(expression).instant()))
    for title, description, unit, lines in GRAPHS:
        panel = graph(title, description, unit).datasource(PROMETHEUS)
        for ref_id, (expression, legend) in zip("ABCD", lines, strict=False):
            panel.with_target(promql(expression, legend, ref_id))
        made.with_panel(panel)
    return made


BOARDS = {"candles": candles_board, "venues": venues_board, "health": health_board}


def text_of(name: str) -> str:
    """A dashboard as its file holds it."""
    return json.dumps(BOARDS[name]().build(), cls=JSONEncoder, indent=2) + "\n"


if __name__ == "__main__":
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(text_of(name))
