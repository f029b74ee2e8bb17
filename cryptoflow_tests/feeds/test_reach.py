"""Whether a venue can be reached, and if not, what is in the way: each fault at a real socket."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cryptoflow.errors import FeedRefusedError, FeedUnreachableError
from cryptoflow.feeds.reach import Reached, reach_rest, reach_websocket
from cryptoflow.simulator.config import VenueName
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues import VENUES

KRAKEN = VENUES["kraken"]
SECRET = "proxy-password"


def websocket(address: str, tls: bool = False, timeout_s: float = 5) -> Reached:
    return reach_websocket(KRAKEN, f"ws{'s' if tls else ''}://{address}", timeout_s)


def rest(address: str, tls: bool = False, timeout_s: float = 5) -> Reached:
    return reach_rest(KRAKEN, f"http{'s' if tls else ''}://{address}", timeout_s)


both = pytest.mark.parametrize("reach", [websocket, rest])


@pytest.mark.parametrize("name", ["coinbase", "binance", "kraken"])
def test_a_venue_that_is_there_answers_and_its_clock_is_ours(name: VenueName) -> None:
    with Simulator(SimulatorConfig(venue=name)) as simulator:
        found = reach_websocket(VENUES[name], simulator.url), reach_rest(VENUES[name], simulator.rest_url)
    for answer in found:
        assert 0 < answer.took_s < 5
        assert answer.clock_ahead_s is not None
        assert abs(answer.clock_ahead_s) < 3


@both
def test_a_refused_connection_is_told(reach: Callable[..., Reached], closed_port: int) -> None:
    with pytest.raises(FeedUnreachableError, match=r"127.0.0.1 refuses the connection: .* or KRAKEN_\w*URL\.$"):
        reach(f"127.0.0.1:{closed_port}")


@both
def test_an_unknown_name_is_told(reach: Callable[..., Reached]) -> None:
    with pytest.raises(FeedUnreachableError, match=r"The name of nowhere\.invalid is not known here"):
        reach("nowhere.invalid:443")


@both
def test_silence_is_told(reach: Callable[..., Reached]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(FeedUnreachableError, match="does not answer"):
        reach(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)


class Handler(BaseHTTPRequestHandler):
    """Answers all with a status and a date of its own."""

    protocol_version = "HTTP/1.1"
    status, ahead_s = 200, 0.0

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.send_response(403)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.ahead_s, usegmt=True)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(status: int = 200, ahead_s: float = 0.0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    handler = type("Handler", (Handler,), {"status": status, "ahead_s": ahead_s})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # it hangs up
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@both
def test_something_that_speaks_no_tls_is_told(reach: Callable[..., Reached]) -> None:
    with serving() as address, pytest.raises(FeedUnreachableError, match="does not speak TLS as it should"):
        reach(address, tls=True)


@both
@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_knows_is_told(reach: Callable[..., Reached], tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with (
        serving(tls=context) as address,
        pytest.raises(FeedUnreachableError, match=r"certificate of 127.0.0.1 is not trusted \(self.signed"),
    ):
        reach(address, tls=True)


@both
def test_a_proxy_that_refuses_or_is_not_there_is_told_without_its_login(
    reach: Callable[..., Reached], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as address:
        for proxy, said in (
            (address, "proxy"),
            (f"127.0.0.1:{closed_port}", "refuses the connection|can't be reached"),
        ):
            monkeypatch.setenv("https_proxy", f"http://user:{SECRET}@{proxy}")
            with pytest.raises(FeedUnreachableError, match=said) as caught:
                reach("venue.invalid:443", tls=True)
            assert f"venue.invalid, through the proxy {proxy}," in str(caught.value)
            assert SECRET not in str(caught.value)


@both
@pytest.mark.parametrize("status", [403, 429, 503])
def test_a_status_is_told(reach: Callable[..., Reached], status: int) -> None:
    with serving(status) as address, pytest.raises(FeedUnreachableError, match=f"Kraken answers HTTP {status} instead"):
        reach(address)


def test_a_venue_that_does_no_business_here_says_so() -> None:
    faults = Faults(refuse_after_s=0, refuse_for_s=60, refuse_status=451)
    with Simulator(SimulatorConfig(venue="binance", faults=faults)) as simulator:
        for reach, url in ((reach_websocket, simulator.url), (reach_rest, simulator.rest_url)):
            with pytest.raises(FeedRefusedError, match="HTTP 451"):
                reach(VENUES["binance"], url)


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_the_clocks_difference_is_told_where_an_answer_has_a_date(ahead_s: float) -> None:
    with serving(ahead_s=ahead_s) as address:
        found = rest(address).clock_ahead_s
    assert found is not None
    assert abs(found + ahead_s) < 3
