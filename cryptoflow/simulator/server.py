"""The simulator's sockets: everything that awaits.

All clients share one stream, as on a market. It stands still while nobody is subscribed, and waits for its
slowest subscriber, so what is on the way to a client is bounded. A client that is cut still gets what was
sent before.
"""

import asyncio
import errno
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from cryptoflow.errors import ServiceError
from cryptoflow.simulator import session
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import Event, Kind
from cryptoflow.simulator.feed import Feed
from cryptoflow.simulator.pacing import Stopwatch
from cryptoflow.simulator.sent import Sent

BATCH = 256
"""Source events between two looks at the sockets: some ms of work."""

SLICE_S = 0.001
"""The shortest sleep of the pace: a shorter one costs more than it gains."""

WRITE_LIMIT_BYTES = 2**18
"""What may lie in one client's write buffer before the stream waits for it."""

PING_S = 30.0
"""Time between the server's pings, as the real feed's."""

CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to answer a close; the end of a simulator waits so long for one that hangs."""

_logger = logging.getLogger("cryptoflow.simulator.websockets")
_logger.setLevel(logging.WARNING)  # at DEBUG websockets logs the request's target, which holds the API key


@dataclass(eq=False)
class Client:
    """One socket that was let in."""

    socket: ServerConnection
    session: session.Session
    muted: bool = False
    """Gets nothing more: it is silent, or cut."""
    outbox: list[bytes] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether what is sent now would reach it."""
        return not self.muted and self.socket.state is State.OPEN

    def flush(self) -> None:
        """Writes the outbox to the socket, in one go."""
        if self.outbox:
            write(self.socket, self.outbox)
            self.outbox.clear()

    async def drained(self) -> None:
        """Waits while the write buffer is too full."""
        if self.socket.paused:
            with suppress(OSError):  # it broke off while it was waited for; `recv` reports that
                await self.socket.drain()


def write(socket: ServerConnection, frames: Iterable[bytes]) -> None:
    """Writes text frames without waiting, all with one system call: `send` needs one for each."""
    for frame in frames:
        socket.protocol.send_text(frame)
    socket.transport.write(b"".join(socket.protocol.data_to_send()))


class Server:
    """The feed server of one event loop.

    Args:
        changed: called in the loop's thread whenever a public attribute may have changed.

    Raises:
        ConfigError: the replay file can't be read.
    """

    def __init__(self, config: SimulatorConfig, changed: Callable[[], None] = lambda: None) -> None:
        self.clients: list[Client] = []
        self.connects = 0
        self.sent = Sent()
        self.recorded: list[bytes] = []
        self.finished = False
        self._config = config
        self._changed = changed
        self._feed = Feed(config, time.time_ns)
        self._history = session.History()
        self._admitted = session.Connects()
        self._stopwatch = Stopwatch()
        self._started_s = time.monotonic()
        self._wake = asyncio.Event()

    async def run(self, listening: Callable[[str], None], stopped: Callable[[], Awaitable[object]]) -> None:
        """Serves until what `stopped` awaits has come; calls `listening` with the address once it listens.

        Raises:
            ServiceError: the address can't be listened on.
            ConfigError: the replay file is damaged further on.
        """
        async with await self._bound() as server:
            port = server.sockets[0].getsockname()[1]
            host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
            listening(f"ws://{host}:{port}/v2")
            await _first(stopped(), self._pump(), self._beat())

    async def _bound(self) -> WebSocketServer:
        host, port = self._config.host, self._config.port
        try:
            return await serve(
                self._serve,
                host,
                port,
                compression=None,
                ping_interval=PING_S,
                write_limit=WRITE_LIMIT_BYTES,
                close_timeout=CLOSE_TIMEOUT_S,
                logger=_logger,
            )
        except OSError as error:
            reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise ServiceError(
                f"The simulator can't listen on {host}:{port}, {reason}; give another port, or 0 for any."
            ) from None

    def drop_connections(self) -> None:
        """Drops all sockets without a close frame."""
        for client in self.clients:
            self._cut(client)

    # The stream

    async def _pump(self) -> None:
        while True:
            self._wake.clear()
            listeners = self._listeners()
            if listeners:
                self._stopwatch.start(time.monotonic())
                self._deliver(self._due(tuple(listeners)), listeners)
                for client in tuple(self.clients):
                    await client.drained()
            else:
                self._stopwatch.stop(time.monotonic())
            await self._rest(listened=bool(listeners))

    def _listeners(self) -> dict[str, list[Client]]:
        """Each subscription and the clients that have it."""
        listeners: dict[str, list[Client]] = {}
        for client in self.clients:
            for subscription in client.session.subscriptions if client.live else ():
                listeners.setdefault(subscription, []).append(client)
        return listeners

    def _due(self, subscriptions: Sequence[str]) -> list[Event]:
        now_s = self._stopwatch.read(time.monotonic())
        events: list[Event] = []
        for _ in range(BATCH):
            due_s = self._feed.next_due_s()
            if due_s is None or due_s > now_s:
                break
            events += self._feed.advance(subscriptions)
        return events

    def _deliver(self, events: Sequence[Event], listeners: Mapping[str, Sequence[Client]]) -> None:
        everybody = list(dict.fromkeys(client for clients in listeners.values() for client in clients))
        for event in events:
            receivers = everybody if event.subscription is None else listeners.get(event.subscription)
            if receivers:
                self._send(event, receivers)
        for client in everybody:
            client.flush()
        self.finished = self._feed.ended
        self._changed()

    def _send(self, event: Event, receivers: Sequence[Client]) -> None:
        for client in receivers:
            client.outbox.append(event.frame)
        if event.kind is Kind.CONTROL:
            return
        self._history.add(event)
        self.sent.count(event, len(receivers))
        if self._config.record:
            self.recorded += [event.frame] * len(receivers)

    async def _rest(self, *, listened: bool) -> None:
        """Waits for the next event's time, or a change of the listeners."""
        due_s = self._feed.next_due_s() if listened else None
        wait_s = None if due_s is None else due_s - self._stopwatch.read(time.monotonic())
        if wait_s is not None and wait_s <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s and max(wait_s, SLICE_S)):
                await self._wake.wait()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._config.faults.heartbeat_s)
            for client in self.clients:
                if client.live and not client.socket.paused:
                    write(client.socket, [session.heartbeat(_now_ms())])

    # The clients

    async def _serve(self, socket: ServerConnection) -> None:
        refused = self._refusal(socket)
        if refused is not None:
            write(socket, [refused])
            return
        client = self._admit(socket)
        timers = self._timers(client)
        try:
            with suppress(ConnectionClosed):  # the usual way for a client to go
                await self._converse(client)
        finally:
            for timer in timers:
                timer.cancel()
            self.clients.remove(client)
            self._listeners_changed()

    def _refusal(self, socket: ServerConnection) -> bytes | None:
        assert socket.request is not None
        api_key = session.api_key_of(socket.request.path, socket.request.headers)
        last_minute = self._admitted.within(60, time.monotonic())
        return session.refusal(self._config.faults, api_key, last_minute, len(self.clients))

    def _admit(self, socket: ServerConnection) -> Client:
        client = Client(socket, session.Session(self._config.faults, self._history))
        now_s = time.monotonic()
        self._admitted.add(now_s)
        self.clients.append(client)
        self.connects += 1
        frame = session.welcome(
            self._config.faults,
            self._admitted,
            len(self.clients),
            now_s=now_s,
            uptime_s=now_s - self._started_s,
            time_ms=_now_ms(),
            socket_id=uuid.uuid4().hex[:20],
        )
        write(socket, [frame])
        self._changed()
        return client

    def _timers(self, client: Client) -> list[asyncio.TimerHandle]:
        faults, loop = self._config.faults, asyncio.get_running_loop()
        planned = ((faults.cut_every_s, self._cut), (faults.silent_after_s, self._mute))
        return [loop.call_later(after_s, act, client) for after_s, act in planned if after_s is not None]

    async def _converse(self, client: Client) -> None:
        try:
            async with asyncio.timeout(self._config.faults.force_disconnect_every_s):
                while True:
                    self._answer(client, await client.socket.recv(decode=False))
                    await client.drained()
        except TimeoutError:
            if client.live:
                write(client.socket, [session.force_disconnect()])

    def _answer(self, client: Client, frame: bytes) -> None:
        if not client.live:  # it sent the request and its close in one go
            return
        for event in client.session.receive(frame):
            self._send(event, (client,))
        client.flush()
        self._listeners_changed()

    def _listeners_changed(self) -> None:
        self._wake.set()
        self._changed()

    def _mute(self, client: Client) -> None:
        client.muted = True
        self._listeners_changed()

    def _cut(self, client: Client) -> None:
        self._mute(client)
        client.socket.transport.close()  # sends the buffer first, and no close frame


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _first(*work: Awaitable[object]) -> None:
    """Waits for the first to end, or to fail, and cancels the others."""
    tasks = [asyncio.ensure_future(item) for item in work]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    for task in done:
        task.result()
