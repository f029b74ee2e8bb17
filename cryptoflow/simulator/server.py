"""The simulator's sockets: everything that awaits.

All clients share one stream, as on a market. CryptoCompare's, and that of a replay, stands still while nobody is
subscribed, and waits for its slowest subscriber; a venue's goes on, and drops who reads too slowly. So what is on the
way to a client is bounded. A client that is cut still gets what was sent before.

A venue's REST is answered on the same port: what asks for no websocket gets an answer and the close.
"""

import asyncio
import errno
import http
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.http11 import Request as HTTPRequest
from websockets.http11 import Response
from websockets.protocol import State

from cryptoflow.errors import ServiceError, SocketLeftError
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import Event, Kind
from cryptoflow.simulator.feed import EventStream, venue_of
from cryptoflow.simulator.limits import Window
from cryptoflow.simulator.pacing import Stopwatch
from cryptoflow.simulator.rest import Answer, Request
from cryptoflow.simulator.sent import Ids, Sent
from cryptoflow.simulator.venue import Arrival, Subscriber

BATCH = 256
"""Source events between two looks at the sockets: some ms of work."""

SLICE_S = 0.001
"""The shortest sleep of the pace: a shorter one costs more than it gains."""

WRITE_LIMIT_BYTES = 2**18
"""What may lie in one client's write buffer before the stream waits for it."""

CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to answer a close; the end of a simulator waits so long for one that hangs."""

GOING_AWAY = 1001

_logger = logging.getLogger("cryptoflow.simulator.websockets")
_logger.setLevel(logging.WARNING)  # at DEBUG websockets logs the request's target, which holds the API key


class Connection(ServerConnection):
    """A socket that tells of each frame it hears, pings and pongs as well; what is refused reaches nobody."""

    heard: Callable[[Opcode], bool] | None = None
    """Says of a frame whether it is taken."""

    def process_event(self, event: Any) -> None:
        refused = isinstance(event, Frame) and self.heard is not None and not self.heard(event.opcode)
        if not refused or event.opcode not in DATA_OPCODES:
            super().process_event(event)


@dataclass(eq=False)
class Client:
    """One socket that was let in."""

    socket: ServerConnection
    subscriber: Subscriber
    inbound: Window | None
    """How many frames it may send."""
    muted: bool = False
    """Gets nothing more: it is silent, or cut."""
    idle: bool = True
    """Has got nothing since the last heartbeat."""
    outbox: list[bytes] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """Whether what is sent now would reach it."""
        return not self.muted and self.socket.state is State.OPEN

    def send(self, frames: Iterable[bytes]) -> None:
        """Writes frames to the socket at once, if it is there."""
        self.outbox += frames
        self.flush()

    def flush(self) -> None:
        """Writes the outbox to the socket, in one go."""
        if self.outbox:
            if self.live:
                self.idle = False
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


def response(answer: Answer) -> Response:
    """An answer as it goes over the wire."""
    headers = {
        "Date": formatdate(usegmt=True),
        "Connection": "close",
        "Content-Length": str(len(answer.body)),
        "Content-Type": "application/json",
    } | dict(answer.headers)
    return Response(answer.status, http.HTTPStatus(answer.status).phrase, Headers(headers), answer.body)


class Server:
    """The feed server of one event loop.

    Args:
        changed: called in the loop's thread whenever a public attribute may have changed.

    Raises:
        ConfigError: the replay file can't be read, or a pair is none.
    """

    def __init__(self, config: SimulatorConfig, changed: Callable[[], None] = lambda: None) -> None:
        self.clients: list[Client] = []
        self.connects = 0
        self.sent = Sent()
        self.told: dict[str, Ids] = {}
        """By subscription: the ids of the trades that some client was sent."""
        self.recorded: list[bytes] = []
        self.finished = False
        self.venue = venue_of(config)
        self._config = config
        self._changed = changed
        self._events = EventStream(self.venue)
        self._stopwatch = Stopwatch()
        self.venue.stream_s = lambda: self._stopwatch.read(time.monotonic())
        self._started_s = time.monotonic()
        self._refuses_until_s = 0.0
        self._settled_s = math.inf
        """When the stream goes on, by the monotonic clock, if anybody listens."""
        self._wake = asyncio.Event()
        self._closing: set[asyncio.Task[None]] = set()
        self._computer = ThreadPoolExecutor(1, "simulator-rest")

    async def run(self, listening: Callable[[str, str | None], None], stopped: Callable[[], Awaitable[object]]) -> None:
        """Serves until what `stopped` awaits has come; calls `listening` with both addresses once it listens.

        Raises:
            ServiceError: an address can't be listened on.
            ConfigError: the replay file is damaged further on.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self._computer.shutdown, wait=False)
            place = _place(await stack.enter_async_context(await self._bound(self._config.port)))
            rest_place = place
            if self._config.rest_port is not None:
                rest_place = _place(await stack.enter_async_context(await self._bound(self._config.rest_port)))
            self._plan_outages()
            rest = None if self.venue.rest_path is None else f"http://{rest_place}"
            listening(f"ws://{place}{self.venue.path.rstrip('/')}", rest)
            await _first(stopped(), self._pump(), self._beat())

    async def _bound(self, port: int) -> WebSocketServer:
        host = self._config.host
        try:
            return await serve(
                self._serve,
                host,
                port,
                process_request=self._request,
                create_connection=Connection,
                compression=None,
                open_timeout=None,  # an answer of the REST may be slow
                ping_interval=self.venue.ping_s,
                ping_timeout=self.venue.pong_within_s,
                write_limit=WRITE_LIMIT_BYTES,
                close_timeout=CLOSE_TIMEOUT_S,
                logger=_logger,
            )
        except OSError as error:
            reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise ServiceError(
                f"The simulator can't listen on {host}:{port}, {reason}; give another port, or 0 for any."
            ) from None

    def send(self, subscription: str, frame: bytes) -> None:
        """Sends a frame to all who have the subscription, now."""
        self._deliver([Event(frame, subscription, time.time_ns())], self._listeners())

    def drop_connections(self) -> None:
        """Drops all sockets without a close frame."""
        for client in self.clients:
            self._cut(client)

    # Outages

    def _plan_outages(self) -> None:
        faults, loop = self._config.faults, asyncio.get_running_loop()
        if faults.refuse_after_s is not None:
            loop.call_later(faults.refuse_after_s, self.refuse, faults.refuse_for_s)
        if faults.maintenance_after_s is not None:
            loop.call_later(faults.maintenance_after_s, self.maintain, faults.maintenance_for_s)

    def refuse(self, for_s: float) -> None:
        """Drops all sockets and refuses everything for a while; 0 ends it."""
        self._refuses_until_s = time.monotonic() + for_s
        if for_s:
            self.drop_connections()
        self._changed()

    def maintain(self, for_s: float) -> None:
        """Is in maintenance for a while: gives notice, closes all sockets, and says so to whoever asks; 0 ends it."""
        self.venue.maintained = for_s > 0
        if for_s:
            asyncio.get_running_loop().call_later(for_s, self.maintain, 0.0)
            for client in self.clients:
                client.send(client.subscriber.goodbye())
                self._close(client, GOING_AWAY, "maintenance")
        self._changed()

    @property
    def _out(self) -> Answer | None:
        """What everybody gets who asks for anything now; None: what he asked for."""
        if time.monotonic() < self._refuses_until_s:
            return self.venue.outage(maintenance=False)
        return self.venue.outage(maintenance=True) if self.venue.maintained else None

    # Requests by HTTP

    async def _request(self, socket: ServerConnection, request: HTTPRequest) -> Response | None:
        """What a request gets; None: a websocket, or the library's refusal of one."""
        out = self._out
        if "websocket" in request.headers.get("Upgrade", "").lower():
            refused = out or self.venue.door(self._arrival(socket, request))
            self._changed()
            return refused and response(refused)
        if self.venue.rest_path is None:
            return None
        asked = Request(request.path, _client(socket))
        if out is not None:
            self.venue.tally.requests[asked.target] += 1
            self.venue.tally.refused["outage"] += 1
        answer = out or await self._answer(asked)
        self._changed()
        return response(answer)

    async def _answer(self, request: Request) -> Answer:
        refused = self.venue.check(request, time.monotonic())
        await asyncio.sleep(self._config.faults.rest_delay_s)
        if refused is not None:
            return refused
        # In a thread, as it may compute for seconds: the stream goes on beside it.
        return await asyncio.get_running_loop().run_in_executor(self._computer, self.venue.tell, request)

    def _arrival(self, socket: ServerConnection, request: HTTPRequest) -> Arrival:
        now_s = time.monotonic()
        return Arrival(
            request.path,
            request.headers,
            _client(socket),
            len(self.clients),
            now_s,
            now_s - self._started_s,
            time.time_ns() // 1_000_000,
        )

    # The stream

    async def _pump(self) -> None:
        while True:
            self._wake.clear()
            listeners = self._listeners()
            runs = self.venue.runs_on or (bool(listeners) and time.monotonic() >= self._settled_s)
            if runs:
                self._stopwatch.start(time.monotonic())
                self._deliver(self._due(tuple(listeners)), listeners)
                for client in tuple(self.clients):
                    await self._drained(client)
            else:
                self._stopwatch.stop(time.monotonic())
            if not listeners:
                self._settled_s = math.inf
            await self._rest(runs=runs, settles=bool(listeners))

    async def _drained(self, client: Client) -> None:
        if not client.socket.paused:
            return
        try:
            async with asyncio.timeout(self.venue.slow_for_s):
                await client.drained()
        except TimeoutError:
            self.venue.tally.broken["slow"] += 1
            self._mute(client)
            client.socket.transport.abort()

    def _listeners(self) -> dict[str, list[Client]]:
        """Each subscription and the clients that have it."""
        listeners: dict[str, list[Client]] = {}
        for client in self.clients:
            for subscription in client.subscriber.subscriptions if client.live else ():
                listeners.setdefault(subscription, []).append(client)
        return listeners

    def _due(self, subscriptions: Sequence[str]) -> list[Event]:
        now_s = self._stopwatch.read(time.monotonic())
        events: list[Event] = []
        for _ in range(BATCH):
            due_s = self._events.next_due_s()
            if due_s is None or due_s > now_s:
                break
            events += self._events.advance(subscriptions)
        return events

    def _deliver(self, events: Sequence[Event], listeners: Mapping[str, Sequence[Client]]) -> None:
        everybody = list(dict.fromkeys(client for clients in listeners.values() for client in clients))
        for event in events:
            receivers = everybody if event.subscription is None else listeners.get(event.subscription)
            if receivers:
                self._send(event, receivers)
        for client in everybody:
            client.flush()
        self.finished = self._events.ended
        self._changed()

    def _send(self, event: Event, receivers: Sequence[Client]) -> None:
        for client in receivers:
            client.outbox.append(client.subscriber.dress(event.frame))
        if event.kind is Kind.CONTROL:
            return
        self.venue.note(event)
        self.sent.count(event, len(receivers))
        if event.subscription is not None and event.kind is not Kind.MALFORMED:
            told = self.told.setdefault(event.subscription, Ids())
            for id_ in event.ids:
                told.add(id_)
        if self._config.record:
            self.recorded += [event.frame] * len(receivers)

    async def _rest(self, *, runs: bool, settles: bool) -> None:
        """Waits for the next event's time, until the stream goes on, or for a change of the listeners."""
        now_s = time.monotonic()
        due_s = self._events.next_due_s() if runs else None
        wait_s = None if due_s is None else due_s - self._stopwatch.read(now_s)
        if settles and not runs:
            wait_s = self._settled_s - now_s
        if wait_s is not None and wait_s <= 0:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s and max(wait_s, SLICE_S)):
                await self._wake.wait()

    async def _beat(self) -> None:
        heartbeat_s = self._config.faults.heartbeat_s or self.venue.heartbeat_s
        while True:
            await asyncio.sleep(heartbeat_s or 3600)
            for client in self.clients if heartbeat_s else ():
                if client.live and not client.socket.paused:
                    client.send(client.subscriber.beat(idle=client.idle))
                    client.idle = True

    # The clients

    async def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        arrival = self._arrival(socket, socket.request)
        refused = self.venue.refusal(arrival)
        if refused is not None:
            write(socket, [refused])
            return
        client = self._admit(socket, arrival)
        timers = self._timers(client)
        try:
            with suppress(ConnectionClosed):  # the usual way for a client to go
                await self._converse(client)
        finally:
            for timer in timers:
                timer.cancel()
            self.clients.remove(client)
            self._listeners_changed()

    def _admit(self, socket: ServerConnection, arrival: Arrival) -> Client:
        inbound = self.venue.inbound
        window = None if inbound is None else Window(inbound.most * self._config.limit_factor, inbound.period_s)
        client = Client(socket, self.venue.admit(arrival), window)
        if isinstance(socket, Connection) and window is not None:
            socket.heard = lambda opcode: self._heard(client, opcode)
        self.clients.append(client)
        self.connects += 1
        client.send(client.subscriber.opened())
        self._settle(client)
        self._listeners_changed()
        return client

    def _heard(self, client: Client, opcode: Opcode) -> bool:
        """Counts a frame that a client sent; False: it was one too many."""
        assert client.inbound is not None
        assert self.venue.inbound is not None
        counts = opcode in DATA_OPCODES or (self.venue.inbound.pongs_count and opcode is not Opcode.CLOSE)
        if not counts or not client.inbound.take(1, time.monotonic()):
            return True
        self.venue.tally.broken["messages"] += 1
        try:
            client.send(client.subscriber.too_fast())
        except SocketLeftError as leave:
            self._leave(client, leave)
        return False

    def _timers(self, client: Client) -> list[asyncio.TimerHandle]:
        faults, venue, loop = self._config.faults, self.venue, asyncio.get_running_loop()
        notice_s = (
            None if faults.force_disconnect_every_s is None else faults.force_disconnect_every_s - faults.notice_s
        )
        planned = (
            (faults.cut_every_s, self._cut),
            (faults.silent_after_s, self._mute),
            (notice_s, self._give_notice),
            (venue.lifetime_s if faults.lifetime_s is None else faults.lifetime_s, self._close),
            (venue.subscribe_within_s, self._close_unless_subscribed),
        )
        return [loop.call_later(after_s, act, client) for after_s, act in planned if after_s is not None]

    async def _converse(self, client: Client) -> None:
        while True:
            frame = await client.socket.recv(decode=False)
            try:
                self._reply(client, frame)
            except SocketLeftError as leave:
                self._leave(client, leave)
            await client.drained()

    def _reply(self, client: Client, frame: bytes) -> None:
        if not client.live:  # it sent the request and its close in one go
            return
        for event in client.subscriber.receive(frame):
            self._send(event, (client,))
        client.flush()
        self._settle(client)
        self._listeners_changed()

    def _settle(self, client: Client) -> None:
        """Put the stream off for a moment, if it stands still and may go on now."""
        now_s = time.monotonic()
        if client.subscriber.subscribed and now_s < self._settled_s:
            self._settled_s = now_s + self.venue.settle_s

    def _listeners_changed(self) -> None:
        self._wake.set()
        self._changed()

    def _give_notice(self, client: Client) -> None:
        client.send(client.subscriber.goodbye())
        if self._config.faults.notice_s:
            asyncio.get_running_loop().call_later(self._config.faults.notice_s, self._close, client)
        else:
            self._close(client)

    def _close_unless_subscribed(self, client: Client) -> None:
        if not client.subscriber.subscribed:
            self.venue.tally.broken["subscribe_within"] += 1
            self._close(client)

    def _leave(self, client: Client, leave: SocketLeftError) -> None:
        client.send(leave.frames)
        self._close(client, leave.code, leave.reason)

    def _close(self, client: Client, code: int = 1000, reason: str = "") -> None:
        if client.live:
            task = asyncio.get_running_loop().create_task(client.socket.close(code, reason))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._mute(client)

    def _mute(self, client: Client) -> None:
        client.muted = True
        self._listeners_changed()

    def _cut(self, client: Client) -> None:
        self._mute(client)
        client.socket.transport.close()  # sends the buffer first, and no close frame


def _client(socket: ServerConnection) -> str:
    return str(socket.remote_address[0])


def _place(server: WebSocketServer) -> str:
    """HOST:PORT that it listens on."""
    host, port = server.sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _first(*work: Awaitable[object]) -> None:
    """Waits for the first to end, or to fail, and cancels the others."""
    tasks = [asyncio.ensure_future(item) for item in work]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    for task in done:
        task.result()
