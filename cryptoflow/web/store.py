"""The tables as the page reads them: one session, made when it is first needed, and what partitions there are."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Generic, TypeVar

from cassandra import InvalidRequest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraUnreachableError
from cryptoflow.model.trade import Pair
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import pages
from cryptoflow.tables.connection import connect, keyspace_name, our_errors
from cryptoflow.tables.reader import LIST_PAUSE, LONGEST_LIST_PAUSE_S, Series, dates_back, known_series

RETRY_S = 2.0
"""Between two tries to reach a Cassandra that was never there; a session that was made reconnects by itself."""

SHORTEST_LIST_PAUSE_S = 1.0

OPEN_DAYS = 2
"""Dates so far back may have got their first row since the partitions were listed."""

Answer = TypeVar("Answer")
Name = TypeVar("Name")


class Store:
    """Answers questions out of the tables, from any thread; while Cassandra is away each raises an error at once."""

    def __init__(self, settings: CassandraSettings) -> None:
        self._settings, self._stack, self._lock = settings, ExitStack(), threading.Lock()
        self._session: Session | None = None
        self._not_before_s, self._fault = 0.0, ""
        self._series = Listing(lambda: self.ask(known_series))
        self._hours = Listing(lambda: self.ask(pages.hour_dates))

    def close(self) -> None:
        """Leave Cassandra."""
        self._stack.close()

    def ask(self, question: Callable[[Session], Answer]) -> Answer:
        """What `question` finds.

        Raises:
            CassandraError: Cassandra does not answer, refuses, or has no such table yet.
        """
        with our_errors(self._settings):
            return question(self._connected())

    def series(self) -> dict[Series, list[datetime]]:
        """The dates, newest first, of each series; errors as `ask`."""
        return self._series.get()

    def knows(self, series: Series) -> bool:
        """Whether the series has a candle; errors as `ask`."""
        return series in self._series.get(series)

    def dates(self, series: Series) -> list[datetime]:
        """The dates, newest first, that may have candles of a series; errors as `ask`."""
        return _with_open(self._series.get().get(series, []), series.window_s)

    def hour_dates(self, pair: Pair) -> list[datetime]:
        """The dates, newest first, that may have hours of a pair; errors as `ask`."""
        return _with_open(self._hours.get(pair).get(pair, []), 0)

    def _connected(self) -> Session:
        with self._lock:
            if self._session is None:
                if time.monotonic() < self._not_before_s:
                    raise CassandraUnreachableError(self._fault)
                self._session = self._connect()
            if self._session.keyspace is None:  # it was not made yet
                with suppress(InvalidRequest):
                    self._session.set_keyspace(keyspace_name(self._settings))
            return self._session

    def _connect(self) -> Session:
        try:
            return self._stack.enter_context(connect(self._settings))
        except CassandraUnreachableError as error:
            self._not_before_s, self._fault = time.monotonic() + RETRY_S, str(error)
            raise


class Listing(Generic[Name]):
    """What partitions a table has, listed again as often as that costs next to nothing; for any thread."""

    def __init__(self, ask: Callable[[], dict[Name, list[datetime]]]) -> None:
        self._ask, self._lock = ask, threading.Lock()
        self._known: dict[Name, list[datetime]] = {}
        self._soonest_s = self._next_s = 0.0

    def get(self, wanted: Name | None = None) -> dict[Name, list[datetime]]:
        """The dates by name; errors as `Store.ask`.

        Args:
            wanted: listed again where this one is missing.
        """
        with self._lock:
            begun_s = time.monotonic()
            missing = not self._known or (wanted is not None and wanted not in self._known)
            if begun_s >= (self._soonest_s if missing else self._next_s):
                self._known = self._ask()
                now_s = time.monotonic()
                self._soonest_s = now_s + SHORTEST_LIST_PAUSE_S
                self._next_s = now_s + min(LIST_PAUSE * (now_s - begun_s), LONGEST_LIST_PAUSE_S)
            return self._known


def _with_open(dates: list[datetime], window_s: int) -> list[datetime]:
    return sorted({*dates, *dates_back(datetime.now(UTC), window_s, OPEN_DAYS)}, reverse=True)
