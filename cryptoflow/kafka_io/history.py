"""The producer of trades of the past, into the topic of history, and of what is to be filled."""

import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer, errors

from cryptoflow.errors import DeliveryError
from cryptoflow.kafka_io.connection import our_errors
from cryptoflow.kafka_io.dead_letters import headers_of
from cryptoflow.kafka_io.kafka_python import producer_config, shut
from cryptoflow.model.trade import kafka_key
from cryptoflow.settings import KafkaSettings
from cryptoflow.venues.events import Recorded, Unreadable

Headers = Sequence[tuple[str, bytes]]

Span = tuple[int, int, int]
"""(partition, offset of the first record, offset behind the last one)."""


class HistoryProducer:
    """Writes trades of the past, each the venue's exact record, with headers that say where they come from and why.

    Any thread may use it. Each call returns when Kafka has acknowledged all that it wrote, and raises a DeliveryError
    where it has not. The topics have to exist.

    Args:
        reason: why the trades are fetched.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the broker refuses.
    """

    def __init__(self, settings: KafkaSettings, reason: str) -> None:
        self._settings, self._reason = settings, reason
        self._lock = threading.Lock()
        with our_errors(settings, "the producer of history"):
            self._producer = KafkaProducer(**producer_config(settings))

    def put(self, trades: Sequence[Recorded], unreadable: Sequence[Unreadable], source: str, venue: str) -> Span | None:
        """Write trades into the topic of history, and rows that are none into the dead letters.

        Args:
            source: the address that they come from.
            venue: its name.

        Returns:
            Where the trades are, if they are of one pair, with those that others have written meanwhile; None: there
            were none.
        """
        headers = [("source", source.encode()), ("reason", self._reason.encode())]
        topic, dead = self._settings.history_topic, self._settings.dead_letter_topic
        with self._lock:
            sent = [self._send(topic, record, kafka_key(trade.pair), headers) for trade, record in trades]
            sent += [self._send(dead, each.frame, None, headers_of(each.reason, "rest", venue)) for each in unreadable]
            records = self._await(sent)[: len(trades)]
        return (records[0].partition, records[0].offset, records[-1].offset + 1) if records else None

    def put_gaps(self, gaps: Mapping[bytes, bytes]) -> None:
        """Write records by their keys into the topic of gaps."""
        with self._lock:
            self._await([self._send(self._settings.gaps_topic, value, key) for key, value in gaps.items()])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shut(self._producer, force=self._lock.locked())  # a thread may wait in vain

    def _send(self, topic: str, value: bytes, key: bytes | None, headers: Headers = ()) -> Any:
        try:
            return self._producer.send(topic, value, key, headers=list(headers))
        except errors.KafkaError as error:
            raise self._undelivered(error) from None

    def _await(self, futures: Sequence[Any]) -> list[Any]:
        try:
            return [future.get(self._settings.delivery_timeout_s) for future in futures]
        except errors.KafkaError as error:
            raise self._undelivered(error) from None

    def _undelivered(self, error: Exception) -> DeliveryError:
        return DeliveryError(
            f"Kafka at {self._settings.bootstrap_servers} did not take what was fetched of the past "
            f"({str(error) or type(error).__name__}); see that it runs, then start the run again."
        )
