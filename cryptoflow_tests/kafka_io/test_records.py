"""What a topic is and holds, on a real broker."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer, TopicPartition

from cryptoflow.errors import KafkaError, KafkaUnreachableError
from cryptoflow.kafka_io.columns import columns_between
from cryptoflow.kafka_io.connection import admin_client, client_config
from cryptoflow.kafka_io.offsets import beginning_offsets
from cryptoflow.kafka_io.records import (
    Cut,
    cut_of,
    first_times_ms,
    open_consumer,
    polled,
    records_between,
    records_in,
    times_ms,
    topic_id,
    trades_of,
)
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import MAX_AHEAD_S, Trade, write_trade
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.kafka_io.conftest import send

ALL = range(4)

START_S = 1_610_107_200  # 2021-01-08 12:00:00 UTC
HOUR = (datetime.fromtimestamp(START_S, UTC), datetime.fromtimestamp(START_S, UTC) + timedelta(hours=1))


def test_a_topic_keeps_its_id_while_it_fills(made: KafkaSettings) -> None:
    before = topic_id(made)
    send(made, 0, [int(time.time() * 1000)])
    assert topic_id(made) == before


def test_two_topics_have_two_ids(made: KafkaSettings) -> None:
    other = made.model_copy(update={"topic": f"{made.topic}-other"})
    make_topics(other)
    assert topic_id(made) != topic_id(other)


def test_a_topic_that_is_made_anew_has_another_id(made: KafkaSettings) -> None:
    before = topic_id(made)
    with admin_client(made, "to delete a topic") as admin:
        admin.delete_topics([made.topic])
        while made.topic in admin.list_topics():  # the broker deletes in its own time
            time.sleep(0.01)
    make_topics(made)
    assert topic_id(made) != before


def test_the_first_time_is_that_of_the_oldest_record(made: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    send(made, 1, [now_ms - 5000, now_ms - 9000, now_ms])
    send(made, 3, [now_ms - 700])
    assert first_times_ms(made, made.topic, ALL) == {1: now_ms - 5000, 3: now_ms - 700}


def test_where_a_transaction_has_ended_there_is_no_record_and_none_is_missed(made: KafkaSettings) -> None:
    writer = KafkaProducer(**client_config(made), transactional_id=made.topic)
    writer.init_transactions()
    writer.begin_transaction()
    writer.send(made.topic, b"x", partition=1)
    writer.commit_transaction()
    writer.close()
    place = TopicPartition(made.topic, 1)
    with open_consumer(made, made.topic) as consumer:
        assert consumer.end_offsets([place]) == {place: 2}
        assert list(polled(consumer, place, 1, 2, timeout_s=1.0)) == []
        assert [record.value for record in records_in(consumer, place, 0, 2)] == [b"x"]
    assert [len(records.values) for records in columns_between(made, made.topic, 1, 0, 2)] == [1]
    assert [len(records.values) for records in columns_between(made, made.topic, 1, 1, 2)] == [0]


def test_only_what_is_asked_for_is_read(made: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    send(made, 1, [now_ms])
    send(made, 2, [now_ms])
    assert first_times_ms(made, made.topic, [2]) == {2: now_ms}
    assert first_times_ms(made, made.topic, []) == {}


def test_an_empty_partition_has_none(made: KafkaSettings) -> None:
    assert first_times_ms(made, made.topic, ALL) == {}


def test_records_that_were_deleted_do_not_count(made: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    send(made, 0, [now_ms - 9000, now_ms - 8000, now_ms - 7000])
    send(made, 1, [now_ms])
    with admin_client(made, "to delete records") as admin:
        admin.delete_records({TopicPartition(made.topic, 0): 2, TopicPartition(made.topic, 1): 1})
    assert first_times_ms(made, made.topic, ALL) == {0: now_ms - 7000}


def test_a_time_is_that_of_the_first_record_from_an_offset_on(made: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    send(made, 0, [now_ms - 9000, now_ms - 8000, now_ms - 7000])
    send(made, 1, [now_ms])
    assert times_ms(made, made.topic, {0: 1, 1: 0, 2: 0}) == {0: now_ms - 8000, 1: now_ms}
    assert times_ms(made, made.topic, {0: 3, 1: 99}) == {}
    with admin_client(made, "to delete records") as admin:
        admin.delete_records({TopicPartition(made.topic, 0): 2})
    assert times_ms(made, made.topic, {0: 1}) == {0: now_ms - 7000}


def test_the_records_between_offsets_come_in_the_order_of_their_partitions(made: KafkaSettings) -> None:
    first_ms = int(time.time() * 1000) - 100_000
    send(made, 0, [first_ms + number for number in range(10)])
    send(made, 2, [first_ms + 100 + number for number in range(5)])

    def found(begin: dict[int, int], end: dict[int, int]) -> list[tuple[int, int, int]]:
        read = records_between(made, made.topic, begin, end)
        return [(record.partition, record.offset, record.timestamp - first_ms) for record in read]

    assert found({0: 7, 2: 3}, {0: 9, 1: 0, 2: 5}) == [(0, 7, 7), (0, 8, 8), (2, 3, 103), (2, 4, 104)]
    assert found({}, {2: 1}) == [(2, 0, 100)]
    assert found({0: 10}, {0: 10}) == found({0: 9}, {0: 3}) == []


def test_records_that_were_deleted_are_left_out(made: KafkaSettings) -> None:
    send(made, 0, [int(time.time() * 1000)] * 5)
    with admin_client(made, "to delete records") as admin:
        admin.delete_records({TopicPartition(made.topic, 0): 3})
    assert [record.offset for record in records_between(made, made.topic, {0: 0}, {0: 5})] == [3, 4]


def test_a_topic_that_has_all_of_its_records_is_not_cut(made: KafkaSettings, nowhere: KafkaSettings) -> None:
    send(made, 1, [int(time.time() * 1000)])
    begins = beginning_offsets(made, made.topic)
    assert cut_of(made, made.topic, begins) == Cut(0, False)
    assert cut_of(nowhere, made.topic, begins) == Cut(0, False)  # nobody is asked


def test_of_a_topic_that_is_cut_all_that_was_received_after_the_cut_is_there(made: KafkaSettings) -> None:
    now_ms = int(time.time() * 1000)
    send(made, 0, [now_ms - 9000, now_ms - 8000])
    send(made, 1, [now_ms - 7000, now_ms - 6000])
    send(made, 2, [now_ms - 5000])
    with admin_client(made, "to delete records") as admin:
        admin.delete_records({TopicPartition(made.topic, 0): 1, TopicPartition(made.topic, 1): 1})
        assert cut_of(made, made.topic, beginning_offsets(made, made.topic)) == Cut(now_ms - 6000, False)
        admin.delete_records({TopicPartition(made.topic, 2): 1})
    assert cut_of(made, made.topic, beginning_offsets(made, made.topic)) == Cut(now_ms - 6000, True)


def received(trade: Trade | None, received_s: int = START_S + 3600) -> tuple[int, bytes | None]:
    return received_s * 1000, write_trade(trade) if trade else None


def a_trade(time_s: int) -> Trade:
    return Trade("Coinbase", "BTC", "USD", "1", str(time_s), time_s, 1.0, 1.0, 1.0)


@given(st.lists(st.integers(START_S - 10, START_S + 3610).map(a_trade)))
def test_trades_of_the_span_are_all_taken_and_no_others(given: Sequence[Trade]) -> None:
    found = list(trades_of(map(received, given), *HOUR))
    assert found == [trade for trade in given if START_S <= trade.time_s < START_S + 3600]


def test_what_the_query_can_not_read_is_no_trade() -> None:
    trade = a_trade(START_S + 1)
    frames = [received(None), (0, b"{}"), received(trade, START_S - MAX_AHEAD_S)]
    assert list(trades_of(frames, *HOUR)) == []
    assert list(trades_of([received(trade, START_S + 1 - MAX_AHEAD_S)], *HOUR)) == [trade]


def test_a_topic_that_does_not_exist_is_told(settings: KafkaSettings) -> None:
    with pytest.raises(KafkaError, match=settings.topic):
        topic_id(settings)


def test_no_broker_is_told(nowhere: KafkaSettings) -> None:
    with pytest.raises(KafkaUnreachableError, match="does not answer; start it with `cryptoflow services up`"):
        topic_id(nowhere)
    with pytest.raises(KafkaUnreachableError, match="does not answer"):
        first_times_ms(nowhere, "t", [0])
    assert first_times_ms(nowhere, "t", []) == {}
    with pytest.raises(KafkaUnreachableError, match="does not answer"):
        list(records_between(nowhere, "t", {}, {0: 1}))
