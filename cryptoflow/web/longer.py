"""Longer candles that are open: made of the minutes that are stored and of those that form. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptoflow.model.candle import CandleRow, merged


def replaces(row: CandleRow | None, live: CandleRow | None) -> bool:
    """Whether the stored row of an open window is shown, and not the candle folded here: it has as many trades."""
    return live is None or (row is not None and row.trades >= live.trades)


class Minutes:
    """The stored minutes of a pair, or its shortest candles, since the start of the longest open candle."""

    def __init__(self) -> None:
        self._rows: dict[datetime, CandleRow] = {}
        self._since: datetime | None = None

    def knows(self, since: datetime) -> bool:
        """Whether all that were stored since then were put in once: only the newest may have changed."""
        return self._since is not None and self._since <= since

    def put(self, rows: Iterable[CandleRow], since: datetime) -> None:
        """Take what is stored; what begins before `since` is not wanted any more."""
        self._rows |= {row.window_start: row for row in rows}
        self._rows = {start: row for start, row in self._rows.items() if start >= since}
        self._since = since

    def merged(self, start: datetime, window_s: int, forming: Iterable[CandleRow]) -> CandleRow | None:
        """The longer candle from `start` on; None: it has no trade yet.

        Args:
            forming: minutes that are folded here, which count where they have more trades than the stored ones.
        """
        end = start + timedelta(seconds=window_s)
        rows = {at: row for at, row in self._rows.items() if start <= at < end}
        for live in forming:
            if start <= live.window_start < end and not replaces(rows.get(live.window_start), live):
                rows[live.window_start] = live
        return merged(rows.values(), window_s) if rows else None
