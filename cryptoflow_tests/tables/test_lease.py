"""The laws of the lease in a real Cassandra: one holder, found out to be stale, and timestamps that only grow."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cassandra.cluster import Session
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import AlreadyRunningError, LeaseLostError
from cryptoflow.model.candle import Candle, Side
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.stop import Deadline
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import lease, progress
from cryptoflow.tables.lease import AGGREGATE, REPAIR, SPAN_US, Lease, ttl_of, wall_clock_us
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.writer import TableWriter

TTL_S = 1.0
PATIENCE_S = 30.0
HOUR_US = 3_600_000_000
NOON = datetime(2021, 1, 8, 12, tzinfo=UTC)
PLACE = Place(60, "trades", "an-id")
WORK = "aggregates trades into candles"


@pytest.fixture
def session(shared_session: Session) -> Session:
    """Without leases, progress and candles."""
    for table in ("leases", "progress", "candles", "trademsgs1minutewindow"):
        shared_session.execute(f"TRUNCATE {table}")
    return shared_session


@pytest.fixture
def settings(shared_settings: CassandraSettings) -> CassandraSettings:
    return shared_settings


def of(run: str, home: str = "/a/home") -> Holder:
    """A holder elsewhere: whether its process lives can't be seen from here."""
    return msgspec.structs.replace(Holder.current(run, Path(home)), host=f"host-of-{run}", boot="elsewhere")


def hold(session: Session, run: str, **more: Any) -> Any:
    return lease.held(session, AGGREGATE, of(run), WORK, **{"ttl_s": TTL_S} | more)


def until(condition: Callable[[], bool]) -> None:
    deadline = Deadline(PATIENCE_S)
    while not condition():
        assert not deadline.passed
        time.sleep(0.02)


@pytest.fixture
def living(session: Session) -> Iterator[Callable[..., Lease]]:
    """Makes a holder that says all the while that it works."""
    over = threading.Event()
    with ExitStack() as stack:

        def live(held: Lease) -> None:
            while not over.wait(0.05):
                try:
                    held.alive()
                except LeaseLostError:
                    return

        def make(run: str) -> Lease:
            held: Lease = stack.enter_context(hold(session, run))
            thread = threading.Thread(target=live, args=(held,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(over.set)
            return held

        yield make


def test_a_second_one_is_refused_and_told_who_holds_it(session: Session, living: Callable[..., Lease]) -> None:
    living("run-1")
    told = r"^Another run aggregates trades into candles already, run-1 on host-of-run-1, home /a/home: terminate"
    with pytest.raises(AlreadyRunningError, match=told), hold(session, "run-2"):
        pass


def test_of_two_works_each_has_a_lease_of_its_own(session: Session, living: Callable[..., Lease]) -> None:
    living("run-1")
    with lease.held(session, REPAIR, of("run-2"), "repairs", ttl_s=TTL_S) as held:
        assert held.fence == 1


def test_one_that_gave_it_back_is_followed_at_once_under_a_higher_fence(session: Session) -> None:
    fences = []
    for number in range(3):
        with hold(session, f"run-{number}", ttl_s=60) as held:
            fences.append(held.fence)
    assert fences == [1, 2, 3]
    row = lease.read(session, AGGREGATE)
    assert (row.holder, row.beat, row.fence) == (None, None, 3)


def test_a_dead_processs_lease_is_taken_at_once(session: Session) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead = msgspec.structs.replace(Holder.current("run-1", Path("/a/home")), pid=process.pid, started_ticks=1)
        process.kill()
    begun_s = time.monotonic()
    with lease.held(session, AGGREGATE, dead, WORK, ttl_s=60) as first:
        first._over.set()
        with lease.held(session, AGGREGATE, of("run-2"), WORK, ttl_s=60) as second:
            assert second.fence == first.fence + 1
    assert time.monotonic() - begun_s < 20


def test_one_who_waits_gets_it_when_the_other_ends(session: Session) -> None:
    asked: list[Holder] = []
    released = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(hold(session, "run-1", ttl_s=60)).alive()

        def wait(holder: Holder) -> bool:
            asked.append(holder)
            if not released.is_set():
                released.set()
                stack.close()
            return True

        # Renewed by hand: its own turn would come after a quarter of a minute.
        session.execute("UPDATE leases SET beat = 1 WHERE name = 'aggregate' IF EXISTS")
        renewing = threading.Timer(
            0.5, session.execute, ["UPDATE leases SET beat = 2 WHERE name = 'aggregate' IF EXISTS"]
        )
        renewing.start()
        with hold(session, "run-2", wait=wait) as held:
            assert held.fence == 2
        renewing.join()
    assert asked == [of("run-1")]


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder is renewed for no longer than it says that it works, its start included."""
    monkeypatch.setattr(lease, "START_S", 0.0)


@pytest.mark.usefixtures("hanging")
def test_one_that_does_not_say_that_it_works_loses_it_and_learns_so(session: Session) -> None:
    #  run-1  |alive|-------- silent --------|alive: lost
    #  run-2              |---- watches ----|-- holds --|
    with hold(session, "run-1") as first:
        progress.claim(session, PLACE, first.fence)
        progress.write(session, PLACE, first.fence, Progress(NOON, {0: 1}, {0: 1}))
        until(lambda: lease.read(session, AGGREGATE).holder is None)  # nobody renews for a run that hangs
        with hold(session, "run-2") as second:
            second.alive()
            assert second.fence == first.fence + 1
            progress.claim(session, PLACE, second.fence)
            with pytest.raises(LeaseLostError, match="taken over"):
                progress.write(session, PLACE, first.fence, Progress(NOON, {0: 9}, {0: 9}))
            with pytest.raises(LeaseLostError, match="taken over by run-2 on host-of-run-2, home /a/home while"):
                first.renew()
            with pytest.raises(LeaseLostError):
                first.alive()
            with pytest.raises(LeaseLostError):
                first.timestamp()
            stored = progress.read(session, PLACE)
            assert stored is not None
            assert stored.offsets == {0: 1}
        # What the first gave back was not its own any more.
        assert lease.read(session, AGGREGATE).fence == second.fence


@pytest.mark.usefixtures("hanging")
def test_one_that_is_back_before_anybody_took_it_goes_on(session: Session) -> None:
    with hold(session, "run-1") as held:
        until(lambda: lease.read(session, AGGREGATE).holder is None)
        held.alive()
        until(lambda: lease.read(session, AGGREGATE).holder is not None)
        assert lease.read(session, AGGREGATE).fence == held.fence


def test_of_two_who_see_it_free_one_gets_it(session: Session) -> None:
    row = lease.read(session, AGGREGATE)
    assert lease._taken(session, AGGREGATE, of("run-1"), row, 1, 5, TTL_S)
    assert not lease._taken(session, AGGREGATE, of("run-2"), row, 1, 5, TTL_S)
    row = lease.read(session, AGGREGATE)
    assert lease._taken(session, AGGREGATE, of("run-3"), row, 2, 5, TTL_S)
    assert not lease._taken(session, AGGREGATE, of("run-4"), row, 2, 5, TTL_S)


def test_it_is_not_taken_over_what_its_holder_has_reserved_meanwhile(session: Session) -> None:
    with hold(session, "run-1") as first:
        row = lease.read(session, AGGREGATE)
        last = first.timestamp()
        assert not lease._taken(session, AGGREGATE, of("run-2"), row, first.fence + 1, row.reserved, TTL_S)
    with hold(session, "run-2") as second:
        assert second.timestamp() > last


def clock(ahead_us: int) -> Callable[[], int]:
    return lambda: wall_clock_us() + ahead_us


def test_timestamps_grow_over_holders_whatever_their_clocks_say(session: Session) -> None:
    given: list[int] = []
    for run, ahead_us in enumerate([0, HOUR_US, -HOUR_US, 0, -24 * HOUR_US]):
        with hold(session, f"run-{run}", clock_us=clock(ahead_us)) as held:
            given += [held.timestamp() for _ in range(3)]
    assert given == sorted(set(given))
    assert given[3] > wall_clock_us() + HOUR_US // 2
    # However often the clock jumps back, they stay near the highest time that was told.
    assert given[-1] < given[5] + 4 * SPAN_US


@pytest.mark.usefixtures("hanging")
def test_what_a_stale_holder_still_stamps_is_older_than_what_the_next_one_does(session: Session) -> None:
    with hold(session, "run-1", clock_us=clock(HOUR_US)) as first:
        first.timestamp()
        until(lambda: lease.read(session, AGGREGATE).holder is None)
        with hold(session, "run-2", clock_us=clock(-HOUR_US)) as second:
            newer = second.timestamp()
            # It does not know yet, and its range has timestamps left.
            assert first.timestamp() < newer


@pytest.mark.usefixtures("hanging")
def test_a_stale_holder_whose_range_is_used_up_learns_that_it_is(session: Session) -> None:
    now_us = wall_clock_us()
    times_us = iter([now_us, now_us + 2 * SPAN_US])
    with hold(session, "run-1", clock_us=lambda: next(times_us)) as first:
        first.timestamp()
        until(lambda: lease.read(session, AGGREGATE).holder is None)
        with hold(session, "run-2"), pytest.raises(LeaseLostError):
            first.timestamp()


def a_candle(open: float) -> Candle:
    return Candle("M", "A", "B", NOON, 60, open, 9, 1, open, 2, 1.0, 1.0, Side(2, 1.0, 1.0, 4 * open), Side())


def test_rows_of_an_earlier_version_with_a_clock_in_the_future_can_be_written_over(
    session: Session, settings: CassandraSettings
) -> None:
    future_us = wall_clock_us() + 24 * HOUR_US
    writer = TableWriter(session, settings)
    writer.put_candles([a_candle(1)], future_us)
    with hold(session, "run-1") as held:
        timestamp = held.timestamp()
        assert timestamp > future_us
        writer.put_candles([a_candle(2)], timestamp)
    assert session.execute("SELECT open FROM candles").one().open == 2
    assert session.execute("SELECT avgprice FROM trademsgs1minutewindow").one().avgprice == 4


@pytest.mark.parametrize("table", ["candles", "trademsgs1minutewindow"])
def test_the_highest_timestamp_of_each_of_the_tables_counts(
    session: Session, settings: CassandraSettings, table: str
) -> None:
    future_us = wall_clock_us() + HOUR_US
    TableWriter(session, settings).put_candles([a_candle(1)], future_us)
    for other in {"candles", "trademsgs1minutewindow"} - {table}:
        session.execute(f"TRUNCATE {other}")
    with hold(session, "run-1") as held:
        assert held.timestamp() > future_us


@given(st.floats(0.01, 1e6))
def test_the_time_to_live_is_a_whole_number_of_seconds_and_never_endless(ttl_s: float) -> None:
    assert ttl_of(ttl_s) >= 1
    assert abs(ttl_of(ttl_s) - ttl_s) <= 1
