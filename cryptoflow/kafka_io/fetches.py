"""How far stretches of the past were written into the topic of history, so that a later run goes on with them.

It is the committed offset of a consumer group for each stretch, with what its writer has to know. So Kafka keeps it,
forgets it with the topic, and lets it expire about when the trades do; without it a stretch is written anew, and a
repair counts each trade once.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from kafka import TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.log import Log
from cryptoflow.kafka_io.records import records_between
from cryptoflow.model.trade import read_trade
from cryptoflow.runtime.retry import retried
from cryptoflow.settings import KafkaSettings

Result = TypeVar("Result")


class Written(NamedTuple):
    """How far a stretch was written: its records are between the offsets, with others."""

    partition: int
    begin: int
    end: int
    last_id: str
    """Of the trade in its last record."""
    note: str = ""
    """What its writer has to know to go on; 3 kB at most."""


class Fetches:
    """The stretches of a topic of history; `open_fetches` makes it. Any thread may use it.

    All of it raises a KafkaError where the broker does not answer.
    """

    def __init__(self, settings: KafkaSettings, admin: Any) -> None:
        self._settings, self._admin = settings, admin
        self._log = Log(admin, settings.history_topic)
        self._lock = threading.Lock()

    def written(self, name: str) -> Written | None:
        """How far the stretch of a name was written; None: nothing of it is known, or it is not there any more."""
        with self._lock:
            return self._written(self._group(name))

    def _written(self, group: str) -> Written | None:
        found = self._retried(lambda: self._admin.list_group_offsets({group: None}).get(group, {}))
        for place, committed in found.items():
            topic_id, begin, last_id, note = (committed.metadata or "").split(" ", 3)
            written = Written(place.partition, int(begin), committed.offset, last_id, note)
            if (place.topic, topic_id) == (self._log.topic, self._log.topic_id) and self._is_there(written):
                return written
        return None

    def _is_there(self, written: Written) -> bool:
        """Whether the topic still has its records."""
        place = written.partition
        if not self._log.begins().get(place, 0) <= written.begin < written.end <= self._log.ends().get(place, 0):
            return False
        found = records_between(self._settings, self._log.topic, {place: written.end - 1}, {place: written.end})
        return any(read_trade(record.value).id == written.last_id for record in found if record.value)

    def keep(self, name: str, written: Written) -> None:
        """Put down how far the stretch of a name was written."""
        place = TopicPartition(self._log.topic, written.partition)
        metadata = f"{self._log.topic_id} {written.begin} {written.last_id} {written.note}"
        with self._lock:
            self._retried(lambda: self._commit(self._group(name), place, OffsetAndMetadata(written.end, metadata)))

    def _commit(self, group: str, place: TopicPartition, offset: OffsetAndMetadata) -> None:
        error = self._admin.alter_group_offsets(group, {place: offset})[place]
        if error.errno:
            raise error

    def _retried(self, call: Callable[[], Result]) -> Result:
        """What is asked of the group's coordinator, which Kafka has to find first, or to move."""
        return retried(call, (errors.RetriableError,), self._settings.delivery_timeout_s)

    def _group(self, name: str) -> str:
        return f"{self._log.topic}.{name}"


@contextmanager
def open_fetches(settings: KafkaSettings) -> Iterator[Fetches]:
    """The stretches of the topic of history, which has to exist.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic, or the broker refuses.
    """
    with admin_client(settings, f"how far {settings.history_topic} was written") as admin:
        yield Fetches(settings, admin)
