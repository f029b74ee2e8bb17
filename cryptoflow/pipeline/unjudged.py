"""Hours that get their verdicts by a repair: those that a commit finishes, and such as late trades show to lack one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from cassandra.cluster import Session

from cryptoflow.model.candle import Candle
from cryptoflow.model.trade import Pair
from cryptoflow.model.window import EPOCH, HOUR, utc_hour, utc_midnight
from cryptoflow.pipeline.marking import EVERY_PAIR, FINISHED, whole_mark
from cryptoflow.pipeline.place import EMPTY_HOURS, finished_hours, hours_after
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import hours
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.reader import candle_trades, known_series
from cryptoflow.tables.schema import MarkRow, pair_of


class Unjudged:
    """The hours that one run has to mark for their verdicts.

    Args:
        at: where the run begins.
    """

    def __init__(self, session: Session, settings: CassandraSettings, place: Place, at: Progress) -> None:
        self._session, self._settings, self._place = session, settings, place
        # Where none is finished, those that get verdicts begin with the first that has candles.
        self._traded = set() if at.finished > EPOCH else self._hours_of_candles()

    def marks(
        self, before: datetime, finished: datetime, candles: Iterable[Candle], late: Iterable[MarkRow]
    ) -> list[MarkRow]:
        """The marks of a commit's hours.

        Args:
            before: windows that end by then were finished before.
            finished: windows that end by then are finished by it.
            candles: those that it writes.
            late: the marks of its late trades.
        """
        self._traded |= {utc_hour(candle.window_start) for candle in candles}
        ended = finished_hours(before, finished, self._traded)
        self._traded = {hour for hour in self._traded if hour + HOUR > finished}
        return [*(self._mark(hour, EVERY_PAIR) for hour in ended), *self._after(late, before)]

    def _after(self, late: Iterable[MarkRow], finished: datetime) -> Iterator[MarkRow]:
        """Those of hours after late trades that have no verdict, as nothing was known of their pair then."""
        by_pair: dict[Pair, set[datetime]] = defaultdict(set)
        for mark in late:
            by_pair[pair_of(mark)].add(mark.hour)
        for pair, traded in by_pair.items():
            judged = traded | self._judged(pair, min(traded) + HOUR, finished)
            for hour in (after for each in traded for after in hours_after(each, finished, judged)):
                yield self._mark(hour, pair)

    def _mark(self, hour: datetime, pair: Pair) -> MarkRow:
        return whole_mark(hour, pair, self._place.topic, self._place.topic_id, FINISHED)

    def _judged(self, pair: Pair, since: datetime, finished: datetime) -> set[datetime]:
        days = range((utc_midnight(finished) - utc_midnight(since)).days + 1)
        dates = (utc_midnight(since) + timedelta(days=day) for day in days[: EMPTY_HOURS // 24 + 1])
        of_days = (patiently(partial(hours.of_day, self._session, pair, date), self._settings) for date in dates)
        return {row.hour for rows in of_days for row in rows}

    def _hours_of_candles(self) -> set[datetime]:
        window_s, known = self._place.window_s, known_series(self._session).items()
        dates = {date for series, dates in known if series.window_s == window_s for date in dates}
        length = timedelta(seconds=window_s)  # a window's date is that of its end
        found = (candle_trades(self._session, window_s, date - length, date + timedelta(days=1)) for date in dates)
        return {utc_hour(start) for windows in found for _, start in windows}
