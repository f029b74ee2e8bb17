"""What a user does in the UI whose tables are gone: a backfill of `candle_hours` over the hours that Kafka holds."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from cryptoflow.defs.repair import CANDLE_HOURS, partition_of
from cryptoflow_tests.browser.ui import RUN_TIMEOUT_MS, Ui
from cryptoflow_tests.repairing import ONE_HOUR, T0, World, lost_tables, moment

HOURS = 6
PARTITIONS = [partition_of(moment(T0) + number * ONE_HOUR) for number in range(HOURS)]
RANGE = f"[{PARTITIONS[0]}...{PARTITIONS[-1]}]"
"""As it is typed into the UI."""

OVER = re.compile(rf"^(Materialized \({HOURS}\)|Failed \([1-9]\d*\))$")
"""The count above the partitions, when all are done or some never will be."""


@pytest.fixture
def world(ui: Ui) -> Iterator[World]:
    """In the topic and the keyspace of the UI."""
    with lost_tables(ui.dagster.place, HOURS) as made:
        yield made


def launch(ui: Ui) -> None:
    """Choose the hours in the dialog, and launch."""
    ui.page.get_by_role("button", name="Materialize…").click()
    dialog = ui.page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(RANGE)
    ui.page.keyboard.press("Enter")
    expect(dialog.get_by_text(f"{HOURS} partitions", exact=True)).to_be_visible()
    ui.picture("backfill", of=dialog)
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(ui.page.get_by_text("Created backfill")).to_be_visible()


def choose(ui: Ui) -> None:
    """Show the hours alone."""
    ui.page.get_by_placeholder("ex: ").fill(RANGE)
    ui.page.keyboard.press("Enter")
    expect(ui.page.get_by_text(f"{HOURS} Partitions Selected")).to_be_visible()


def test_a_backfill_over_the_hours_that_kafka_holds_rebuilds_dropped_tables(world: World, ui: Ui) -> None:
    ui.open_asset(CANDLE_HOURS, "Partitions")
    launch(ui)
    choose(ui)
    expect(ui.page.get_by_text(OVER)).to_be_visible(timeout=RUN_TIMEOUT_MS)
    newest = ui.dagster.runs()[0]
    assert ui.page.get_by_text(OVER).inner_text() == f"Materialized ({HOURS})", ui.dagster.story(newest.run_id)
    world.check()
    ui.page.get_by_text(PARTITIONS[0], exact=True).filter(visible=True).click()
    for figure in ("trades_in_log", "trades_in_candles"):
        expect(ui.page.get_by_role("row", name=f"{figure} 720")).to_be_visible()
    ui.picture("partitions")
