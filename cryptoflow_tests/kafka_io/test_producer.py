"""The producer against a real broker, by each client: what it says is acknowledged is in the topic, once."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.partitioner import DefaultPartitioner

from cryptoflow.errors import DeliveryError, KafkaError, KafkaUnreachableError
from cryptoflow.feeds.sink import Sink
from cryptoflow.feeds.socket import MAX_FRAME_BYTES
from cryptoflow.kafka_io import producer as producer_module
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade, kafka_key
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.mortal import MortalKafka

Make = Callable[..., tuple[Trade, bytes]]
Read = Callable[[KafkaSettings, str], list[Any]]


CREATE_TIME = 0
"""Kafka's number of records that the producer has stamped."""

CLIENTS = ("kafka-python", "confluent-kafka")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """The library that sends, as KAFKA_PRODUCER names it."""
    return str(request.param)


@pytest.fixture
def settings(settings: KafkaSettings, client: str) -> KafkaSettings:
    """The session's Kafka, a topic that is not made yet, and a client."""
    return settings.model_copy(update={"producer": client})


leaks = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""kafka-python leaves the sockets of refused connections to the garbage collector."""


def send(producer: TradeProducer, trades: list[tuple[Trade, bytes]]) -> None:
    for trade, frame in trades:
        producer.trade(trade, frame)


def test_it_is_a_sink_for_the_feed(settings: KafkaSettings) -> None:
    make_topics(settings)
    with TradeProducer(settings) as producer:
        sink: Sink = producer
        assert sink is producer


def test_all_that_was_acknowledged_is_in_the_topic_as_it_came(settings: KafkaSettings, trade: Make, read: Read) -> None:
    make_topics(settings)
    markets = ["Coinbase", "Binance", "Kraken", "CoinDeal", "Gemini"]
    sent = [trade(number, market=markets[number % 5]) for number in range(5000)]
    with TradeProducer(settings) as producer:
        send(producer, sent)
        producer.flush()
        assert (producer.acked, producer.unacknowledged) == (5000, 0)
    records = read(settings, settings.topic)
    assert Counter((record.key, record.value) for record in records) == Counter(
        (kafka_key(each.pair), frame) for each, frame in sent
    )


def test_pairs_without_end_fill_no_memory_and_keep_their_partitions(
    settings: KafkaSettings, trade: Make, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer_module, "MAX_KEYS", 10)
    make_topics(settings)
    with TradeProducer(settings) as producer:
        for number in range(200):
            producer.trade(*trade(number, market=f"Market{number % 50}"))
        assert len(producer._keys) <= 10
    places = {(record.key, record.partition) for record in read(settings, settings.topic)}
    assert len(places) == 50


def test_a_pairs_trades_are_in_one_partition_in_order(settings: KafkaSettings, trade: Make, read: Read) -> None:
    make_topics(settings)
    with TradeProducer(settings) as producer:
        for number in range(2000):
            producer.trade(*trade(number, market="AB"[number % 2]))
    records = read(settings, settings.topic)
    for market in "AB":
        key = f"{market}~BTC~USD".encode()
        ours = [record for record in records if record.key == key]
        assert len({record.partition for record in ours}) == 1
        assert [record.value for record in ours] == [
            trade(number, market=market)[1] for number in range(2000) if "AB"[number % 2] == market
        ]


def test_the_partition_of_a_key_is_the_one_that_other_producers_take(
    settings: KafkaSettings, trade: Make, read: Read
) -> None:
    make_topics(settings)
    with TradeProducer(settings) as producer:
        for number in range(50):
            producer.trade(*trade(number, market=f"M{number}"))

    class FourPartitions:
        def topics(self) -> set[str]:
            return {settings.topic}

        def partitions_for_topic(self, topic: str) -> set[int]:
            return {0, 1, 2, 3}

        available_partitions_for_topic = partitions_for_topic

    for record in read(settings, settings.topic):
        wanted = DefaultPartitioner().partition(settings.topic, None, record.key, None, None, FourPartitions())
        assert record.partition == wanted


def test_dead_letters_keep_the_frame_and_tell_why_and_where(settings: KafkaSettings, read: Read) -> None:
    make_topics(settings)
    with TradeProducer(settings, source="aggregate") as producer:
        producer.dead_letter(b"\xff\x00 no json", "it is no JSON")
        producer.dead_letter(None, "no value", found_at=("trades", 3, 17))
        producer.dead_letter(b"{}", "no type", venue="kraken")
        producer.flush()
        assert (producer.dead_letters_acked, producer.acked) == (3, 0)
    first, second, third = read(settings, settings.dead_letter_topic)
    assert (first.key, first.value) == (None, b"\xff\x00 no json")
    assert dict(first.headers) == {"reason": b"it is no JSON", "source": b"aggregate"}
    assert second.value == b""
    assert dict(second.headers) == {
        "reason": b"no value", "source": b"aggregate", "topic": b"trades", "partition": b"3", "offset": b"17",
    }  # fmt: skip
    assert dict(third.headers) == {"reason": b"no type", "source": b"aggregate", "venue": b"kraken"}


def test_a_record_has_the_time_it_was_sent_at(settings: KafkaSettings, trade: Make, read: Read) -> None:
    make_topics(settings)
    begun_ms = int(time.time() * 1000)
    with TradeProducer(settings) as producer:
        producer.trade(*trade(1))
        producer.dead_letter(b"", "empty")
    ended_ms = int(time.time() * 1000)
    for topic in (settings.topic, settings.dead_letter_topic):
        (record,) = read(settings, topic)
        assert begun_ms <= record.timestamp <= ended_ms
        assert record.timestamp_type == CREATE_TIME


def test_whoever_reads_what_is_acknowledged_meanwhile_sees_it_grow_and_never_too_much(
    settings: KafkaSettings, trade: Make
) -> None:
    make_topics(settings)
    seen, over = [0], threading.Event()
    with TradeProducer(settings) as producer:

        def look() -> None:
            while not over.is_set():
                seen.append(producer.acked)

        reader = threading.Thread(target=look)
        reader.start()
        for number in range(3000):
            producer.trade(*trade(number))
        producer.dead_letter(b"", "empty")
        producer.flush()
        over.set()
        reader.join()
        assert producer.acked == 3000
    assert seen == sorted(seen)
    assert seen[-1] <= 3000


def test_what_fails_is_told_at_the_next_trade_however_late_it_comes(settings: KafkaSettings, trade: Make) -> None:
    make_topics(settings)
    with admin_client(settings, "to limit the topic") as admin:
        limit = ConfigResource(ConfigResourceType.TOPIC, settings.topic, configs={"max.message.bytes": "1000"})
        admin.alter_configs([limit])
    producer = TradeProducer(settings)
    producer.trade(trade(1)[0], b"x" * 2000)

    def go_on() -> None:
        for number in range(200):  # 10 s: the first one after the refusal is enough
            time.sleep(0.05)
            producer.trade(*trade(number))

    with pytest.raises(DeliveryError, match="did not take a record"):
        go_on()
    with pytest.raises(DeliveryError, match="did not take a record"):
        producer.flush()
    with pytest.raises(DeliveryError):
        producer.close()


def test_the_largest_frame_of_a_feed_fits(settings: KafkaSettings, read: Read) -> None:
    make_topics(settings)
    frame = b"x" * MAX_FRAME_BYTES
    with TradeProducer(settings) as producer:
        producer.dead_letter(frame, "it is long")
    (record,) = read(settings, settings.dead_letter_topic)
    assert record.value == frame


def test_a_topic_that_was_not_made_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(KafkaError, match=f"no Kafka topic {settings.topic}"):
        TradeProducer(settings)


def test_a_frame_too_large_for_kafka_is_told(settings: KafkaSettings, trade: Make) -> None:
    make_topics(settings)
    producer = TradeProducer(settings)
    with pytest.raises(DeliveryError, match=r"larger than|too large"):
        producer.trade(trade(1)[0], b"x" * 2_000_000)
    with pytest.raises(DeliveryError):
        producer.close()


@leaks
def test_a_killed_broker_is_told_once_the_delivery_times_out_and_stays_told(
    mortal_kafka: MortalKafka, trade: Make, topic: str, client: Any
) -> None:
    server = mortal_kafka.server
    settings = KafkaSettings(bootstrap_servers=server, topic=topic, delivery_timeout_s=2, producer=client)
    make_topics(settings)
    producer = TradeProducer(settings, max_unacknowledged=1000)
    send(producer, [trade(number) for number in range(100)])
    producer.flush()
    mortal_kafka.kill()
    started = time.monotonic()
    with pytest.raises(DeliveryError, match=f"{settings.bootstrap_servers} did not acknowledge.* within 2 s"):
        send(producer, [trade(number) for number in range(10_000)])
    assert 1.5 < time.monotonic() - started < 8
    assert producer.acked == 100
    with pytest.raises(DeliveryError):
        producer.dead_letter(b"", "late")
    with pytest.raises(DeliveryError):
        producer.close(timeout_s=1)
    producer.close()
    with pytest.raises(KafkaUnreachableError):
        TradeProducer(settings)


@leaks
def test_a_full_producer_blocks_and_goes_on_when_kafka_is_back(
    mortal_kafka: MortalKafka, trade: Make, read: Read, topic: str, client: Any
) -> None:
    server = mortal_kafka.server
    settings = KafkaSettings(bootstrap_servers=server, topic=topic, delivery_timeout_s=60, producer=client)
    make_topics(settings)
    producer = TradeProducer(settings, max_unacknowledged=500)
    producer.trade(*trade(0))
    producer.flush()
    mortal_kafka.kill()
    handed_over = [0]

    def hand_over() -> None:
        for number in range(1, 2000):
            producer.trade(*trade(number))
            handed_over[0] = number

    thread = threading.Thread(target=hand_over)
    thread.start()
    thread.join(1)
    assert thread.is_alive()
    assert handed_over[0] == producer.unacknowledged == 500
    mortal_kafka.start()
    thread.join(30)
    assert not thread.is_alive()
    producer.close()
    assert producer.acked == 2000
    found = read(settings, settings.topic)
    assert [record.value for record in found] == [trade(number)[1] for number in range(2000)]
