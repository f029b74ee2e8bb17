"""The producer of trades and dead letters: batched, idempotent, bounded, and sure of what was acknowledged."""

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from kafka.partitioner.default import murmur2

from cryptoflow.errors import DeliveryError
from cryptoflow.kafka_io.dead_letters import Source, headers_of
from cryptoflow.kafka_io.delivery import CLOSE_TIMEOUT_S, NO_HEADERS, Headers, delivery
from cryptoflow.kafka_io.offsets import partitions
from cryptoflow.model.trade import Trade, kafka_key
from cryptoflow.settings import KafkaSettings

MAX_UNACKNOWLEDGED = 20_000
"""Records on their way, at most: some MB, a third of a second of them; 50,000 is slower."""

MAX_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""The same bound for frames that are larger than a trade's few hundred bytes."""

MAX_KEYS = 10_000
"""Pairs whose key and partition are remembered: far more than anybody subscribes."""

REFILL_BELOW = 0.75
"""Once full, sending goes on below this load, so that two threads don't take turns for each record."""

SETTLE_EVERY_S = 0.01
"""How often it is looked at what was acknowledged, while records are sent."""

WAIT_S = 0.1
"""How long one wait for that is: whoever reads a count may wait for it, too."""

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
        self._settings = settings
        self._source = source
        self._max_unacknowledged = max_unacknowledged
        self._sent = self._sent_bytes = 0
        self._settling = threading.Lock()
        self._settle_at_s = 0.0
        self._full_at = self._full_at_bytes = 0
        self._closed = self._over = False
        self._keys: dict[tuple[str, str, str], tuple[bytes, int]] = {}
        self._partitions = partitions(settings, settings.topic)
        partitions(settings, settings.dead_letter_topic)  # a missing topic is told now, not at the first record
        self._delivery = delivery(settings, max_unacknowledged)

    @property
    def acked(self) -> int:
        """Trades that Kafka has acknowledged."""
        return self._acked(self._settings.topic)

    @property
    def dead_letters_acked(self) -> int:
        """Dead letters that Kafka has acknowledged."""
        return self._acked(self._settings.dead_letter_topic)

    @property
    def unacknowledged(self) -> int:
        """Records on their way."""
        self._settle()
        return self._on_their_way

    def trade(self, trade: Trade, frame: bytes) -> None:
        """Send one trade, keyed by its pair; its value is the `frame` as it came.

        Raises:
            DeliveryError: an earlier record was not acknowledged in time, or was refused.
        """
        pair = trade.pair
        key, partition = self._keys.get(pair) or self._place(pair)
        self._send(self._settings.topic, frame, key, partition)

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
        headers = headers_of(reason, self._source, venue)
        if found_at is not None:
            names = ("topic", "partition", "offset")
            headers += [(name, str(value).encode()) for name, value in zip(names, found_at, strict=True)]
        self._send(self._settings.dead_letter_topic, frame or b"", headers=headers)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was sent is acknowledged, for as long as a delivery may take by default.

        Raises:
            DeliveryError: something was not, or not in time.
        """
        timeout_s = self._settings.delivery_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        self._check()
        while on_their_way := self.unacknowledged:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise DeliveryError(
                    f"Kafka at {self._settings.bootstrap_servers} did not acknowledge {on_their_way} "
                    f"records within {timeout_s:g} s; see that it runs, then start the run again."
                )
            with self._settling:
                self._delivery.flush(min(remaining_s, 1.0))
            self._check()

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
            force = bool(self.unacknowledged)
            with self._settling:
                self._over = True
                self._delivery.close(force=force)

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

    def _send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        full = self._sent >= self._full_at or self._sent_bytes >= self._full_at_bytes
        if full or time.monotonic() >= self._settle_at_s:
            self._make_room()
        self._delivery.send(topic, value, key, partition, headers)
        if self._delivery.fault:
            self._check()
        self._sent += 1  # last: an interrupt in between must not leave a record that is waited for in vain
        self._sent_bytes += len(value)

    @property
    def _on_their_way(self) -> int:
        return max(self._sent - self._delivery.done, 0)

    def _load(self) -> float:
        """How full it is: 1 is as much on its way as may be."""
        delivery = self._delivery
        return max(
            (self._sent - delivery.done) / self._max_unacknowledged,
            (self._sent_bytes - delivery.done_bytes) / MAX_UNACKNOWLEDGED_BYTES,
        )

    def _make_room(self) -> None:
        """Settle; if it is full, wait until it is so no more."""
        self._settle()
        self._check()
        if self._load() >= 1:
            while self._load() > REFILL_BELOW:
                self._settle(WAIT_S)
                self._check()
        self._full_at = self._delivery.done + self._max_unacknowledged
        self._full_at_bytes = self._delivery.done_bytes + MAX_UNACKNOWLEDGED_BYTES
        self._settle_at_s = time.monotonic() + SETTLE_EVERY_S

    def _settle(self, wait_s: float = 0) -> None:
        with self._settling:
            if not self._over:
                self._delivery.settle(wait_s)

    def _acked(self, topic: str) -> int:
        self._settle()
        return self._delivery.acked[topic]

    def _check(self) -> None:
        if fault := self._delivery.fault:
            raise DeliveryError(
                f"Kafka at {self._settings.bootstrap_servers} {fault}; see that it runs, then start the run again."
            )

    def _place(self, pair: tuple[str, str, str]) -> tuple[bytes, int]:
        """The pair's key and partition: as kafka-python's default, and Java's, but hashed only once."""
        key = kafka_key(pair)
        partition = self._partitions[(murmur2(key) & 0x7FFFFFFF) % len(self._partitions)]
        if len(self._keys) >= MAX_KEYS:
            self._keys.clear()
        self._keys[pair] = key, partition
        return key, partition
