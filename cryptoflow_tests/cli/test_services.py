"""`cryptoflow services` and `cryptoflow doctor`: what they print and how they exit."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from cryptoflow.cli.doctor import doctor
from cryptoflow.cli.services import fetching, services_app
from cryptoflow.local.processes import free_port

app = typer.Typer()
app.add_typer(services_app, name="services")
app.command()(doctor)

Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a home and ports of its own."""
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("CASSANDRA_PORT", str(free_port()))
    monkeypatch.setenv("SPARK_UI_PORT", str(free_port()))
    monkeypatch.delenv("CRYPTOFLOW_SOURCE", raising=False)
    return lambda *arguments: CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_status_exits_with_1_while_a_service_is_down(cli: Cli) -> None:
    shown = cli("services", "status")
    assert shown.exit_code == 1
    assert [line.split()[:2] for line in shown.stdout.splitlines() if "127.0.0.1" in line] == [
        ["Kafka", "down"],
        ["Cassandra", "down"],
    ]


def test_down_with_nothing_up_is_fine(cli: Cli) -> None:
    shown = cli("services", "down")
    assert (shown.exit_code, shown.stdout) == (0, "No service of this home runs.\n")


def test_up_shows_what_runs_already(
    cli: Cli, kafka_bootstrap: str, cassandra_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    monkeypatch.setenv("CASSANDRA_PORT", str(cassandra_port))
    shown = cli("services", "up")
    assert shown.exit_code == 0
    assert shown.stdout.count("up, not started from here") == 2
    assert cli("services", "status").exit_code == 0


def test_status_shows_pid_and_log_of_what_this_home_runs(
    cli: Cli, kafka_bootstrap: str, cassandra_port: int, services_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(services_home))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
    monkeypatch.setenv("CASSANDRA_PORT", str(cassandra_port))
    shown = cli("services", "status").stdout
    assert str(services_home / "services" / "kafka" / "log") in shown
    assert shown.count("until process") == 2


def test_jars_that_are_there_are_checked(cli: Cli, jars_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(jars_home))
    shown = cli("services", "jars", "--check")
    assert shown.exit_code == 0
    assert f"The jars are in {jars_home / 'jars'}." in shown.stdout


def test_doctor_exits_with_1_when_something_needed_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("doctor").exit_code == 0
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    shown = cli("doctor")
    assert shown.exit_code == 1
    assert "apt-get install -y openjdk-17-jre-headless" in shown.stdout


def test_where_there_is_no_terminal_fetching_tells_each_quarter_and_nothing_of_what_is_there() -> None:
    console = Console(file=StringIO(), width=80)
    with fetching(console) as progress:
        for share in (0.1, 0.2, 0.3, 0.6, 0.7, 0.99, 1.0):
            progress("kafka", share)
        progress("cassandra", 1.0)
    told = [f"jars of kafka: {percent} %" for percent in (25, 50, 75, 100)]
    assert console.file.getvalue().splitlines() == told  # type: ignore[attr-defined]


def test_in_a_terminal_fetching_draws_a_bar_with_the_time_that_is_left() -> None:
    console = Console(file=StringIO(), width=80, force_terminal=True)
    with fetching(console) as progress:
        progress("kafka", 0.5)
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert "jars of kafka" in drawn
    assert "left" in drawn
    assert "jars of cassandra" not in drawn
