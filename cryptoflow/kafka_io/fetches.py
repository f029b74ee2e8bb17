"""The topic of trades of the past: pages of them, and how far each stretch of it was written.

How far a stretch was written is the committed offset of a consumer group of its own, with what its writer has to know
to go on. So Kafka keeps it, forgets it with the topic, and lets it expire about when the trades do; without it a
stretch is written anew, and the repair counts each trade once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from kafka import KafkaProducer, TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from cryptoflow.errors import DeliveryError
from cryptoflow.kafka_io.connection import admin_client, our_errors
from cryptoflow.kafka_io.kafka_python import producer_config, shut
from cryptoflow.kafka_io.log import Log
from cryptoflow.kafka_io.records import records_between
from cryptoflow.model.trade import kafka_key, read_trade
from cryptoflow.runtime.retry import retried
from cryptoflow.settings import KafkaSettings
from cryptoflow.venues.base import Recorded, Unreadable

Result = TypeVar("Result")

SOURCE = "source"
"""The header that says where a record comes from."""


class Written(NamedTuple):
    """How far a stretch was written: its records are between the offsets, with others."""

    partition: int
    begin: int
    end: int
    last_id: str
    """Of the trade in its last record."""
    note: str = ""
    """What its writer has to know to go on."""


class History:
    """The topic; `open_history` makes it. To be used by one thread.

    All of it raises a KafkaError where the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, admin: Any, producer: KafkaProducer) -> None:
        self._settings, self._admin, self._producer = settings, admin, producer
        self._log = Log(admin, settings.history_topic)

    def put(self, trades: Sequence[Recorded], source: str) -> tuple[int, int, int]:
        """Write trades of one pair, one at least, in their order; returns when Kafka has them all.

        Args:
            source: where they come from, for their header.

        Returns:
            (partition, the first one's offset, the offset behind the last one's).

        Raises:
            DeliveryError: one was not acknowledged.
        """
        key, headers = kafka_key(trades[0][0].pair), [(SOURCE, source.encode())]
        topic = self._settings.history_topic
        done = self._sent([(topic, {"key": key, "value": record, "headers": headers}) for _, record in trades])
        return done[0].partition, done[0].offset, done[-1].offset + 1

    def dead_letters(self, unreadable: Sequence[Unreadable], source: str) -> None:
        """Write what could not be read, with the reasons; as `put`."""
        letters = [
            {"value": each.frame, "headers": [("reason", each.reason.encode()), (SOURCE, source.encode())]}
            for each in unreadable
        ]
        self._sent([(self._settings.dead_letter_topic, letter) for letter in letters])

    def _sent(self, records: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
        with our_errors(self._settings, "trades of the past"):
            futures = [self._producer.send(topic, **record) for topic, record in records]
            self._producer.flush()
        if failed := next((future for future in futures if not future.succeeded()), None):
            raise DeliveryError(
                f"Kafka at {self._settings.bootstrap_servers} did not take trades of the past ({failed.exception}); "
                "see that it runs, then start it again."
            )
        return [future.value for future in futures]

    def written(self, name: str) -> Written | None:
        """How far the stretch of a name was written; None: nothing of it is known, or it is not there any more."""
        group, topic = self._group(name), self._settings.history_topic
        found = self._retried(lambda: self._admin.list_group_offsets({group: None}).get(group, {}))
        for place, committed in found.items():
            topic_id, begin, last_id, note = (committed.metadata or "").split(" ", 3)
            written = Written(place.partition, int(begin), committed.offset, last_id, note)
            if place.topic == topic and topic_id == self._log.topic_id and self._is_there(written):
                return written
        return None

    def _is_there(self, written: Written) -> bool:
        """Whether the topic still has its records."""
        place = written.partition
        if not self._log.begins().get(place, 0) <= written.begin < written.end <= self._log.ends().get(place, 0):
            return False
        found = records_between(self._settings, self._log.topic, {place: written.end - 1}, {place: written.end})
        return any(read_trade(record.value).id == written.last_id for record in found if record.value)

    def note(self, name: str, written: Written) -> None:
        """Put down how far the stretch of a name was written; 3 kB of it at most."""
        place = TopicPartition(self._settings.history_topic, written.partition)
        metadata = f"{self._log.topic_id} {written.begin} {written.last_id} {written.note}"
        self._retried(lambda: self._commit(self._group(name), place, OffsetAndMetadata(written.end, metadata)))

    def _commit(self, group: str, place: TopicPartition, offset: OffsetAndMetadata) -> None:
        error = self._admin.alter_group_offsets(group, {place: offset})[place]
        if error.errno:
            raise error

    def _retried(self, call: Callable[[], Result]) -> Result:
        """What is asked of the group's coordinator, which Kafka has to find first, or to move."""
        return retried(call, (errors.RetriableError,), self._settings.delivery_timeout_s)

    def _group(self, name: str) -> str:
        return f"{self._settings.history_topic}.{name}"


@contextmanager
def open_history(settings: KafkaSettings) -> Iterator[History]:
    """The topic, which has to exist.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic, or the broker refuses.
    """
    with admin_client(settings, f"to write {settings.history_topic}") as admin:
        producer = KafkaProducer(**producer_config(settings))
        try:
            yield History(settings, admin, producer)
        finally:
            shut(producer, force=False)
