"""A topic's offsets: where it begins, where it ends, and where a time is."""

from collections.abc import Mapping
from typing import Any

from kafka import TopicPartition
from kafka.admin import OffsetSpec

from cryptoflow.errors import KafkaError
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.settings import KafkaSettings

UNKNOWN_TOPIC = 3
"""Kafka's error code of a topic that does not exist."""


def partitions(settings: KafkaSettings, topic: str) -> list[int]:
    """The topic's partitions, in order; errors as `end_offsets`."""
    with admin_client(settings, f"the partitions of {topic}") as admin:
        return partitions_in(admin, topic)


def end_offsets(settings: KafkaSettings, topic: str) -> dict[int, int]:
    """The offset that the next record of each partition will get.

    Raises:
        KafkaUnreachableError: no broker answers; within 10 s.
        KafkaError: there is no such topic, or the broker refuses.
    """
    return _edge_offsets(settings, topic, OffsetSpec.LATEST)


def beginning_offsets(settings: KafkaSettings, topic: str) -> dict[int, int]:
    """The offset of the oldest record that each partition still has; errors as `end_offsets`."""
    return _edge_offsets(settings, topic, OffsetSpec.EARLIEST)


def offsets_for_times(settings: KafkaSettings, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
    """For each partition of `times_ms`, the offset of the first record appended at or after its time.

    Args:
        times_ms: partition to time in ms since the epoch, of a record's append, not of its trade.

    Returns:
        Partition to offset; the partition's end where no record is so young.

    Raises:
        As `end_offsets`.
    """
    with admin_client(settings, f"the offsets of {topic}") as admin:
        found = offsets_in(admin, topic, dict(times_ms))
        late = {partition: OffsetSpec.LATEST for partition, offset in found.items() if offset < 0}
        return found | (offsets_in(admin, topic, late) if late else {})


def _edge_offsets(settings: KafkaSettings, topic: str, spec: Any) -> dict[int, int]:
    with admin_client(settings, f"the offsets of {topic}") as admin:
        return offsets_in(admin, topic, dict.fromkeys(partitions_in(admin, topic), spec))


def described(admin: Any, topic: str) -> Any:
    """What Kafka says of a topic; a KafkaError if there is none."""
    (found,) = admin.describe_topics([topic])
    if found["error_code"] == UNKNOWN_TOPIC:
        raise KafkaError(f"There is no Kafka topic {topic}; `cryptoflow run` makes it.")
    return found


def partitions_in(admin: Any, topic: str) -> list[int]:
    return sorted(partition["partition_index"] for partition in described(admin, topic)["partitions"])


def offsets_in(admin: Any, topic: str, specs: Mapping[int, Any]) -> dict[int, int]:
    wanted = {TopicPartition(topic, partition): spec for partition, spec in specs.items()}
    return {place.partition: found.offset for place, found in admin.list_partition_offsets(wanted).items()}
