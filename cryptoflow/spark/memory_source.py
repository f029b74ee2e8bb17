"""Memory mode's source: frames in a bounded buffer of the driver, read by Spark as a stream.

Spark runs a Python source in a process of its own, so that process asks the buffer over a local socket. The feed
client stays in the driver, where its errors, counts and end belong.
"""

import contextlib
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, Self

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.types import StructType

from cryptoflow.model.trade import Trade

CAPACITY = 200_000
"""Frames that wait at most; a full buffer makes the socket be read slower."""

Row = tuple[str, int]
"""(frame, when it was received in s since the epoch)."""

OffsetJson = dict[str, dict[str, int]]


def offset_json(offset: int) -> OffsetJson:
    """An offset in the shape of Kafka's, so that one reader of checkpoints serves both."""
    return {"frames": {"0": offset}}


def offset_of(offset: OffsetJson) -> int:
    """The other way round."""
    return offset["frames"]["0"]


class FrameBuffer:
    """Frames from the first uncommitted one on; the feed's sink and Spark's source.

    Frames are numbered from 0 in the order they came. A range that was read can be read again until committed.
    """

    def __init__(
        self,
        on_dead_letter: Callable[[bytes, str], None] = lambda frame, reason: None,
        capacity: int = CAPACITY,
    ) -> None:
        self._on_dead_letter = on_dead_letter
        self._rows: deque[Row] = deque()
        self._first = 0
        self._capacity = capacity
        self._changed = threading.Condition()
        self._key = secrets.token_bytes(32)
        self._listener = Listener(("127.0.0.1", 0), authkey=self._key, backlog=16)
        self._closed = False
        threading.Thread(target=self._accept, name="frame-buffer", daemon=True).start()

    @property
    def end(self) -> int:
        """The number that the next frame will have."""
        with self._changed:
            return self._first + len(self._rows)

    def trade(self, trade: Trade, frame: bytes) -> None:
        """Take a frame; blocks while the buffer is full."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._rows) < self._capacity or self._closed)
            self._rows.append((frame.decode(), int(time.time())))

    def dead_letter(self, frame: bytes, reason: str, *, venue: str = "") -> None:
        """Hand a frame that can't be read on."""
        self._on_dead_letter(frame, reason)

    def rows(self, start: int, end: int | None = None) -> list[Row]:
        """The frames from number `start` to before `end` (default: all there are)."""
        with self._changed:
            until = None if end is None else end - self._first
            return list(islice(self._rows, start - self._first, until))

    def commit(self, end: int) -> None:
        """Forget the frames before number `end`."""
        with self._changed:
            while self._first < end:
                self._rows.popleft()
                self._first += 1
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Take and serve no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # Closing alone would leave the accepting thread waiting, and the port open.
        socket.create_connection(self._listener.address).close()
        self._listener.close()

    def stream(self, spark: SparkSession) -> DataFrame:
        """The frames as a stream of `value` and `timestamp`."""
        spark.dataSource.register(FrameSource)
        host, port = self._listener.address
        source = spark.readStream.format(FrameSource.name())
        rows = source.options(host=host, port=port, key=self._key.hex()).load()
        return rows.selectExpr(
            "cast(value as binary) as value",
            "timestamp_seconds(received_s) as timestamp",
            "0 as partition",
            "0L as offset",
        )

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection = self._listener.accept()
            except (OSError, EOFError, AuthenticationError):
                continue  # a stranger, who hung up or has not the key
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        # Spark's process hangs up when it likes, or is killed.
        with connection, contextlib.suppress(EOFError, ConnectionError):
            while True:
                request, *numbers = connection.recv()
                connection.send(getattr(self, request)(*numbers))


class FrameSource(DataSource):
    """The buffer, as Spark sees it."""

    @classmethod
    def name(cls) -> str:
        """Its name as a format."""
        return "cryptoflow_frames"

    def schema(self) -> str:
        """The rows' columns."""
        return "value string, received_s bigint"

    def simpleStreamReader(self, schema: StructType) -> SimpleDataSourceStreamReader:  # noqa: N802
        """The reader, in Spark's own process."""
        return FrameReader(self.options["host"], int(self.options["port"]), bytes.fromhex(self.options["key"]))


class FrameReader(SimpleDataSourceStreamReader):
    """Asks the buffer for its frames."""

    def __init__(self, host: str, port: int, key: bytes) -> None:
        self._address, self._key = (host, port), key
        self._connection: Connection | None = None

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802
        """The first frame."""
        return offset_json(0)

    def read(self, start: OffsetJson) -> tuple[Iterator[Row], dict[str, Any]]:
        """All frames from `start` on."""
        rows = self._ask("rows", offset_of(start))
        return iter(rows), offset_json(offset_of(start) + len(rows))

    def readBetweenOffsets(self, start: OffsetJson, end: OffsetJson) -> Iterator[Row]:  # noqa: N802
        """The same frames again, after a restart of the query."""
        return iter(self._ask("rows", offset_of(start), offset_of(end)))

    def commit(self, end: OffsetJson) -> None:
        """Frames before `end` are in committed batches."""
        self._ask("commit", offset_of(end))

    def _ask(self, *request: object) -> Any:
        if self._connection is None:
            self._connection = Client(self._address, authkey=self._key)
        self._connection.send(request)
        return self._connection.recv()
