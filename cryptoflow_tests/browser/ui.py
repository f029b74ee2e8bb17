"""The UI as a person has it, in a browser's window."""

from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from cryptoflow_tests.dagster_dev import DagsterDev

TIMEOUT_MS = 60_000
"""How long the UI may take over a step; a busy machine is slow."""

RUN_TIMEOUT_MS = 300_000
"""How long a run may take in all, for the same reason."""

SIZE: ViewportSize = {"width": 1440, "height": 1100}
"""High enough for the lineage to show each asset's latest event and checks."""


@dataclass(frozen=True)
class Ui:
    """The UI in a browser window."""

    dagster: DagsterDev
    page: Page
    pictures: Path

    def open(self, section: str) -> None:
        """Choose a section in the navigation at the left."""
        self.page.get_by_role("navigation").get_by_text(section, exact=True).click()

    def open_asset(self, name: str, tab: str = "Overview") -> None:
        """Find the asset in the catalog, and a tab of its page."""
        self.open("Catalog")
        self.page.get_by_role("link", name=name).click()
        self.page.get_by_role("tab", name=tab).click()

    def picture(self, name: str, of: Locator | None = None) -> None:
        """Take a picture for docs/ui.md, of the whole window or a part."""
        (of or self.page).screenshot(path=self.pictures / f"{name}.png", animations="disabled")


def new_window(browser: Browser, dagster: DagsterDev, pictures: Path) -> Ui:
    """A window with the UI's start in it."""
    expect.set_options(timeout=TIMEOUT_MS)
    page = browser.new_page(viewport=SIZE, timezone_id="UTC", locale="en-US")
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(dagster.url)
    return Ui(dagster, page, pictures)
