"""Laws of `cryptoflow simulate`, run as a process."""

import inspect
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from websockets.sync.client import connect

import cryptoflow
from cryptoflow.cli.simulate import alive, simulate
from cryptoflow.errors import ServiceError
from cryptoflow.simulator.faults import Faults

PROGRAM = "import typer; from cryptoflow.cli.simulate import simulate; typer.run(simulate)"
WAIT_S = 20


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    root = Path(cryptoflow.__file__).parents[1]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *command], stdin=pipe, stdout=pipe, text=True, cwd=root) as started:
        try:
            yield started
        finally:
            started.kill()


def line(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    return of.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_streams_and_ends_cleanly(number: signal.Signals) -> None:
    with process("-c", PROGRAM, "--port", "0", "--rate", "0", "--max-trades", "7") as simulator:
        said, _, url = line(simulator).rpartition(" ")
        assert said == "listening on"
        assert f"CRYPTOCOMPARE_URL={url}" in line(simulator)
        with connect(url) as feed:
            feed.send('{"action": "SubAdd", "subs": ["0~Coinbase~BTC~USD"]}')
            types = [json.loads(feed.recv(WAIT_S))["TYPE"] for _ in range(10)]
            assert types == ["20", "16", "3", *"0" * 7]
            simulator.send_signal(number)
            assert simulator.wait(WAIT_S) == 0
        assert line(simulator) == "sent 7 frames, 7 distinct trades, to 1 connections"


def test_a_venue_is_simulated_with_its_rest() -> None:
    options = ("--venue", "kraken", "--port", "0", "--rest-port", "0", "--pair", "BTC-USD", "--rate", "500")
    with process("-c", PROGRAM, *options, "--limit-factor", "0.1", "--history", "60") as simulator:
        url = line(simulator).removeprefix("listening on ")
        words = line(simulator).split()
        variables = dict(word.split("=") for word in words if "=" in word)
        assert variables.keys() == {"KRAKEN_URL", "KRAKEN_REST_URL"}
        assert variables["KRAKEN_URL"] == url
        assert words[-3:] == ["run", "--source", "kraken"]
        with connect(url) as feed:
            feed.send('{"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}}')
            channels = [json.loads(feed.recv(WAIT_S)).get("channel") for _ in range(5)]
        assert channels == ["status", None, "trade", "trade", "trade"]
        errors = []
        for _ in range(3):
            with urlopen(variables["KRAKEN_REST_URL"] + "/0/public/Trades?pair=XBTUSD", timeout=WAIT_S) as answer:
                errors.append(json.load(answer)["error"])
        assert errors == [[], ["EGeneral:Too many requests"], ["EGeneral:Too many requests"]]
        simulator.send_signal(signal.SIGINT)
        assert line(simulator).startswith("sent ")
        assert line(simulator) == "asked 3 times by HTTP; refused: requests 2; limits broken: requests 2"


def test_it_ends_with_its_parent() -> None:
    program = ("-c", PROGRAM, "--port", "0", "--parent-pid")
    with process("-c", "input()") as parent, process(*program, str(parent.pid)) as simulator:
        assert line(simulator).startswith("listening")
        parent.kill()
        assert simulator.wait(WAIT_S) == 0


def test_a_process_that_has_ended_but_was_not_waited_for_is_not_alive() -> None:
    with process("-c", "input()") as child:
        found = psutil.Process(child.pid)
        assert alive(found)
        child.communicate("\n")
        assert not alive(found)


def test_a_taken_port_and_a_missing_parent_are_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"127.0.0.1:{port}, it is taken"):
            simulate(port=port)
    with process("-c", "") as ended:
        ended.wait(WAIT_S)
    with pytest.raises(ServiceError, match=f"no process {ended.pid}"):
        simulate(port=0, parent_pid=ended.pid)


def test_every_fault_has_a_switch() -> None:
    renamed = {"refused_subscriptions": "refuse", "api_keys": "accept_key", "quiet_pairs": "quiet"}
    switches = {renamed.get(item.name, item.name.removesuffix("_s")) for item in fields(Faults)}
    assert switches <= set(inspect.signature(simulate).parameters)
