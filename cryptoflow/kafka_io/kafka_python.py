"""The producer of kafka-python.

Measured on two cores with real frames, in µs of the process for each record: 18 by `KafkaProducer.send` with callbacks;
15 without, the futures looked at; 9 as here, past `send`. Without the package `crc32c` most of the time would go into
its checksum.
"""

import contextlib
from collections import deque
from typing import Any, NamedTuple

from kafka import KafkaProducer, TopicPartition, errors

from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, client_config, our_errors
from cryptoflow.kafka_io.delivery import CLOSE_TIMEOUT_S, LINGER_MS, NO_HEADERS, Delivery, Headers, timeouts_ms
from cryptoflow.settings import KafkaSettings

BATCH_BYTES = 256 * 1024
"""16 KiB, the default, is a third slower; 1 MiB no faster."""


class _Lane(NamedTuple):
    """A partition, and the futures of its records on their way, in their order, in which they end."""

    place: TopicPartition
    futures: deque[Any]


class KafkaPythonDelivery(Delivery):
    """As `Delivery`.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the broker refuses.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings)
        self._lanes: dict[tuple[str, int | None], _Lane] = {}
        with our_errors(settings, "the producer"):
            self._producer = KafkaProducer(**producer_config(settings))
        # What `send` does for each record besides takes as long again as all the rest of a record's way: it asks for
        # the partitions of the topic, which are known, and for the record's size, looks at the types, and writes a line
        # of a log that nobody reads. There is no public way past it, so kafka-python's version is bound by pyproject.
        self._append = self._producer._accumulator.append
        self._wake_sender = self._producer._sender.wakeup

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """As for all."""
        try:
            lane = self._lanes.get((topic, partition)) or self._lane(topic, partition)
            if partition is None or len(value) >= BATCH_BYTES:
                sent = self._producer.send(topic, value, key=key, partition=partition, headers=headers)
            else:
                sent, _, begun, _ = self._append(lane.place, None, key, value, headers)
                if begun:  # a batch: it is to be sent when it has waited, and the one before it now
                    self._wake_sender()
        except errors.KafkaError as error:
            self._failed(self._fault(error))
        else:
            lane.futures.append(sent)

    def settle(self, wait_s: float = 0) -> None:
        """As for all."""
        lanes = list(self._lanes.values())
        if wait_s:
            fullest = max((lane.futures for lane in lanes), key=len)
            with contextlib.suppress(errors.KafkaError):  # told below
                fullest[0].get(wait_s)
        for lane in lanes:
            self._settle(lane)

    def _settle(self, lane: _Lane) -> None:
        records, size, futures = 0, 0, lane.futures
        while futures and futures[0].is_done:
            future = futures.popleft()
            if future.exception is None:
                records += 1
                size += future.value.serialized_value_size
            else:
                self._lost(self._fault(future.exception))
        if records:
            self._acknowledged(lane.place.topic, records, size)

    def flush(self, wait_s: float) -> None:
        """As for all."""
        # In short turns, as kafka-python's own timeout holds for each batch and not for all together.
        with contextlib.suppress(errors.KafkaTimeoutError):
            self._producer.flush(wait_s)
        self.settle()

    def close(self, *, force: bool) -> None:
        """As for all."""
        shut(self._producer, force=force)

    def _lane(self, topic: str, partition: int | None) -> _Lane:
        self._producer.partitions_for(topic)  # so that it knows who leads them
        lane = self._lanes[topic, partition] = _Lane(TopicPartition(topic, partition), deque())
        return lane

    def _fault(self, error: Exception) -> str:
        if isinstance(error, errors.KafkaTimeoutError):
            return self._timed_out()
        return f"did not take a record ({str(error) or type(error).__name__})"


def shut(producer: KafkaProducer, *, force: bool) -> None:
    """Close kafka-python's producer; by force while a record is on its way, else it would not close."""
    if force:
        producer._sender.force_close()  # there is no public way: `close` flushes first, for its whole timeout
        producer._sender.join(CLOSE_TIMEOUT_S)
    producer.close(timeout=CLOSE_TIMEOUT_S)


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments of a producer of kafka-python that loses and repeats nothing."""
    delivery_ms, request_ms = timeouts_ms(settings)
    return client_config(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": LINGER_MS,
        "batch_size": BATCH_BYTES,
        "delivery_timeout_ms": delivery_ms,
        "request_timeout_ms": request_ms,
        "max_block_ms": int(ANSWER_TIMEOUT_S * 1000),
        "metrics_enabled": False,
        "allow_auto_create_topics": False,  # one made by the broker would have its defaults, not our settings
    }
