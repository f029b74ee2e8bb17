"""A venue's REST: requests carried over and back, within the venue's limits and over its troubles."""

import random
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

from cryptoflow.errors import FeedBusyError, FeedDisconnectedError, FeedUnreachableError
from cryptoflow.feeds.backoff import backoff
from cryptoflow.feeds.socket import MAX_FRAME_BYTES, is_loopback
from cryptoflow.runtime.pace import Pace
from cryptoflow.settings import home
from cryptoflow.venues.base import Venue
from cryptoflow.venues.past import Answer

TIMEOUT_S = 10.0
"""For each step of a request."""

WHOLE_WITHIN_S = 60.0
"""For an answer whose every step is in time."""

MAX_ANSWER_BYTES = MAX_FRAME_BYTES
"""As of a frame, so that any row fits into a record. A page of a thousand trades has some 200 kB."""

HEADERS = {"User-Agent": "cryptoflow", "Accept": "application/json"}
"""Coinbase refuses a client without a name."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Between two tries of a request, and its growth by `backoff`; a venue that names its time is waited for so long."""

POLL_S = 0.2
"""How often it is seen, while an answer is waited for, whether that is to end."""

Result = TypeVar("Result")


def _untold(_trouble: str) -> None:
    """What is tried again need not be told."""


@dataclass(frozen=True)
class Rest:
    """The REST of a venue, for whoever can wait.

    All that ask one address, in whatever process of this home, keep the venue's pace together.

    Attributes:
        address: scheme and host.
        stop: ends each wait, also that for an answer, within a second.
        for_s: how long one request is tried.
        tell: called with each trouble that is waited out, in a sentence.
    """

    venue: Venue
    address: str
    stop: threading.Event
    for_s: float = 900
    tell: Callable[[str], None] = _untold

    @property
    def pace(self) -> Pace:
        """The turns of all that ask this address."""
        name = urlsplit(self.address).netloc.replace(":", "_")
        return Pace(home() / "pace" / name, self.venue.limits.rest_interval_s)

    def ask(self, target: str, read: Callable[[Answer], Result]) -> Result | None:
        """What `read` makes of the answer to a GET of `target`; None: `stop` was set first.

        Args:
            read: raises FeedDisconnectedError where it is worth to ask again.

        Raises:
            FeedUnreachableError: that went on for `for_s`.
            FeedError: another one of `read`.
        """
        pace, pauses = self.pace, backoff(random.random, FIRST_PAUSE_S, LONGEST_PAUSE_S)
        until_s = time.monotonic() + self.for_s
        while pace.wait(self.stop):
            try:
                answer = self._fetch(target)
                return None if answer is None else read(answer)
            except FeedDisconnectedError as error:
                self._pause(pace, error, next(pauses), until_s)
        return None

    def _fetch(self, target: str) -> Answer | None:
        """The answer, from a thread that may outlast whoever waits for it; None: `stop` was set."""
        future: futures.Future[Answer] = futures.Future()
        call = partial(fetch, self.address, target)
        threading.Thread(target=_settle, args=(future, call), name="rest", daemon=True).start()
        until_s = time.monotonic() + WHOLE_WITHIN_S
        while not self.stop.is_set():
            if futures.wait([future], POLL_S).done:
                return future.result()
            if time.monotonic() > until_s:
                raise FeedDisconnectedError(f"no whole answer within {WHOLE_WITHIN_S:g} s")
        return None

    def _pause(self, pace: Pace, error: FeedDisconnectedError, pause_s: float, until_s: float) -> None:
        """Wait for another try; one that asks for fewer requests is obeyed by all that ask it."""
        if isinstance(error, FeedBusyError):
            pause_s = max(pause_s, error.retry_after_s or 0)
            pace.postpone(pause_s)
        if time.monotonic() + pause_s > until_s:
            raise FeedUnreachableError(
                f"The REST of {self.venue.name} was no help for {self.for_s:g} s: {error}. What was had is kept; "
                "start it again later."
            ) from None
        self.tell(f"The REST of {self.venue.name} is asked again in {pause_s:.0f} s: {error}.")
        if not isinstance(error, FeedBusyError):
            self.stop.wait(pause_s)


def _settle(future: "futures.Future[Answer]", call: Callable[[], Answer]) -> None:
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - raised by whoever waits
        future.set_exception(error)


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
        with _opened(rest_url, request) as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.read(MAX_ANSWER_BYTES), answer.status or 0, headers)
    except (OSError, HTTPException, ValueError) as error:
        raise FeedDisconnectedError(f"no answer from {urlsplit(rest_url).netloc}: {error}") from None


def opener(rest_url: str) -> urllib.request.OpenerDirector:
    """Through the proxy of the environment, but for this machine."""
    direct = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(rest_url).hostname or "") else []
    return urllib.request.build_opener(*direct)


def _opened(rest_url: str, request: urllib.request.Request) -> "urllib.response.addinfourl":
    """The answer, whatever its status, of which the headers have come."""
    try:
        opened: urllib.response.addinfourl = opener(rest_url).open(request, timeout=TIMEOUT_S)
    except HTTPError as refused:
        return refused
    return opened
