"""The aggregation over what is in the topic: nothing lost, nothing twice, whatever was before."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.errors import AlreadyRunningError
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.records import topic_id
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade, kafka_key, read_trade
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.supervision import Control, Figures
from cryptoflow.runtime.locks import exclusive
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings
from cryptoflow.spark.checkpoint import source_name
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.reader import tables_id, totals
from cryptoflow.testing import SimulatorConfig, frames
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.topics import read_topic
from cryptoflow_tests.truth import Key, true_candles

PAIRS = ("0~Coinbase~BTC~USD", "0~Coinbase~ETH~USD")
START_S = 1_763_900_040
"""The start of a minute."""

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive, as the driver's times are

Aggregate = Callable[..., Figures]

pytestmark = pytest.mark.usefixtures("one_spark")


def some_frames(count: int, start_s: float, step_s: float = 1.0) -> list[bytes]:
    return list(frames(SimulatorConfig(max_trades=count, start_time_s=start_s, time_step_s=step_s), PAIRS))


@pytest.fixture
def kafka(place: Workplace) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=place.env["KAFKA_BOOTSTRAP_SERVERS"], topic=place.env["KAFKA_TOPIC"])
    make_topics(settings)
    return settings


@pytest.fixture
def cassandra(place: Workplace) -> CassandraSettings:
    return CassandraSettings(port=int(place.env["CASSANDRA_PORT"]), keyspace=place.env["CASSANDRA_KEYSPACE"])


@pytest.fixture
def aggregate_all(place: Workplace, kafka: KafkaSettings, cassandra: CassandraSettings) -> Aggregate:
    """Runs the aggregation until the topic is drained."""

    def run(watermark_s: float = 60.0) -> Figures:
        spark = SparkSettings(watermark_s=watermark_s, trigger_s=3600)
        return aggregate(kafka, cassandra, spark, Path(place.env["CRYPTOFLOW_HOME"]), Control(timeout_s=0.01))

    return run


def send(kafka: KafkaSettings, records: Sequence[bytes]) -> None:
    """Put records into the topic, as the ingester would, or as somebody who writes garbage into it."""
    with TradeProducer(kafka) as producer:
        for record in records:
            producer.trade(_trade(record), record)
        producer.flush()


def _trade(record: bytes) -> Trade:
    try:
        return read_trade(record)
    except Exception:  # noqa: BLE001 - only its key is needed
        return Trade("Coinbase", "BTC", "USD", "1", "1", 1, 1.0, 1.0, 1.0)


def stored(cassandra: CassandraSettings) -> dict[Key, Any]:
    with connect(cassandra) as session:
        rows = session.execute("SELECT * FROM candles")
        return {(r.market, r.fromcoin, r.tocurrency, round((r.window_start - EPOCH).total_seconds())): r for r in rows}


def check(cassandra: CassandraSettings, records: Sequence[bytes]) -> None:
    truth, found = true_candles(records), stored(cassandra)
    assert found.keys() == truth.keys()
    for key, row in found.items():
        expected = {name: value for name, value in truth[key].items() if name != "sides"}
        assert {name: getattr(row, name) for name in expected} == pytest.approx(expected, rel=1e-12), key


def test_each_record_is_in_a_candle_or_late_or_a_duplicate_or_a_dead_letter(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    # first run:   |----- 20 minutes of trades -----|
    # second run:                                   |--|      its watermark is what the third run judges lateness by
    # third run:   late                         again  |------- on -------->
    before = some_frames(1200, START_S)
    send(kafka, before)
    aggregate_all()
    check(cassandra, before)

    onwards = some_frames(300, START_S + 1200)
    send(kafka, onwards[:5])
    aggregate_all()

    again = before[-20:]
    late = some_frames(7, START_S + 0.5)
    garbage = [b"", b"{", b'{"TYPE":"0","M":"Coinbase"}', b"\xff\xfe", before[0].replace(b'"P":', b'"P":-')]
    send(kafka, [*late, *again, *garbage, *onwards[5:]])
    figures = aggregate_all()
    check(cassandra, [*before, *onwards])
    assert figures["late"] == len(late)
    assert figures["duplicates"] == len(again)
    assert figures["unreadable"] == len(garbage)

    with connect(cassandra) as session:
        counted = totals(session)
    in_candles = sum(row.trades for row in stored(cassandra).values())
    assert counted.input_rows == in_candles + counted.late + counted.duplicates + counted.unreadable
    assert counted.input_rows == sum(end_offsets(kafka, kafka.topic).values())

    letters = read_topic(kafka, kafka.dead_letter_topic)
    assert sorted(letter.value or b"" for letter in letters) == sorted(garbage)
    headers = [dict(letter.headers) for letter in letters]
    assert all(header["reason"] and header["source"] == b"aggregate" for header in headers)
    assert {header["topic"] for header in headers} == {kafka.topic.encode()}
    assert len({(header["partition"], header["offset"]) for header in headers}) == len(garbage)


def test_a_changed_query_leaves_no_open_window_half_counted(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings, place: Workplace
) -> None:
    before = some_frames(630, START_S)  # ends in the middle of a window
    send(kafka, before)
    aggregate_all(watermark_s=60)
    onwards = some_frames(300, START_S + 630)
    send(kafka, onwards)
    figures = aggregate_all(watermark_s=90)
    check(cassandra, [*before, *onwards])
    assert figures["late"] == 0
    checkpoints = list((Path(place.env["CRYPTOFLOW_HOME"]) / "checkpoints").glob("*/*/start.json"))
    assert len(checkpoints) == 2


def test_dropped_tables_are_filled_again_from_kafka(
    aggregate_all: Aggregate, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    records = some_frames(200, START_S)
    send(kafka, records)
    aggregate_all()
    with connect(cassandra) as session:
        session.execute(f"DROP KEYSPACE {cassandra.keyspace}")
    aggregate_all()
    check(cassandra, records)


def test_a_second_aggregation_of_the_same_topic_is_refused(
    aggregate_all: Aggregate, place: Workplace, kafka: KafkaSettings, cassandra: CassandraSettings
) -> None:
    with connect(cassandra) as session:
        ensure_schema(session, cassandra)
        source = source_name(kafka.topic, topic_id(kafka), tables_id(session))
    lock = Path(place.env["CRYPTOFLOW_HOME"]) / "checkpoints" / source / "lock"
    with exclusive(lock, owner="run-1"), pytest.raises(AlreadyRunningError, match=r"already, run-1: termi"):
        aggregate_all()


def test_records_are_keyed_by_their_pair(kafka: KafkaSettings) -> None:
    records = some_frames(50, START_S)
    send(kafka, records)
    found = read_topic(kafka, kafka.topic)
    assert {(record.key, record.value) for record in found} == {
        (kafka_key(read_trade(record).pair), record) for record in records
    }
    by_key = {record.key: record.partition for record in found}
    assert all(by_key[record.key] == record.partition for record in found)
