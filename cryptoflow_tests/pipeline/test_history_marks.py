"""Trades of the past mark their hours: all of them, wherever it was broken off, by the holder of the lease alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cassandra.cluster import Session
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer

from cryptoflow.errors import CassandraError, LeaseLostError
from cryptoflow.kafka_io.connection import admin_client, client_config
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.offsets import partitions_in
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade, write_trade
from cryptoflow.pipeline.history_marks import PAST, HistoryMarks, history_marks, past_marks
from cryptoflow.pipeline.tally import Tally
from cryptoflow.runtime.aside import Aside
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables import lease, progress, reader
from cryptoflow.tables.schema import MarkRow
from cryptoflow.venues.events import Recorded
from cryptoflow_tests.feeds.filling import wait_for

HOUR_S = 3600
NOON_S = 1_753_185_600
"""The start of an hour."""


@dataclass
class Record:
    """As kafka-python has it."""

    partition: int
    offset: int
    value: bytes | None
    timestamp: int = (NOON_S + 100 * HOUR_S) * 1000


def trade(time_s: int, coin: str = "BTC", time_ns: int = 0) -> Trade:
    return Trade("Kraken", coin, "USD", "1", str(time_s), time_s, 1.0, 2.0, 2.0, rest_ns=time_ns)


def moment(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


def marked(records: Sequence[Record], window_s: int = 60) -> list[MarkRow]:
    return past_marks(records, "past", "id", window_s)


def test_an_hour_is_marked_with_where_its_trades_lie_until_the_end_of_its_newest_window() -> None:
    times = [(0, "BTC"), (HOUR_S - 1, "BTC"), (5, "ETH"), (3000, "BTC"), (HOUR_S, "BTC")]
    records = [Record(2, 7 + place, write_trade(trade(NOON_S + at, coin))) for place, (at, coin) in enumerate(times)]
    noon, one = moment(NOON_S), moment(NOON_S + HOUR_S)
    assert marked(records) == [
        MarkRow(noon, "Kraken", "BTC", "USD", "id", 2, 7, 10, "past", 3, one, PAST),
        MarkRow(noon, "Kraken", "ETH", "USD", "id", 2, 9, 9, "past", 1, moment(NOON_S + 60), PAST),
        MarkRow(one, "Kraken", "BTC", "USD", "id", 2, 11, 11, "past", 1, moment(NOON_S + HOUR_S + 60), PAST),
    ]


def test_what_is_no_trade_and_what_comes_from_the_future_marks_nothing() -> None:
    values = [None, b"", b"garbage", write_trade(trade(NOON_S + 102 * HOUR_S))]
    assert marked([Record(0, place, value) for place, value in enumerate(values)]) == []


moments = st.integers(NOON_S * 10**6, (NOON_S + 3 * HOUR_S) * 10**6 - 1)


@given(
    st.lists(st.tuples(moments, st.sampled_from(["BTC", "ETH"]), st.integers(0, 2))), st.sampled_from([60, 300, HOUR_S])
)
def test_each_trade_lies_in_one_mark_of_its_hour_which_waits_for_its_window(
    made: list[tuple[int, str, int]], window_s: int
) -> None:
    trades = [trade(at // 10**6, coin, at % 10**6 * 1000) for at, coin, _ in made]
    records = [Record(made[place][2], place, write_trade(each)) for place, each in enumerate(trades)]
    marks = marked(records, window_s)
    for record, each in zip(records, trades, strict=True):
        [mark] = [
            mark
            for mark in marks
            if (mark.hour, mark.fromcoin, mark.partition)
            == (moment(each.time_s // HOUR_S * HOUR_S), each.from_coin, record.partition)
        ]
        assert mark.first_offset <= record.offset <= mark.last_offset
        assert mark.until >= moment(each.time_s // window_s * window_s + window_s)
        assert mark.until <= moment(each.time_s // HOUR_S * HOUR_S + HOUR_S)
    assert sum(mark.trades for mark in marks) == len(trades)


# Followed


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic)
    make_topics(settings)
    return settings


@pytest.fixture
def cassandra(cassandra_port: int, repair_tables: Session) -> CassandraSettings:
    return CassandraSettings(port=cassandra_port, keyspace=str(repair_tables.keyspace), retry_for_s=5)


def put(kafka: KafkaSettings, *times_s: int) -> None:
    trades: list[Recorded] = [(each, write_trade(each)) for each in map(trade, times_s)]
    with HistoryProducer(kafka, "gap") as producer:
        producer.put(trades, (), "somewhere", "kraken")


@contextmanager
def following(
    kafka: KafkaSettings, cassandra: CassandraSettings, session: Session, home: Path, tally: Tally | None = None
) -> Iterator[HistoryMarks]:
    with (
        lease.held(session, lease.AGGREGATE, Holder.current("", home), "aggregates") as held,
        history_marks(session, kafka, cassandra, 60, held, tally or Tally()) as marks,
    ):
        yield marks


def stored(session: Session, kafka: KafkaSettings) -> list[MarkRow]:
    source = topic_id(kafka, kafka.history_topic)
    return [mark for mark in reader.marks(session) if mark.topic_id == source]


def never() -> bool:
    return False


def test_each_record_is_marked_once_whichever_run_does_it(
    kafka: KafkaSettings, cassandra: CassandraSettings, repair_tables: Session, tmp_path: Path
) -> None:
    session, tally = repair_tables, Tally()
    for number in range(3):
        put(kafka, NOON_S + number * HOUR_S, NOON_S + number * HOUR_S + 1)
        with following(kafka, cassandra, session, tmp_path, tally) as marks:
            marks.drain(never)
        assert sum(mark.trades for mark in stored(session, kafka)) == 2 * (number + 1)
        assert (tally.metrics().waiting_trades or 0) >= 2 * (number + 1)
    assert [mark.hour for mark in stored(session, kafka)] == [moment(NOON_S + each * HOUR_S) for each in range(3)]
    assert {(mark.topic, mark.reason) for mark in stored(session, kafka)} == {(kafka.history_topic, PAST)}


def test_what_comes_while_it_follows_is_marked_at_once(
    kafka: KafkaSettings, cassandra: CassandraSettings, repair_tables: Session, tmp_path: Path
) -> None:
    with following(kafka, cassandra, repair_tables, tmp_path) as marks:
        aside = Aside("history", marks.run, marks.stop).start()
        for number in range(1, 3):
            put(kafka, NOON_S + number)
            wait_for(lambda number=number: sum(mark.trades for mark in stored(repair_tables, kafka)) == number)  # type: ignore[misc]
        aside.end()


@pytest.mark.parametrize("end", ["while it follows", "at its end"])
def test_new_partitions_of_the_topic_are_followed(
    end: str,
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    repair_tables: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cryptoflow.pipeline.history_marks.METADATA_AGE_S", 1)
    put(kafka, NOON_S)
    with following(kafka, cassandra, repair_tables, tmp_path) as marks:
        aside = Aside("history", marks.run, marks.stop).start()
        wait_for(lambda: len(stored(repair_tables, kafka)) == 1)
        if end == "at its end":
            aside.end()
        with admin_client(kafka, "to add partitions") as admin:
            old = len(partitions_in(admin, kafka.history_topic))
            admin.create_partitions({kafka.history_topic: old + 1})
        send_to(kafka, old, trade(NOON_S + HOUR_S))
        if end == "at its end":
            marks.drain(never)
        wait_for(lambda: [mark.partition for mark in stored(repair_tables, kafka)][1:] == [old])
        aside.end()
    with following(kafka, cassandra, repair_tables, tmp_path) as marks:  # nothing is marked twice
        repair_tables.execute("TRUNCATE marks")
        marks.drain(never)
    assert stored(repair_tables, kafka) == []


def send_to(kafka: KafkaSettings, partition: int, made: Trade) -> None:
    """Into a partition of the topic of history."""
    producer = KafkaProducer(**client_config(kafka))
    producer.send(kafka.history_topic, write_trade(made), partition=partition).get(10)
    producer.close()


def test_one_that_died_before_it_committed_its_place_leaves_the_same_marks_to_the_next(
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    repair_tables: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_args: object) -> None:
        raise CassandraError("it died before the place")

    put(kafka, NOON_S, NOON_S + 1)
    with monkeypatch.context() as patched, following(kafka, cassandra, repair_tables, tmp_path) as marks:
        patched.setattr(progress, "write_offsets", broken)
        with pytest.raises(CassandraError, match="before the place"):
            marks.drain(never)
    before = stored(repair_tables, kafka)
    assert sum(mark.trades for mark in before) == 2
    with following(kafka, cassandra, repair_tables, tmp_path) as marks:
        marks.drain(never)
    assert stored(repair_tables, kafka) == before


def test_a_stale_holder_commits_no_place(
    kafka: KafkaSettings, cassandra: CassandraSettings, repair_tables: Session, tmp_path: Path
) -> None:
    place = progress.Place(60, kafka.history_topic, topic_id(kafka, kafka.history_topic))
    with following(kafka, cassandra, repair_tables, tmp_path) as stale:
        progress.claim(repair_tables, place, 10**9)
        put(kafka, NOON_S)
        with pytest.raises(LeaseLostError):
            stale.drain(never)
    assert progress.read_offsets(repair_tables, place, reader.tables_id(repair_tables)) == {}


def test_new_tables_have_all_of_it_marked_anew(
    kafka: KafkaSettings,
    cassandra: CassandraSettings,
    repair_tables: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(kafka, NOON_S)
    for tables in ("old", "new"):
        monkeypatch.setattr("cryptoflow.pipeline.history_marks.tables_id", lambda session, tables=tables: tables)
        with following(kafka, cassandra, repair_tables, tmp_path) as marks:
            marks.drain(never)
        assert len(stored(repair_tables, kafka)) == 1
        repair_tables.execute("TRUNCATE marks")
