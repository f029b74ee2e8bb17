"""What version 0.2.0 leaves behind - tables, topic, home - goes over into today's by itself, exactly.

Its tables and files are stated here as it made them, so that they stay what they were whatever becomes of today's code.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from cassandra.cluster import Session
from kafka.admin import NewTopic

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.model.candle import candle_row, candles_of, direction_rows
from cryptoflow.model.trade import Trade
from cryptoflow.model.verdict import LOG_CUT, REPAIRED, SUSPECT
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import AggregateMetrics
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.checkpoint import fingerprint
from cryptoflow.tables.connection import connect
from cryptoflow.tables.reader import tables_id
from cryptoflow.tables.schema import TABLES
from cryptoflow_tests.exactness import cassandra
from cryptoflow_tests.repairing import BTC, ETH, HOUR_S, T0, World, a_trade, moment
from cryptoflow_tests.running import Workplace

TABLES_OF_0_2_0 = (
    """CREATE TABLE candles (
    market text, fromcoin text, tocurrency text, window_seconds int, date timestamp, window_start timestamp,
    open double, high double, low double, close double, vwap double, quantity double, volume double,
    buy_quantity double, sell_quantity double, trades bigint,
    PRIMARY KEY ((market, fromcoin, tocurrency, window_seconds, date), window_start)
) WITH CLUSTERING ORDER BY (window_start DESC) AND default_time_to_live = 0 AND compaction = {'class':
  'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', 'compaction_window_size': 7}""",
    """CREATE TABLE trademsgs1minutewindow (
    date timestamp, window_start timestamp, window_end timestamp, market text, direction text, fromcoin text,
    tocurrency text, avgprice double, totalquantity double, totalvol double, counttxns bigint, uuid timeuuid,
    PRIMARY KEY ((date), window_end, window_start, direction, market, fromcoin, tocurrency)
) WITH CLUSTERING ORDER BY (window_end DESC, window_start DESC, direction ASC, market ASC, fromcoin ASC, tocurrency ASC)
  AND default_time_to_live = 0 AND compaction = {'class': 'TimeWindowCompactionStrategy',
  'compaction_window_unit': 'DAYS', 'compaction_window_size': 7}""",
    """CREATE TABLE batches (
    query_id text, batch_id bigint, input_rows bigint, late bigint, duplicates bigint, unreadable bigint,
    rows_written bigint, watermark timestamp, finished_at timestamp,
    PRIMARY KEY ((query_id), batch_id)
) WITH CLUSTERING ORDER BY (batch_id DESC) AND default_time_to_live = 2592000 AND compaction = {'class':
  'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', 'compaction_window_size': 1}""",
)

STAMP_US = (time.time_ns() + 3600 * 10**9) // 1000
"""When the old rows say they were written: the clock of their machine was an hour ahead."""

CUT_S, STOPPED_S, END_S = T0 + 1200, T0 + 3 * HOUR_S + 2715, T0 + 3 * HOUR_S + 3000
"""Until when Kafka has deleted the trades; when 0.2.0 was stopped, in the middle of a window; the newest trade."""

#           0:00      0:20                    3:45  3:50
#  log      deleted    |xxxxxxxxxxxxxxxxxxxxxxxx|xxxx|
#  tables   |xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx|         but for what came late, of 2:40 at 3:30
IN_ORDER = [a_trade(time_s, time_s, pair) for time_s in range(T0, END_S, 20) for pair in (BTC, ETH)]
LATE = [a_trade(10**6 + number, T0 + 2 * HOUR_S + 2400 + number) for number in range(7)]
LATE_CAME_S = T0 + 3 * HOUR_S + 1800


@pytest.fixture
def session(place: Workplace) -> Iterator[Session]:
    """The keyspace and tables of 0.2.0."""
    with connect(cassandra(place)) as made:
        name = place.env["CASSANDRA_KEYSPACE"]
        made.execute(
            f"CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        made.set_keyspace(name)
        for cql in TABLES_OF_0_2_0:
            made.execute(cql)
        yield made


@pytest.fixture
def world(place: Workplace, session: Session) -> Iterator[World]:
    """What 0.2.0 left when its machine lost power."""
    world = World(place, session)
    with admin_client(world.kafka, "to make a topic") as admin:
        admin.create_topics([NewTopic(world.kafka.topic, 2, 1)])
        admin.wait_for_topics([world.kafka.topic])
    _fill_topic(world)
    aggregated = [trade for trade in IN_ORDER if trade.time_s < STOPPED_S]
    query_id = f"{world.kafka.topic}-{fingerprint(topic_id(world.kafka), tables_id(session))}/dd93407c5985ea77"
    _fill_tables(session, query_id, aggregated)
    _fill_home(world, query_id)
    yield world
    world.close()


def _fill_topic(world: World) -> None:
    world.send(trade for trade in IN_ORDER if trade.time_s < CUT_S)
    kept = world.log().ends()
    world.send(trade for trade in IN_ORDER if CUT_S <= trade.time_s < LATE_CAME_S)
    world.send(LATE, at_s=LATE_CAME_S)
    world.send(trade for trade in IN_ORDER if LATE_CAME_S <= trade.time_s < STOPPED_S)
    world.send(IN_ORDER[-100:-80], at_s=STOPPED_S)  # as a feed that is subscribed anew
    world.send(trade for trade in IN_ORDER if trade.time_s >= STOPPED_S)
    world.delete_before(kept)


def _fill_tables(session: Session, query_id: str, trades: Sequence[Trade]) -> None:
    candles = candles_of(trades, 60).values()
    _insert(session, "candles", map(candle_row, candles))
    _insert(session, "trademsgs1minutewindow", (row for candle in candles for row in direction_rows(candle)))
    session.execute(
        "INSERT INTO batches (query_id, batch_id, input_rows, late, duplicates, unreadable, rows_written, watermark,"
        " finished_at) VALUES (%s, 0, %s, %s, 0, 0, 9, %s, %s)",
        [query_id, len(trades) + len(LATE), len(LATE), moment(STOPPED_S - 300), moment(STOPPED_S)],
    )


def _insert(session: Session, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    for row in rows:
        columns: tuple[str, ...] = row._fields  # type: ignore[attr-defined]  # of whichever class
        marks = ", ".join("?" for _ in columns)
        cql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}) USING TIMESTAMP {STAMP_US}"
        session.execute(session.prepare(cql), row)


def _fill_home(world: World, query_id: str) -> None:
    """A checkpoint whose last commit is empty, and the locks of processes that were killed."""
    ends = json.dumps({world.kafka.topic: {str(place): end for place, end in world.log().ends().items()}})
    files = {
        f"checkpoints/{query_id}/metadata": json.dumps({"id": "67d030ca-2cb0-452d-a42e-305f30ef5222"}),
        f"checkpoints/{query_id}/start.json": '{"window_s":60,"offsets":{"0":0,"1":0},"not_before_ns":0,"counted":{}}',
        f"checkpoints/{query_id}/offsets/0": f'v1\n{{"batchWatermarkMs":0,"batchTimestampMs":0,"conf":{{}}}}\n{ends}',
        f"checkpoints/{query_id}/commits/0": "",
        f"checkpoints/{query_id}/state/0/0/1.changelog": "garbage",
        f"checkpoints/{query_id.partition('/')[0]}/lock": "2faad56e-0370-4378-9fe8-626b100d31c0",
        f"ingesters/{world.kafka.topic}-{topic_id(world.kafka)}": "2faad56e-0370-4378-9fe8-626b100d31c0",
    }
    for name, text in files.items():
        path = world.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("one_spark")
def test_what_version_0_2_0_left_goes_over_into_todays_tables_exactly(world: World) -> None:
    old = _snapshot(world.home / "checkpoints")

    def aggregated() -> AggregateMetrics:
        # slices of the backlog, so that what came late is late again
        settings = SparkSettings(max_batch_trades=300, backlog_trades=100, watermark_s=300, trigger_s=3600)
        return aggregate(world.kafka, world.cassandra, settings, RunContext(world.home, timeout_s=0.01))

    told = aggregated()
    in_log = sum(world.log().ends().values()) - sum(world.log().begins().values())
    assert (told.input_rows, told.stream.lag_trades) == (in_log, 0)
    assert told.batches > 2
    summary = world.repair()
    world.check()
    assert (summary.waiting, world.waiting()) == ([], 0)
    cut, repaired = world.hour(moment(T0)), world.hour(moment(T0 + 2 * HOUR_S))
    assert (cut.verdict, cut.reason) == (SUSPECT, LOG_CUT)
    assert (repaired.verdict, repaired.late) == (REPAIRED, len(LATE))

    # All that Kafka still has whole was written anew, above the old stamps; the rest is as it was.
    stamps = ((T0, False), (CUT_S - 60, False), (CUT_S + 300, True), (STOPPED_S - 15, True))
    for start_s, new in stamps:
        [[stamp]] = world.session.execute(
            "SELECT writetime(close) FROM candles WHERE market = %s AND fromcoin = %s AND tocurrency = %s"
            " AND window_seconds = 60 AND date = %s AND window_start = %s",
            [*BTC, moment(start_s).replace(hour=0, minute=0, second=0), moment(start_s)],
        )
        assert (stamp > STAMP_US) is new

    for table in TABLES:
        world.session.execute(f"SELECT {', '.join(table.columns)} FROM {table.name} LIMIT 1")
    assert old.items() <= _snapshot(world.home / "checkpoints").items()  # nobody has touched it, or needed it
    assert aggregated().input_rows == 0
    world.check()
