"""Where an aggregation starts, on real topics and tables; the rules are tested with `place`."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from cassandra.cluster import Session

from cryptoflow.model.offsets import Offsets
from cryptoflow.model.window import EPOCH
from cryptoflow.pipeline import start
from cryptoflow.pipeline.start import start_of
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings, SparkSettings
from cryptoflow.tables import lease
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.reader import tables_id
from cryptoflow_tests.repairing import BTC, ETH, T0, World, a_trade, moment, tables, world_in
from cryptoflow_tests.running import Workplace

COMMITTED = moment(T0 + 600)


@pytest.fixture(scope="module")
def session(cassandra_port: int) -> Iterator[Session]:
    with tables(CassandraSettings(port=cassandra_port, keyspace=f"test_{uuid.uuid4().hex}")) as made:
        yield made


@pytest.fixture
def world(place: Workplace, session: Session) -> Iterator[World]:
    """Ten trades of each pair are committed, each pair in a partition of its own; five of each may be deleted."""
    place.env["CASSANDRA_KEYSPACE"] = str(session.keyspace)
    with world_in(place, session) as made:
        trades = [a_trade(number, T0 + 60 * number, pair) for number in range(10) for pair in (BTC, ETH)]
        made.send(trades)
        made.commit(trades, COMMITTED, begins=dict.fromkeys(made.log().ends(), 5))
        yield made


def started(world: World) -> Progress:
    with lease.held(world.session, lease.AGGREGATE, Holder.current("", world.home), "aggregates") as held:
        ledger = Ledger(world.session, world.cassandra, Place(60, world.kafka.topic, world.log().topic_id), held)
        ledger.claim()
        return start_of(world.kafka, SparkSettings(max_ahead_s=60), ledger, tables_id(world.session))


def all_at(offset: int) -> Offsets:
    return {0: offset, 1: offset}


def test_what_kafka_has_deleted_that_is_not_needed_is_not_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.delete_before(all_at(5))
    monkeypatch.delattr(start, "cut_of")
    at = started(world)
    assert (at.finished, at.begins, at.offsets) == (COMMITTED, all_at(5), all_at(10))


def test_behind_a_cut_it_starts_where_no_trade_can_be_missing(world: World) -> None:
    world.send([a_trade(number, T0 + 3600 + number, pair) for number in range(2) for pair in (BTC, ETH)])
    world.delete_before(all_at(11))
    at = started(world)
    assert at.finished == at.origin == moment(T0 + 3600 + 1) + timedelta(seconds=60 + 59)
    assert (at.begins, at.offsets) == (all_at(11), all_at(11))


def test_tables_made_anew_are_filled_from_the_beginning(world: World) -> None:
    for table in ("candles", "trademsgs1minutewindow"):
        columns = world.session.execute(f"DESCRIBE TABLE {table}").one().create_statement
        world.session.execute(f"DROP TABLE {table}")
        world.session.execute(columns.partition(" WITH ID")[0] if " WITH ID" in columns else columns)
    at = started(world)
    assert (at.finished, at.begins, at.offsets) == (EPOCH, all_at(0), all_at(0))
