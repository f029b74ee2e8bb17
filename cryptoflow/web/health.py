"""How the platform is doing, as the log, the tables and the live candles show it."""

import threading
import time
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from cryptoflow.errors import CassandraError
from cryptoflow.model.offsets import records
from cryptoflow.model.trade import Pair
from cryptoflow.tables import pages
from cryptoflow.tables.reader import waiting_trades
from cryptoflow.tables.schema import HourRow
from cryptoflow.web.live import Live
from cryptoflow.web.store import Store
from cryptoflow.web.tail import Tail

FRESH_S = 1.0
"""How long an answer is good: many may ask at once."""

REPAIRS_EVERY_S = 10.0

SILENT_S = 60.0
"""A market whose trades stopped longer ago is silent: the feed's client opens its socket anew by then."""

MS_PER_S = 1000


class FeedHealth(BaseModel):
    """A market's feed."""

    market: str
    connected: bool = Field(description=f"whether Kafka got a trade of it in the last {SILENT_S:g} s")
    last_trade: datetime = Field(description="when Kafka got its newest trade")
    trades: int = Field(description="trades since the server's start")


class Health(BaseModel):
    """What the health strip shows; None is not known."""

    now: datetime
    kafka: str | None = Field(description="why the log can't be read; null: it is")
    cassandra: str | None = Field(description="why the tables can't be read; null: they are")
    feeds: list[FeedHealth] = Field(description="the markets that had a trade since the server's start")
    trades_per_s: float | None = Field(description="trades that Kafka takes in a second")
    delay_ms: float | None = Field(description="from Kafka's receipt of the newest trade to its candle here")
    lag_trades: int | None = Field(description="trades in Kafka and in no committed batch")
    finished: datetime | None = Field(description="windows that end by then are finished")
    waiting_trades: int | None = Field(description="late trades that wait for a repair")
    dead_letters: int | None = Field(description="frames that could not be read, as long as Kafka keeps them")
    last_repair: datetime | None = Field(description="when an hour was repaired last, of the last days")
    viewers: int
    dagster_url: str


class HealthDesk:
    """Answers how all is doing, from any thread; what costs is asked once for all who want to know."""

    def __init__(self, live: Live, tail: Tail, store: Store, dagster_url: str) -> None:
        self._live, self._tail, self._store = live, tail, store
        self._dagster_url = dagster_url
        self._lock = threading.Lock()
        self._answer: Health | None = None
        self._asked_s = 0.0
        self._counted: tuple[float, int] | None = None
        self._repair: datetime | None = None
        self._next_repair_s = 0.0

    def now(self, viewers: int) -> Health:
        """How all is doing."""
        with self._lock:
            if self._answer is None or time.monotonic() - self._asked_s > FRESH_S:
                self._answer, self._asked_s = self._look(viewers), time.monotonic()
            return self._answer

    def _look(self, viewers: int) -> Health:
        log, now = self._tail.state, datetime.now(UTC)
        waiting, fault = None, self._live.fault
        try:
            waiting = self._store.ask(waiting_trades)
            self._repair = self._last_repair()
        except CassandraError as error:
            fault = str(error)
        reached = self._live.reached
        return Health(
            now=now,
            kafka=log.fault,
            cassandra=fault,
            feeds=self._feeds(now),
            trades_per_s=self._rate(),
            delay_ms=self._live.delay_ms,
            lag_trades=records(reached.offsets, log.ends) if reached and not log.fault else None,
            finished=reached.finished if reached else None,
            waiting_trades=waiting,
            dead_letters=None if log.fault else log.dead_letters,
            last_repair=self._repair,
            viewers=viewers,
            dagster_url=self._dagster_url,
        )

    def _feeds(self, now: datetime) -> list[FeedHealth]:
        newest = {
            name: datetime.fromtimestamp(each.newest_ms / MS_PER_S, UTC)
            for name, each in dict(self._live.markets).items()
        }
        return [
            FeedHealth(
                market=name,
                connected=(now - last).total_seconds() < SILENT_S,
                last_trade=last,
                trades=self._live.markets[name].trades,
            )
            for name, last in sorted(newest.items())
        ]

    def _rate(self) -> float | None:
        before, self._counted = self._counted, (time.monotonic(), self._live.trades)
        if before is None or self._counted[0] <= before[0]:
            return None
        return (self._counted[1] - before[1]) / (self._counted[0] - before[0])

    def _last_repair(self) -> datetime | None:
        """Of the pairs' newest days."""
        if time.monotonic() < self._next_repair_s:
            return self._repair
        self._next_repair_s = time.monotonic() + REPAIRS_EVERY_S
        pairs = {series[:3] for series in self._store.series()}
        rows = [row for pair in pairs for row in self._newest_hours(pair)]
        return max((row.repaired_at for row in rows if row.repaired_at), default=None)

    def _newest_hours(self, pair: Pair) -> list[HourRow]:
        dates = self._store.hour_dates(pair)
        return self._store.ask(lambda session: pages.hours(session, pair, dates, pages.ALWAYS, 48))
