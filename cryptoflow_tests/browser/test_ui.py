"""What a newcomer does in the UI, as docs/ui.md tells it: launch memory mode, watch it, see candles, plots, lineage.

One run for all tests. The pictures of docs/ui.md are taken on the way (`make screenshots`), so they show what is
tested.
"""

import re

import pytest
from playwright.sync_api import Locator, expect

from cryptoflow_tests.browser.ui import RUN_TIMEOUT_MS, Ui

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

HAS_A_LINE = """canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return pixels.some((red, at) => at % 4 === 0 && pixels[at + 3] > 200 && Math.abs(red - pixels[at + 2]) > 60);
}"""
"""Whether something that is not grey, as axes and letters are, is drawn."""


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
    ui.open_asset("trades_topic", "Lineage")
    for neighbour in ("feed", "trades_topic", "candles", "candle_hours", "trademsgs1minutewindow"):
        expect(ui.page.get_by_text(neighbour, exact=True).last).to_be_visible()
    expect(ui.page.get_by_text("Latest event").first).to_be_visible()
    expect(ui.page.get_by_text("Loading")).to_have_count(0)
    ui.picture("lineage")
    ui.page.get_by_role("button", name="Upstream").click()
    expect(ui.page.get_by_text("candles", exact=True)).to_have_count(0)
    expect(ui.page.get_by_text("feed", exact=True)).to_be_visible()
