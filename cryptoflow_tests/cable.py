"""A cable between a client and a server of this machine: to be pulled, and plugged in again."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress


class Cable:
    """Forwards connections to the port `target`; pulled, it breaks every connection and takes no new one.

    Args:
        server: where it listens for them, by default on a free port of its own.
    """

    def __init__(self, target: int, server: socket.socket | None = None) -> None:
        self._target = target
        self.port = 0
        self.plug(server)

    def plug(self, server: socket.socket | None = None) -> None:
        self._server = server or socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        self._wires: dict[socket.socket, socket.socket] = {}
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._forward, name=f"cable to {self._target}")
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
        with suppress(ConnectionError):  # either end was killed
            if data := end.recv(65536):
                self.carry(data, end, other)
                return
        for closed in (end, other):
            selector.unregister(closed)
            closed.close()
            del self._wires[closed]

    def carry(self, data: bytes, source: socket.socket, target: socket.socket) -> None:
        """Hand on what has come from `source`; called in the cable's thread."""
        target.sendall(data)


class SlowCable(Cable):
    """To Cassandra: it can keep back what its client sends from a write of candles on, to bring it late.

    The messages are those of the native protocol, version 4:
    https://github.com/apache/cassandra/blob/trunk/doc/native_protocol_v4.spec
    """

    BATCH = 0x0D
    """The opcode of what rows are written by."""

    def __init__(self, target: int, server: socket.socket | None = None) -> None:
        self._lock = threading.Lock()
        self._waits = False
        self._kept: list[tuple[bytes, socket.socket]] = []
        self._unanswered: set[tuple[socket.socket, bytes]] = set()
        super().__init__(target, server)

    def carry(self, data: bytes, source: socket.socket, target: socket.socket) -> None:
        from_client = source.getsockname()[1] == self.port
        with self._lock:
            if from_client and self._waits and (self._kept or self._writes_candles(data)):
                self._kept.append((data, target))
                return
            self._unanswered -= {(source, stream) for _, stream, _ in messages(data)}
        super().carry(data, source, target)

    def _writes_candles(self, data: bytes) -> bool:
        return any(opcode == self.BATCH and b"Coinbase" in body for opcode, _, body in messages(data))

    def keep_back(self) -> None:
        """Begin with the next write of candles."""
        self._waits = True

    def keeps(self) -> bool:
        """Whether it has begun."""
        return bool(self._kept)

    def bring(self) -> None:
        """Hand on what was kept back, and go on as before."""
        with self._lock:
            kept, self._kept, self._waits = self._kept, [], False
            self._unanswered |= {(target, stream) for data, target in kept for _, stream, _ in messages(data)}
            for data, target in kept:
                target.sendall(data)

    def answered(self) -> bool:
        """Whether Cassandra has done all that was kept back."""
        return not self._unanswered


def messages(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(opcode, stream, body) of each message of the native protocol."""
    while len(data) >= 9:
        end = 9 + int.from_bytes(data[5:9])
        yield data[4], data[2:4], data[9:end]
        data = data[end:]
