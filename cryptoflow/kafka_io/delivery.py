"""A client library at work as a producer: what `TradeProducer` asks of it, and which one is taken."""

from abc import ABC, abstractmethod
from collections import defaultdict
from importlib.util import find_spec

from cryptoflow.errors import ConfigError
from cryptoflow.settings import KafkaSettings

LINGER_MS = 20
"""How long a batch waits for more records."""

REQUEST_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 10.0

CONFLUENT = "confluent-kafka"
"""The library of the extra `fast`, as KAFKA_PRODUCER and its package name it."""

Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []


class Delivery(ABC):
    """Sends records, those of a partition in their order, each once, to all replicas; and counts what became of them.

    One thread sends; all else may be called by any thread, by one at a time.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.acked: defaultdict[str, int] = defaultdict(int)
        """Records that Kafka has acknowledged, by topic."""
        self.done = self.done_bytes = 0
        """Records that are not on their way any more, acknowledged or lost, and the bytes of their values."""
        self.fault: str | None = None
        """What Kafka did not do with the first record that was lost, as the end of a sentence."""
        self._timeout_s = settings.delivery_timeout_s

    @abstractmethod
    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """Take a record; `fault` tells that it can't, and then it is not on its way.

        Args:
            partition: None: whichever.
        """

    @abstractmethod
    def settle(self, wait_s: float = 0) -> None:
        """Count what is acknowledged or lost by now; wait for some of it at most `wait_s`."""

    @abstractmethod
    def flush(self, wait_s: float) -> None:
        """Let no record wait for others any more; wait for all of them at most `wait_s`, and settle."""

    @abstractmethod
    def close(self, *, force: bool) -> None:
        """End it; by force while a record is on its way, which is given up."""

    def _acknowledged(self, topic: str, records: int, size: int) -> None:
        self.acked[topic] += records
        self.done += records
        self.done_bytes += size

    def _lost(self, fault: str) -> None:
        self.done += 1
        self._failed(fault)

    def _failed(self, fault: str) -> None:
        self.fault = self.fault or fault

    def _timed_out(self) -> str:
        return f"did not acknowledge a record within {self._timeout_s:g} s"


def timeouts_ms(settings: KafkaSettings) -> tuple[int, int]:
    """For the delivery of a record, and for each request of it."""
    delivery_ms = max(int(settings.delivery_timeout_s * 1000), 2 * LINGER_MS)
    return delivery_ms, min(int(REQUEST_TIMEOUT_S * 1000), delivery_ms - LINGER_MS)


def delivery(settings: KafkaSettings, most: int) -> Delivery:
    """By the client that the settings name; by `auto` confluent-kafka where it is installed.

    Args:
        most: records that will be on their way at once, at most.

    Raises:
        ConfigError: it is not installed, or the login lacks something.
        KafkaUnreachableError: no broker answers it.
        KafkaError: the broker refuses.
    """
    installed = find_spec("confluent_kafka") is not None
    if settings.producer == CONFLUENT and not installed:
        raise ConfigError(f"KAFKA_PRODUCER is {CONFLUENT}, which is not there: pip install 'cryptoflow[fast]'.")
    if settings.producer == CONFLUENT or (settings.producer == "auto" and installed):
        from cryptoflow.kafka_io.confluent import ConfluentDelivery

        return ConfluentDelivery(settings, most)
    from cryptoflow.kafka_io.kafka_python import KafkaPythonDelivery

    return KafkaPythonDelivery(settings)
