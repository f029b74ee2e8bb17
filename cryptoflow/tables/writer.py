"""Writes rows into the tables, all of a kind at one timestamp, and tries again while Cassandra is away."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from cryptoflow.model.candle import Candle, candle_row, direction_rows
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import TRANSIENT_ERRORS, keyspace_name, patiently, translated
from cryptoflow.tables.schema import BATCHES, CANDLES, HOURS, MARKS, TRADE_WINDOWS, Table, delete, insert

ROWS_PER_REQUEST = 100
"""Rows of one partition that travel together: Cassandra applies them as one write, several times faster."""

CONCURRENT_REQUESTS = 32
"""Requests under way at a time: enough to keep a node busy, and not so many that a weak one drops them."""

Row = tuple[object, ...]


class TableWriter:
    """Upserts whole rows, so writing them again changes nothing, and removes rows.

    Needs the schema (`ensure_schema`) in place. Not for several threads at once. All of it raises:
        CassandraUnreachableError: nothing could be written for `retry_for_s`.
        CassandraError: a row was refused. What has been written stays.
    """

    def __init__(self, session: Session, settings: CassandraSettings) -> None:
        self._session = session
        self._settings = settings
        keyspace = keyspace_name(settings)
        tables = (CANDLES, TRADE_WINDOWS, BATCHES, HOURS, MARKS)
        self._inserts = {table.name: session.prepare(insert(table, keyspace)) for table in tables}
        self._deletes = {table.name: session.prepare(delete(table, keyspace)) for table in tables}

    def put_candles(self, candles: Sequence[Candle], timestamp: int) -> int:
        """Write candles into both tables; gives the number of rows."""
        rows = [candle_row(candle) for candle in candles]
        sides = [row for candle in candles for row in direction_rows(candle)]
        self._send([*self._puts(CANDLES, rows, timestamp), *self._puts(TRADE_WINDOWS, sides, timestamp)])
        return len(rows) + len(sides)

    def put(self, table: Table, rows: Sequence[Row], timestamp: int) -> None:
        """Write rows at a time in us: a row that has a later one stays as it is."""
        self._send(list(self._puts(table, rows, timestamp)))

    def remove(self, table: Table, rows: Sequence[Row], timestamp: int) -> None:
        """Remove rows, as they were read, unless they were written after a time in us."""
        key = [*table.partition, *table.clustering]
        keys = [(timestamp, *(getattr(row, name) for name in key)) for row in rows]
        self._send([self._request(self._deletes[table.name], each) for each in _parts(keys, ROWS_PER_REQUEST)])

    def _puts(self, table: Table, rows: Iterable[Row], timestamp: int) -> Iterator[BatchStatement]:
        partitions: dict[Row, list[Row]] = defaultdict(list)
        for row in rows:
            partitions[tuple(getattr(row, name) for name in table.partition)].append((*row, timestamp))
        for members in partitions.values():
            for part in _parts(members, ROWS_PER_REQUEST):
                yield self._request(self._inserts[table.name], part)

    def _request(self, statement: PreparedStatement, rows: Iterable[Row]) -> BatchStatement:
        request = BatchStatement(BatchType.UNLOGGED)
        request.is_idempotent = True
        for row in rows:
            request.add(statement, row)
        return request

    def _send(self, requests: Sequence[BatchStatement]) -> None:
        while requests:
            requests = patiently(partial(self._left_over, requests), self._settings)

    def _left_over(self, requests: Sequence[BatchStatement]) -> list[BatchStatement]:
        """Sends the requests; returns those that are to be sent again.

        Raises:
            One of TRANSIENT_ERRORS: none of them got through.
        """
        outcomes: list[tuple[bool, Any]] = execute_concurrent(
            self._session,
            [(request, None) for request in requests],
            concurrency=CONCURRENT_REQUESTS,
            raise_on_first_error=False,
        )
        faults = [error for success, error in outcomes if not success]
        if fatal := next((error for error in faults if not isinstance(error, TRANSIENT_ERRORS)), None):
            raise translated(fatal, self._settings)
        if len(faults) == len(requests):
            raise faults[0]
        return [request for request, (success, _) in zip(requests, outcomes, strict=True) if not success]


def _parts(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
