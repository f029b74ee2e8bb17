"""The log of trades as a whole: where it begins and ends, and where in it a time is; by one client."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka.admin import OffsetSpec

from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.offsets import described, offsets_in, partitions_in
from cryptoflow.model.offsets import Offsets
from cryptoflow.settings import KafkaSettings


class Log:
    """A topic; `open_log` makes it. All of it raises a KafkaError where the broker does not answer."""

    def __init__(self, admin: Any, topic: str) -> None:
        self._admin, self.topic = admin, topic
        self.topic_id = str(described(admin, topic)["topic_id"])
        """The id that Kafka gave the topic when it was made; a topic made anew has another."""

    def beside(self, topic: str) -> "Log | None":
        """Another topic of the same broker, by the same client; None: there is no such."""
        return Log(self._admin, topic) if topic in self._admin.list_topics() else None

    def begins(self) -> Offsets:
        """The oldest record that each partition still has."""
        return self._at(OffsetSpec.EARLIEST)

    def ends(self) -> Offsets:
        """The offset that the next record of each partition will get."""
        return self._at(OffsetSpec.LATEST)

    def at(self, time_ms: int, ends: Mapping[int, int]) -> Offsets:
        """The first record of each partition that was received at a time or later; `ends` where there is none.

        All before it were received earlier, whatever the clocks of the producers did.
        """
        return {place: ends[place] if offset < 0 else offset for place, offset in self._at(time_ms).items()}

    def _at(self, spec: Any) -> Offsets:
        return offsets_in(self._admin, self.topic, dict.fromkeys(partitions_in(self._admin, self.topic), spec))


@contextmanager
def open_log(settings: KafkaSettings, topic: str | None = None) -> Iterator[Log]:
    """The topic of trades, or another one.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic, or the broker refuses.
    """
    topic = topic or settings.topic
    with admin_client(settings, f"the offsets of {topic}") as admin:
        yield Log(admin, topic)
