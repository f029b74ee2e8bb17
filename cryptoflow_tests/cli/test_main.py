"""Laws of the command line as a whole: help, version, one line for an error, and exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import cryptoflow
from cryptoflow.cli import app

COMMANDS = [
    ["run"], ["candles"], ["chart"], ["repair"], ["gaps"], ["metrics"], ["parity"], ["record"], ["simulate"],
    ["doctor"], ["deadletters"], ["deadletters", "list"], ["deadletters", "replay"],
    ["services"], ["services", "up"], ["services", "down"], ["services", "status"], ["services", "jars"],
]  # fmt: skip

SECRET = "s3cret-that-nobody-may-see"


def command_line(folder: Path, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """`python -m cryptoflow ARGUMENTS...` in `folder`."""
    environment = os.environ | {"COLUMNS": "120", "CRYPTOFLOW_HOME": str(folder / "home")} | env
    command = [sys.executable, "-m", "cryptoflow", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_command_is_tried_here() -> None:
    group = typer.main.get_command(app)
    assert {first for first, *_ in COMMANDS} == set(group.commands)  # type: ignore[attr-defined]
    for name in ("services", "deadletters"):
        known = group.commands[name].commands  # type: ignore[attr-defined]
        assert {rest[0] for first, *rest in COMMANDS if rest and first == name} == set(known)


def test_help_names_every_command(tmp_path: Path) -> None:
    done = command_line(tmp_path, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for first, *rest in COMMANDS:
        assert rest or first in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str], tmp_path: Path) -> None:
    done = command_line(tmp_path, *command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"cryptoflow {' '.join(command)} [OPTIONS]" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    done = command_line(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"{cryptoflow.__version__}\n")


def test_the_command_is_installed(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("cryptoflow")
    done = subprocess.run([str(script), "--version"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == f"{cryptoflow.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--window", "0"], "window_s (CRYPTOFLOW_WINDOW: "),
        (["run", "--timeout", "-5"], "timeout_s can't be -5.0: give a positive number"),
        (["candles", "--pair", "BTCUSD"], "BTCUSD is no pair; write it as BTC-USD."),
        (["simulate", "--port", "0", "--replay", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_an_error_of_ours_is_one_line_on_stderr(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = command_line(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("cryptoflow: ")
    assert said in line


def test_a_wrong_setting_of_the_environment_is_told_alike_and_without_a_secret(tmp_path: Path) -> None:
    done = command_line(tmp_path, "candles", CASSANDRA_PORT="none", CASSANDRA_PASSWORD=SECRET)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == "cryptoflow: port (CASSANDRA_PORT: the CQL port) can't be used: it is no whole number."


@pytest.mark.parametrize(
    "arguments",
    [["--fast"], ["run", "--moode", "kafka"], ["run", "--mode", "disk"], ["run", "--ui-port", "0"], ["walk"], []],
    ids=" ".join,
)
def test_what_is_no_command_line_is_told_with_code_2(arguments: list[str], tmp_path: Path) -> None:
    done = command_line(tmp_path, *arguments)
    assert done.returncode == 2
    assert "Usage:" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--kafka-password", "--cassandra-password", "--api-key"])
def test_no_secret_can_be_given_on_the_command_line(option: str, tmp_path: Path) -> None:
    done = command_line(tmp_path, "run", option, SECRET)
    assert done.returncode == 2
    assert f"No such option: {option}" in done.stderr
    assert SECRET not in done.stdout + done.stderr
