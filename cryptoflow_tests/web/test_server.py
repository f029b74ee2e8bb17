"""The server as a whole: who gets in, where it listens, what it ships, and what it does while the stores are away."""

import hashlib
import socket
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from cryptoflow.errors import PrerequisiteError
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, WebSettings
from cryptoflow.web.listen import address, listening_socket, serving
from cryptoflow.web.server import COOKIE, library_path

TOKEN = "a-token-of-sixteen"

RELEASED = "c0992580867c4912cc9385b3c2728315bcc1a76c7f1087dca908430fccdf31d7"
"""The sha256 of TradingView's lightweight-charts 5.2.0, dist/lightweight-charts.standalone.production.js."""


@pytest.fixture(scope="module")
def guarded() -> Iterator[WebSettings]:
    """A server with a token; neither Kafka nor Cassandra is there."""
    nowhere = f"{LOOPBACK}:{free_port()}"
    web = WebSettings(port=free_port(), token=TOKEN)
    kafka, cassandra = KafkaSettings(bootstrap_servers=nowhere), CassandraSettings(port=free_port())
    listener, web = listening_socket(web)
    with serving(listener, web, kafka, cassandra, SparkSettings()):
        yield web


def asked(web: WebSettings, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection(web.host, web.port, timeout=20)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/health", "/api/openapi.json", "/vendor/lightweight-charts.js"])
@pytest.mark.parametrize("given", ["", "?token=", "?token=wrong", "?token=" + TOKEN[:-1]])
def test_nothing_is_told_to_who_has_no_token(guarded: WebSettings, path: str, given: str) -> None:
    status, _, body = asked(guarded, path + given)
    assert status == 401
    assert TOKEN.encode() not in body


def test_the_token_is_taken_from_the_header_the_address_or_the_cookie(guarded: WebSettings) -> None:
    assert asked(guarded, "/api/health", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert asked(guarded, f"/api/health?token={TOKEN}")[0] == 200
    assert asked(guarded, "/app.js", Cookie=f"{COOKIE}={TOKEN}")[0] == 200


def test_the_page_moves_the_token_out_of_the_address(guarded: WebSettings) -> None:
    status, headers, _ = asked(guarded, f"/?token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={TOKEN};")
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}


def test_while_the_stores_are_away_it_says_so(guarded: WebSettings) -> None:
    known = {"Authorization": f"Bearer {TOKEN}"}
    status, _, body = asked(guarded, "/api/candles?market=Kraken&pair=BTC-USD", **known)
    assert status == 503
    assert b"Cassandra at 127.0.0.1" in body
    status, _, body = asked(guarded, "/api/health", **known)
    assert status == 200
    assert b"does not answer" in body
    assert asked(guarded, "/", **known)[0] == 200


def test_a_taken_port_is_one_sentence_or_another_port() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        web = WebSettings(port=taken.getsockname()[1])
        with pytest.raises(PrerequisiteError, match="CRYPTOFLOW_WEB_PORT"):
            listening_socket(web)
        listener, found = listening_socket(web, or_another=True)
        assert listener.getsockname()[1] == found.port != web.port
        listener.close()


def test_the_address_never_holds_the_token() -> None:
    assert address(WebSettings(token=TOKEN)) == "http://127.0.0.1:8050"
    assert TOKEN not in repr(WebSettings(token=TOKEN))


def test_the_charts_library_is_the_one_that_its_makers_released() -> None:
    path = library_path()
    assert path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == RELEASED


def test_the_page_and_all_that_it_needs_are_served(guarded: WebSettings) -> None:
    request = urllib.request.Request(f"{address(guarded)}/", headers={"Authorization": f"Bearer {TOKEN}"})
    page = urllib.request.urlopen(request, timeout=20).read().decode()
    assert "TradingView" in page  # as the library's licence asks
    for path in ("style.css", "theme.js", "app.js", "icon.svg", "vendor/lightweight-charts.js"):
        assert path in page
        assert asked(guarded, f"/{path}", Authorization=f"Bearer {TOKEN}")[0] == 200
    assert "http://" not in page
    assert page.count("https://") == 1  # the link to the makers of the chart: nothing is loaded from elsewhere
