"""The topic of dead letters: each frame with why, by whom and where it was found."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from cryptoflow.kafka_io.log import open_log
from cryptoflow.kafka_io.records import records_between
from cryptoflow.settings import KafkaSettings

Source = Literal["feed", "rest", "aggregate"]
"""Who finds one: the feed's client in a frame of the socket, whoever asks for the past in an answer, or the aggregation
in the topic of trades."""


def headers_of(reason: str, source: Source, venue: str) -> list[tuple[str, bytes]]:
    """The headers of a dead letter.

    Args:
        venue: the name of the venue that sent it; empty: none did.
    """
    headers = {"reason": reason, "source": source} | ({"venue": venue} if venue else {})
    return [(name, value.encode()) for name, value in headers.items()]


class DeadLetter(NamedTuple):
    """A frame that could not be read."""

    offset: int
    time_ms: int
    """When Kafka took it, in ms since the epoch."""
    frame: bytes
    """As it came."""
    reason: str
    source: str
    """Who found it."""
    venue: str
    """Who sent it, by its name; empty where that is not known."""


def dead_letters(settings: KafkaSettings, last: int | None = None) -> Iterator[DeadLetter]:
    """The dead letters that Kafka still has, the oldest first, one at a time in memory.

    Args:
        last: so many of the newest alone.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: there is no such topic, or it did not give its records in time.
    """
    topic = settings.dead_letter_topic
    with open_log(settings, topic) as log:
        begins, ends = log.begins(), log.ends()
    if last is not None:
        begins = {partition: max(begin, ends[partition] - last) for partition, begin in begins.items()}
    yield from map(_letter, records_between(settings, topic, begins, ends))


def _letter(record: Any) -> DeadLetter:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    reason, source, venue = (headers.get(name, "") for name in ("reason", "source", "venue"))
    return DeadLetter(record.offset, record.timestamp, record.value or b"", reason, source, venue)
