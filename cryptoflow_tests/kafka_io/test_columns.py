"""Records in columns: the ones that kafka-python gives one by one, whatever their batches look like."""

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder

from cryptoflow.errors import KafkaError, KafkaUnreachableError
from cryptoflow.kafka_io.columns import FETCH_BYTES, Records, columns_between, frames_between, records_of
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.records import records_between
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.kafka_io.conftest import send

PLAIN, GZIP = 0, 1
APPENDED, CONTROL = 0x08, 0x20
"""Attributes of a batch: its time is the broker's; it ends a transaction."""

sizes = st.one_of(st.integers(0, 100), st.sampled_from([63, 64, 8191, 8192, 2**20]))
texts = st.one_of(st.none(), st.binary(max_size=80), sizes.map(bytes))
headers = st.lists(st.tuples(st.text(max_size=3), st.one_of(st.none(), st.binary(max_size=3))), max_size=2)
rows = st.lists(
    st.tuples(st.integers(0, 2**41), texts, texts, headers, st.integers(1, 3)),  # the last: how far the offset steps
    min_size=1,
    max_size=6,
)


def batch(first: int, rows: Sequence[Any], codec: int, producer_id: int = -1) -> bytes:
    """A batch whose offsets begin at `first`."""
    builder = DefaultRecordBatchBuilder(2, codec, False, producer_id, -1, -1, 1 << 24)
    number = 0
    for time_ms, key, value, head, step in rows:
        assert builder.append(number, time_ms, key, value, head)
        number += step
    text = builder.build()
    text[0:8] = first.to_bytes(8, "big")
    return bytes(text)


def with_attribute(text: bytes, bit: int) -> bytes:
    changed = bytearray(text)
    changed[22] |= bit  # the low byte of the attributes
    return bytes(changed)


def one_by_one(text: bytes) -> list[tuple[int, int, bytes | None]]:
    return [(record.offset, record.timestamp, record.value) for batch in MemoryRecords(text) for record in batch]


def listed(records: Records) -> list[tuple[int, int, bytes | None]]:
    return list(zip(records.offsets.tolist(), records.times_ms.tolist(), records.values, strict=True))


@given(st.lists(st.tuples(rows, st.sampled_from([PLAIN, GZIP])), min_size=1, max_size=4))
def test_the_records_of_an_answer_are_those_that_kafka_python_reads_one_by_one(batches: list[tuple[Any, int]]) -> None:
    text, first = b"", 2**40
    for some, codec in batches:
        text += batch(first, some, codec)
        first += sum(step for *_, step in some)
    assert listed(records_of(list(MemoryRecords(text)))) == one_by_one(text)


@given(rows)
def test_where_kafka_has_put_down_its_own_time_that_counts(some: Any) -> None:
    text = with_attribute(batch(7, some, PLAIN), APPENDED)
    assert listed(records_of(list(MemoryRecords(text)))) == one_by_one(text)


def test_what_ends_a_transaction_is_no_record() -> None:
    end = with_attribute(batch(7, [(0, b"\0" * 4, b"\0" * 6, [], 1)], PLAIN), CONTROL)
    plain = batch(8, [(5, None, b"x", [], 1)], PLAIN)
    assert listed(records_of(list(MemoryRecords(end + plain)))) == [(8, 5, b"x")]
    assert listed(records_of(list(MemoryRecords(end)))) == []


def test_records_of_an_older_format_are_read_too() -> None:
    builder = LegacyRecordBatchBuilder(1, PLAIN, 1 << 14)
    for number in range(3):
        builder.append(number, 1000 + number, b"k", bytes([number]))
    text = bytes(builder.build())
    assert listed(records_of(list(MemoryRecords(text)))) == one_by_one(text) != []


def test_records_that_do_not_fill_their_batch_are_corrupt() -> None:
    text = bytearray(batch(0, [(0, None, b"abc", [], 1)] * 2, PLAIN))
    text[60] = 1  # the number of records, whose last byte ends the header
    with pytest.raises(CorruptRecordError, match="before it does"):
        records_of(list(MemoryRecords(text)))


def test_a_stretch_of_a_partition_comes_in_columns(made: KafkaSettings) -> None:
    first_ms = int(time.time() * 1000) - 100_000
    value = bytes(FETCH_BYTES // 10)
    send(made, 1, [first_ms + number for number in range(25)], value)

    def found(begin: int, end: int) -> list[tuple[int, int, bytes | None]]:
        return [row for records in columns_between(made, made.topic, 1, begin, end) for row in listed(records)]

    expected = [(each.offset, each.timestamp, each.value) for each in records_between(made, made.topic, {}, {1: 25})]
    assert found(0, 25) == expected
    assert found(3, 24) == expected[3:24]
    assert found(5, 5) == []


def test_records_that_kafka_has_deleted_are_missed_or_left_out(made: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    send(made, 0, [now_ms] * 5)
    with admin_client(made, "to delete records") as admin:
        admin.delete_records({TopicPartition(made.topic, 0): 3})
    with pytest.raises(KafkaError, match="has deleted trades"):
        list(columns_between(made, made.topic, 0, 2, 5))
    [records] = columns_between(made, made.topic, 0, 3, 5)
    assert records.offsets.tolist() == [3, 4]
    assert list(frames_between(made, made.topic, {}, {0: 5})) == [(now_ms, b"x")] * 2


def test_no_broker_is_told_after_a_while(nowhere: KafkaSettings) -> None:
    impatient = nowhere.model_copy(update={"delivery_timeout_s": 0.1})
    with pytest.raises(KafkaUnreachableError, match="does not answer"):
        list(columns_between(impatient, "t", 0, 0, 1))
