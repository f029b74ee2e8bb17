"""One `dagster dev` and one browser for all tests of the UI."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from cryptoflow_tests.browser.ui import Ui, new_window
from cryptoflow_tests.dagster_dev import DagsterDev
from cryptoflow_tests.running import new_place, services_env

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


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert program, NO_BROWSER
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=FLAGS) as started:
        yield started


@pytest.fixture(scope="package")
def dagster(
    tmp_path_factory: pytest.TempPathFactory, jars_home: Path, kafka_bootstrap: str, cassandra_port: int
) -> Iterator[DagsterDev]:
    """`dagster dev` as a newcomer has it, beside Kafka and Cassandra: no API key, so the simulator is the feed."""
    services = services_env(kafka_bootstrap, cassandra_port)
    with DagsterDev(new_place(tmp_path_factory.mktemp("ui"), jars_home, **services)) as started:
        yield started


@pytest.fixture(scope="package")
def first_visit(browser: Browser, dagster: DagsterDev, tmp_path_factory: pytest.TempPathFactory) -> Ui:
    """The window of all tests, and the folder of the pictures: that of the documents, where it is named."""
    pictures = os.environ.get("CRYPTOFLOW_SCREENSHOTS")
    return new_window(browser, dagster, Path(pictures) if pictures else tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def ui(first_visit: Ui) -> Ui:
    """The UI at its start."""
    first_visit.page.goto(first_visit.dagster.url)
    return first_visit
