"""One websocket: its frames go to a session as they come, and the session's frames go out.

The API key travels in the URL, so no text of the websocket library reaches a log or an exception: its logger is mute,
and errors are told in our own words.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import BINARY, CONT, TEXT, Frame
from websockets.protocol import State

from cryptoflow.errors import CryptoflowError, FeedDisconnectedError, FeedError, PrerequisiteError
from cryptoflow.venues.base import Venue
from cryptoflow.venues.events import Closing, Event, Left, Received, Subscribed
from cryptoflow.venues.reading import hide
from cryptoflow.venues.session import Session

TICK_S = 0.2
"""How often a socket that brings nothing is looked after."""

OPEN_TIMEOUT_S = 10.0
"""For TCP, TLS and the websocket's handshake together."""

LEAVE_TIMEOUT_S = 2.0
"""How long the answer to a leave is waited for, and then the closing handshake."""

MAX_FRAME_BYTES = 512 * 1024
"""Half of what Kafka takes in one record, so that any frame fits into a dead letter."""

NO_SOCKS = (
    "The proxy of this machine speaks SOCKS, which needs the package python-socks: install it, or name another proxy."
)

_mute = logging.Logger("websocket of the feed", logging.CRITICAL + 1)  # outside the tree: nobody can turn it on

Result = TypeVar("Result")


class _Connection(ClientConnection):
    """Hands each message over within the call that received it: to wake a task for each takes half as long again.

    A receiver that blocks thus keeps the socket from being read, which slows the venue down.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._early: list[Frame] = []
        self._parts = bytearray()
        self._binary = False
        self._message: Callable[[bytes, bool], None] | None = None
        self._sign: Callable[[], None] = lambda: None

    def begin(self, message: Callable[[bytes, bool], None], sign: Callable[[], None]) -> None:
        """Hand over all messages, those that are here already too.

        Args:
            message: takes a message, and whether it is binary.
            sign: called at each other sign of life, and when the connection is lost.
        """
        early, self._early = self._early, []
        self._message, self._sign = message, sign
        for frame in early:
            self._data(frame)

    def process_event(self, event: Any) -> None:
        """As the library's, which has no public way to be told of frames, for all but data."""
        if isinstance(event, Frame) and event.opcode in (TEXT, BINARY, CONT):
            self._data(event)
        else:
            super().process_event(event)
            self._sign()

    def connection_lost(self, exc: Exception | None) -> None:
        """As the library's."""
        super().connection_lost(exc)
        self._sign()

    def _data(self, frame: Frame) -> None:
        if self._message is None:
            self._early.append(frame)
        elif frame.fin and frame.opcode is not CONT:
            self._message(bytes(frame.data), frame.opcode is BINARY)
        else:
            self._part(frame, self._message)

    def _part(self, frame: Frame, message: Callable[[bytes, bool], None]) -> None:
        if frame.opcode is not CONT:
            self._binary = frame.opcode is BINARY
        self._parts += frame.data
        if frame.fin:
            whole, self._parts = bytes(self._parts), bytearray()
            message(whole, self._binary)


class Socket:
    """One websocket and its session.

    Args:
        take: called with what each frame holds.
    """

    def __init__(self, venue: Venue, session: Session, take: Callable[[Received], None]) -> None:
        self.subscribed = self.closing = False
        self.opened_s = self.heard_s = 0.0
        """When it was opened, and when the venue gave its last sign of life, by the monotonic clock."""
        self._venue = venue
        self._session = session
        self._take = take
        self._unsent: deque[str] = deque()
        self._send_s = 0.0
        """When the next frame may be sent."""
        self._over = False
        self._error: BaseException | None = None
        self._wake = asyncio.Event()

    async def open(self, url: str, secret: str | None = None) -> None:
        """Connect.

        Args:
            url: with the key, if there is one.
            secret: the key, which comes out in no error.

        Raises:
            FeedError: what the venue's answer means; FeedDisconnectedError if there was none.
            PrerequisiteError: the proxy speaks what nothing here does.
        """
        self._secret = secret
        fault: CryptoflowError
        try:
            self._connection = await _connect(url)
        except ImportError:
            fault = PrerequisiteError(NO_SOCKS)
        except (OSError, EOFError, WebSocketException, ValueError) as error:
            fault = self._told(error)
        else:
            self.opened_s = self.heard_s = time.monotonic()
            return
        raise fault  # here, so that it drags no exception of the library along

    def begin(self) -> None:
        """Take the frames as they come from now on, and those that are here."""
        self._connection.begin(self._message, self._sign)

    async def turn(self) -> None:
        """Send what is to be sent, and wait for something to do, but not long.

        Raises:
            FeedDisconnectedError: the socket is gone.
            Exception: whatever a frame led to.
        """
        await self._send()
        send_in_s = self._send_s - time.monotonic() if self._unsent else TICK_S
        try:
            async with asyncio.timeout(min(send_in_s, TICK_S)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        if self._error is not None:
            raise self._error
        if self._connection.state is State.CLOSED:
            raise FeedDisconnectedError(self._farewell())

    async def leave(self) -> None:
        """Leave the subscriptions, and wait for the answer, but not long."""
        self._session.frames_to_send()
        self._unsent.clear()
        self._session.leave()
        deadline_s = time.monotonic() + LEAVE_TIMEOUT_S
        while not self._over and time.monotonic() < deadline_s:
            await self.turn()

    async def close(self) -> None:
        """Close it, in order, if it was opened; nothing is taken any more."""
        self._over = True
        if self.opened_s:
            await self._connection.close()

    def wake(self) -> None:
        """End the wait of `turn`."""
        self._wake.set()

    def _message(self, frame: bytes, binary: bool) -> None:
        if self._over:
            return
        try:
            received = self._session.receive(frame, time.time(), binary=binary)
            self._take(received)
        except BaseException as error:  # noqa: BLE001 - raised by `turn`
            self._error, self._over = error, True
            self.wake()
        else:
            if received[1]:
                self._note(received[1])
        self.heard_s = time.monotonic()  # after it was taken: only waiting for the venue counts as silence

    def _note(self, events: Sequence[Event]) -> None:
        self.subscribed |= any(isinstance(event, Subscribed) for event in events)
        self.closing |= any(isinstance(event, Closing) for event in events)
        self._over |= any(isinstance(event, Left) for event in events)
        self.wake()

    def _sign(self) -> None:
        self.heard_s = time.monotonic()
        if self._connection.state is State.CLOSED:
            self.wake()

    async def _send(self) -> None:
        """Send what the venue takes by now."""
        self._unsent += self._session.frames_to_send()
        fault = None
        while self._unsent and time.monotonic() >= self._send_s:
            self._send_s = time.monotonic() + 1 / self._venue.limits.messages_per_s
            try:
                await self._connection.send(self._unsent.popleft())
            except ConnectionClosed:
                fault = FeedDisconnectedError(self._farewell())
                break
        if fault is not None:
            raise fault

    def _told(self, error: Exception) -> FeedError:
        """What failed, in words that can't hold the URL."""
        if isinstance(error, InvalidStatus):
            return self._venue.judge_status(error.response.status_code)
        text = _words(error) if isinstance(error, OSError) else ""
        return FeedDisconnectedError(hide(text, self._secret) or type(error).__name__)

    def _farewell(self) -> str:
        closed = self._connection.protocol.close_exc
        if closed.rcvd is None:
            return "the connection broke" if closed.sent is None else f"closed by us: {closed.sent.reason}"
        return hide(f"closed by the feed: {closed.rcvd.code} {closed.rcvd.reason}".strip(), self._secret)


async def _connect(url: str) -> _Connection:
    connection = await connect(
        url,
        create_connection=_Connection,
        logger=_mute,
        compression=None,  # frames are small: inflating each costs more than it saves
        proxy=None if is_loopback(urlsplit(url).hostname or "") else True,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=LEAVE_TIMEOUT_S,
        ping_interval=None,  # a busy receiver must not look like a dead venue; whoever serves watches for silence
        max_size=MAX_FRAME_BYTES,
    )
    return cast(_Connection, connection)


def _words(error: OSError) -> str:
    """What the system says; asyncio says that a call failed, and not why."""
    if error.errno and "Connect call failed" in str(error):
        return f"[Errno {error.errno}] {os.strerror(error.errno)}"
    return str(error)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose end waits for no name lookup, which can't be interrupted."""

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's, in a thread that nobody waits for."""
        return await aside(lambda: socket.getaddrinfo(*args, **kwargs))


async def aside(call: Callable[[], Result]) -> Result:
    """The result of `call`, from a thread that may outlast whoever waits for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def work() -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - raised by whoever waits
            outcome = partial(future.set_exception, error)
        else:
            outcome = partial(future.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(lambda: None if future.done() else outcome())

    threading.Thread(target=work, name="feed-aside", daemon=True).start()
    return await future
