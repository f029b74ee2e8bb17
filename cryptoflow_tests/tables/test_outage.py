"""A Cassandra that goes away while candles are written, by a cable that is pulled."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cassandra.cluster import Session

from cryptoflow.errors import CassandraUnreachableError
from cryptoflow.model.candle import Candle, Side
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import connect
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
def cabled(session: Session, settings: CassandraSettings, cable: Cable) -> Iterator[TableWriter]:
    """A writer that reaches Cassandra through the cable only."""
    through = settings.model_copy(update={"port": cable.port})
    with connect(through) as another:
        yield TableWriter(another, through.model_copy(update={"retry_for_s": 2}))


def test_an_outage_is_waited_out_and_nothing_is_lost(session: Session, cabled: TableWriter, cable: Cable) -> None:
    cable.pull()
    back = threading.Timer(1, cable.plug)
    back.start()
    assert cabled.put_candles([a_candle(minute) for minute in range(50)], 1) == 150
    back.join()
    assert len(list(session.execute("SELECT * FROM candles"))) == 50
    assert len(list(session.execute("SELECT * FROM trademsgs1minutewindow"))) == 100


def test_too_long_an_outage_is_an_error(cabled: TableWriter, cable: Cable) -> None:
    cable.pull()
    started = time.monotonic()
    with pytest.raises(CassandraUnreachableError, match="does not answer"):
        cabled.put_candles([a_candle()], 1)
    assert 2 <= time.monotonic() - started < 15
    cable.plug()
