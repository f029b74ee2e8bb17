"""Live candles: folds the log's trades, takes what the aggregation has stored, and publishes what is newest.

All of it lives in one event loop; the log's reader is a thread and Cassandra is asked in others.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from cryptoflow.errors import CassandraError
from cryptoflow.model.candle import CandleRow, candle_row
from cryptoflow.model.trade import NS_PER_S, Pair
from cryptoflow.model.window import DAY_S, EPOCH, epoch_ns, utc_midnight, utc_time, window_start_ns
from cryptoflow.settings import SparkSettings
from cryptoflow.tables import pages
from cryptoflow.tables.reader import Series
from cryptoflow.tables.schema import HourRow
from cryptoflow.web.events import Hub
from cryptoflow.web.forming import Forming, FormingKey
from cryptoflow.web.longer import Minutes, replaces
from cryptoflow.web.rows import json_row
from cryptoflow.web.store import Store
from cryptoflow.web.tail import Received

log = logging.getLogger(__name__)

PUBLISH_EVERY_S = 0.02
"""At most so often a pair's candle is published: as often as a screen shows it, slower than a busy pair's trades."""

PUBLISH_SHARE = 3
"""A pair's viewers get its next candle no sooner than after so many times what it took to hand them the last one: be
they ever so many, the trades are taken in time."""

LONGER_EVERY_S = 0.25
"""The same of its longer candles: a day's is merged of 1,440 minutes each time."""

STORED_EVERY_S = 0.5
"""Between two looks at the rows that the aggregation has written, of what is watched."""

IDLE_EVERY_S = 5.0
"""The same while nothing is watched: how far the aggregation has come says which trades may be forgotten."""

HOURS_EVERY_S = 5.0
"""Between two looks at the verdicts of what is watched."""

UNSETTLED_S = 600.0
"""Windows that began longer ago are left to the tables, even if the aggregation has not come so far: each keeps the ids
of its trades."""

MS_PER_S = 1000


class Market(msgspec.Struct):
    """What was seen of a market since the server's start."""

    trades: int = 0
    newest_ms: int = 0
    """When Kafka got its newest trade, in ms since the epoch."""


class Live:
    """The candles as they form.

    Args:
        topic: that of the trades.
        clock_ns: the wall clock, in ns since the epoch.
    """

    def __init__(
        self, hub: Hub, store: Store, settings: SparkSettings, topic: str, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._hub, self._store, self._settings, self._topic, self._clock_ns = hub, store, settings, topic, clock_ns
        self._window_s = settings.window_s
        self._forming = Forming(self._window_s, self._open_ns())
        self._rows: dict[Series, dict[datetime, CandleRow]] = defaultdict(dict)
        self._final: dict[Series, set[datetime]] = defaultdict(set)
        self._hours: dict[Pair, dict[datetime, HourRow]] = {}
        self._dirty: dict[Pair, set[FormingKey]] = defaultdict(set)
        self._minutes: dict[Pair, Minutes] = {}
        self._told: dict[Series, CandleRow] = {}
        self._longer_due_s: dict[Pair, float] = {}
        self._pausing: set[Pair] = set()
        self._finished = EPOCH
        self._begun = asyncio.Event()
        self.markets: dict[str, Market] = defaultdict(Market)
        self.trades = 0
        self.delay_ms: float | None = None
        """How long ago Kafka got the newest trade when it was folded."""
        self.reached: pages.Reached | None = None
        self.fault: str | None = "The tables were not read yet."
        """Why the tables can't be read; None: they can."""

    def forming(self) -> dict[Series, list[datetime]]:
        """The series that have a candle that forms, each with today's date: the table may not have them yet."""
        today = [utc_midnight(utc_time(self._clock_ns()))]
        return {Series(*pair, self._window_s): today for pair in self._forming.pairs()}

    def since_ms(self) -> int:
        """From when on the log is to be read, in ms: nobody got a trade of the open window earlier."""
        return self._open_ns() // 1_000_000 - int(self._settings.ahead_s * MS_PER_S)

    def _open_ns(self) -> int:
        return window_start_ns(self._clock_ns(), self._window_s)

    async def take(self, received: Sequence[Received]) -> None:
        """Fold trades as they come, and let the viewers know."""
        ahead_ns = int(self._settings.ahead_s * NS_PER_S)
        for trade, received_ms in received:
            market = self.markets[trade.market]
            market.trades += 1
            market.newest_ms = max(market.newest_ms, received_ms)
            # The aggregation streams no trade that is further ahead either.
            if trade.event_time_ns <= received_ms * 1_000_000 + ahead_ns and (key := self._forming.add(trade)):
                self._dirty[trade.pair].add(key)
        self.trades += len(received)
        self.delay_ms = max(0.0, self._clock_ns() / 1e6 - received[-1].received_ms)
        for pair in {each.trade.pair for each in received}:
            self._publish_soon(pair)

    def _publish_soon(self, pair: Pair) -> None:
        """Publish what has changed of a pair, at once or after the pause that it is in."""
        if pair not in self._pausing and self._dirty.get(pair):
            self._publish(pair)

    def _publish(self, pair: Pair) -> None:
        loop, begun_s = asyncio.get_running_loop(), time.monotonic()  # the loop's own time may be that of its last turn
        series, keys = Series(*pair, self._window_s), self._dirty.pop(pair)
        self._pausing.add(pair)
        if series in self._hub.channels:
            for _, start_ns in sorted(keys):
                self._tell(series, utc_time(start_ns))
        if begun_s >= self._longer_due_s.get(pair, 0.0):
            self._longer_due_s[pair] = begun_s + LONGER_EVERY_S
            self._tell_longer(pair)
        loop.call_soon(self._pause_after, pair, begun_s)  # after the turns of all who have just been told

    def _pause_after(self, pair: Pair, begun_s: float) -> None:
        taken_s = time.monotonic() - begun_s
        pause_s = max(PUBLISH_EVERY_S, PUBLISH_SHARE * taken_s) - taken_s
        asyncio.get_running_loop().call_later(pause_s, self._go_on, pair)

    def _go_on(self, pair: Pair) -> None:
        self._pausing.discard(pair)
        self._publish_soon(pair)

    def _tell(self, series: Series, start: datetime) -> None:
        """Publish a candle that forms, unless the table has more of it already."""
        live = self._live(series, start)
        if live and self._told.get(series) != live and not replaces(self._rows[series].get(start), live):
            self._told[series] = live
            self._hub.publish(series, "candle", start, candle_json(live, stored=False))

    def _live(self, series: Series, start: datetime) -> CandleRow | None:
        """A candle that is made of trades here, as a row; None: there is none, and the table has what there is."""
        if series.window_s == self._window_s:
            candle = self._forming.candle((series[:3], epoch_ns(start)))
            return candle_row(candle) if candle else None
        if start + timedelta(seconds=series.window_s) <= self._finished or series[:3] not in self._minutes:
            return None
        forming = (self._forming.candle(key) for key in self._forming.keys(series[:3]))
        return self._minutes[series[:3]].merged(start, series.window_s, (candle_row(each) for each in forming if each))

    def _tell_longer(self, pair: Pair | None = None) -> None:
        """Publish the longer candles that are open, of a pair or of all."""
        for series in self._longer():
            if pair in (None, series[:3]):
                self._tell(series, self._open(series.window_s))

    def _longer(self) -> list[Series]:
        """What is watched of longer candles, which are made of the shortest ones."""
        base_s = self._window_s
        return [each for each in self._hub.channels if each.window_s > base_s and not each.window_s % base_s]

    def _open(self, window_s: int) -> datetime:
        return utc_time(window_start_ns(self._clock_ns(), window_s))

    async def _look_at_minutes(self) -> None:
        """Have the stored minutes of all longer candles that are open and watched."""
        starts: dict[Pair, datetime] = {}
        for series in self._longer():
            start = self._open(series.window_s)
            starts[series[:3]] = min(start, starts.get(series[:3], start))
        self._minutes = {pair: self._minutes.get(pair, Minutes()) for pair in starts}
        for pair, start in starts.items():
            series, known = Series(*pair, self._window_s), self._minutes[pair].knows(start)
            limit = self._unsettled(series) if known else DAY_S // self._window_s
            rows = await asyncio.to_thread(self._newest, series, limit)
            self._minutes[pair].put(rows, start)
        self._tell_longer()

    def begin(self, series: Series) -> None:
        """Publish what is there of a series that is watched from now on; of a longer one once its minutes are read."""
        self._begun.set()
        self._told.pop(series, None)
        for _, start_ns in self._forming.keys(series[:3]):
            self._tell(series, utc_time(start_ns))

    async def follow_tables(self) -> None:
        """Publish what the aggregation stores of what is watched, for ever."""
        next_hours_s = 0.0
        while True:
            self._forming.raise_floor(self._clock_ns() - int(UNSETTLED_S * NS_PER_S))
            watched = self._hub.watched()
            with_hours = time.monotonic() >= next_hours_s
            try:
                await self._look(watched, with_hours)
                self.fault = None
            except CassandraError as error:
                if self.fault is None:
                    log.warning("The page waits for Cassandra: %s", error)
                self.fault = str(error)
            else:
                next_hours_s = time.monotonic() + HOURS_EVERY_S if with_hours else next_hours_s
            await self._pause(STORED_EVERY_S if watched else IDLE_EVERY_S)

    async def _pause(self, at_most_s: float) -> None:
        """Until the next look, or until another series is watched."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._begun.wait()
        self._begun.clear()

    async def _look(self, watched: Sequence[Series], with_hours: bool) -> None:
        topic, window_s = self._topic, self._window_s
        self.reached = await self._ask(lambda session: pages.reached(session, window_s, topic))
        self._finished = self.reached.finished if self.reached else EPOCH
        for forgotten in self._rows.keys() - set(watched):
            del self._rows[forgotten]
            self._final.pop(forgotten, None)
            self._told.pop(forgotten, None)
        for series in watched:
            self._stored(series, await asyncio.to_thread(self._newest, series, self._unsettled(series)))
        await self._look_at_minutes()
        self._forming.raise_floor(window_start_ns(epoch_ns(self._finished), window_s))
        if with_hours:
            for pair in {series[:3] for series in watched}:
                self._verdicts(pair, await asyncio.to_thread(self._newest_hours, pair), watched)

    async def _ask(self, question: Callable[..., pages.Reached | None]) -> pages.Reached | None:
        return await asyncio.to_thread(self._store.ask, question)

    def _unsettled(self, series: Series) -> int:
        """How many of the newest rows a stream may still write to."""
        return int(self._settings.watermark_s // series.window_s) + 4

    def _newest(self, series: Series, limit: int) -> list[CandleRow]:
        dates = self._store.dates(series)
        return self._store.ask(lambda session: pages.candles(session, series, dates, pages.ALWAYS, limit))

    def _newest_hours(self, pair: Pair) -> list[HourRow]:
        dates = self._store.hour_dates(pair)
        return self._store.ask(lambda session: pages.hours(session, pair, dates, pages.ALWAYS, 24))

    def _stored(self, series: Series, rows: Sequence[CandleRow]) -> None:
        """Publish the rows that are new, each in place of its candle that forms if that has no more trades."""
        known, self._rows[series] = self._rows[series], {row.window_start: row for row in rows}
        for row in reversed(rows):
            start = row.window_start
            settled = is_final(row, self._finished) and start not in self._final[series]
            if settled:
                self._final[series].add(start)
                self._settle(series, start)
            if settled or (replaces(row, self._live(series, start)) and known.get(start) != row):
                self._hub.publish(series, "candle", start, candle_json(row, stored=True))
        self._final[series].intersection_update(self._rows[series])

    def _settle(self, series: Series, start: datetime) -> None:
        if series.window_s == self._window_s:
            self._forming.settle((series[:3], epoch_ns(start)))

    def _verdicts(self, pair: Pair, rows: Sequence[HourRow], watched: Sequence[Series]) -> None:
        """Publish the hours that are new; at first all of them: a viewer may have asked before they were mended."""
        known, self._hours[pair] = self._hours.get(pair, {}), {row.hour: row for row in rows}
        for row in rows:
            if known.get(row.hour) != row:
                for series in watched:
                    if series[:3] == pair:
                        self._hub.publish(series, "hour", row.hour, json_row(row))


def is_final(row: CandleRow, finished: datetime) -> bool:
    """Whether the stream writes the row no more: windows that end at `finished` or earlier are its past."""
    return row.window_start + timedelta(seconds=row.window_seconds) <= finished


def candle_json(row: CandleRow, *, stored: bool) -> bytes:
    """A candle as the event `candle` has it: the row, and whether it is one of the table."""
    return json_row(row, stored=stored)
