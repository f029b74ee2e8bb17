"""The feed's client: one websocket at a time, kept open until it is told to stop.

A thin skin of I/O around `protocol`. The API key travels in the URL, so no text of the websocket library
reaches a log or an exception: its logger is mute, and errors are told in our own words.
"""

import contextlib
import ipaddress
import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.frames import BINARY, TEXT, Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from cryptoflow.errors import ConfigError, FeedDisconnectedError, FeedError, FeedUnreachableError
from cryptoflow.feeds.backoff import MAX_DELAY_S, MIN_DELAY_S, backoff
from cryptoflow.feeds.gaps import Gap, GapFinder
from cryptoflow.feeds.protocol import (
    Event,
    Heartbeat,
    Protocol,
    Refused,
    Subscribed,
    Ticker,
    Unreadable,
    UnsubscribedAll,
    hide,
    judge_status,
    subscribed_pairs,
)
from cryptoflow.feeds.recent import RecentTrades
from cryptoflow.feeds.sink import Sink
from cryptoflow.model.trade import Trade
from cryptoflow.settings import DEFAULT_AHEAD_S

TICK_S = 0.2
"""How often `stop` is looked at while nothing comes in."""

OPEN_TIMEOUT_S = 10.0
"""For TCP, TLS and the websocket's handshake together."""

LEAVE_TIMEOUT_S = 2.0
"""How long the answer to SubRemove is waited for, and then the closing handshake."""

MAX_FRAME_BYTES = 512 * 1024
"""Half of what Kafka takes in one record, so that any frame fits into a dead letter."""

MAX_QUEUED_FRAMES = 4096
"""Frames read ahead while the sink is busy; beyond it the socket is read slower."""

MAX_REFUSED = 100
"""Refusals kept in the stats, which differ; all are handed to `on_event`."""

MAX_GAPS = 1000
"""Gaps kept in the stats; all are counted and handed to `on_event`."""

MAX_MARKETS = 1000
"""Markets whose clocks are told of."""

DEFAULT_PORTS = {"ws": 80, "wss": 443}

_mute = logging.Logger("websocket of the feed", logging.CRITICAL + 1)  # outside the tree: nobody can turn it on


@dataclass(frozen=True)
class Connected:
    """The websocket is open."""

    address: str

    def __str__(self) -> str:
        return f"Connected to the feed at {self.address}."


@dataclass(frozen=True)
class Disconnected:
    """The websocket was lost, or could not be opened; the next try comes in `retry_in_s`."""

    reason: str
    retry_in_s: float

    def __str__(self) -> str:
        return f"No connection to the feed: {self.reason}; the next try is in {self.retry_in_s:.1f} s."


@dataclass(frozen=True)
class ClocksDiffer:
    """A market's trades come from the future, by this machine's clock."""

    market: str
    ahead_s: float

    def __str__(self) -> str:
        return (
            f"Trades of {self.market} are {self.ahead_s:.0f} s ahead of this machine's clock: one of the two is wrong. "
            "None is lost, but they come into their candles by repairs; `cryptoflow doctor` looks at this clock."
        )


ClientEvent = Connected | Disconnected | Subscribed | Refused | Gap | ClocksDiffer


@dataclass
class FeedStats:
    """What a client has seen so far; any thread may read it."""

    frames: int = 0
    trades: int = 0
    """New trades handed to the sink."""
    duplicates: int = 0
    unreadable: int = 0
    tickers: int = 0
    heartbeats: int = 0
    connects: int = 0
    """Websockets opened."""
    disconnects: int = 0
    """Websockets lost and failed tries to open one."""
    subscribed: set[str] = field(default_factory=set)
    """The subscriptions that the feed has accepted."""
    refused: list[Refused] = field(default_factory=list)
    """The first refusals that differ."""
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=MAX_GAPS))
    """The latest gaps."""
    gap_count: int = 0
    last_frame_s: float | None = None
    """When the last frame came, in s since the epoch."""


class _NoTradeError(FeedDisconnectedError):
    """The feed answers and sends no trade: a quiet market, or a subscription that it has forgotten."""


class _Connection(ClientConnection):
    """Tells binary frames from text frames, which `recv(decode=False)` does not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._opcodes: deque[Opcode] = deque()
        super().__init__(*args, **kwargs)

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame) and event.opcode in (TEXT, BINARY):
            self._opcodes.append(event.opcode)
        super().process_event(event)

    def recv_frame(self, timeout_s: float) -> tuple[bytes, bool]:
        """The next frame, and whether it is binary."""
        frame = self.recv(timeout_s, decode=False)
        return frame, self._opcodes.popleft() is BINARY


class FeedClient:
    """Receives a feed's trades and hands each new one to `sink`.

    Args:
        url: the feed's address, `ws://` or `wss://`.
        subscriptions: what to subscribe to, each `0~MARKET~COIN~CURRENCY`.
        sink: where trades and unreadable frames go.
        api_key: sent to the feed; shown nowhere.
        reconnect_for_s: how long the feed may be unreachable in a row.
        silent_after_s: a websocket without a frame for so long is given up.
        no_trade_after_s: one that brings frames but no trade for so long is opened anew; that alone ends no run.
        min_delay_s, max_delay_s: bounds of the waits between reconnects.
        on_event: called with each ClientEvent, from the thread that runs the client.

    Raises:
        ConfigError: the URL is no websocket's.
    """

    def __init__(
        self,
        url: str,
        subscriptions: Sequence[str],
        sink: Sink,
        *,
        api_key: str | None = None,
        reconnect_for_s: float = 900,
        silent_after_s: float = 60,
        no_trade_after_s: float = 300,
        min_delay_s: float = MIN_DELAY_S,
        max_delay_s: float = MAX_DELAY_S,
        on_event: Callable[[ClientEvent], None] | None = None,
    ) -> None:
        self.address, self._url, self._secret = _place(url, api_key)
        self.stats = FeedStats()
        self._subscriptions = tuple(subscriptions)
        self._sink = sink
        self._reconnect_for_s = reconnect_for_s
        self._silent_after_s = silent_after_s
        self._no_trade_after_s = no_trade_after_s
        self._bounds_s = (min_delay_s, max_delay_s)
        self._on_event = on_event or (lambda event: None)
        self._recent = RecentTrades(subscribed_pairs(self._subscriptions))
        self._gaps = GapFinder(self._subscriptions)
        self._down_since: float | None = None
        self._ahead: set[str] = set()

    def run(self, stop: threading.Event) -> FeedStats:
        """Receive until `stop` is set, then leave the feed and close.

        Raises:
            UnauthorizedError: the feed refuses the key.
            FeedUnreachableError: the feed could not be used for `reconnect_for_s` in a row.
            Exception: whatever the sink raises.
        """
        self._down_since = time.monotonic()
        delays = self._delays()
        while not stop.is_set():
            trades = self.stats.trades
            error = self._connection(stop)
            if error is None or (stop.is_set() and isinstance(error, FeedDisconnectedError)):
                break
            if self.stats.trades > trades or isinstance(error, _NoTradeError):
                delays = self._delays()
            self._lost(error, delay_s := next(delays))
            stop.wait(delay_s)
        for gap in self._gaps.end(time.time_ns()):
            self._gap(gap)
        return self.stats

    def _delays(self) -> Iterator[float]:
        return backoff(random.random, *self._bounds_s)

    def _connection(self, stop: threading.Event) -> FeedError | None:
        """One websocket from its opening to its end: what ended it, or None for `stop`."""
        try:
            connection = self._open(stop)
            if connection is not None:
                with contextlib.closing(connection):
                    self._receive(connection, stop)
        except FeedError as error:
            return error
        return None

    def _lost(self, error: FeedError, retry_in_s: float) -> None:
        """Take note of a lost websocket, or raise what forbids another try."""
        if not isinstance(error, FeedDisconnectedError):
            raise error
        self.stats.disconnects += 1
        self._gaps.lost(time.time_ns(), str(error))
        now = time.monotonic()
        self._down_since = self._down_since or now
        if now - self._down_since >= self._reconnect_for_s:
            raise FeedUnreachableError(
                f"The feed at {self.address} could not be used for {self._reconnect_for_s:g} s "
                f"(at last: {error}); check the network and CRYPTOCOMPARE_URL."
            )
        self._on_event(Disconnected(str(error), retry_in_s))

    def _open(self, stop: threading.Event) -> _Connection | None:
        """A new websocket; None if `stop` came first."""
        opening = _aside(self._connect)
        while not futures.wait([opening], TICK_S).done:
            if stop.is_set():
                opening.add_done_callback(_close_unused)
                return None
        try:
            connection = opening.result()
        except (OSError, EOFError, WebSocketException, ValueError) as error:
            fault = self._told(error)
        else:
            self.stats.connects += 1
            self._on_event(Connected(self.address))
            return connection
        raise fault  # here, so that it drags no exception of the library along

    def _connect(self) -> _Connection:
        connection = connect(
            self._url,
            legacy=True,
            create_connection=_Connection,
            logger=_mute,
            compression=None,  # frames are small: inflating each costs more than it saves
            proxy=None if _is_loopback(urlsplit(self._url).hostname or "") else True,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=LEAVE_TIMEOUT_S,
            ping_interval=None,  # a busy sink must not look like a dead feed; _receive watches for silence
            max_size=MAX_FRAME_BYTES,
            max_queue=MAX_QUEUED_FRAMES,
        )
        return cast(_Connection, connection)

    def _told(self, error: Exception) -> FeedError:
        """What failed, in words that can't hold the URL."""
        if isinstance(error, InvalidStatus):
            return judge_status(error.response.status_code)
        text = str(error) if isinstance(error, OSError) else ""
        return FeedDisconnectedError(hide(text, self._secret) or type(error).__name__)

    def _receive(self, connection: _Connection, stop: threading.Event) -> None:
        """Handle frames until `stop` is set, then leave."""
        protocol = Protocol(self._subscriptions, self._secret)
        idle_since = traded_at = time.monotonic()
        while not stop.is_set():
            event = self._handle_next(connection, protocol)
            now = time.monotonic()  # after the sink: only waiting for the feed counts as silence
            if event:
                idle_since = now
            elif now - idle_since >= self._silent_after_s:
                raise FeedDisconnectedError(f"no frame for {self._silent_after_s:g} s")
            if type(event) is Trade:
                traded_at = now
            elif now - traded_at >= self._no_trade_after_s:
                self._down_since = None  # it answers
                raise _NoTradeError(f"frames but no trade for {self._no_trade_after_s:g} s")
        with contextlib.suppress(FeedDisconnectedError):  # it is being left anyway
            self._leave(connection, protocol)

    def _leave(self, connection: _Connection, protocol: Protocol) -> None:
        protocol.leave()
        self._send(connection, protocol)
        deadline = time.monotonic() + LEAVE_TIMEOUT_S
        while time.monotonic() < deadline:
            if type(self._handle_next(connection, protocol)) is UnsubscribedAll:
                return

    def _handle_next(self, connection: _Connection, protocol: Protocol) -> Event | None:
        """Receive, answer and handle one frame; None if none came within a tick."""
        try:
            frame, binary = connection.recv_frame(TICK_S)
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            fault = FeedDisconnectedError(self._farewell(closed))
        else:
            self.stats.frames += 1
            self.stats.last_frame_s = now_s = time.time()
            event = protocol.receive(frame, now_s, binary=binary)
            if type(event) is Trade:
                self._trade(event, frame)
            else:
                self._send(connection, protocol)
                self._control(event)
            return event
        raise fault

    def _send(self, connection: _Connection, protocol: Protocol) -> None:
        fault = None
        for frame in protocol.frames_to_send():
            try:
                connection.send(frame)
            except ConnectionClosed as closed:
                fault = FeedDisconnectedError(self._farewell(closed))
        if fault is not None:
            raise fault

    def _farewell(self, closed: ConnectionClosed) -> str:
        if closed.rcvd is None:
            return "the connection broke" if closed.sent is None else f"closed by us: {closed.sent.reason}"
        return hide(f"closed by the feed: {closed.rcvd.code} {closed.rcvd.reason}".strip(), self._secret)

    def _trade(self, trade: Trade, frame: bytes) -> None:
        self._down_since = None
        self._look_at_clock(trade)
        new = self._recent.add(trade)
        gap = self._gaps.seen(trade, new=new)
        if gap is not None:
            self._gap(gap)
        if new:
            self._sink.trade(trade, frame)
            self.stats.trades += 1
        else:
            self.stats.duplicates += 1

    def _look_at_clock(self, trade: Trade) -> None:
        """Tell once of each market whose trades are further ahead than the stream takes them."""
        ahead_s = trade.time_s - (self.stats.last_frame_s or math.inf)
        if ahead_s > DEFAULT_AHEAD_S and trade.market not in self._ahead and len(self._ahead) < MAX_MARKETS:
            self._ahead.add(trade.market)
            self._on_event(ClocksDiffer(trade.market, ahead_s))

    def _control(self, event: Event) -> None:
        match event:
            case Unreadable(frame=frame, reason=reason):
                self.stats.unreadable += 1
                self._sink.dead_letter(frame, reason)
            case Heartbeat():
                self._down_since = None
                self.stats.heartbeats += 1
            case Ticker():
                self.stats.tickers += 1
            case Subscribed():
                self._down_since = None
                if len(self.stats.subscribed) < len(self._subscriptions):
                    self.stats.subscribed.add(event.sub)
                self._on_event(event)
            case Refused():
                if len(self.stats.refused) < MAX_REFUSED and event not in self.stats.refused:
                    self.stats.refused.append(event)
                self._on_event(event)

    def _gap(self, gap: Gap) -> None:
        self.stats.gap_count += 1
        self.stats.gaps.append(gap)
        self._on_event(gap)


def _place(url: str, api_key: str | None) -> tuple[str, str, str | None]:
    """(HOST:PORT, the URL with the key, the key) of a feed's URL; a key in the URL itself counts."""
    try:
        parts = urlsplit(url)
        address = f"{parts.hostname}:{parts.port or DEFAULT_PORTS[parts.scheme]}"
    except (ValueError, KeyError):
        address = ""
    if not address or not parts.hostname:
        raise ConfigError("The feed's URL (CRYPTOCOMPARE_URL) must be ws:// or wss://HOST[:PORT]/PATH.")
    query = dict(parse_qsl(parts.query))
    if api_key:
        query["api_key"] = api_key
    return address, urlunsplit(parts._replace(query=urlencode(query))), query.get("api_key")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _aside(call: Callable[[], _Connection]) -> futures.Future[_Connection]:
    """`call` in a thread of its own: a name lookup can't be interrupted, but need not be waited for."""
    future: futures.Future[_Connection] = futures.Future()

    def work() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits for the result
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="feed-connect", daemon=True).start()
    return future


def _close_unused(opening: futures.Future[_Connection]) -> None:
    if opening.exception() is None:
        opening.result().close()
