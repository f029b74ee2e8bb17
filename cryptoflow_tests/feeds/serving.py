"""Servers that follow a script, and sinks that keep what they are given."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus

from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from cryptoflow.feeds.client import VenuesClient
from cryptoflow.feeds.events import ClientEvent, Disconnected, FeedStats
from cryptoflow.feeds.gaps import Gap
from cryptoflow.model.trade import NS_PER_S, Trade
from cryptoflow_tests.venues.speaking import Deal, Tongue

PATIENCE_S = 60.0

START_NS = 1_753_190_000 * NS_PER_S

Script = Callable[[ServerConnection], None]


@contextlib.contextmanager
def feed(*scripts: Script, port: int = 0, refuse: HTTPStatus | None = None) -> Iterator[str]:
    """The URL of a feed whose connections follow the scripts, one each; the last one for all further ones."""
    rest = list(scripts)

    def handler(server: ServerConnection) -> None:
        (rest.pop(0) if len(rest) > 1 else rest[0])(server)

    def process(server: ServerConnection, request: Request) -> Response | None:
        return server.respond(refuse, "no") if refuse else None

    quiet = logging.Logger("the feed's side", logging.CRITICAL + 1)  # it logs the URL that it is asked for
    with serve(handler, "127.0.0.1", port, process_request=process, logger=quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v2"
        finally:
            server.shutdown()
            thread.join()


def deal(number: int) -> Deal:
    return Deal(number, START_NS + number * 10**9, "100.5", "0.25", buy=True)


def send(server: ServerConnection, tongue: Tongue, *numbers: int) -> None:
    for number in numbers:
        server.send(tongue.frame(deal(number)), text=True)


def accept(server: ServerConnection, tongue: Tongue) -> None:
    server.recv()
    server.send(tongue.accepted, text=True)


def farewell(server: ServerConnection, tongue: Tongue) -> None:
    assert "unsubscribe" in str(server.recv()).lower()
    server.send(tongue.left, text=True)


def streams(tongue: Tongue, *numbers: int) -> Script:
    """Accepts, sends the trades, and waits for the client to leave."""

    def script(server: ServerConnection) -> None:
        accept(server, tongue)
        send(server, tongue, *numbers)
        farewell(server, tongue)

    return script


@dataclass
class RecordingSink:
    """Keeps what it is given, in order."""

    ids: list[str] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    dead: list[tuple[bytes, str]] = field(default_factory=list)
    senders: list[str] = field(default_factory=list)
    """Of the dead letters."""

    def trade(self, trade: Trade, frame: bytes) -> None:
        self.ids.append(trade.id)
        self.frames.append(frame)

    def dead_letter(self, frame: bytes, reason: str, *, venue: str = "") -> None:
        self.dead.append((frame, reason))
        self.senders.append(venue)


class BlockedSink(RecordingSink):
    """Takes nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def trade(self, trade: Trade, frame: bytes) -> None:
        self.entered.set()
        assert self.released.wait(PATIENCE_S)
        super().trade(trade, frame)


class FailingSink(RecordingSink):
    """Fails at the first trade."""

    def trade(self, trade: Trade, frame: bytes) -> None:
        raise OSError("the sink is broken")


class Running:
    """A client that runs in a thread of its own; `end` stops it and gives its stats or raises its error."""

    def __init__(self, client: VenuesClient, sink: RecordingSink, events: list[ClientEvent]) -> None:
        self.client, self.sink, self.events = client, sink, events
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.client.run(self.stop)
        except BaseException as error:  # noqa: BLE001 - raised by `end`
            self.error = error

    def until(self, condition: Callable[[FeedStats], bool]) -> None:
        """Wait for a condition of the stats."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition(self.client.stats):
            assert self._thread.is_alive(), f"the run ended with {self.error!r}"
            assert time.monotonic() < deadline, f"still {self.client.stats}"
            self._thread.join(0.005)

    def end(self, stop: bool = True) -> FeedStats:
        if stop:
            self.stop.set()
        self._thread.join(PATIENCE_S)
        ended = not self._thread.is_alive()
        self.stop.set()
        self._thread.join(PATIENCE_S)
        assert ended, f"the run goes on: {self.client.stats}"
        if self.error is not None:
            raise self.error
        return self.client.stats

    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, Disconnected)]
