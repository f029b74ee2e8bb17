"""The producer of trades of the past, on a real broker: exact records, where they come from, and nothing unsaid."""

from collections.abc import Callable
from typing import Any

import pytest

from cryptoflow.errors import DeliveryError
from cryptoflow.kafka_io.dead_letters import dead_letters
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade
from cryptoflow.settings import KafkaSettings
from cryptoflow.venues.events import Unreadable
from cryptoflow_tests.mortal import MortalKafka

SOURCE = "https://api.kraken.com"

Read = Callable[[KafkaSettings, str], list[Any]]
Make = Callable[..., tuple[Trade, bytes]]


def test_what_is_put_is_in_the_topic_of_history_and_says_where_it_came_from(
    settings: KafkaSettings, read: Read, trade: Make
) -> None:
    make_topics(settings)
    trades = [*map(trade, range(50)), *(trade(number, from_coin="ETH") for number in range(50))]
    with HistoryProducer(settings, "gap") as producer:
        producer.put(trades, [Unreadable(b"row", "no price")], SOURCE, "kraken")
        records = read(settings, settings.history_topic)
        assert sorted(record.value for record in records) == sorted(record for _, record in trades)
        assert {tuple(record.headers) for record in records} == {(("source", SOURCE.encode()), ("reason", b"gap"))}
        assert {record.key for record in records} == {b"Kraken~BTC~USD", b"Kraken~ETH~USD"}
        assert len({(record.key, record.partition) for record in records}) == 2
    [dead] = dead_letters(settings)
    assert (dead.frame, dead.reason, dead.source, dead.venue) == (b"row", "no price", "rest", "kraken")
    assert read(settings, settings.topic) == []


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # kafka-python leaks a socket for each refused connect
def test_what_kafka_does_not_take_is_told(mortal_kafka: MortalKafka, topic: str, trade: Make) -> None:
    settings = KafkaSettings(bootstrap_servers=mortal_kafka.server, topic=topic, delivery_timeout_s=1)
    make_topics(settings)
    with HistoryProducer(settings, "gap") as producer:
        producer.put([trade(1)], (), SOURCE, "kraken")
        mortal_kafka.kill()
        with pytest.raises(DeliveryError, match="did not take what was fetched of the past"):
            producer.put([trade(2)], (), SOURCE, "kraken")
