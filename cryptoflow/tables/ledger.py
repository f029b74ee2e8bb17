"""What an aggregation commits: marks, rows, and last the progress that they stand for.

Each step may be done again. What was not committed when its holder died is done anew by the next one, with later
timestamps; and what a stale holder still writes has earlier ones, or is refused.
"""

from collections.abc import Sequence

from cassandra.cluster import Session

from cryptoflow.model.candle import Candle, candle_row
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import progress, reader
from cryptoflow.tables.connection import patiently
from cryptoflow.tables.lease import Lease
from cryptoflow.tables.longer import LongerCandles
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.schema import BATCHES, MARKS, BatchRecord, MarkRow
from cryptoflow.tables.writer import TableWriter


class Ledger:
    """The tables, to the holder of their lease."""

    def __init__(self, session: Session, settings: CassandraSettings, place: Place, lease: Lease) -> None:
        self.session, self.place, self.lease = session, place, lease
        self.settings = settings
        self._writer = TableWriter(session, settings)
        self._longer = LongerCandles(session, settings, place.window_s, lease, self._writer)
        self._query_id = f"{place.topic}/{place.topic_id}.{place.window_s}"
        self._committed = 0

    def claim(self) -> None:
        """Let no earlier holder commit any more.

        Raises:
            LeaseLostError: a later one has come already.
        """
        patiently(lambda: progress.claim(self.session, self.place, self.lease.fence), self.settings)

    def stored(self) -> Progress | None:
        """What was committed last; None before the first time."""
        stored = patiently(lambda: progress.read(self.session, self.place), self.settings)
        self._committed = sum(stored.offsets.values()) if stored else 0
        return stored

    def waiting_trades(self) -> int:
        """Trades that wait for a repair, at most."""
        return patiently(lambda: reader.waiting_trades(self.session), self.settings)

    def begin(self, at: Progress) -> None:
        """Put down where the first batch begins, before any of its rows: else one that dies leaves candles of no topic.

        Raises:
            LeaseLostError: another one has the lease now.
        """
        patiently(lambda: progress.write(self.session, self.place, self.lease.fence, at), self.settings)
        self._committed = sum(at.offsets.values())

    def commit(
        self, marks: Sequence[MarkRow], candles: Sequence[Candle], record: BatchRecord, done: Progress
    ) -> BatchRecord:
        """Write a batch and how far it has come; gives its record with the number of rows.

        On record it goes by the place that it begins at: whoever does anew what was not committed writes over it.

        Raises:
            LeaseLostError: another one has the lease now.
            CassandraError: it could not be written.
        """
        timestamp = patiently(self.lease.timestamp, self.settings)
        self._writer.put(MARKS, marks, timestamp)
        rows = self._writer.put_candles(candles, timestamp)
        self._longer.make({candle.key: candle_row(candle) for candle in candles}, timestamp)
        record = record._replace(query_id=self._query_id, batch_id=self._committed, rows_written=rows)
        self._writer.put(BATCHES, [record], timestamp)
        patiently(lambda: progress.write(self.session, self.place, self.lease.fence, done), self.settings)
        self._committed = sum(done.offsets.values())
        return record
