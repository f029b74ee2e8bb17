"""A topic and tables as an aggregation leaves them, in hours that are past, for tests of repairs."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from cassandra.cluster import Session
from kafka import KafkaProducer, TopicPartition

from cryptoflow.kafka_io.connection import admin_client, client_config
from cryptoflow.kafka_io.log import Log, open_log
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.candle import Candle, candle_row, candles_of
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import Trade, kafka_key, write_trade
from cryptoflow.model.window import EPOCH
from cryptoflow.pipeline.correct import RepairedHour
from cryptoflow.pipeline.part import RunContext
from cryptoflow.pipeline.repair import Summary, Wanted, repair
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.simulator.cryptocompare import REPLAYED_TRADES
from cryptoflow.tables import hours, lease, reader
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.ledger import Ledger
from cryptoflow.tables.progress import Place, Progress
from cryptoflow.tables.schema import CANDLES, TABLES, TRADE_WINDOWS, BatchRecord, HourRow, MarkRow
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.exactness import cassandra, check_tables, kafka
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.truth import true_candles

HOUR_S = 3600
ONE_HOUR = timedelta(hours=1)
T0 = int(time.time()) // HOUR_S * HOUR_S - 72 * HOUR_S
"""The start of an hour, in s: three days ago, which Kafka keeps."""

BTC, ETH = ("Coinbase", "BTC", "USD"), ("Kraken", "ETH", "EUR")
FLAGS = ("1", "2", "4", "9")


def moment(time_s: float) -> datetime:
    """Aware UTC."""
    return datetime.fromtimestamp(time_s, UTC)


def a_trade(number: int, time_s: int, pair: tuple[str, str, str] = BTC) -> Trade:
    """One of many; its amounts are no short binary numbers."""
    price, quantity = 100 + number / 100, (1 + number % 13) / 1000
    return Trade(*pair, FLAGS[number % 4], str(number), time_s, quantity, price, round(price * quantity, 8))


def numbered(trades: Iterable[Trade]) -> list[Trade]:
    """The trades with their ids as numbers, as the venues count them."""
    return [msgspec.structs.replace(trade, sequence=int(trade.id)) for trade in trades]


def some_trades(start_s: int, end_s: int, step_s: int = 30) -> list[Trade]:
    """Trades of both pairs at regular times."""
    return [a_trade(time_s, time_s, pair) for time_s in range(start_s, end_s, step_s) for pair in (BTC, ETH)]


@dataclass
class World:
    """One topic and one keyspace."""

    place: Workplace
    session: Session
    sent: list[Trade] = field(default_factory=list)
    after_hours: list[tuple[datetime, Sequence[RepairedHour]]] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def kafka(self) -> KafkaSettings:
        """The topic has two partitions, so that the pairs are apart."""
        return kafka(self.place).model_copy(update={"partitions": 2})

    @property
    def cassandra(self) -> CassandraSettings:
        """The keyspace is the place's own."""
        return cassandra(self.place)

    @property
    def home(self) -> Path:
        """Where leases and jars lie."""
        return Path(self.place.env["CRYPTOFLOW_HOME"])

    def log(self) -> Log:
        """The topic as a whole, for as long as the test lasts."""
        return self._stack.enter_context(open_log(self.kafka))

    def close(self) -> None:
        """Let go of Kafka."""
        self._stack.close()

    def past(self) -> Log:
        """The topic of the past, which is made if there is none; for as long as the test lasts."""
        topic = self.kafka.history_topic
        with admin_client(self.kafka, "to make a topic") as admin:
            if topic not in admin.list_topics():
                admin.create_topics({topic: {"num_partitions": 2, "replication_factor": 1}})
                admin.wait_for_topics([topic])
        return self._stack.enter_context(open_log(self.kafka, topic))

    def send(self, trades: Iterable[Trade], at_s: float | None = None, log: Log | None = None) -> list[tuple[int, int]]:
        """Into the topic, or another one, received at their exchange times, or all at another time.

        Gives partitions and offsets.
        """
        topic = log.topic if log else self.kafka.topic
        producer, sent = KafkaProducer(**client_config(self.kafka)), []
        for trade in trades:
            key, value = kafka_key(trade.pair), write_trade(trade)
            received_s = trade.time_s if at_s is None else at_s
            sent.append(producer.send(topic, value, key=key, timestamp_ms=int(received_s * 1000)))
            self.sent.append(trade)
        producer.close()
        return [(record.partition, record.offset) for record in (future.get(10) for future in sent)]

    def new_topic(self) -> None:
        """Another topic of the same name."""
        with admin_client(self.kafka, "to delete a topic") as admin:
            admin.delete_topics([self.kafka.topic])
        make_topics(self.kafka)

    def commit(
        self,
        trades: Iterable[Trade],
        finished: datetime,
        marks: Sequence[MarkRow] = (),
        origin: datetime = EPOCH,
        begins: Offsets | None = None,
    ) -> None:
        """What an aggregation leaves that has come to the end of the topic."""
        log, candles = self.log(), list(candles_of(trades, 60).values())
        with lease.held(self.session, lease.AGGREGATE, Holder.current("", self.home), "aggregates") as held:
            ledger = Ledger(self.session, self.cassandra, Place(60, self.kafka.topic, log.topic_id), held)
            ledger.claim()
            ends = log.ends()
            newest = max((candle.window_end for candle in candles), default=EPOCH)
            done = Progress(finished, ends, begins or ends, origin, newest, tables=reader.tables_id(self.session))
            ledger.commit(marks, candles, BatchRecord("q", 0), done)

    def mark(self, trade: Trade, places: Sequence[tuple[int, int]], log: Log | None = None) -> MarkRow:
        """The mark of trades of one pair and hour, the newest of which is `trade`, that lie in the log there."""
        log = log or self.log()
        hour, until = moment(trade.time_s // HOUR_S * HOUR_S), moment((trade.time_s // 60 + 1) * 60)
        [partition] = {partition for partition, _ in places}
        offsets = [offset for _, offset in places]
        return MarkRow(
            hour,
            *trade.pair,
            topic_id=log.topic_id,
            partition=partition,
            first_offset=min(offsets),
            last_offset=max(offsets),
            topic=log.topic,
            trades=len(places),
            until=until,
            reason="late" if log.topic == self.kafka.topic else "filled",
        )

    def delete_before(self, offsets: Offsets) -> None:
        """As the topic's retention would."""
        with admin_client(self.kafka, "to delete records") as admin:
            admin.delete_records({TopicPartition(self.kafka.topic, place): end for place, end in offsets.items()})

    def repair(self, *hours: datetime, run: RunContext | None = None, **wanted: Any) -> Summary:
        """Repair hours, or without any all that are marked."""
        self.after_hours.clear()
        run, note = run or RunContext(self.home), lambda hour, done: self.after_hours.append((hour, done))
        asked = Wanted(hours or None, **wanted)
        return repair(self.kafka, self.cassandra, SparkSettings(), run, asked, note)

    def check(self, trades: Iterable[Trade] | None = None) -> None:
        """Both tables hold the candles of the trades, by default of all that were sent."""
        check_tables(self.place, true_candles(map(write_trade, self.sent if trades is None else trades)))

    def hour(self, hour: datetime, pair: tuple[str, str, str] = BTC) -> HourRow:
        """What the table `hours` knows of an hour."""
        [found] = [row for row in hours.of_hour(self.session, hour) if row[:3] == pair]
        return found

    def waiting(self) -> int:
        """Trades that wait for a repair."""
        return reader.waiting_trades(self.session)

    def marks(self) -> list[MarkRow]:
        """All that are there."""
        return reader.marks(self.session)

    def delete_candle(self, candle: Candle) -> None:
        """One row of `candles`, as the holder of a lease: rows may be stamped half a minute ahead of the clock."""
        writer = TableWriter(self.session, self.cassandra)
        with lease.held(self.session, lease.AGGREGATE, Holder.current("", self.home), "aggregates") as held:
            writer.remove(CANDLES, [candle_row(candle)], held.timestamp())


@contextmanager
def world_in(place: Workplace, session: Session) -> Iterator[World]:
    """An empty topic and empty tables, those of the place's keyspace."""
    for table in TABLES:
        if session.execute(f"SELECT * FROM {table.name} LIMIT 1").one():
            session.execute(f"TRUNCATE {table.name}")
    world = World(place, session)
    make_topics(world.kafka)
    try:
        yield world
    finally:
        world.close()


@contextmanager
def tables(cassandra: CassandraSettings) -> Iterator[Session]:
    """The tables of a keyspace, in place."""
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        yield session


@contextmanager
def lost_tables(place: Workplace, hours: int) -> Iterator[World]:
    """Finished hours in Kafka from `T0` on, some of their trades twice, and no table of candles any more."""
    with tables(cassandra(place)) as session, world_in(place, session) as world:
        world.commit([], moment(T0), begins=world.log().ends())
        for start_s in range(T0, T0 + hours * HOUR_S, HOUR_S):
            trades = some_trades(start_s, start_s + HOUR_S, 10)
            world.send([*trades, *trades[-REPLAYED_TRADES:]])
            world.commit(trades, moment(start_s) + ONE_HOUR)
        for table in (CANDLES, TRADE_WINDOWS):
            session.execute(f"DROP TABLE {table.name}")
        yield world
