"""`cryptoflow record`: what came of a feed in a file, however it ends, and its replay by `cryptoflow simulate`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cryptoflow.cli import app
from cryptoflow.model.recording import record_of
from cryptoflow.simulator.replay import read_frames
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow_tests.running import RUN_ITSELF


@pytest.fixture
def kraken(monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """To be started; its address is what the environment names then."""
    monkeypatch.setenv("CRYPTOFLOW_SUBSCRIPTIONS", "0~Kraken~BTC~USD")
    return Simulator(SimulatorConfig(venue="kraken", rate=200))


def addressed(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_URL", simulator.url)
    monkeypatch.setenv("KRAKEN_REST_URL", simulator.rest_url)


def test_it_records_for_its_time_and_says_how_to_replay(
    kraken: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "frames.jsonl.gz"
    with kraken:
        addressed(kraken, monkeypatch)
        done = CliRunner().invoke(app, ["record", "--source", "kraken", "--seconds", "2", str(file)])
    assert done.exit_code == 0, done.output
    lines = list(read_frames(file))
    assert f"{file} has {len(lines):,} frames ({len(lines):,} of kraken)" in done.output
    assert f"replay it: cryptoflow simulate --venue kraken --replay {file}" in done.output
    assert "Subscribed to 0~Kraken~BTC~USD" in done.output
    assert all(record_of(line) for line in lines)
    assert sum(b'"trade_id' in line or b"trade_id" in line for line in lines) > 50


def test_ctrl_c_ends_it_cleanly_with_what_came(
    kraken: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "frames.jsonl.gz"
    with kraken:
        addressed(kraken, monkeypatch)
        command = ["cryptoflow", "record", "--source", "kraken", "--seconds", "0", str(file)]
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_ITSELF, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        kraken.wait_until(lambda: kraken.sent.trades > 200, timeout_s=60)  # fifty of them are one frame
        os.kill(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert len(list(read_frames(file))) > 50  # whole: a .gz that was cut would not be read to its end


def test_a_venue_that_is_not_there_leaves_nothing_and_is_told(
    kraken: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kraken:
        addressed(kraken, monkeypatch)
    file = tmp_path / "frames.jsonl"
    done = CliRunner().invoke(app, ["record", "--source", "kraken", "--seconds", "0.5", str(file)])
    assert done.exit_code == 1
    assert "No connection to Kraken" in done.output
    assert "cryptoflow doctor --source" in done.output
    assert not file.exists()


def test_a_file_that_is_there_is_kept(kraken: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "frames.jsonl"
    file.write_text("dear")
    done = CliRunner().invoke(app, ["record", "--source", "kraken", "--seconds", "1", str(file)])
    assert done.exit_code == 1
    assert "can't be made (File exists)" in str(done.exception)
    assert file.read_text() == "dear"
