"""The end of a topic, on a real broker: the last trades of each pair, however rare, and within its time."""

from collections.abc import Callable
from typing import Any

import pytest

from cryptoflow.kafka_io import tail
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.tail import last_trades, newest_values
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade
from cryptoflow.settings import KafkaSettings

Make = Callable[..., tuple[Trade, bytes]]

BTC, ETH = ("Kraken", "BTC", "USD"), ("Kraken", "ETH", "USD")


@pytest.fixture
def topics(settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    """One partition, of which 40 records are read in any case."""
    monkeypatch.setattr(tail, "BLOCK", 10)
    settings = settings.model_copy(update={"partitions": 1})
    make_topics(settings)
    return settings


def put(settings: KafkaSettings, trades: list[tuple[Trade, bytes]]) -> None:
    with TradeProducer(settings) as producer:
        for trade in trades:
            producer.trade(*trade)


def ids(trades: list[Trade]) -> list[int]:
    return sorted(int(trade.id) for trade in trades)


def found(settings: KafkaSettings, *pairs: tuple[str, str, str], **limits: Any) -> list[int]:
    options: dict[str, Any] = {"taken": lambda trade: True, "within_s": 30} | limits
    return ids(last_trades(settings, settings.topic, pairs, **options))


def test_the_last_records_are_read_and_further_back_until_each_pair_has_some(
    topics: KafkaSettings, trade: Make
) -> None:
    # ETH 0  |  BTC 1 ... 99
    put(topics, [trade(0, from_coin="ETH"), *map(trade, range(1, 100))])
    assert found(topics, BTC) == list(range(60, 100))
    assert found(topics, BTC, ETH) == list(range(100))
    assert found(topics, ETH) == [0]
    assert found(topics, BTC, ETH, most_blocks=6) == list(range(40, 100))


def test_what_does_not_count_and_what_is_no_trade_is_left_out(topics: KafkaSettings, trade: Make) -> None:
    odd = trade(7)[0]
    put(topics, [*map(trade, range(30)), (odd, b"garbage"), (odd, b"")])
    assert found(topics, BTC, taken=lambda trade: int(trade.id) % 2 == 0) == list(range(0, 30, 2))
    assert found(topics, ("Gemini", "BTC", "USD")) == []


def test_it_is_left_at_what_was_read_when_time_is_up(topics: KafkaSettings, trade: Make) -> None:
    put(topics, [*map(trade, range(200))])
    assert found(topics, BTC, within_s=-1) == []
    assert len(found(topics, BTC, ETH, within_s=0.02)) < 200


def test_an_empty_topic_has_no_last_trade_and_no_value(topics: KafkaSettings) -> None:
    assert found(topics, BTC) == []
    assert newest_values(topics, topics.gaps_topic) == {}


def test_of_each_key_the_newest_value_counts_also_from_another_producer(topics: KafkaSettings) -> None:
    for values in ({b"one": b"1", b"two": b"2"}, {b"one": b"3", b"three": b""}):
        with HistoryProducer(topics, "gap") as producer:
            producer.put_gaps(values)
    assert newest_values(topics, topics.gaps_topic) == {b"one": b"3", b"two": b"2"}
