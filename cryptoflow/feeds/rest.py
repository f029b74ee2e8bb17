"""A venue's REST: a request that is a plain value, carried over and back."""

import urllib.request
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit

from cryptoflow.errors import FeedDisconnectedError
from cryptoflow.feeds.socket import is_loopback
from cryptoflow.venues.base import Answer

TIMEOUT_S = 10.0
"""For each step of a request."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""A page of a thousand trades has some 200 kB."""

HEADERS = {"User-Agent": "cryptoflow", "Accept": "application/json"}
"""Coinbase refuses a client without a name."""


def fetch(rest_url: str, target: str) -> Answer:
    """The answer to a GET, whatever its status. Blocks.

    Args:
        rest_url: scheme and host.
        target: path and query.

    Raises:
        FeedDisconnectedError: there was none.
    """
    request = urllib.request.Request(rest_url.rstrip("/") + target, headers=HEADERS)
    try:
        with _opener(rest_url).open(request, timeout=TIMEOUT_S) as answer:
            return _read(answer)
    except HTTPError as refused:
        with refused:
            return _read(refused)
    except (OSError, HTTPException) as error:
        raise FeedDisconnectedError(f"no answer from {urlsplit(rest_url).netloc}: {error}") from None


def _opener(rest_url: str) -> urllib.request.OpenerDirector:
    """Through the proxy of the environment, but for this machine."""
    direct = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(rest_url).hostname or "") else []
    return urllib.request.build_opener(*direct)


def _read(answer: "urllib.response.addinfourl") -> Answer:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.read(MAX_ANSWER_BYTES), answer.status or 0, headers)
