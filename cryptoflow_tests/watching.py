"""The page's server at work, over tables and a topic of a test's own, and a client as any program would be one."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPResponse
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from kafka import KafkaProducer

from cryptoflow.kafka_io.connection import client_config
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import NS_PER_S, Trade, kafka_key, write_trade
from cryptoflow.model.window import epoch_ns
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, WebSettings
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.progress import Place, Progress, claim, write
from cryptoflow.tables.schema import Table, insert
from cryptoflow.web.listen import address, listening_socket, serving

BTC = ("Coinbase", "BTC", "USD")
TIMEOUT_S = 20.0

Found = TypeVar("Found")


class Answer(NamedTuple):
    """What the API said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, where that is JSON."""
        return json.loads(self.body)


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    kind: str
    data: dict[str, Any]


@dataclass
class Watched:
    """A page's server and what it looks at."""

    web: WebSettings
    kafka: KafkaSettings
    cassandra: CassandraSettings
    session: Session
    finished_ns: int = 0
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    @property
    def url(self) -> str:
        """Where the page is."""
        return address(self.web)

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: Any) -> Answer:
        """What `GET /api/PATH` answers; `from_` stands for the parameter `from`."""
        query = urlencode({name.rstrip("_"): value for name, value in parameters.items()}, doseq=True)
        request = urllib.request.Request(f"{self.url}/api/{path}?{query}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def put(self, table: Table, rows: Sequence[NamedTuple]) -> None:
        """Write rows, as the aggregation would."""
        statement = self.session.prepare(insert(table, self.cassandra.keyspace))
        stamped = [[*row, time.time_ns() // 1000] for row in rows]
        execute_concurrent_with_args(self.session, statement, stamped, raise_on_first_error=True)

    def now_ns(self) -> int:
        """The time, or that of the first window that is not finished."""
        return max(time.time_ns(), self.finished_ns)

    def finish(self, finished: datetime) -> None:
        """Have the aggregation come so far."""
        self.finished_ns = epoch_ns(finished)
        place = Place(60, self.kafka.topic, "test")
        claim(self.session, place, 1)
        write(self.session, place, 1, Progress(finished, {0: 0}, {0: 0}))

    @contextmanager
    def sender(self) -> Iterator[Callable[..., Trade]]:
        """Puts a trade into the topic, and comes back when Kafka has acknowledged it."""
        producer = KafkaProducer(**client_config(self.kafka), linger_ms=0)

        def send(price: float = 100.0, pair: tuple[str, str, str] = BTC, at_ns: int | None = None) -> Trade:
            trade = a_trade(next(self.numbers), price, pair, self.now_ns() if at_ns is None else at_ns)
            producer.send(self.kafka.topic, write_trade(trade), key=kafka_key(pair)).get(10)
            return trade

        try:
            yield send
        finally:
            producer.close()

    @contextmanager
    def live(self, last_id: str | None = None, **parameters: object) -> Iterator["Stream"]:
        """The events of `/api/live`."""
        connection = HTTPConnection(self.web.host, self.web.port, timeout=TIMEOUT_S)
        asked = {"market": BTC[0], "pair": "BTC-USD", **parameters}
        headers = {"Last-Event-ID": last_id} if last_id else {}
        connection.request("GET", f"/api/live?{urlencode(asked, doseq=True)}", headers=headers)
        try:
            with connection.getresponse() as response:
                assert response.status == 200, response.read()
                yield Stream(response)
        finally:
            connection.close()


class Stream:
    """Events as they come."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response, self._until_s = response, time.monotonic() + 2 * TIMEOUT_S

    def __iter__(self) -> Iterator[Event]:
        fields: dict[str, str] = {}
        while line := self._response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            assert time.monotonic() < self._until_s, "no event came in time"
            if name:
                fields[name] = value
            elif "event" in fields:
                yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                fields = {}

    def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event that is `wanted`."""
        until_s, seen = time.monotonic() + TIMEOUT_S, []
        for event in self:
            if wanted(event):
                return event
            seen.append(event)
            assert time.monotonic() < until_s, f"it did not come in time; {len(seen)} others did, at last {seen[-1]}"
        raise AssertionError("the stream ended")


def a_trade(number: int, price: float, pair: tuple[str, str, str], at_ns: int) -> Trade:
    """A trade of a moment in ns since the epoch; buys and sales take turns."""
    flags, (time_s, rest_ns) = "2" if number // 3 % 2 else "1", divmod(at_ns, NS_PER_S)
    return Trade(*pair, flags, str(number), time_s, 0.02, price, price / 50, rest_ns=rest_ns)


def await_that(look: Callable[[], Found], timeout_s: float = TIMEOUT_S) -> Found:
    """What `look` gives as soon as that is something."""
    until_s = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < until_s, "it did not come in time"
        time.sleep(0.02)
    return found


def utc(text: str) -> datetime:
    """A time of an ISO 8601 text without a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@contextmanager
def watching(kafka: KafkaSettings, cassandra: CassandraSettings, **web: Any) -> Iterator[Watched]:
    """A server over a topic and tables, which are made."""
    make_topics(kafka)
    with socket.create_server(("127.0.0.1", 0)) as free:
        settings = WebSettings(**{"port": free.getsockname()[1], **web})
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        listener, settings = listening_socket(settings)
        with serving(listener, settings, kafka, cassandra, SparkSettings()):
            watched = Watched(settings, kafka, cassandra, session)
            if not settings.token:
                await_that(lambda: watched.get("health").json["kafka"] is None)
            yield watched
