"""A venue's REST over real HTTP."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cryptoflow.errors import FeedDisconnectedError, FeedUnreachableError
from cryptoflow.feeds.rest import Rest, fetch
from cryptoflow.feeds.socket import MAX_FRAME_BYTES
from cryptoflow.venues import VENUES
from cryptoflow.venues.past import Wanted

STOP = threading.Event()


class Echo(BaseHTTPRequestHandler):
    """Answers with the target and the client's name; the status is the last part of the path."""

    def do_GET(self) -> None:
        status = self.path.partition("?")[0].rsplit("/", 1)[1]
        if status == "none":
            self.close_connection = True
            return
        if self.path.startswith("/broken/"):
            self.send_response(int(status))
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"ff\r\nthis is less")
            return
        if self.path.startswith("/long/"):
            self.send_response(int(status))
            self.end_headers()
            self.wfile.write(b'["%b"]' % (b"x" * MAX_FRAME_BYTES))
            return
        if self.path.startswith("/drops/"):
            self.send_response(int(status))
            self.end_headers()
            with suppress(OSError):
                while not STOP.wait(0.05):
                    self.wfile.write(b"[")
            return
        if self.path.startswith("/elsewhere/"):
            self.send_response(int(status))
            self.send_header("Location", "http://[nowhere/")
            self.end_headers()
            return
        self.send_response(int(status))
        self.send_header("CB-AFTER", "71")
        self.end_headers()
        self.wfile.write(f"{self.path} {self.headers['User-Agent']}".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def rest_url() -> Iterator[str]:
    STOP.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        STOP.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 404, 429, 503])
def test_an_answer_comes_whatever_its_status_with_its_headers(rest_url: str, status: int) -> None:
    answer = fetch(f"{rest_url}/", f"/a/{status}?b=c%20d")
    assert (answer.status, answer.body) == (status, f"/a/{status}?b=c%20d cryptoflow".encode())
    assert answer.headers["cb-after"] == "71"


def test_a_proxy_of_the_environment_is_no_way_to_this_machine(rest_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(rest_url, "/200").status == 200


def test_no_answer_is_worth_another_try(rest_url: str, closed_port: int) -> None:
    with pytest.raises(FeedDisconnectedError, match=f"no answer from 127.0.0.1:{closed_port}"):
        fetch(f"http://127.0.0.1:{closed_port}", "/200")
    for path in ("/none", "/broken/200", "/broken/429", "/broken/503", "/elsewhere/302"):
        with pytest.raises(FeedDisconnectedError, match="no answer"):
            fetch(rest_url, path)


def test_no_answer_is_longer_than_what_a_dead_letter_takes(rest_url: str) -> None:
    answer = fetch(rest_url, "/long/200")
    assert len(answer.body) == MAX_FRAME_BYTES
    with pytest.raises(FeedDisconnectedError, match="can't be read"):
        VENUES["binance"].read(VENUES["binance"].ask(Wanted(("Binance", "BTC", "USDT"), 0, 1, 1, 2)), answer)


def test_an_answer_that_comes_drop_by_drop_has_no_end_and_is_none(
    rest_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    monkeypatch.setattr("cryptoflow.feeds.rest.WHOLE_WITHIN_S", 0.3)
    rest = Rest(VENUES["binance"], rest_url, threading.Event(), for_s=0.1)
    with pytest.raises(FeedUnreachableError, match="no whole answer within"):
        rest.ask("/drops/200", lambda answer: answer)
