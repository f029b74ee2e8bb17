"""The topic of trades, and those that go with it: trades of the past, gaps, dead letters and leases."""

from collections.abc import Mapping
from typing import Any

from kafka.errors import TopicAlreadyExistsError

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.settings import KafkaSettings

MS_PER_HOUR = 3_600_000

LEASES_RETENTION_MS = MS_PER_HOUR
"""Far longer than any lease lives: who is not heard of in what is left of the log holds none."""

SEGMENT_MS = 600_000
"""Only a closed segment is ever deleted, or compacted."""


def leases_topic(settings: KafkaSettings) -> str:
    """Where those who carry trades into the topic agree on who does."""
    return f"{settings.topic}.leases"


def topics_of(settings: KafkaSettings) -> dict[str, dict[str, Any]]:
    """The topics by name, each with the options that it is made with."""
    retention = {"retention.ms": str(settings.retention_hours * MS_PER_HOUR)}
    leases = {
        "retention.ms": str(LEASES_RETENTION_MS),
        "segment.ms": str(SEGMENT_MS),
        "message.timestamp.type": "LogAppendTime",  # the one clock that all who read it agree on
    }
    gaps = {"cleanup.policy": "compact", "segment.ms": str(SEGMENT_MS)}  # of each pair the newest record is all
    return {
        settings.topic: _options(settings, settings.partitions, retention),
        settings.history_topic: _options(settings, settings.partitions, retention),
        settings.gaps_topic: _options(settings, 1, gaps),
        settings.dead_letter_topic: _options(settings, 1, retention),
        leases_topic(settings): _options(settings, 1, leases),
    }


def _options(settings: KafkaSettings, partitions: int, config: Mapping[str, str]) -> dict[str, Any]:
    # By default one copy is enough for acks=all: what was acknowledged would be lost with that broker.
    copies = max(1, settings.replication - 1)
    return {
        "num_partitions": partitions,
        "replication_factor": settings.replication,
        "configs": {**config, "min.insync.replicas": str(copies)},
    }


def make_topics(settings: KafkaSettings) -> list[str]:
    """Make the topics where missing; a topic that exists is left as it is.

    Returns:
        The topics that were made.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the broker refuses, a replication factor above the number of brokers for one.
    """
    with admin_client(settings, "to make topics") as admin:
        wanted = topics_of(settings)
        present = admin.list_topics()
        made = [topic for topic in wanted if topic not in present and _make(admin, topic, wanted[topic])]
        admin.wait_for_topics(list(wanted))  # whoever made them, a moment passes until they can be used
        return made


def _make(admin: object, topic: str, options: Mapping[str, Any]) -> bool:
    try:
        admin.create_topics({topic: options})  # type: ignore[attr-defined]  # untyped
    except TopicAlreadyExistsError:  # somebody else made it in the meantime
        return False
    return True
