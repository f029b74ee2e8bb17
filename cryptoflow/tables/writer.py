"""Writes candles into the tables, and after them what the batch did."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import BatchStatement, BatchType

from cryptoflow.model.candle import Candle, candle_row, direction_rows
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import TRANSIENT_ERRORS, keyspace_name, translated, unreachable
from cryptoflow.tables.schema import BATCHES, CANDLES, TABLES, TRADE_WINDOWS, BatchRecord, Table, insert

ROWS_PER_REQUEST = 100
"""Rows of one partition that travel together: Cassandra applies them as one write, several times faster."""

CONCURRENT_REQUESTS = 32
"""Requests under way at a time: enough to keep a node busy, and not so many that a weak one drops them."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""Between two tries."""

Row = tuple[object, ...]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CandleWriter:
    """Upserts whole aggregates, so writing them again changes nothing.

    Needs the schema (`ensure_schema`) in place. Not for several threads at once.
    """

    def __init__(self, session: Session, settings: CassandraSettings, now: Callable[[], datetime] = _utc_now) -> None:
        self._session = session
        self._settings = settings
        self._now = now
        self._inserts = {table.name: session.prepare(insert(table, keyspace_name(settings))) for table in TABLES}

    def write(self, candles: Sequence[Candle], batch: BatchRecord) -> BatchRecord:
        """Writes `candles` into both tables and then, last, the batch's record; returns it complete.

        Raises:
            CassandraUnreachableError: nothing could be written for `retry_for_s`.
            CassandraError: a row was refused. What has been written stays; the batch's record is not written.
        """
        rows = [candle_row(candle) for candle in candles]
        sides = [row for candle in candles for row in direction_rows(candle)]
        self._upsert([*self._requests(CANDLES, rows), *self._requests(TRADE_WINDOWS, sides)])
        done = batch._replace(rows_written=len(rows) + len(sides), finished_at=self._now())
        self._upsert([*self._requests(BATCHES, [done])])
        return done

    def _requests(self, table: Table, rows: Iterable[Row]) -> Iterator[BatchStatement]:
        partitions: dict[Row, list[Row]] = defaultdict(list)
        for row in rows:
            partitions[tuple(getattr(row, name) for name in table.partition)].append(row)
        for members in partitions.values():
            for start in range(0, len(members), ROWS_PER_REQUEST):
                yield self._request(table, members[start : start + ROWS_PER_REQUEST])

    def _request(self, table: Table, rows: Iterable[Row]) -> BatchStatement:
        request = BatchStatement(BatchType.UNLOGGED)
        request.is_idempotent = True
        for row in rows:
            request.add(self._inserts[table.name], row)
        return request

    def _upsert(self, requests: Sequence[BatchStatement]) -> None:
        pause_s, deadline = FIRST_PAUSE_S, self._deadline()
        while left := self._left_over(requests):
            if len(left) < len(requests):
                pause_s, deadline = FIRST_PAUSE_S, self._deadline()
            elif time.monotonic() > deadline:
                raise unreachable(self._settings)
            requests = left
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.retry_for_s

    def _left_over(self, requests: Sequence[BatchStatement]) -> list[BatchStatement]:
        """Sends the requests; returns those that are to be sent again."""
        outcomes: list[tuple[bool, Any]] = execute_concurrent(
            self._session,
            [(request, None) for request in requests],
            concurrency=CONCURRENT_REQUESTS,
            raise_on_first_error=False,
        )
        for success, error in outcomes:
            if not success and not isinstance(error, TRANSIENT_ERRORS):
                raise translated(error, self._settings)
        return [request for request, (success, _) in zip(requests, outcomes, strict=True) if not success]
