"""The topics, made on a real broker."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from cryptoflow.errors import KafkaError
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import leases_topic, make_topics, topics_of
from cryptoflow.settings import KafkaSettings


def with_changes(settings: KafkaSettings, **changes: object) -> KafkaSettings:
    return settings.model_copy(update=changes)


def config_of(settings: KafkaSettings, topic: str) -> dict[str, str]:
    with admin_client(settings, "to look") as admin:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {name: str(entry["value"]) for name, entry in found["topic"][topic].items()}


def retention_ms(settings: KafkaSettings) -> str:
    return config_of(settings, settings.topic)["retention.ms"]


def test_the_topics_are_made_as_the_settings_say(settings: KafkaSettings) -> None:
    settings = with_changes(settings, partitions=3, retention_hours=5)
    others = [f"{settings.topic}.{name}" for name in ("history", "gaps", "deadletter", "leases")]
    assert make_topics(settings) == [settings.topic, *others]
    assert end_offsets(settings, settings.topic) == end_offsets(settings, settings.history_topic) == {0: 0, 1: 0, 2: 0}
    assert end_offsets(settings, settings.dead_letter_topic) == {0: 0}
    assert retention_ms(settings) == str(5 * 3600 * 1000)
    assert config_of(settings, settings.history_topic) == config_of(settings, settings.topic)
    assert config_of(settings, settings.gaps_topic)["cleanup.policy"] == "compact"


def test_the_topic_of_leases_is_short_and_keeps_the_brokers_time(settings: KafkaSettings) -> None:
    make_topics(with_changes(settings, partitions=3))
    assert end_offsets(settings, leases_topic(settings)) == {0: 0}
    config = config_of(settings, leases_topic(settings))
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert int(config["segment.ms"]) < int(config["retention.ms"]) == 3600 * 1000


@pytest.mark.parametrize(("replication", "copies"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_what_is_acknowledged_has_all_copies_but_one(replication: int, copies: int) -> None:
    settings = KafkaSettings(replication=replication)
    assert {config["configs"]["min.insync.replicas"] for config in topics_of(settings).values()} == {str(copies)}


def test_the_broker_takes_how_many_copies_there_have_to_be(settings: KafkaSettings) -> None:
    for topic in make_topics(settings):
        assert config_of(settings, topic)["min.insync.replicas"] == "1"


def test_a_topic_that_exists_is_left_alone(settings: KafkaSettings) -> None:
    make_topics(with_changes(settings, partitions=2, retention_hours=1))
    assert make_topics(with_changes(settings, partitions=7, retention_hours=9)) == []
    assert len(end_offsets(settings, settings.topic)) == 2
    assert retention_ms(settings) == str(3600 * 1000)


@pytest.mark.parametrize("attempt", range(5))
def test_several_who_make_the_topics_at_once_can_all_use_them(settings: KafkaSettings, attempt: int) -> None:
    settings = with_changes(settings, partitions=100)  # the more there are, the longer until all can be used

    def make_and_use(_: int) -> bool:
        make_topics(settings)
        with TradeProducer(settings) as producer:
            return producer.unacknowledged == 0

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(make_and_use, range(6)))


def test_a_replication_that_the_cluster_can_not_give_is_told(settings: KafkaSettings) -> None:
    with pytest.raises(KafkaError, match="refused to make topics"):
        make_topics(with_changes(settings, replication=3))
