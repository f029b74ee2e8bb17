"""docs/ci.md does what it says: its own commands and files, on real services."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.running import SECRET_KEY, Workplace

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "ci.md").read_text()
SUBSCRIPTIONS = ("0~Coinbase~BTC~USD", "0~Kraken~BTC~USD")
MOST_LINES = 15
"""Of a good run of a few seconds with two subscriptions, the 15-second lines of a slow machine included."""

ALLOWED = (
    r"[-0-9]+ [:0-9]+ \+0000 - dagster - INFO - kafka_mode - [-0-9a-f]{36} - (ingest|aggregate)_trades - .+",
    r"WARNING: Using incubator modules: jdk\.incubator\.vector",
)
"""What a good run may print: what its two ops say, and the one line of Java itself."""


def section(title: str) -> str:
    """A section of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def block(title: str, language: str) -> str:
    """The one block of a language in a section."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.DOTALL | re.MULTILINE)
    return str(found)


def files(title: str) -> dict[str, str]:
    """The files that a section shows, by the name in the text before each."""
    pattern = r"^(?:[^\n]*?)`(ci/[\w.]+)`(?:(?!```)[^`]|`[^`\n]+`)*?```\w+\n(.*?)^```$"
    return dict(re.findall(pattern, section(title), re.DOTALL | re.MULTILINE))


FILES = files("The recipe") | files("Through a daemon")


@dataclass
class Checkout:
    """A folder as a CI job has it: the page's files, the services' addresses, a feed."""

    place: Workplace
    simulator: Simulator

    def run(self, commands: str, timeout_s: float = 240) -> "subprocess.CompletedProcess[str]":
        """The commands in bash, which ends at the first that fails as it does in CI; output and errors together."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CRYPTO", "DAGSTER"))}
        feed = {"CRYPTOCOMPARE_URL": self.simulator.url, "CRYPTOCOMPARE_SUBSCRIPTIONS": ",".join(SUBSCRIPTIONS)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands],
            cwd=self.place.folder,
            env=inherited | self.place.env | feed | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(SimulatorConfig(rate=100, faults=getattr(request, "param", Faults()))) as running:
        yield running


@pytest.fixture
def checkout(place: Workplace, simulator: Simulator) -> Checkout:
    """The folder with the files of the page."""
    for name, text in FILES.items():
        (place.folder / name).parent.mkdir(exist_ok=True)
        (place.folder / name).write_text(text)
    return Checkout(place, simulator)


def last_figure(name: str, output: str) -> int:
    """A figure as the run told it last."""
    return int(re.findall(rf"\b{name} ([\d,]+)", output)[-1].replace(",", ""))


def test_the_page_has_the_files_that_its_commands_name() -> None:
    assert sorted(FILES) == ["ci/dagster.yaml", "ci/run.yaml", "ci/wait.py"]
    named = set(re.findall(r"\bci/[\w.]+", block("The recipe", "bash") + block("Through a daemon", "bash")))
    assert named == set(FILES)


def test_a_good_run_ends_with_0_when_all_is_drained_and_prints_little(checkout: Checkout) -> None:
    done = checkout.run(block("The recipe", "bash"))
    assert done.returncode == 0, done.stdout[-5000:]
    lines = done.stdout.splitlines()
    assert [line for line in lines if not any(re.fullmatch(known, line) for known in ALLOWED)] == []
    assert len(lines) <= MOST_LINES
    assert last_figure("input_rows", done.stdout) == last_figure("acknowledged", done.stdout) > 0


def test_a_config_that_is_not_valid_ends_with_1_and_says_what_is_wrong(checkout: Checkout) -> None:
    config = checkout.place.folder / "ci" / "run.yaml"
    config.write_text(FILES["ci/run.yaml"].replace("timeout_s: 10", "timeout: 10"))
    done = checkout.run(block("The recipe", "bash"))
    assert done.returncode == 1
    assert 'Received unexpected config entry "timeout" at path root:ops:ingest_trades:config' in done.stdout


@pytest.mark.parametrize("simulator", [Faults(api_keys=("another",))], indirect=True)
def test_a_run_of_a_daemon_that_fails_ends_with_1_and_the_reason(checkout: Checkout) -> None:
    done = checkout.run(block("Through a daemon", "bash"))
    assert done.returncode == 1, done.stdout
    assert "UNAUTHORIZED" in done.stdout
    assert "CRYPTOCOMPARE_API_KEY" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert checkout.place.files_holding(SECRET_KEY) == []
