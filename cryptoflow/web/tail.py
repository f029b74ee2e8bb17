"""The one reader of the topic of trades for all viewers: a thread that follows the log's end."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition

from cryptoflow.errors import KafkaError, UnreadableFrameError
from cryptoflow.kafka_io.connection import client_config, knock, our_errors
from cryptoflow.kafka_io.offsets import partitions
from cryptoflow.model.offsets import Offsets
from cryptoflow.model.trade import Trade, read_trade
from cryptoflow.settings import KafkaSettings

log = logging.getLogger(__name__)

RETRY_S = 1.0
"""Between two tries to reach a Kafka that is away."""

POLL_MS = 250
"""How long a poll waits for the next record; it returns as soon as there is one."""

GATHER_S = 0.005
"""Between two polls: trades of a busy topic come by the dozen then, and Kafka has so many fewer answers to give."""

RECORDS_AT_ONCE = 2000
"""Records handed over at a time: at most so many milliseconds pass until the next ones are looked for."""

LOOK_S = 2.0
"""Between two looks at the topic as a whole."""


class Received(NamedTuple):
    """A trade, and when Kafka got it, in ms since the epoch."""

    trade: Trade
    received_ms: int


class LogState(msgspec.Struct, frozen=True):
    """How the log is doing, as its reader sees it."""

    fault: str | None = "The log was not read yet."
    """Why it can't be read; None: it is."""
    ends: Offsets = {}
    """The offset that the next record of each partition will get."""
    dead_letters: int = 0
    """Frames that could not be read and are in their topic."""


class Tail:
    """Follows the log's end, and hands over what is new; it goes on by itself when Kafka is back.

    Args:
        since_ms: asked at the start: from when on records are wanted, in ms since the epoch.
        take: gets the trades as they come, from this thread; it may wait, and then no more are read.
    """

    def __init__(
        self, settings: KafkaSettings, since_ms: Callable[[], int], take: Callable[[Sequence[Received]], None]
    ) -> None:
        self._settings, self._since_ms, self._take = settings, since_ms, take
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._next: Offsets = {}
        self.state = LogState()
        """Replaced as a whole."""

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._keep_following()
        finally:
            self.state = msgspec.structs.replace(self.state, fault="The log's reader has ended.")

    def _keep_following(self) -> None:
        while not self._ending.is_set():
            try:
                self._follow()
            except KafkaError as error:
                if self.state.fault is None:
                    log.warning("The live candles wait for Kafka: %s", error)
                self.state = msgspec.structs.replace(self.state, fault=str(error))
                self._ending.wait(RETRY_S)

    def _follow(self) -> None:
        """Read until the end, until Kafka goes away, or the topic gets another partition."""
        topic = self._settings.topic
        places = [TopicPartition(topic, partition) for partition in partitions(self._settings, topic)]
        options = {
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_poll_records": RECORDS_AT_ONCE,
            "request_timeout_ms": 5000,
        }
        with our_errors(self._settings, f"to read {topic}"):
            consumer = KafkaConsumer(**client_config(self._settings), **options)
            try:
                self._seek(consumer, places)
                self._read(consumer, places)
            finally:
                consumer.close(autocommit=False)

    def _seek(self, consumer: Any, places: Sequence[TopicPartition]) -> None:
        since_ms = self._since_ms()
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        for place, found in consumer.offsets_for_times(dict.fromkeys(places, since_ms)).items():
            consumer.seek(place, self._next.get(place.partition, found.offset if found else ends[place]))

    def _read(self, consumer: Any, places: Sequence[TopicPartition]) -> None:
        next_look_s = 0.0
        while not self._ending.wait(GATHER_S):
            if time.monotonic() >= next_look_s:
                if not self._look(consumer, places):
                    return
                next_look_s = time.monotonic() + LOOK_S
            for place, records in consumer.poll(timeout_ms=POLL_MS).items():
                self._next[place.partition] = records[-1].offset + 1
                if trades := [each for record in records if (each := _received(record))]:
                    self._take(trades)

    def _look(self, consumer: Any, places: Sequence[TopicPartition]) -> bool:
        """Note how the topics are doing; False: this one has other partitions now."""
        knock(self._settings)
        topic = self._settings.dead_letter_topic
        dead = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic) or ()]
        ends = consumer.end_offsets([*places, *dead])
        begins = consumer.beginning_offsets(dead) if dead else {}
        self.state = LogState(
            fault=None,
            ends={place.partition: ends[place] for place in places},
            dead_letters=sum(ends[place] - begins[place] for place in dead),
        )
        return set(consumer.partitions_for_topic(self._settings.topic) or ()) == set(self.state.ends)


def _received(record: Any) -> Received | None:
    try:
        return Received(read_trade(record.value or b""), record.timestamp)
    except UnreadableFrameError:
        return None  # the aggregation puts it with the dead letters
