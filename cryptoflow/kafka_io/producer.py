"""The producer of trades and dead letters: batched, idempotent, bounded, and sure of what was acknowledged.

Measured on two cores with real frames: most of the time went into kafka-python's checksum, which is pure
Python without the `crc32c` package, and into its hash of the key. Without both it is three times as fast.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

from kafka import KafkaProducer, errors
from kafka.partitioner.default import murmur2

from cryptoflow.errors import DeliveryError
from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, client_config, our_errors
from cryptoflow.kafka_io.offsets import partitions
from cryptoflow.model.trade import Trade, kafka_key
from cryptoflow.settings import KafkaSettings

LINGER_MS = 20
"""How long a batch waits for more records."""

BATCH_BYTES = 256 * 1024
"""16 KiB, the default, is a third slower; 1 MiB no faster."""

MAX_UNACKNOWLEDGED = 20_000
"""Records on their way, at most: some MB, a third of a second of them; 50,000 is slower."""

MAX_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""The same bound for frames that are larger than a trade's few hundred bytes."""

MAX_KEYS = 10_000
"""Pairs whose key and partition are remembered: far more than anybody subscribes."""

REFILL_BELOW = 0.75
"""Once full, sending goes on below this load, so that two threads don't take turns for each record."""

REQUEST_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 10.0

Source = Literal["feed", "aggregate"]
Position = tuple[str, int, int]
"""(topic, partition, offset) of a record."""


class TradeProducer:
    """Writes trades, and frames that can't be read, to Kafka; a feed's Sink.

    To be used by one thread. `trade` and `dead_letter` return before Kafka has acknowledged, and block while
    too much is on its way. The first delivery that fails is kept and raised by each later call; from then on
    nothing is sent any more.

    Args:
        settings: the broker; its topics have to exist.
        source: who finds the dead letters, for their header.
        max_unacknowledged: records on their way, at most.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the topic does not exist, or the broker refuses.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        source: Source = "feed",
        max_unacknowledged: int = MAX_UNACKNOWLEDGED,
    ) -> None:
        self.acked = 0
        """Trades that Kafka has acknowledged."""
        self.dead_letters_acked = 0
        """Dead letters that Kafka has acknowledged."""
        self._settings = settings
        self._source = source
        self._max_unacknowledged = max_unacknowledged
        self._sent = self._sent_bytes = 0
        self._done = self._done_bytes = 0
        self._lock = threading.Lock()  # a record acknowledged at once is so in the caller's thread
        self._room = threading.Event()
        self._waiting = False
        self._failure: Exception | None = None
        self._closed = False
        self._keys: dict[tuple[str, str, str], tuple[bytes, int]] = {}
        self._partitions = partitions(settings, settings.topic)
        partitions(settings, settings.dead_letter_topic)  # a missing topic is told now, not at the first record
        with our_errors(settings, "the producer"):
            self._producer = KafkaProducer(**producer_config(settings))

    @property
    def unacknowledged(self) -> int:
        """Records on their way."""
        return max(self._sent - self._done, 0)

    def trade(self, trade: Trade, frame: bytes) -> None:
        """Send one trade, keyed by its pair; its value is the `frame` as it came.

        Raises:
            DeliveryError: an earlier record was not acknowledged in time, or was refused.
        """
        pair = trade.pair
        key, partition = self._keys.get(pair) or self._place(pair)
        self._send(self._settings.topic, self._trade_acked, frame, key=key, partition=partition)

    def dead_letter(
        self, frame: bytes | None, reason: str, found_at: Position | None = None, *, venue: str = ""
    ) -> None:
        """Send one unreadable frame as it came, with the reason in its headers.

        Args:
            frame: None, a record without a value, becomes an empty one.
            found_at: where in Kafka it was found, if it was.
            venue: the name of the venue that sent it, if one did.

        Raises:
            DeliveryError: as `trade`.
        """
        headers = [("reason", reason.encode()), ("source", self._source.encode())]
        if venue:
            headers.append(("venue", venue.encode()))
        if found_at is not None:
            names = ("topic", "partition", "offset")
            headers += [(name, str(value).encode()) for name, value in zip(names, found_at, strict=True)]
        self._send(self._settings.dead_letter_topic, self._dead_letter_acked, frame or b"", headers=headers)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was sent is acknowledged, for as long as a delivery may take by default.

        Raises:
            DeliveryError: something was not, or not in time.
        """
        self._raise_failure()
        timeout_s = self._settings.delivery_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        while self.unacknowledged and self._failure is None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise DeliveryError(
                    f"Kafka at {self._settings.bootstrap_servers} did not acknowledge {self.unacknowledged} "
                    f"records within {timeout_s:g} s; see that it runs, then start the run again."
                )
            # In short turns, as kafka-python's own timeout holds for each batch and not for all together.
            with contextlib.suppress(errors.KafkaTimeoutError):
                self._producer.flush(min(remaining_s, 1.0))
        self._raise_failure()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Flush, within `timeout_s`, and close whatever comes of it. May be called again.

        Raises:
            DeliveryError: as `flush`; not a second time.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.flush(timeout_s)
        finally:
            shut(self._producer, force=bool(self.unacknowledged))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(DeliveryError):  # the error at hand comes first
            self.close()

    def _send(self, topic: str, acked: Callable[[Any], None], value: bytes, **record: Any) -> None:
        if self._failure is not None or self._load() >= 1:
            self._wait_for_room()
        try:
            future = self._producer.send(topic, value, **record)
        except errors.KafkaError as error:
            self._failed(error)
            self._raise_failure()
        future.add_callback(acked)
        future.add_errback(self._lost)
        self._sent += 1  # last: an interrupt in between must not leave a record that is waited for in vain
        self._sent_bytes += len(value)

    def _load(self) -> float:
        """How full it is: 1 is as much on its way as may be."""
        return max(
            (self._sent - self._done) / self._max_unacknowledged,
            (self._sent_bytes - self._done_bytes) / MAX_UNACKNOWLEDGED_BYTES,
        )

    def _wait_for_room(self) -> None:
        self._raise_failure()
        self._waiting = True
        while self._load() > REFILL_BELOW and self._failure is None:
            self._room.wait()
            self._room.clear()
        self._waiting = False
        self._raise_failure()

    def _trade_acked(self, record: Any) -> None:
        with self._lock:
            self.acked += 1
            self._finished(record.serialized_value_size)

    def _dead_letter_acked(self, record: Any) -> None:
        with self._lock:
            self.dead_letters_acked += 1
            self._finished(record.serialized_value_size)

    def _finished(self, size: int) -> None:
        self._done += 1
        self._done_bytes += size
        if self._waiting and self._load() <= REFILL_BELOW:
            self._room.set()

    def _lost(self, error: Exception) -> None:
        with self._lock:
            self._done += 1
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._room.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise DeliveryError(
                f"Kafka at {self._settings.bootstrap_servers} {self._fault(self._failure)}; "
                "see that it runs, then start the run again."
            )

    def _fault(self, error: Exception) -> str:
        if isinstance(error, errors.KafkaTimeoutError):
            return f"did not acknowledge a record within {self._settings.delivery_timeout_s:g} s"
        return f"did not take a record ({str(error) or type(error).__name__})"

    def _place(self, pair: tuple[str, str, str]) -> tuple[bytes, int]:
        """The pair's key and partition: as kafka-python's default, and Java's, but hashed only once."""
        key = kafka_key(pair)
        partition = self._partitions[(murmur2(key) & 0x7FFFFFFF) % len(self._partitions)]
        if len(self._keys) >= MAX_KEYS:
            self._keys.clear()
        self._keys[pair] = key, partition
        return key, partition


def shut(producer: KafkaProducer, *, force: bool) -> None:
    """Close kafka-python's producer; by force while a record is on its way, else it would not close."""
    if force:
        producer._sender.force_close()  # there is no public way: `close` flushes first, for its whole timeout
        producer._sender.join(CLOSE_TIMEOUT_S)
    producer.close(timeout=CLOSE_TIMEOUT_S)


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """The arguments of a producer of kafka-python that loses and repeats nothing."""
    delivery_ms = max(int(settings.delivery_timeout_s * 1000), 2 * LINGER_MS)
    return client_config(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": LINGER_MS,
        "batch_size": BATCH_BYTES,
        "delivery_timeout_ms": delivery_ms,
        "request_timeout_ms": min(int(REQUEST_TIMEOUT_S * 1000), delivery_ms - LINGER_MS),
        "max_block_ms": int(ANSWER_TIMEOUT_S * 1000),
        "allow_auto_create_topics": False,  # one made by the broker would have its defaults, not our settings
    }
