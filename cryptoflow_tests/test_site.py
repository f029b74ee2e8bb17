"""The documents as a site: it is built without a warning, asks nobody else for anything, and its examples run."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import typer

from cryptoflow.cli import app
from cryptoflow.exporter.families import exported
from cryptoflow.kafka_io.topics import topics_of
from cryptoflow.model.trade import Trade
from cryptoflow.model.verdict import COMPLETE
from cryptoflow.runtime.metrics import EXPORTED
from cryptoflow.settings import KafkaSettings
from cryptoflow.tables.schema import TABLES
from cryptoflow_tests.repairing import World, some_trades
from cryptoflow_tests.test_documents import fences

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"

DAY = datetime(2026, 11, 22, tzinfo=UTC)
"""The one of the examples."""

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Elements that a browser loads something for, and what names it."""


class Loads(HTMLParser):
    """What a page has a browser load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get(LOADED.get(tag, ""), "") or ""
        if re.match(r"(https?:)?//", target):
            self.foreign.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def names(command: "typer.core.TyperGroup | typer.core.TyperCommand", name: str = "cryptoflow") -> list[str]:
    """A command and all below it."""
    below = getattr(command, "commands", {})
    return [name, *(each for inner, child in below.items() for each in names(child, f"{name} {inner}"))]


def test_every_page_is_in_the_site_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} <= pages
    for path in site.rglob("*.html"):
        loads = Loads()
        loads.feed(path.read_text())
        assert loads.foreign == [], path.name


def test_the_reference_has_every_command_table_topic_metric_and_route(site: Path) -> None:
    wanted = {
        "commands": names(typer.main.get_command(app))[1:],  # type: ignore[arg-type]
        "tables": [table.name for table in TABLES],
        "topics": [name.replace("T", "TOPIC", 1) for name in topics_of(KafkaSettings(topic="T"))],
        "api": ["/api/pairs", "/api/candles", "/api/hours", "/api/windows", "/api/health", "/api/live"],
        "metrics": [metric.name for kind in EXPORTED for metric in exported(kind)],
    }
    for page, found in wanted.items():
        text = (site / "reference" / f"{page}.html").read_text()
        assert [name for name in found if name not in text] == [], page


def test_the_diagrams_are_pictures(site: Path) -> None:
    text = (site / "architecture.html").read_text()
    assert text.count('<figure class="picture"><svg') == len(fences(DOCS / "architecture.md", "mermaid")) > 0
    assert "flowchart LR" not in text


def test_no_table_of_the_site_is_left_as_text(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not re.search(r"<p>\|", path.read_text()), path.name


def test_the_examples_in_sql_give_rows(world: World) -> None:
    lately(world)
    for page in ("howto/read-the-tables.md", "tutorial.md"):
        for block in fences(DOCS / page, "sql"):
            cql = block.replace("simulated.", "").strip().removesuffix(";")
            assert list(world.session.execute(cql)), cql


def test_the_example_in_pandas_gives_the_volume_of_each_hour(world: World) -> None:
    trades = lately(world)
    [example] = fences(DOCS / "howto" / "read-the-tables.md", "python")
    told: dict[str, pd.Series[float]] = {}
    exec(compile(example, "read-the-tables.md", "exec"), told)
    assert sum(trade.total for trade in trades) == pytest.approx(told["hourly"].sum())
    assert [start.hour for start in told["hourly"].index.get_level_values("window_start")] == [10, 11, 10, 11]


def lately(world: World) -> list[Trade]:
    """Candles of the day of the examples, and what is known of an hour of it."""
    start_s = int(DAY.timestamp()) + 10 * 3600
    trades = some_trades(start_s, start_s + 2 * 3600)
    world.commit(trades, DAY + timedelta(hours=12))
    columns = "market, fromcoin, tocurrency, date, hour, in_log, in_candles, verdict, reason"
    values = ["Coinbase", "BTC", "USD", DAY, DAY + timedelta(hours=10), 240, 240, COMPLETE, ""]
    world.session.execute(f"INSERT INTO hours ({columns}) VALUES ({', '.join(['%s'] * 9)})", values)
    return trades
