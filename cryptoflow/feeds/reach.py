"""Whether a venue can be reached from here: its websocket and its REST, and what is in the way if not."""

import logging
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from websockets.exceptions import InvalidProxy, InvalidStatus, ProxyError, WebSocketException
from websockets.proxy import get_proxy
from websockets.sync.client import connect
from websockets.uri import parse_uri

from cryptoflow.errors import FeedError, FeedRefusedError, FeedUnreachableError
from cryptoflow.feeds.rest import HEADERS, opener
from cryptoflow.feeds.socket import is_loopback
from cryptoflow.venues.base import Venue

TIMEOUT_S = 10.0
"""For each step on the way to an answer."""

_mute = logging.Logger("websocket of a look", logging.CRITICAL + 1)  # outside the tree: nobody can turn it on


class Reached(NamedTuple):
    """A venue's answer."""

    took_s: float
    clock_ahead_s: float | None
    """How far this machine's clock is ahead of the venue's, to about a second; None: the answer does not tell."""


def reach_websocket(venue: Venue, url: str, timeout_s: float = TIMEOUT_S) -> Reached:
    """Open the venue's websocket and close it.

    Raises:
        FeedUnreachableError: what is in the way, and the way out.
        FeedRefusedError: the venue serves nobody from here.
    """
    proxy = None if is_loopback(urlsplit(url).hostname or "") else _proxy(url)
    way = _Way(url, proxy, f"{venue.name.upper()}_URL")

    def ask() -> str | None:
        try:
            with connect(
                venue.socket_url(url),
                proxy=proxy,
                open_timeout=timeout_s,
                close_timeout=1,
                compression=None,
                ping_interval=None,
                logger=_mute,
            ) as connection:
                return connection.response.headers.get("Date") if connection.response else None
        except InvalidStatus as refused:
            raise _refusal(venue, refused.response.status_code, "a websocket") from None

    return _asked(way, ask)


def reach_rest(venue: Venue, rest_url: str, timeout_s: float = TIMEOUT_S) -> Reached:
    """Ask the venue's REST for next to nothing; errors as `reach_websocket`."""
    parts = urlsplit(rest_url)
    local = is_loopback(parts.hostname or "")
    way = _Way(
        rest_url, None if local else urllib.request.getproxies().get(parts.scheme), f"{venue.name.upper()}_REST_URL"
    )
    request = urllib.request.Request(rest_url.rstrip("/") + venue.rest_look, headers=HEADERS)

    def ask() -> str | None:
        try:
            with opener(rest_url).open(request, timeout=timeout_s) as answer:
                date: str | None = answer.headers.get("Date")
                return date
        except HTTPError as refused:
            with refused:
                raise _refusal(venue, refused.code, "an answer") from None

    return _asked(way, ask)


class _Way(NamedTuple):
    """From here to an address."""

    url: str
    proxy: str | None
    variable: str
    """The environment variable of the address."""

    def fault(self, error: Exception) -> FeedUnreachableError:
        """What the error means, and the way out."""
        place, out = self._place(), f"or {self.variable}"
        match getattr(error, "reason", error) if isinstance(error, URLError) else error:
            case ProxyError() | InvalidProxy():
                said = f"{place} can't be reached: the proxy does not let it through; see to its rules, {out}"
            case ImportError():
                said = f"{place} can't be reached: SOCKS needs the package python-socks; install it, {out}"
            case socket.gaierror():
                said = f"The name of {place} is not known here: check the network and its name server, {out}"
            case ConnectionRefusedError():
                said = f"{place} refuses the connection: check that this is the address, a firewall, {out}"
            case TimeoutError():
                said = (
                    f"{place} does not answer: a firewall may hold it back; set HTTPS_PROXY if there is a proxy, {out}"
                )
            case ssl.SSLCertVerificationError() as wrong:
                said = (
                    f"The certificate of {place} is not trusted ({wrong.verify_message}): check this machine's clock; "
                    f"where a proxy opens TLS, name its certificate authority by SSL_CERT_FILE, {out}"
                )
            case ssl.SSLError():
                said = f"{place} does not speak TLS as it should: check that this is the address, a proxy, {out}"
            case other:
                why = other.strerror if isinstance(other, OSError) and other.strerror else type(other).__name__
                said = f"{place} can't be reached ({why}): check the network, {out}"
        return FeedUnreachableError(f"{said}.")

    def _place(self) -> str:
        host = urlsplit(self.url).hostname
        if self.proxy is None:
            return str(host)
        proxy = urlsplit(self.proxy)
        return f"{host}, through the proxy {proxy.hostname}:{proxy.port},"  # without the login that it may hold


def _proxy(url: str) -> str | None:
    try:
        return get_proxy(parse_uri(url))
    except WebSocketException:  # it is no address: to ask it tells
        return None


def _asked(way: _Way, ask: Callable[[], str | None]) -> Reached:
    begun_s, before_s = time.monotonic(), time.time()
    try:
        date = ask()
    except FeedError:
        raise
    except (OSError, EOFError, HTTPException, WebSocketException, ImportError, ValueError) as error:
        raise way.fault(error) from None
    took_s = time.monotonic() - begun_s
    return Reached(took_s, None if date is None else _ahead_s(date, before_s + took_s / 2))


def _ahead_s(date: str, now_s: float) -> float | None:
    """How far `now_s` is ahead of an HTTP date, which is cut to the second."""
    try:
        return now_s - (parsedate_to_datetime(date).timestamp() + 0.5)
    except ValueError:
        return None


def _refusal(venue: Venue, status: int, wanted: str) -> FeedError:
    refused = venue.judge_status(status)
    if isinstance(refused, FeedRefusedError):
        return refused
    return FeedUnreachableError(
        f"{venue.market} answers HTTP {status} instead of {wanted}: it may refuse this address, or a proxy may; "
        "try again later, or from another network."
    )
