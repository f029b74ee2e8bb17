"""The topic as a source, on a real Kafka: the checkpoint's place, the unreadable records, and a cut head."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

with warnings.catch_warnings():
    # kafka-python reads its message formats through functions that Python 3.11 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaProducer, TopicPartition

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.candle import candles_of
from cryptoflow.model.trade import MAX_AHEAD_S, NS_PER_S, Trade, write_trade
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark import query
from cryptoflow.spark.checkpoint import read_start
from cryptoflow.spark.kafka_source import Place, kafka_stream, locate, unreadable
from cryptoflow.spark.stream import Batch, CandleStream
from cryptoflow_tests.spark.streaming import NOON_S, PATIENCE_S, SETTINGS, a_trade, after


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


def aggregate(spark: SparkSession, kafka: KafkaSettings, place: Place) -> list[Batch]:
    """The batches of a query from its place to the topic's end."""
    batches: list[Batch] = []
    rows = query.candles(kafka_stream(spark, kafka, place.start, 1000), SETTINGS)
    stream = CandleStream(rows, SETTINGS, place.checkpoint, batches.append)
    stream.start()
    try:
        assert stream.drain(end_offsets(kafka, kafka.topic), after(PATIENCE_S))
    finally:
        stream.stop()
    return batches


def test_a_query_finds_its_checkpoint_again_and_any_change_gives_it_another(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    place = locate(tmp_path, kafka, SETTINGS, "tables")
    assert place.start.offsets == {0: 0, 1: 0}
    assert read_start(place.checkpoint) == place.start
    assert locate(tmp_path, kafka, SETTINGS, "tables") == place
    faster = SparkSettings(trigger_s=1, max_batch_trades=7, driver_memory="3g")
    assert locate(tmp_path, kafka, faster, "tables") == place

    others = [SparkSettings(watermark_s=1), SparkSettings(window_s=300), SparkSettings(shuffle_partitions=2)]
    changed = {locate(tmp_path, kafka, other, "tables").checkpoint for other in others}
    assert len(changed | {place.checkpoint}) == 4
    assert {other.parent for other in changed} == {place.checkpoint.parent}
    assert locate(tmp_path, kafka, SETTINGS, "other tables").checkpoint.parent != place.checkpoint.parent


def test_a_topic_made_anew_gets_another_checkpoint(kafka: KafkaSettings, tmp_path: Path) -> None:
    place = locate(tmp_path, kafka, SETTINGS, "tables")
    with admin_client(kafka, "to delete topics") as admin:
        admin.delete_topics([kafka.topic])
    make_topics(kafka)
    assert locate(tmp_path, kafka, SETTINGS, "tables").checkpoint.parent != place.checkpoint.parent


def test_the_unreadable_records_of_a_range_come_with_reason_and_place(
    spark: SparkSession, kafka: KafkaSettings, producer: Any
) -> None:
    ahead = write_trade(a_trade(9, time_s=NOON_S + MAX_AHEAD_S + 1))
    put(producer, kafka, 0, b"before the range", *frames(a_trade(1)), b"\xff\x00", None, b"", ahead, b"after the range")
    put(producer, kafka, 1, *frames(a_trade(2, price=-1.0), a_trade(3)))
    found = {
        (partition, offset): (record, reason)
        for record, reason, partition, offset in unreadable(spark, kafka, {0: 1, 1: 0}, {0: 6, 1: 2})
    }
    assert {place: record for place, (record, _) in found.items()} == {
        (0, 2): b"\xff\x00",
        (0, 3): None,
        (0, 4): b"",
        (0, 5): ahead,
        (1, 0): write_trade(a_trade(2, price=-1.0)),
    }
    assert "too far ahead" in found[0, 5][1]
    assert "$.P" in found[1, 0][1]
    assert all(reason for _, reason in found.values())


def test_a_first_query_counts_all_that_was_in_the_topic_before_it(
    spark: SparkSession, kafka: KafkaSettings, producer: Any, tmp_path: Path
) -> None:
    trades = [a_trade(number, time_s=NOON_S + number) for number in range(20)]
    put(producer, kafka, 0, *frames(*trades[:10]), b"garbage")
    put(producer, kafka, 1, *frames(*trades[10:]))
    batches = aggregate(spark, kafka, locate(tmp_path, kafka, SETTINGS, "tables"))
    assert {candle.key: candle for batch in batches for candle in batch.candles} == candles_of(trades, 60)
    assert sum(batch.counts.unreadable for batch in batches) == 1


def test_a_first_query_leaves_alone_the_windows_whose_trades_kafka_has_deleted(
    spark: SparkSession, kafka: KafkaSettings, producer: Any, tmp_path: Path
) -> None:
    cut = [a_trade(number, time_s=NOON_S) for number in range(4)]
    whole = [a_trade(10 + number, time_s=NOON_S + 60) for number in range(4)]
    put(producer, kafka, 0, *frames(*cut), time_s=NOON_S)
    put(producer, kafka, 0, *frames(*whole), time_s=NOON_S + 60)
    put(producer, kafka, 1, *frames(a_trade(20, time_s=NOON_S + 59)), time_s=NOON_S + 59)
    with admin_client(kafka, "to delete records") as admin:
        admin.delete_records({TopicPartition(kafka.topic, 0): 2})

    place = locate(tmp_path, kafka, SETTINGS, "tables")
    assert place.start.offsets == {0: 2, 1: 0}
    assert place.start.not_before_ns == (NOON_S + 60) * NS_PER_S
    batches = aggregate(spark, kafka, place)
    assert {candle.key: candle for batch in batches for candle in batch.candles} == candles_of(whole, 60)
    assert sum(batch.counts.late for batch in batches) == 0


def test_a_changed_query_goes_on_before_the_windows_that_were_open(
    spark: SparkSession, kafka: KafkaSettings, producer: Any, tmp_path: Path
) -> None:
    finished = a_trade(1, time_s=NOON_S)
    still_open = [a_trade(2, time_s=NOON_S + 7201), a_trade(3, time_s=NOON_S + 7500)]
    put(producer, kafka, 0, *frames(finished), time_s=NOON_S)
    for trade in still_open:
        put(producer, kafka, 0, *frames(trade), time_s=trade.time_s)
    first = locate(tmp_path, kafka, SETTINGS, "tables")
    aggregate(spark, kafka, first)

    too_late = a_trade(4, time_s=NOON_S + 1)
    put(producer, kafka, 0, *frames(too_late, a_trade(5, time_s=NOON_S + 7202)), time_s=NOON_S + 7510)
    settings = SETTINGS.model_copy(update={"watermark_s": 301.0})
    second = locate(tmp_path, kafka, settings, "tables")
    assert second.start.offsets == {0: 1, 1: 0}
    assert second.start.not_before_ns == (NOON_S + 7200) * NS_PER_S
    assert second.start.counted == {0: 3, 1: 0}
    batches = aggregate(spark, kafka, second)
    assert {candle.key: candle for batch in batches for candle in batch.candles} == candles_of(
        [*still_open, a_trade(5, time_s=NOON_S + 7202)], 60
    )
    assert sum(batch.counts.late for batch in batches) == 1
