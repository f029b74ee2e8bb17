"""The lease of a work on the tables, in Cassandra: one holder on all machines, and timestamps that only grow.

No clock of a process decides who holds it: the holder renews its name, which Cassandra lets vanish when it is not
renewed, and who waits watches whether the count of renewals moves. Each holder has a fence, a number greater than all
before it, under which alone progress is written; and each writes rows with timestamps out of a range that was reserved
for it above all earlier ones, so that what a stale holder still writes never wins.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import BatchStatement, BatchType, SimpleStatement

from cryptoflow.errors import AlreadyRunningError, LeaseLostError
from cryptoflow.runtime.holder import Holder
from cryptoflow.tables.connection import TRANSIENT_ERRORS
from cryptoflow.tables.schema import CANDLES, TRADE_WINDOWS, Table

AGGREGATE, REPAIR = "aggregate", "repair"
"""The works that have a lease."""

TTL_S = 15.0
"""How long a holder that does not renew its lease keeps it."""

RENEWALS = 4
"""Renewals within that time: a busy machine may miss some."""

STALLED_S = 60.0
"""A holder that has not said for so long that its work goes on does not renew its lease."""

START_S = 300.0
"""The same for one that has said nothing yet: Spark takes its time to start on a busy machine."""

SPAN_US = 30_000_000
"""Timestamps that are reserved at a time, in us: half a minute of the clock."""

POLL_S = 0.25

Clock = Callable[[], int]
"""The time in us since the epoch, right or wrong."""


def wall_clock_us() -> int:
    """This machine's clock, in us since the epoch."""
    return time.time_ns() // 1000


class Lease:
    """A lease that is held; `held` makes it.

    Attributes:
        fence: greater than that of each holder before.
    """

    def __init__(
        self, session: Session, name: str, holder: Holder, fence: int, reserved: int, ttl_s: float, clock_us: Clock
    ) -> None:
        self.name, self.holder, self.fence = name, holder, fence
        self._session, self._ttl_s, self._clock_us = session, ttl_s, clock_us
        self._last = self._reserved = reserved
        self._beat = 0
        self._lock = threading.Lock()
        self._lost: LeaseLostError | None = None
        self._alive_until_s = time.monotonic() + START_S
        self._over = threading.Event()

    def alive(self) -> None:
        """Say that the work goes on; a lease whose holder does not say so is not renewed.

        Raises:
            LeaseLostError: another one has it now.
        """
        self._alive_until_s = time.monotonic() + STALLED_S
        self.check()

    def check(self) -> None:
        """See that it is not known to be lost.

        Raises:
            LeaseLostError: another one has it now.
        """
        if self._lost:
            raise self._lost

    def timestamp(self) -> int:
        """A timestamp for writes, in us: greater than all that were given out before, here and to earlier holders.

        Raises:
            LeaseLostError: another one has the lease now.
        """
        self.check()
        with self._lock:
            wanted = max(self._clock_us(), self._last + 1)
            if wanted > self._reserved:
                self._reserve(wanted + SPAN_US)
            self._last = wanted
            return wanted

    def catch_up(self) -> None:
        """Have the next timestamps above all that any other lease has reserved by now."""
        rows = self._session.execute("SELECT name, reserved FROM leases")
        highest = max((row.reserved for row in rows if row.reserved and row.name != self.name), default=0)
        with self._lock:
            self._last = max(self._last, highest)

    def others(self) -> dict[tuple[str, int], bool]:
        """Whether each other lease is held, by its name and fence; of one that was lost, by who has it now."""
        rows = self._session.execute("SELECT name, fence, holder FROM leases")
        found = {(row.name, row.fence): row.holder is not None for row in rows}
        found.pop((self.name, self.fence), None)
        return found

    def _reserve(self, until: int) -> None:
        self._apply("UPDATE leases SET reserved = %s WHERE name = %s IF fence = %s", [until, self.name, self.fence])
        self._reserved = until

    def renew(self) -> None:
        """Keep it for another while.

        Raises:
            LeaseLostError: another one has it now.
        """
        self._beat += 1
        cql = f"UPDATE leases USING TTL {ttl_of(self._ttl_s)} SET holder = %s, beat = %s WHERE name = %s IF fence = %s"
        self._apply(cql, [_encoded(self.holder), self._beat, self.name, self.fence])

    def _apply(self, cql: str, values: Sequence[object]) -> None:
        if not apply(self._session, cql, values):
            row = read(self._session, self.name)
            self._lost = LeaseLostError(
                f"This run's work was taken over by {described(row)} while it did not answer: it ends. Nothing is lost."
            )
            raise self._lost

    def _keep(self) -> None:
        while not self._over.wait(self._ttl_s / RENEWALS):
            if time.monotonic() < self._alive_until_s:
                try:
                    self.renew()
                except TRANSIENT_ERRORS:
                    continue  # the next turn tries again, and whoever writes meanwhile sees it too
                except LeaseLostError:
                    return

    @contextmanager
    def kept(self) -> Iterator["Lease"]:
        """Renew it for as long as the block lasts and the work goes on, and give it back then."""
        keeper = threading.Thread(target=self._keep, name=f"lease-{self.name}", daemon=True)
        keeper.start()
        try:
            yield self
        finally:
            self._over.set()
            keeper.join()
            self._give_back()

    def _give_back(self) -> None:
        cql = "UPDATE leases SET holder = null, beat = null WHERE name = %s IF fence = %s"
        try:
            apply(self._session, cql, [self.name, self.fence])
        except TRANSIENT_ERRORS:
            return  # it vanishes by itself


def ttl_of(ttl_s: float) -> int:
    """The time to live that Cassandra takes, in whole s."""
    return max(1, round(ttl_s))


def _encoded(holder: Holder) -> str:
    return msgspec.json.encode(holder).decode()


def described(row: Any) -> str:
    """Who holds a lease, for a sentence."""
    return msgspec.json.decode(row.holder, type=Holder).describe() if row and row.holder else "another run"


def read(session: Session, name: str) -> Any:
    """The row of a lease as all replicas agree; None where there is none."""
    cql = "SELECT holder, fence, beat, reserved FROM leases WHERE name = %s"
    return session.execute(SimpleStatement(cql, consistency_level=ConsistencyLevel.SERIAL), [name]).one()


def apply(session: Session, cql: str, values: Sequence[object]) -> bool:
    """Whether a lightweight transaction was applied."""
    statement = SimpleStatement(cql, serial_consistency_level=ConsistencyLevel.SERIAL)
    return bool(session.execute(statement, values).was_applied)


@contextmanager
def held(
    session: Session,
    name: str,
    holder: Holder,
    refusal: str,
    wait: Callable[[Holder], bool] = lambda holder: False,
    ttl_s: float = TTL_S,
    clock_us: Clock = wall_clock_us,
) -> Iterator[Lease]:
    """Hold a lease for as long as the block lasts.

    One whose holder does not renew it is taken over: at once where its process is seen to be gone, else when its
    count of renewals has not moved for `ttl_s`.

    Args:
        session: in the keyspace of the tables.
        refusal: what the other one does, for the sentence: "aggregates X into Y".
        wait: whether to go on waiting for a holder who goes on, since he is about to end.

    Raises:
        AlreadyRunningError: another one holds it and goes on.
    """
    row = _vacated(session, name, refusal, wait, ttl_s)
    fence = (row.fence if row else 0) + 1
    reserved = _highest(session, row)
    if not _taken(session, name, holder, row, fence, reserved, ttl_s):
        raise AlreadyRunningError(_sentence(refusal, read(session, name)))
    with Lease(session, name, holder, fence, reserved, ttl_s, clock_us).kept() as lease:
        yield lease


def _sentence(refusal: str, row: Any) -> str:
    return f"Another run {refusal} already, {described(row)}: terminate that one first."


def _vacated(session: Session, name: str, refusal: str, wait: Callable[[Holder], bool], ttl_s: float) -> Any:
    """The row of the lease when nobody holds it any more."""
    row = read(session, name)
    beat, since_s = None, time.monotonic()
    while row and row.holder:
        found = msgspec.json.decode(row.holder, type=Holder)
        if found.is_gone():
            return row
        if row.beat != beat:
            if beat is not None and not wait(found):
                raise AlreadyRunningError(_sentence(refusal, row))
            beat, since_s = row.beat, time.monotonic()
        elif time.monotonic() - since_s > ttl_s:
            return row
        time.sleep(POLL_S)
        row = read(session, name)
    return row


def _taken(session: Session, name: str, holder: Holder, row: Any, fence: int, reserved: int, ttl_s: float) -> bool:
    """Whether the lease is ours now; not if somebody else was faster."""
    batch = BatchStatement(BatchType.LOGGED, serial_consistency_level=ConsistencyLevel.SERIAL)
    if row is None:
        cql = "INSERT INTO leases (name, fence, reserved) VALUES (%s, %s, %s) IF NOT EXISTS"
        batch.add(SimpleStatement(cql), [name, fence, reserved])
    else:
        # A holder that came back may have reserved more since its row was read: ours would begin below.
        cql = "UPDATE leases SET fence = %s, reserved = %s WHERE name = %s IF fence = %s AND reserved = %s"
        batch.add(SimpleStatement(cql), [fence, reserved, name, row.fence, row.reserved])
    cql = f"UPDATE leases USING TTL {ttl_of(ttl_s)} SET holder = %s, beat = 0 WHERE name = %s"
    batch.add(SimpleStatement(cql), [_encoded(holder), name])
    return bool(session.execute(batch).was_applied)


def _highest(session: Session, row: Any) -> int:
    """The highest timestamp that may have been given out: reserved by any lease, or of any row where there is none."""
    reserved = [each.reserved for each in session.execute("SELECT reserved FROM leases") if each.reserved]
    if row is None:
        reserved += _stored(session, CANDLES, "close")
        reserved += _stored(session, TRADE_WINDOWS, "avgprice")
    return max(reserved, default=0)


def _stored(session: Session, table: Table, column: str) -> Iterator[int]:
    """The newest timestamp of each partition of rows: those of an earlier version are stamped by some clock."""
    keys = ", ".join(table.partition)
    where = " AND ".join(f"{name} = ?" for name in table.partition)
    newest = session.prepare(f"SELECT max(writetime({column})) FROM {table.name} WHERE {where}")
    for key in session.execute(f"SELECT DISTINCT {keys} FROM {table.name}"):
        yield from (row[0] for row in session.execute(newest, key) if row[0])
