"""A Cassandra that goes away while candles are written, by a cable that is pulled."""

import selectors
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraUnreachableError
from cryptoflow.model.candle import Candle, Side
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import connect
from cryptoflow.tables.writer import TableWriter

MIDNIGHT = datetime(2021, 1, 8, tzinfo=UTC)
SIDE = Side(1, 1.0, 1.0, 1.0)


class Cable:
    """Forwards a port of its own to `target`; pulled, it breaks every connection and takes no new one."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.plug()

    def plug(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        self._wires: dict[socket.socket, socket.socket] = {}
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._forward)
        self._thread.start()

    def pull(self) -> None:
        self._waker.close()
        self._thread.join()
        for end in (self._server, self._woken, *self._wires):
            end.close()

    def _forward(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._woken not in (ready := [key.fileobj for key, _ in selector.select()]):
                for end in ready:
                    self._serve(selector, end)

    def _serve(self, selector: selectors.BaseSelector, end: object) -> None:
        if end is self._server:
            near, far = self._server.accept()[0], socket.create_connection(("127.0.0.1", self._target))
            self._wires |= {near: far, far: near}
            selector.register(near, selectors.EVENT_READ)
            selector.register(far, selectors.EVENT_READ)
        elif isinstance(end, socket.socket) and end in self._wires:
            self._pass_on(selector, end, self._wires[end])

    def _pass_on(self, selector: selectors.BaseSelector, end: socket.socket, other: socket.socket) -> None:
        if data := end.recv(65536):
            other.sendall(data)
            return
        for closed in (end, other):
            selector.unregister(closed)
            closed.close()
            del self._wires[closed]


@pytest.fixture
def cable(cassandra_port: int) -> Iterator[Cable]:
    cable = Cable(cassandra_port)
    yield cable
    cable.pull()


def a_candle(minute: int = 0) -> Candle:
    start = MIDNIGHT + timedelta(minutes=minute)
    return Candle("Coinbase", "BTC", "USD", start, 60, 1, 1, 1, 1, 2, 2.0, 2.0, SIDE, SIDE)


@pytest.fixture
def cabled(session: Session, settings: CassandraSettings, cable: Cable) -> Iterator[TableWriter]:
    """A writer that reaches Cassandra through the cable only."""
    through = settings.model_copy(update={"port": cable.port})
    with connect(through) as another:
        yield TableWriter(another, through.model_copy(update={"retry_for_s": 2}))


def test_an_outage_is_waited_out_and_nothing_is_lost(session: Session, cabled: TableWriter, cable: Cable) -> None:
    cable.pull()
    back = threading.Timer(1, cable.plug)
    back.start()
    assert cabled.put_candles([a_candle(minute) for minute in range(50)], 1) == 150
    back.join()
    assert len(list(session.execute("SELECT * FROM candles"))) == 50
    assert len(list(session.execute("SELECT * FROM trademsgs1minutewindow"))) == 100


def test_too_long_an_outage_is_an_error(cabled: TableWriter, cable: Cable) -> None:
    cable.pull()
    started = time.monotonic()
    with pytest.raises(CassandraUnreachableError, match="does not answer"):
        cabled.put_candles([a_candle()], 1)
    assert 2 <= time.monotonic() - started < 15
    cable.plug()
