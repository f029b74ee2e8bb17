"""A viewer who reads nothing is dropped, and misses nothing when it comes back."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlencode

import pytest

from cryptoflow.local.processes import free_port
from cryptoflow.model.window import window_start_ns
from cryptoflow.settings import SparkSettings, WebSettings
from cryptoflow.web import listen
from cryptoflow.web.api import MOST_SERIES
from cryptoflow.web.listen import listening_socket, serving
from cryptoflow_tests.watching import TIMEOUT_S, Watched, await_that

SLOW_MS = 1000
PAIRS = [("Coinbase", f"SLOW{number}", "USD") for number in range(MOST_SERIES)]
WATCHED = {"market": [market for market, _, _ in PAIRS], "pair": [f"{coin}-USD" for _, coin, _ in PAIRS]}


@pytest.fixture
def server(shared_server: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """One that soon loses patience."""
    monkeypatch.setattr(listen, "SLOW_MS", SLOW_MS)
    web = WebSettings(port=free_port())
    with serving(*listening_socket(web), shared_server.kafka, shared_server.cassandra, SparkSettings()):
        yield Watched(web, shared_server.kafka, shared_server.cassandra, shared_server.session)


def viewers(server: Watched) -> int:
    return int(server.get("health").json["viewers"])


def received(sleeper: socket.socket) -> Iterator[bytes]:
    """What it had in its buffer when it was dropped."""
    with suppress(ConnectionResetError):
        while part := sleeper.recv(65536):
            yield part


def test_who_reads_nothing_is_dropped_and_misses_nothing_when_it_comes_back(server: Watched) -> None:
    asked = urlencode(WATCHED, doseq=True)
    with socket.socket() as sleeper, server.sender() as send:
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.settimeout(TIMEOUT_S)
        sleeper.connect((server.web.host, server.web.port))
        sleeper.sendall(f"GET /api/live?{asked} HTTP/1.1\r\nHost: {server.web.host}\r\n\r\n".encode())
        await_that(lambda: viewers(server) == 1)
        until_s, rounds, start_ns = time.monotonic() + TIMEOUT_S, 0, window_start_ns(server.now_ns(), 60)
        while viewers(server):
            assert time.monotonic() < until_s, "it was not dropped"
            rounds += 1
            for pair in PAIRS:
                send(float(rounds), pair, start_ns + rounds)
        read = b"".join(received(sleeper))
        last_id = re.findall(rb"id: (\S+)\nevent", read)[-1].decode()
        with server.live(last_id=last_id, **WATCHED) as back:
            # The server may read the last trades only now: then they come after the states before.
            wanted, newest = {coin: float(rounds) for _, coin, _ in PAIRS}, dict[str, float]()
            for event in back:
                newest[event.data["fromcoin"]] = event.data["close"]
                if newest == wanted:
                    break
    assert newest == wanted
