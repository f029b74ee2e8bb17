"""What a newcomer does in the UI, as docs/ui.md tells it: launch memory mode, watch it, see candles, plots, lineage.

One `dagster dev`, one browser and one run for all tests. The pictures of docs/ui.md are taken on the way
(`make screenshots`), so they show what is tested.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from cryptoflow_tests.dagster_dev import DagsterDev
from cryptoflow_tests.running import new_place

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "There is no browser: install Chromium (Debian: apt-get install -y chromium)."

FLAGS = (
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

TIMEOUT_MS = 60_000
"""How long the UI may take over a step; a busy machine is slow."""

RUN_TIMEOUT_MS = 300_000
"""How long the run may take in all, for the same reason."""

STREAM_S = 20
"""The run's timeout: past its first figures, which come after 15 s, so that there are two points to plot."""

RUN_CONFIG = f"""\
ops:
  aggregate_in_memory:
    config:
      timeout_s: {STREAM_S}
"""

OVER = re.compile("^(Success|Failure|Canceled)$")
"""What stands above a run that has ended."""

SIZE: ViewportSize = {"width": 1440, "height": 1000}
"""High enough for the lineage to stand there with its names in full."""

HAS_A_LINE = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.some((red, at) => at % 4 === 0 && pixels[at + 3] > 200 && Math.abs(red - pixels[at + 2]) > 60);
}"""
"""Whether something that is not grey, as axes and letters are, is drawn."""


@dataclass(frozen=True)
class Ui:
    """The UI in a browser window."""

    dagster: DagsterDev
    page: Page
    pictures: Path

    def open(self, section: str) -> None:
        """Choose a section in the navigation at the left."""
        self.page.get_by_role("navigation").get_by_text(section, exact=True).click()

    def open_asset(self, name: str) -> None:
        """Find the asset in the catalog."""
        self.open("Catalog")
        self.page.get_by_role("link", name=name).click()

    def picture(self, name: str, of: Locator | None = None) -> None:
        """Take a picture for docs/ui.md, of the whole window or a part."""
        (of or self.page).screenshot(path=self.pictures / f"{name}.png", animations="disabled")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, NO_BROWSER
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=FLAGS) as started:
        yield started


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory, jars_home: Path) -> Iterator[DagsterDev]:
    """`dagster dev` as a newcomer has it: no API key, so the feed is the built-in simulator."""
    with DagsterDev(new_place(tmp_path_factory.mktemp("ui"), jars_home)) as started:
        yield started


@pytest.fixture(scope="module")
def first_visit(browser: Browser, dagster: DagsterDev, tmp_path_factory: pytest.TempPathFactory) -> Ui:
    expect.set_options(timeout=TIMEOUT_MS)
    page = browser.new_page(viewport=SIZE, timezone_id="UTC", locale="en-US")
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(dagster.url)
    pictures = os.environ.get("CRYPTOFLOW_SCREENSHOTS")
    return Ui(dagster, page, Path(pictures) if pictures else tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run_id(first_visit: Ui) -> str:
    """A run of memory mode that was launched by hand and is over."""
    ui = first_visit
    open_launchpad(ui, "memory_mode")
    launch(ui)
    over = ui.page.get_by_text(OVER)
    figures = ui.page.get_by_text("ASSET_OBSERVATION")
    expect(figures.or_(over).first).to_be_visible(timeout=RUN_TIMEOUT_MS)
    ui.picture("run")
    expect(over).to_be_visible(timeout=RUN_TIMEOUT_MS)
    return ui.page.url.rsplit("/", 1)[1]


@pytest.fixture
def ui(first_visit: Ui) -> Ui:
    """The UI at its start."""
    first_visit.page.goto(first_visit.dagster.url)
    return first_visit


def open_launchpad(ui: Ui, job: str) -> None:
    ui.open("Jobs")
    ui.page.get_by_role("link", name=job).click()
    ui.page.get_by_role("tab", name="Launchpad").click()


def launch(ui: Ui) -> None:
    """Type the config in place of the one that is there, and launch."""
    page = ui.page
    button = page.get_by_role("button", name="Launch Run")
    page.get_by_text("timeout_s", exact=True).click()
    button.hover()  # away from the editor, which explains what the mouse is on
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(RUN_CONFIG)
    expect(page.get_by_text("Seconds to stream")).to_have_count(0)
    expect(page.get_by_text("No errors")).to_be_visible()
    expect(button).to_be_enabled()  # it is not while Dagster checks the config
    ui.picture("launchpad")
    button.click()
    page.wait_for_url("**/runs/*")


def open_run(ui: Ui, run_id: str) -> None:
    ui.open("Runs")
    ui.page.get_by_role("link", name=run_id[:8]).click()


def last_number(row: Locator) -> int:
    return int(row.get_by_role("cell").last.inner_text())


def test_a_run_launched_by_hand_takes_its_config_and_succeeds(run_id: str, ui: Ui) -> None:
    open_run(ui, run_id)
    assert ui.page.get_by_text(OVER).inner_text() == "Success", ui.dagster.story(run_id)
    ui.page.get_by_role("button", name="View tags and config").click()
    expect(ui.page.get_by_role("dialog")).to_contain_text(f"timeout_s: {STREAM_S}")


def test_the_candles_of_a_run_hold_each_of_its_trades(run_id: str, ui: Ui) -> None:
    open_run(ui, run_id)
    ui.page.get_by_placeholder("Filter…").fill("type:STEP_OUTPUT")
    ui.page.get_by_role("button", name="View full message").click()
    message = ui.page.get_by_role("dialog")
    for column in ("market", "pair", "open", "high", "low", "close", "vwap", "trades"):
        expect(message.get_by_role("columnheader", name=column, exact=True)).to_be_visible()
    ui.picture("candles", of=message)
    candles = message.get_by_role("row", name=re.compile(r"^\d{4}-\d\d-\d\d.* BTC-")).all()
    trades = message.get_by_role("row", name=re.compile(r"^trades \d+$"))
    assert sum(map(last_number, candles)) == last_number(trades) > 0


def test_the_figures_of_the_feed_are_plotted(run_id: str, ui: Ui) -> None:
    ui.open_asset("feed")
    ui.page.get_by_role("button", name="Plots").click()
    title = ui.page.get_by_text("trades_per_s", exact=True)
    plot = title.locator("xpath=following::canvas[1]")
    plot.scroll_into_view_if_needed()
    expect(plot).to_be_visible()
    ui.page.wait_for_function(HAS_A_LINE, arg=plot.element_handle())
    ui.picture("plots")


def test_the_lineage_goes_from_the_feed_through_the_topic_to_the_tables(ui: Ui) -> None:
    ui.open_asset("trades_topic")
    ui.page.get_by_role("tab", name="Lineage").click()
    for neighbour in ("feed", "trades_topic", "candles", "candle_hours"):
        expect(ui.page.get_by_text(neighbour, exact=True).last).to_be_visible()
    expect(ui.page.get_by_text(re.compile(r"^trademsg.*window$")).last).to_be_visible()  # shortened, where it is narrow
    ui.picture("lineage")
    ui.page.get_by_role("button", name="Upstream").click()
    expect(ui.page.get_by_text("candles", exact=True)).to_have_count(0)
    expect(ui.page.get_by_text("feed", exact=True)).to_be_visible()
