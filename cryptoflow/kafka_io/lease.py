"""The lease of the work of carrying trades into a topic: held in Kafka, so that all machines that share it agree.

The rules are `lease_log`'s; here are the claim, the beats in a thread of their own, and the reading. Kafka's own group
membership would do it without a log, but it tells nobody who holds the lease.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition, errors

from cryptoflow.errors import AlreadyRunningError, KafkaError, LeaseLostError
from cryptoflow.kafka_io.connection import ANSWER_TIMEOUT_S, client_config, our_errors
from cryptoflow.kafka_io.kafka_python import shut
from cryptoflow.kafka_io.topics import leases_topic
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.lease_log import (
    CUT,
    WHOLE,
    Beat,
    Claim,
    Entry,
    LeaseState,
    Record,
    Release,
    read_record,
    write_record,
)
from cryptoflow.runtime.stop import SHUTDOWN_S, Deadline, Stop
from cryptoflow.settings import KafkaSettings

TTL_S = 15.0
"""Who is silent for longer may be replaced. All who share a topic have to take the same."""

BEATS = 4
"""In a time to live: the loss of some is no loss of the lease."""

POLL_S = 0.25
"""How often those who wait look up from the log, in s."""

RELEASE_S = 2.0
"""How long the end waits until the release is in the log; without it the lease runs out by itself."""

LOG_APPEND_TIME = 1
"""Kafka's number of records that the broker has stamped."""


def _nobody(_run: str) -> bool:
    return False


@contextmanager
def ingest_leases(
    kafka: KafkaSettings,
    holder: Holder,
    venues: Iterable[str],
    *,
    stop: Stop | None = None,
    is_ending: Callable[[str], bool] = _nobody,
    ttl_s: float = TTL_S,
) -> "Iterator[Leases]":
    """Hold the leases of several venues, as `ingest_lease` each; none, if one of them can't be had."""
    with ExitStack() as stack:
        leases = Leases()
        for venue in sorted({*venues}):  # in one order: two who want the same ones never wait for each other
            leases.alive(2 * SHUTDOWN_S)  # while the next one may be waited for
            held = ingest_lease(kafka, holder, venue, stop=stop, is_ending=is_ending, ttl_s=ttl_s)
            leases.add(stack.enter_context(held))
        leases.alive()
        yield leases


@contextmanager
def ingest_lease(
    kafka: KafkaSettings,
    holder: Holder,
    venue: str,
    *,
    stop: Stop | None = None,
    is_ending: Callable[[str], bool] = _nobody,
    ttl_s: float = TTL_S,
) -> "Iterator[Lease]":
    """Hold the lease of carrying the venue's trades into the topic; its topics have to exist.

    A holder whose process is dead on this machine is superseded at once, one that is not heard of after `ttl_s`. One
    that lives is seen to within a quarter of that, and waited for if its run is ending.

    Args:
        holder: who is to hold it.
        venue: by its name; others may carry other venues' trades into the same topic.
        stop: set to wait no longer.
        is_ending: whether the run of an id is about to end.

    Raises:
        KafkaUnreachableError: no broker answers.
        KafkaError: the topic of leases is not what it has to be, or does not give its records.
        AlreadyRunningError: another run holds the lease and goes on.
    """
    with _log(kafka, f"ingest~{venue}", ttl_s) as log:
        lease = Lease(log, holder, kafka.topic, ttl_s)
        lease.acquire(stop or Stop(), is_ending)
        with lease.kept():
            yield lease


class Lease:
    """A lease that this process holds, while its owner says that it lives."""

    def __init__(self, log: "_Log", holder: Holder, topic: str, ttl_s: float) -> None:
        self._log = log
        self._holder = holder
        self._topic = topic
        self._ttl_s = ttl_s
        self._token = uuid.uuid4().hex
        self._claimed_at = self.fence = -1
        """The fencing number: higher than that of all who held the lease before."""
        self._lives_until_s = 0.0
        self._over = threading.Event()
        self._lost_to: str | None = None
        self._error: BaseException | None = None

    def alive(self, for_s: float | None = None) -> None:
        """Say that the owner makes progress; beats go on for `for_s` from now, by default the time to live."""
        self._lives_until_s = time.monotonic() + (self._ttl_s if for_s is None else for_s)

    def check(self) -> None:
        """Look whether it is still held.

        Raises:
            LeaseLostError: another has taken it over, as this process did not answer.
        """
        if self._error:
            raise self._error
        if self._lost_to:
            raise LeaseLostError(
                f"This run's lease to carry trades into {self._topic} was taken over by {self._lost_to}, "
                "while it did not answer; it ends, and nothing is lost."
            )

    def acquire(self, stop: Stop, is_ending: Callable[[str], bool]) -> None:
        """Claim it, until a claim wins; errors as `ingest_lease`."""
        patience = Deadline(SHUTDOWN_S)
        while not self._claim():
            self._await_change(lambda: stop.is_set() or patience.passed, is_ending)
        self.fence = self._log.state.fence

    def _claim(self) -> bool:
        state = self._log.state
        supersedes = state.token if state.holder and state.holder.is_gone() else None
        self._claimed_at = self._log.append_now(Claim(self._token, self._holder, supersedes))
        self._log.read_to(self._claimed_at)
        return self._log.state.token == self._token

    def _await_change(self, impatient: Callable[[], bool], is_ending: Callable[[str], bool]) -> None:
        """Wait for a reason to claim it again; errors as `ingest_lease`."""
        rival = self._log.state
        turn = Deadline(self._ttl_s)
        while (
            self._log.state.token == rival.token and not turn.passed and not (rival.holder and rival.holder.is_gone())
        ):
            lives = self._log.state.heard > self._claimed_at
            if impatient() or (lives and rival.holder and not is_ending(rival.holder.run)):
                raise AlreadyRunningError(self._refusal(rival.holder))
            self._log.read(min(POLL_S, self._ttl_s / BEATS))

    def _refusal(self, rival: Holder | None) -> str:
        who = rival.describe() if rival else "not known yet which"
        return f"Another run carries trades into {self._topic} already, {who}: terminate that one first."

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Beat while the block lasts, and release the lease at its end."""
        self.alive()
        thread = threading.Thread(target=self._run, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            if not self._lost_to:
                self._log.append(Release(self._token, self.fence), within_s=RELEASE_S)

    def _run(self) -> None:
        try:
            self._beat()
        except BaseException as error:  # noqa: BLE001 - raised by `check`, where somebody looks
            self._error = error

    def _beat(self) -> None:
        due_s = time.monotonic()
        while not self._over.is_set() and not self._lost_to:
            now_s = time.monotonic()
            if due_s <= now_s < self._lives_until_s:
                due_s = now_s + self._ttl_s / BEATS
                self._log.append(Beat(self._token, self._holder, self.fence))
            try:
                self._log.read(min(POLL_S, self._ttl_s / BEATS))
            except errors.KafkaError:  # if it lasts, the producer of trades fails
                self._over.wait(POLL_S)
            state = self._log.state
            if state.token != self._token:
                self._lost_to = state.holder.describe() if state.holder else "another one that has ended since"


class Leases:
    """Those of all venues of a run, which is alive and ends for them all together."""

    def __init__(self) -> None:
        self._leases: list[Lease] = []

    def add(self, lease: Lease) -> None:
        """Take one more in."""
        self._leases.append(lease)

    def alive(self, for_s: float | None = None) -> None:
        """As `Lease.alive`."""
        for lease in self._leases:
            lease.alive(for_s)

    def check(self) -> None:
        """As `Lease.check`, of each."""
        for lease in self._leases:
            lease.check()


class _Log:
    """One lease's records in the topic of leases, read in their order; for one thread at a time.

    What can't be delivered within a time to live is given up: a beat that came later would say what is not so.
    """

    def __init__(self, topic: str, name: str, ttl_s: float, producer: Any, consumer: Any) -> None:
        self._place = TopicPartition(topic, 0)
        self._key = name.encode()
        self._ttl_ms = int(ttl_s * 1000)
        self._producer = producer
        self._consumer = consumer
        consumer.assign([self._place])
        begin, end = consumer.beginning_offsets([self._place]), consumer.end_offsets([self._place])
        # In an empty log nothing is left that could be in doubt: all that was is older than its retention.
        whole = begin[self._place] in (0, end[self._place])
        self.state: LeaseState = WHOLE if whole else CUT
        consumer.seek(self._place, begin[self._place])
        self.read_to(end[self._place] - 1)

    def append(self, record: Record, within_s: float = 0) -> None:
        """Append a record, and wait for that for some time at most."""
        with suppress(errors.KafkaError):
            future = self._send(record)
            if within_s:
                future.get(within_s)

    def append_now(self, record: Record) -> int:
        """Append a record; its offset. An error of kafka-python if it is not there in time."""
        return int(self._send(record).get(ANSWER_TIMEOUT_S).offset)

    def _send(self, record: Record) -> Any:
        return self._producer.send(self._place.topic, write_record(record), key=self._key, partition=0)

    def read_to(self, offset: int) -> None:
        """Read up to the record at `offset`; a KafkaError if it does not come in time."""
        deadline = Deadline(ANSWER_TIMEOUT_S)
        while self._consumer.position(self._place) <= offset:
            if deadline.passed:
                raise KafkaError(f"The topic {self._place.topic} did not give its records in time.")
            self.read(POLL_S)

    def read(self, timeout_s: float) -> None:
        """Take in what is new, waiting for something for at most `timeout_s`."""
        for record in self._consumer.poll(timeout_ms=int(timeout_s * 1000)).get(self._place, ()):
            if record.timestamp_type != LOG_APPEND_TIME:
                raise KafkaError(
                    f"The records of {self._place.topic} are not stamped by the broker: "
                    "set its message.timestamp.type to LogAppendTime, or delete the topic."
                )
            content = read_record(record.value)
            if record.key == self._key and content:
                self.state = self.state.after(Entry(record.offset, record.timestamp, content), self._ttl_ms)


@contextmanager
def _log(kafka: KafkaSettings, name: str, ttl_s: float) -> Iterator[_Log]:
    topic = leases_topic(kafka)
    with our_errors(kafka, f"to open {topic}"), ExitStack() as stack:
        producer = KafkaProducer(**_producer_config(kafka, ttl_s))
        stack.callback(shut, producer, force=True)
        consumer = KafkaConsumer(**_consumer_config(kafka))
        stack.callback(consumer.close, autocommit=False)
        yield _Log(topic, name, ttl_s, producer, consumer)


def _producer_config(kafka: KafkaSettings, ttl_s: float) -> dict[str, Any]:
    delivery_ms = int(max(ttl_s, ANSWER_TIMEOUT_S) * 1000)
    return client_config(kafka) | {
        "acks": "all",
        "enable_idempotence": False,  # a record that comes twice, or behind a later one, changes nothing
        "delivery_timeout_ms": delivery_ms,
        "request_timeout_ms": delivery_ms // 2,
        "max_block_ms": int(ANSWER_TIMEOUT_S * 1000),
        "allow_auto_create_topics": False,
    }


def _consumer_config(kafka: KafkaSettings) -> dict[str, Any]:
    return client_config(kafka) | {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",  # of a log made anew, and of one that was deleted as far as it was read
        "allow_auto_create_topics": False,
    }
