"""`cryptoflow chart`: it says where the page is, serves it whatever is away, and ends when it is told to."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK, listening
from cryptoflow_tests.watching import await_that

TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def chart(tmp_path: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """The command, with neither Kafka nor Cassandra."""
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{free_port()}", "CASSANDRA_PORT": str(free_port())}
    env = os.environ | nowhere | {"CRYPTOFLOW_WEB_TOKEN": TOKEN}
    command = [sys.executable, "-m", "cryptoflow", "chart", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=-1, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        process.kill()


def test_it_serves_the_page_and_ends_cleanly(chart: "subprocess.Popen[str]", port: int) -> None:
    await_that(lambda: listening(LOOPBACK, port), 60)
    request = urllib.request.Request(f"http://{LOOPBACK}:{port}/", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert b"<title>cryptoflow</title>" in answer.read()
    chart.terminate()
    output, _ = chart.communicate(timeout=30)
    assert chart.returncode == 0
    assert output.startswith(f"Live candles: http://{LOOPBACK}:{port} ")
    assert TOKEN not in output
