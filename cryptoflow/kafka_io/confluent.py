"""The producer of confluent-kafka, librdkafka's: the extra `fast`.

Its settings: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException, Message, Producer

from cryptoflow.errors import KafkaError
from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, client_config, no_answer
from cryptoflow.kafka_io.delivery import LINGER_MS, NO_HEADERS, Delivery, Headers, timeouts_ms
from cryptoflow.settings import KafkaSettings

SAME = {
    "client_id": "client.id",
    "security_protocol": "security.protocol",
    "reconnect_backoff_max_ms": "reconnect.backoff.max.ms",
    "ssl_cafile": "ssl.ca.location",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
}
"""kafka-python's names of what both take, and librdkafka's."""

SILENCE = (ClientError._TRANSPORT, ClientError._TIMED_OUT, ClientError._ALL_BROKERS_DOWN, ClientError._AUTHENTICATION)

Report = Callable[[ClientError | None, Message], None]


class ConfluentDelivery(Delivery):
    """As `Delivery`.

    Args:
        most: records on their way at once, at most.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the settings or the broker refuse it.
    """

    def __init__(self, settings: KafkaSettings, most: int) -> None:
        super().__init__(settings)
        self._reports: dict[str, Report] = {}
        try:
            self._producer = Producer(librdkafka_config(settings, most), logger=logging.getLogger("kafka"))
            self._producer.list_topics(settings.topic, timeout=ANSWER_TIMEOUT_S)
        except KafkaException as error:
            fault = _of(error)
        else:
            return
        raise _refusal(settings, fault)  # here, so that the library's exception does not come along

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = NO_HEADERS,
    ) -> None:
        """As for all."""
        report = self._reports.get(topic) or self._report(topic)
        try:
            to = -1 if partition is None else partition
            self._producer.produce(topic, value, key, to, report, headers=headers or None)  # type: ignore[arg-type]
        except KafkaException as error:
            self._failed(self._fault(_of(error)))

    def settle(self, wait_s: float = 0) -> None:
        """As for all."""
        self._producer.poll(wait_s)

    def flush(self, wait_s: float) -> None:
        """As for all."""
        self._producer.flush(wait_s)

    def close(self, *, force: bool) -> None:
        """As for all."""
        if force:
            self._producer.purge()
        self._producer.close()

    def _report(self, topic: str) -> Report:
        """What librdkafka calls, while it is polled, with the fate of each record of the topic."""

        def report(error: ClientError | None, message: Message) -> None:
            if error is None:
                self._acknowledged(topic, 1, len(message))
            else:
                self._lost(self._fault(error))

        self._reports[topic] = report
        return report

    def _fault(self, error: ClientError) -> str:
        if error.code() == ClientError._MSG_TIMED_OUT:
            return self._timed_out()
        return f"did not take a record ({error.str()})"


def _of(error: KafkaException) -> ClientError:
    return error.args[0]  # type: ignore[no-any-return]  # untyped


def _refusal(settings: KafkaSettings, fault: ClientError) -> KafkaError:
    silent = (
        ClientError._TRANSPORT,
        ClientError._TIMED_OUT,
        ClientError._ALL_BROKERS_DOWN,
        ClientError._AUTHENTICATION,
    )
    if fault.code() in silent:
        return no_answer(settings)
    return KafkaError(f"Kafka at {settings.bootstrap_servers} refused the producer: {fault.str()}")


def librdkafka_config(settings: KafkaSettings, most: int) -> dict[str, Any]:
    """The producer's settings, by librdkafka's names.

    Raises:
        ConfigError: as `client_config`.
    """
    shared = client_config(settings)
    delivery_ms, request_ms = timeouts_ms(settings)
    return {SAME[name]: value for name, value in shared.items() if name in SAME and value is not None} | {
        "bootstrap.servers": settings.bootstrap_servers,
        "enable.idempotence": True,  # and so acks=all, and the order kept
        "linger.ms": LINGER_MS,
        "queue.buffering.max.messages": most,
        "message.timeout.ms": delivery_ms,
        "request.timeout.ms": request_ms,
        "allow.auto.create.topics": False,  # one made by the broker would have its defaults, not our settings
    }
