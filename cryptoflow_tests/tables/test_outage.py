"""A Cassandra that goes away while candles are written, by a cable that is pulled."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraUnreachableError
from cryptoflow.model.candle import Candle, Side
from cryptoflow.model.window import HOUR
from cryptoflow.pipeline.marking import LATE
from cryptoflow.pipeline.unjudged import Unjudged
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables import lease
from cryptoflow.tables.connection import connect
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.schema import MarkRow
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.cable import Cable

MIDNIGHT = datetime(2021, 1, 8, tzinfo=UTC)
SIDE = Side(1, 1.0, 1.0, 1.0)


@pytest.fixture
def cable(cassandra_port: int) -> Iterator[Cable]:
    cable = Cable(cassandra_port)
    yield cable
    cable.pull()


def a_candle(minute: int = 0) -> Candle:
    start = MIDNIGHT + timedelta(minutes=minute)
    return Candle("Coinbase", "BTC", "USD", start, 60, 1, 1, 1, 1, 2, 2.0, 2.0, SIDE, SIDE)


@pytest.fixture
def through(session: Session, settings: CassandraSettings, cable: Cable) -> CassandraSettings:
    """Cassandra, with tables, at the other end of the cable."""
    return settings.model_copy(update={"port": cable.port, "retry_for_s": 2})


@pytest.fixture
def cabled_session(through: CassandraSettings) -> Iterator[Session]:
    """One that reaches Cassandra through the cable only."""
    with connect(through) as another:
        yield another


@pytest.fixture
def cabled(cabled_session: Session, through: CassandraSettings) -> TableWriter:
    return TableWriter(cabled_session, through)


@contextmanager
def pulled(cable: Cable) -> Iterator[None]:
    """For a second."""
    cable.pull()
    back = threading.Timer(1, cable.plug)
    back.start()
    yield
    back.join()


def test_an_outage_is_waited_out_and_nothing_is_lost(session: Session, cabled: TableWriter, cable: Cable) -> None:
    with pulled(cable):
        assert cabled.put_candles([a_candle(minute) for minute in range(50)], 1) == 150
    assert len(list(session.execute("SELECT * FROM candles"))) == 50
    assert len(list(session.execute("SELECT * FROM trademsgs1minutewindow"))) == 100


def test_what_a_commit_asks_for_is_waited_for_too(
    cabled_session: Session, through: CassandraSettings, cable: Cable
) -> None:
    place, pair = Place(60, "trades", "its-id"), ("Coinbase", "BTC", "USD")
    late = MarkRow(MIDNIGHT, *pair, "its-id", 0, 0, 4, "trades", 5, MIDNIGHT + HOUR, LATE)
    finished = MIDNIGHT + 3 * HOUR
    unjudged = Unjudged(cabled_session, through, place, Progress(finished, {}, {}))
    with lease.held(cabled_session, lease.AGGREGATE, Holder.current("", Path("/a/home")), "aggregates") as held:
        ledger = Ledger(cabled_session, through, place, held)
        with pulled(cable):
            asked = unjudged.marks(finished, finished, [], [late])
        assert [mark.hour for mark in asked] == [MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR]
        with pulled(cable):
            assert ledger.waiting_trades() == 0


def test_too_long_an_outage_is_an_error(cabled: TableWriter, cable: Cable) -> None:
    cable.pull()
    started = time.monotonic()
    with pytest.raises(CassandraUnreachableError, match="does not answer"):
        cabled.put_candles([a_candle()], 1)
    assert 2 <= time.monotonic() - started < 15
    cable.plug()
