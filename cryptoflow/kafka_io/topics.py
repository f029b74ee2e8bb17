"""The topic of trades and the topic of dead letters."""

from kafka.errors import TopicAlreadyExistsError

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.settings import KafkaSettings

MS_PER_HOUR = 3_600_000


def make_topics(settings: KafkaSettings) -> list[str]:
    """Make the topic of trades and its dead letters where missing; a topic that exists is left as it is.

    Returns:
        The topics that were made.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the broker refuses, a replication factor above the number of brokers for one.
    """
    with admin_client(settings, "to make topics") as admin:
        wanted = {settings.topic: settings.partitions, settings.dead_letter_topic: 1}
        present = admin.list_topics()
        made = []
        for topic, partitions in wanted.items():
            if topic not in present and _make(admin, topic, partitions, settings):
                made.append(topic)
        admin.wait_for_topics(list(wanted))  # whoever made them, a moment passes until they can be used
        return made


def _make(admin: object, topic: str, partitions: int, settings: KafkaSettings) -> bool:
    options = {
        "num_partitions": partitions,
        "replication_factor": settings.replication,
        "configs": {"retention.ms": str(settings.retention_hours * MS_PER_HOUR)},
    }
    try:
        admin.create_topics({topic: options})  # type: ignore[attr-defined]  # untyped
    except TopicAlreadyExistsError:  # somebody else made it in the meantime
        return False
    return True
