"""The log as Spark sees it, on a real Kafka: as a stream from a place on, between two places, and as candles."""

import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

with warnings.catch_warnings():
    # kafka-python reads its message formats through functions that Python 3.11 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaProducer

from cryptoflow.errors import AggregationError
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local.processes import free_port
from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import NS_PER_S, Trade, write_trade
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark.batch import begins_of, candles_between
from cryptoflow.spark.folded import Counts, Folded, Found, LeftOut
from cryptoflow.spark.kafka_log import Stretch, _options, parts, stream
from cryptoflow.spark.pack import Rules
from cryptoflow_tests.spark.streaming import NOON_S, a_trade

HOUR_S = 3600


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    """A topic of two partitions, made and empty."""
    # The records are dated back by years: Kafka would delete them under a shorter retention.
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic, partitions=2, retention_hours=1_000_000)
    make_topics(settings)
    return settings


@pytest.fixture
def producer(kafka_bootstrap: str) -> Iterator[Any]:
    made = KafkaProducer(bootstrap_servers=kafka_bootstrap)
    yield made
    made.close()


def put(producer: Any, kafka: KafkaSettings, partition: int, *values: bytes | None, time_s: int = NOON_S) -> None:
    for value in values:
        producer.send(kafka.topic, value, key=b"k", partition=partition, timestamp_ms=time_s * 1000)
    producer.flush()


def frames(*trades: Trade) -> list[bytes]:
    return [write_trade(trade) for trade in trades]


def whole(kafka: KafkaSettings) -> Stretch:
    return Stretch(kafka.topic, {}, end_offsets(kafka, kafka.topic))


def candles(found: Sequence[Found]) -> dict[Any, Any]:
    return {each.candle.key: each.candle for each in found}


def test_a_stretch_has_the_records_from_its_begin_on_and_before_its_end(kafka: KafkaSettings, producer: Any) -> None:
    put(producer, kafka, 0, b"00", None, b"02", b"03")
    put(producer, kafka, 1, b"10", b"11")

    def values(*stretches: Stretch) -> list[tuple[int, int, bytes | None]]:
        read = [some for part in parts(kafka, stretches) for some in part()]
        assert all(set(some.received_us) == {NOON_S * 1_000_000} for some in read)
        return [row for some in read for row in zip(some.partition, some.offset, some.values, strict=True)]

    assert values(Stretch(kafka.topic, {0: 1}, {0: 3, 1: 1})) == [(0, 1, None), (0, 2, b"02"), (1, 0, b"10")]
    assert values(Stretch(kafka.topic, {0: 3, 1: 2}, {0: 3, 1: 2})) == []
    assert values() == []
    apart = [Stretch(kafka.topic, {0: 0}, {0: 1}), Stretch(kafka.topic, {0: 3}, {0: 4}), Stretch(kafka.topic, {}, {})]
    assert values(*apart) == [(0, 0, b"00"), (0, 3, b"03")]


def test_a_stream_begins_at_its_place_and_takes_all_that_is_there_at_once(
    spark: SparkSession, kafka: KafkaSettings, producer: Any, tmp_path: Any
) -> None:
    put(producer, kafka, 0, b"00", b"01", b"02")
    put(producer, kafka, 1, b"10")
    batches: list[list[tuple[int, int]]] = []
    query = (
        stream(spark, kafka, {0: 1, 1: 0})
        .writeStream.foreachBatch(lambda rows, _: batches.append([(r.partition, r.offset) for r in rows.collect()]))
        .option("checkpointLocation", tmp_path.as_uri())
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    assert [sorted(batch) for batch in batches] == [[(0, 1), (0, 2), (1, 0)]]


def test_candles_of_a_stretch_are_counted_where_they_are_new(
    spark: SparkSession, kafka: KafkaSettings, producer: Any
) -> None:
    #  finished |--- open ---|--- open ---|
    #   too old | a  b  b  c |     d   ahead
    before = a_trade(1, time_s=NOON_S - 1)
    open_ones = [a_trade(2), a_trade(3), a_trade(3), a_trade(4), a_trade(5, time_s=NOON_S + 60)]
    ahead = a_trade(6, time_s=NOON_S + 400)
    put(producer, kafka, 0, *frames(before, *open_ones[:3]), b"garbage", None)
    put(producer, kafka, 1, *frames(*open_ones[3:], ahead))
    rules = Rules(60, 300, NOON_S * NS_PER_S, {0: 1})
    found, counts, left_out = candles_between(spark, kafka, [whole(kafka)], rules)
    assert candles(found) == candles_of(open_ones, 60)
    assert {each.candle.window_start.minute: (each.copies, each.first) for each in found} == {
        0: (4, {0: 0, 1: 0}),
        1: (1, {1: 1}),
    }
    # The trade before was counted before; the one ahead moves the newest time only as far as it may be ahead.
    assert counts == Counts(8, 2, 1, 1, (NOON_S + 300) * 1_000_000)
    assert [(each.partition, each.first_offset) for each in left_out] == [(1, 2)]


def test_of_a_stretch_without_trades_there_is_nothing(spark: SparkSession, kafka: KafkaSettings, producer: Any) -> None:
    put(producer, kafka, 0, b"garbage")
    rules = Rules(60, 60)
    assert candles_between(spark, kafka, [whole(kafka)], rules) == Folded([], Counts(rows=1, unreadable=1), [])
    assert candles_between(spark, kafka, [], rules) == Folded()


def test_what_kafka_has_deleted_and_who_does_not_answer_are_told_in_a_sentence(
    spark: SparkSession, kafka: KafkaSettings, producer: Any
) -> None:
    put(producer, kafka, 0, b"00")
    with pytest.raises(AggregationError, match=r"failed: Kafka has deleted trades of .* raise its retention"):
        candles_between(spark, kafka, [Stretch(kafka.topic, {0: 5}, {0: 6})], Rules(60, 60))
    nowhere = kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}", "delivery_timeout_s": 0.1})
    with pytest.raises(AggregationError, match=r"failed: Kafka at .* does not answer"):
        candles_between(spark, nowhere, [whole(kafka)], Rules(60, 60))


def test_trades_that_are_left_out_are_told_by_pair_hour_and_partition_with_where_they_lie(
    spark: SparkSession, kafka: KafkaSettings, producer: Any
) -> None:
    late = [a_trade(number, time_s=NOON_S - 1 - number * 1000) for number in range(5)]
    ahead = a_trade(9, time_s=NOON_S + 301, rest_ns=7)
    fine = a_trade(10)
    put(producer, kafka, 0, *frames(fine, *late), b"garbage")
    put(producer, kafka, 1, *frames(ahead, late[0], fine))
    found = candles_between(spark, kafka, [whole(kafka)], Rules(60, 300, NOON_S * NS_PER_S)).left_out
    pair, hour_s = "Kraken~BTC~USD", NOON_S - HOUR_S
    newest_ns = (NOON_S - 1) * NS_PER_S
    assert sorted(found, key=lambda each: (each.hour_s, each.partition)) == [
        LeftOut(pair, hour_s - HOUR_S, 0, 5, 5, 1, newest_ns - 4000 * NS_PER_S),
        LeftOut(pair, hour_s, 0, 1, 4, 4, newest_ns),
        LeftOut(pair, hour_s, 1, 1, 1, 1, newest_ns),
        LeftOut(pair, NOON_S, 1, 0, 0, 1, (NOON_S + 301) * NS_PER_S + 7),
    ]


def test_the_log_is_needed_from_the_first_place_of_the_windows_that_are_not_finished() -> None:
    trades = [a_trade(number, time_s=NOON_S + 60 * number) for number in range(3)]
    firsts = [(range(2), 1), (range(2), 5), (range(1), 7)]
    found = [Found(candle, 1, *first) for candle, first in zip(candles_of(trades, 60).values(), firsts, strict=True)]
    ends = {0: 20, 1: 30, 2: 40}

    def begins(minute: int) -> dict[int, int]:
        return begins_of(found, datetime.fromtimestamp(NOON_S + 60 * minute, UTC), ends)

    assert [begins(minute) for minute in range(4)] == [
        {0: 1, 1: 1, 2: 40},
        {0: 5, 1: 5, 2: 40},
        {0: 7, 1: 30, 2: 40},
        ends,
    ]


texts = st.one_of(st.text(), st.text("\"\\ aé\U0001f600;='\n{}$", max_size=12))


def login(kafka: KafkaSettings) -> str:
    return _options(kafka)["kafka.sasl.jaas.config"]


@given(texts, texts)
def test_any_user_and_password_reach_kafka_as_they_are(username: str, password: str) -> None:
    kafka = KafkaSettings(security_protocol="SASL_SSL", username=username, password=password)
    told = re.fullmatch(r'(?s)\S+ required username="(.*)" password="(.*)";', login(kafka))
    assert told

    def read(quoted: str) -> str:
        """As Kafka's tokenizer does: a backslash takes the next character as it is."""
        return re.sub(r"(?s)\\(.)", r"\1", quoted)

    assert [read(text) for text in told.groups()] == [username, password]
    assert all(re.fullmatch(r'(?s)([^"\\]|\\.)*', text) for text in told.groups())


def test_the_login_module_goes_by_the_mechanism_and_only_where_there_is_a_login() -> None:
    plain = KafkaSettings(security_protocol="SASL_PLAINTEXT", username="u", password="p", sasl_mechanism="PLAIN")
    scram = plain.model_copy(update={"sasl_mechanism": "SCRAM-SHA-512"})
    assert "plain.PlainLoginModule" in login(plain)
    assert "scram.ScramLoginModule" in login(scram)
    assert "kafka.sasl.jaas.config" not in _options(KafkaSettings())
    assert "kafka.ssl.truststore.location" not in _options(KafkaSettings())
