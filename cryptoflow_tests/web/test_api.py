"""The contract of the API: pages, formats, one shape of failure, and nothing that it writes."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cryptoflow.model.candle import CandleRow, DirectionRow, candle_row, candles_of, direction_rows
from cryptoflow.model.trade import NS_PER_S
from cryptoflow.model.window import epoch_ns
from cryptoflow.tables.schema import CANDLES, HOURS, TRADE_WINDOWS, HourRow
from cryptoflow_tests.test_documents import fences
from cryptoflow_tests.watching import Watched, a_trade, await_that, utc

DOCS = Path(__file__).resolve().parents[2] / "docs"
KRAKEN = ("Kraken", "ETH", "EUR")
ASKED: dict[str, Any] = {"market": "Kraken", "pair": "ETH-EUR"}
MIDNIGHT = utc("2026-03-02T00:00:00")
FIRST = MIDNIGHT - timedelta(minutes=90)
MINUTES = 180
THE_EXAMPLES = {"Coinbase": "Kraken", "BTC-USD": "ETH-EUR", "2026-11-26": "2026-03-01", "2026-11-27": "2026-03-02"}
"""What stands in the documents' example, and what is asked for here."""

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


def candles() -> list[CandleRow]:
    """Three hours around a midnight, but for a gap of ten minutes."""
    starts = [FIRST + timedelta(minutes=minute) for minute in range(MINUTES) if not 100 <= minute < 110]
    trades = [a_trade(at, 100 + at / 10, KRAKEN, epoch_ns(start) + NS_PER_S) for at, start in enumerate(starts)]
    return sorted((candle_row(candle) for candle in candles_of(trades, 60).values()), key=lambda row: row.window_start)


def an_hour(hour: datetime, verdict: str, reason: str) -> HourRow:
    return HourRow(*KRAKEN, hour.replace(hour=0), hour, 60, 60, 0, 0, 0, verdict, reason, datetime.now(UTC), "[]")


ROWS = candles()
HOURS_KNOWN = [
    an_hour(MIDNIGHT - timedelta(hours=1), "complete", "all there"),
    an_hour(MIDNIGHT, "suspect", "log cut"),
]


@pytest.fixture(scope="module")
def server(shared_server: Watched) -> Watched:
    """With candles of March, verdicts and rows of sides."""
    trades = [a_trade(at, 100.0, KRAKEN, epoch_ns(datetime.now(UTC))) for at in range(4)]
    sides = [row for candle in candles_of(trades, 60).values() for row in direction_rows(candle)]
    shared_server.put(CANDLES, ROWS)
    shared_server.put(HOURS, HOURS_KNOWN)
    shared_server.put(TRADE_WINDOWS, sides)
    await_that(lambda: shared_server.get("candles", **ASKED).status == 200)
    return shared_server


def times(answer: list[dict[str, str]]) -> list[datetime]:
    return [datetime.fromisoformat(row["window_start"]) for row in answer]


def test_the_newest_candles_come_by_time(server: Watched) -> None:
    answer = server.get("candles", **ASKED, window=60, limit=5)
    assert answer.status == 200
    assert times(answer.json) == [row.window_start for row in ROWS[-5:]]
    assert answer.json[-1] == {
        **ROWS[-1]._asdict(),
        "date": "2026-03-02T00:00:00Z",
        "window_start": "2026-03-02T01:29:00Z",
    }


def test_pages_lead_back_over_midnight_and_end(server: Watched) -> None:
    found: list[dict[str, str]] = []
    query, pages = "&".join(f"{name}={value}" for name, value in ASKED.items()) + "&limit=50", 0
    while query:
        connection = HTTPConnection(server.web.host, server.web.port, timeout=20)
        connection.request("GET", f"/api/candles?{query}")
        response = connection.getresponse()
        link = response.getheader("Link", "")
        rows = json.loads(response.read())
        connection.close()
        found, pages = rows + found, pages + 1
        query = link.partition("?")[2].partition(">")[0]
    assert times(found) == [row.window_start for row in ROWS]
    assert pages == 4


def test_a_stretch_of_time_holds_its_start_and_not_its_end(server: Watched) -> None:
    start, end = MIDNIGHT - timedelta(minutes=5), MIDNIGHT + timedelta(minutes=5)
    for from_, to in (
        (start.isoformat(), end.isoformat()),
        ("2026-03-01T23:55:00", "2026-03-02T00:05:00"),
        (start.timestamp(), end.timestamp()),
        ("2026-03-02T00:55:00+01:00", "2026-03-02T01:05:00+01:00"),
    ):
        found = times(server.get("candles", **ASKED, from_=from_, to=to).json)
        assert found == [row.window_start for row in ROWS if start <= row.window_start < end]


def test_a_day_loads_into_pandas_from_csv_and_from_parquet(server: Watched) -> None:
    as_csv, as_parquet = (server.get("candles", **ASKED, format=format) for format in ("csv", "parquet"))
    assert (as_csv.headers["content-type"].partition(";")[0], as_parquet.headers["content-type"]) == (CSV, PARQUET)
    from_csv = pd.read_csv(io.BytesIO(as_csv.body), parse_dates=["date", "window_start"])
    from_parquet = pd.read_parquet(io.BytesIO(as_parquet.body))
    assert list(from_csv) == list(from_parquet) == list(CandleRow._fields)
    assert from_parquet["close"].tolist() == from_csv["close"].tolist() == [row.close for row in ROWS]
    assert from_parquet["window_start"].tolist() == from_csv["window_start"].tolist()
    assert from_parquet["window_start"].iloc[0] == FIRST


def test_the_example_of_the_documents_loads_a_day_into_pandas(server: Watched) -> None:
    [example] = fences(DOCS / "chart.md", "python")
    for told, asked in THE_EXAMPLES.items():
        assert told in example
        example = example.replace(told, asked)
    loaded: dict[str, Any] = {}
    exec(compile(example.replace("http://127.0.0.1:8050", server.url), "chart.md", "exec"), loaded)
    day = [row for row in ROWS if row.window_start < MIDNIGHT]
    assert loaded["day"]["close"].tolist() == [row.close for row in day]
    assert loaded["hourly"]["quantity"].sum() == pytest.approx(sum(row.quantity for row in day))


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("text/csv", CSV),
        ("text/html, text/csv;q=0.9", CSV),
        ("application/vnd.apache.parquet", PARQUET),
    ],
)
def test_the_header_accept_chooses_the_format(server: Watched, accept: str, sent: str) -> None:
    answer = server.get("candles", {"Accept": accept}, **ASKED, limit=1)
    assert answer.headers["content-type"].partition(";")[0] == sent


def test_no_row_is_an_empty_table_with_its_columns(server: Watched) -> None:
    before: dict[str, Any] = {"to": "2020-01-01T00:00:00"}
    assert server.get("candles", **ASKED, **before).json == []
    lines = list(csv.reader(io.StringIO(server.get("candles", **ASKED, **before, format="csv").body.decode())))
    assert lines == [list(CandleRow._fields)]


def test_the_pairs_are_named_with_their_windows(server: Watched) -> None:
    [found] = [each for each in server.get("pairs").json if each["pair"] == "ETH-EUR"]
    window = {"window_seconds": 60, "first_date": "2026-03-01T00:00:00Z", "last_date": "2026-03-02T00:00:00Z"}
    assert found == {"market": "Kraken", "pair": "ETH-EUR", "windows": [window]}


def test_hours_have_their_verdicts(server: Watched) -> None:
    found = server.get("hours", **ASKED).json
    assert [(row["hour"], row["verdict"], row["reason"]) for row in found] == [
        ("2026-03-01T23:00:00Z", "complete", "all there"),
        ("2026-03-02T00:00:00Z", "suspect", "log cut"),
    ]


def test_the_newest_rows_of_sides_are_there(server: Watched) -> None:
    found = server.get("windows", limit=10).json
    assert {row["direction"] for row in found} == {"BUY", "SELL"}
    assert set(found[0]) == set(DirectionRow._fields)


def test_health_says_how_all_is_doing(server: Watched) -> None:
    with server.sender() as send:
        send(1.0)
    await_that(lambda: server.get("health").json["last_repair"])
    found = server.get("health").json
    assert (found["kafka"], found["cassandra"]) == (None, None)
    assert found["waiting_trades"] == found["dead_letters"] == 0
    assert [feed["connected"] for feed in found["feeds"] if feed["market"] == "Coinbase"] == [True]


@pytest.mark.parametrize(
    ("path", "bad", "status", "named"),
    [
        ("candles", {"limit": 0}, 400, "limit"),
        ("candles", {"limit": "many"}, 400, "limit"),
        ("candles", {"window": 0}, 400, "window"),
        ("candles", {"window": 3600}, 404, "window"),
        ("candles", {"from": "yesterday"}, 400, "from"),
        ("candles", {"from": "2026-03-02T00:00:00", "to": "2026-03-01T00:00:00"}, 400, "to"),
        ("candles", {"from": "9999-12-31T23:59:59-23:00"}, 400, "to"),
        ("candles", {"pair": "BTC"}, 400, "pair"),
        ("candles", {"pair": "DOGE-EUR"}, 404, "pair"),
        ("candles", {"market": "Nowhere"}, 404, "market"),
        ("candles", {"market": ""}, 400, "market"),
        ("candles", {"format": "xml"}, 400, "format"),
        ("candles", {"limits": 5}, 400, "limits"),
        ("hours", {"limit": 10**9}, 400, "limit"),
        ("live", {"pair": ["ETH-EUR", "BTC-USD"]}, 400, "pair"),
        ("live", {"pair": "BTC"}, 400, "pair"),
    ],
)
def test_a_bad_parameter_is_named(server: Watched, path: str, bad: dict[str, Any], status: int, named: str) -> None:
    answer = server.get(path, **{**ASKED, **bad})
    assert (answer.status, answer.json["error"]["parameter"]) == (status, named)
    assert answer.json["error"]["message"].startswith(f"{named}: ")


@pytest.mark.parametrize("path", ["candles", "hours", "live"])
def test_a_missing_parameter_is_named(server: Watched, path: str) -> None:
    answer = server.get(path, market="Kraken")
    assert (answer.status, answer.json["error"]["parameter"]) == (400, "pair")


def test_what_is_not_there_says_so_in_the_same_shape(server: Watched) -> None:
    answer = server.get("trades")
    assert (answer.status, answer.json["error"]["parameter"]) == (404, None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(server: Watched, method: str) -> None:
    connection = HTTPConnection(server.web.host, server.web.port, timeout=20)
    connection.request(method, "/api/candles", body=b"{}")
    assert connection.getresponse().status == 405
    connection.close()


def test_the_api_describes_itself(server: Watched) -> None:
    described = server.get("openapi.json").json
    assert set(described["paths"]) == {
        f"/api/{name}" for name in ("pairs", "candles", "hours", "windows", "health", "live")
    }
    assert all(set(methods) == {"get"} for methods in described["paths"].values())
    route = described["paths"]["/api/candles"]["get"]
    names = {each["name"]: each.get("required", False) for each in route["parameters"]}
    assert names == {
        **dict.fromkeys(("market", "pair"), True),
        **dict.fromkeys(("from", "to", "window", "limit", "format"), False),
    }
    schema = route["responses"]["200"]["content"][JSON]["schema"]
    assert list(schema["items"]["properties"]) == list(CandleRow._fields)
    assert not re.search("internal|traceback", str(described), re.IGNORECASE)
