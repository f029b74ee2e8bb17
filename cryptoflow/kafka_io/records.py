"""What a topic is and holds: its identity, and when its oldest records came."""

from collections.abc import Sequence

from kafka import KafkaConsumer, TopicPartition

from cryptoflow.errors import KafkaError
from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, admin_client, client_config, told
from cryptoflow.kafka_io.offsets import described
from cryptoflow.settings import KafkaSettings


def topic_id(settings: KafkaSettings) -> str:
    """The id that Kafka gave the topic of trades when it was made; a topic made anew has another.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic.
    """
    with admin_client(settings, f"to describe {settings.topic}") as admin:
        return str(described(admin, settings.topic)["topic_id"])


def first_times_ms(settings: KafkaSettings, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """When Kafka received the oldest record that it still has of each partition, in ms since the epoch.

    Partitions that are empty now are left out.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: a record did not come in time.
    """
    if not partitions:
        return {}
    with told(settings, f"to read {topic}"):
        consumer = KafkaConsumer(**client_config(settings), enable_auto_commit=False, max_poll_records=1)
        try:
            places = [TopicPartition(topic, partition) for partition in partitions]
            ends = consumer.end_offsets(places)
            begins = consumer.beginning_offsets(places)
            return {place.partition: _first_time_ms(consumer, place) for place in places if begins[place] < ends[place]}
        finally:
            consumer.close(autocommit=False)


def _first_time_ms(consumer: KafkaConsumer, place: TopicPartition) -> int:
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    records = consumer.poll(timeout_ms=int(ANSWER_TIMEOUT_S * 1000)).get(place)
    if not records:
        raise KafkaError(f"Partition {place.partition} of {place.topic} did not give its first record in time.")
    return int(records[0].timestamp)
