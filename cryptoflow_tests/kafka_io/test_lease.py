"""The ingester's lease on a real broker: one holder, whoever dies, stands still or comes from elsewhere."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cryptoflow.errors import AlreadyRunningError, KafkaError, LeaseLostError
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.lease import RELEASE_S, Lease, Leases, ingest_lease, ingest_leases
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.topics import leases_topic, make_topics
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import KafkaSettings
from cryptoflow_tests.mortal import MortalKafka

leaks = pytest.mark.filterwarnings("ignore::ResourceWarning")
"""kafka-python leaves the sockets of refused connections to the garbage collector."""

TTL_S = 2.0
LONG_S = 60.0
"""A time to live that no test waits for."""

WAIT_S = 20.0

VENUE = "kraken"

HERE = Holder.current("run-1", Path("here"))
ELSEWHERE = msgspec.structs.replace(HERE, run="run-2", host="another-host", home="/another/home", boot="another")

Start = Callable[..., "subprocess.Popen[str]"]

HOLD = """
import sys, time
from pathlib import Path
from cryptoflow.errors import LeaseLostError
from cryptoflow.kafka_io.lease import ingest_lease
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import KafkaSettings

right_time = time.time
time.time = lambda: right_time() + float(sys.argv[4])
kafka = KafkaSettings(bootstrap_servers=sys.argv[1], topic=sys.argv[2])
with ingest_lease(kafka, Holder.current("run-1", Path("there")), "kraken", ttl_s=float(sys.argv[3])) as lease:
    print("held", flush=True)
    while True:
        lease.alive()
        lease.check()
        time.sleep(0.02)
"""


@pytest.fixture
def kafka(settings: KafkaSettings) -> KafkaSettings:
    make_topics(settings)
    return settings


@pytest.fixture
def process() -> Iterator[Start]:
    """Starts a process that holds the lease for as long as it may."""
    started = []

    def start(kafka: KafkaSettings, ttl_s: float, clock_ahead_s: float = 0) -> "subprocess.Popen[str]":
        given = [kafka.bootstrap_servers, kafka.topic, str(ttl_s), str(clock_ahead_s)]
        command = [sys.executable, "-W", "ignore", "-c", HOLD, *given]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    yield start
    for each in started:
        each.kill()
        each.communicate()


class Living(threading.Thread):
    """An owner that makes progress all the time, until its lease is lost."""

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self._lease = lease
        self._over = threading.Event()
        self.error: LeaseLostError | None = None

    def run(self) -> None:
        while not self._over.wait(0.02) and not self.error:
            self._lease.alive()
            try:
                self._lease.check()
            except LeaseLostError as error:
                self.error = error

    def __enter__(self) -> "Living":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()


def test_a_run_holds_the_leases_of_all_its_venues_or_none(kafka: KafkaSettings) -> None:
    with ingest_leases(kafka, ELSEWHERE, ["kraken", "coinbase"], ttl_s=LONG_S) as first:
        with ingest_leases(kafka, HERE, ["binance"], ttl_s=LONG_S) as second:
            second.check()
            with (
                pytest.raises(AlreadyRunningError, match="already, run-2 on another-host"),
                ingest_leases(kafka, HERE, ["kraken", "binance2"], ttl_s=LONG_S),
            ):
                pytest.fail("it is held")
        with ingest_lease(kafka, HERE, "binance2", ttl_s=LONG_S), ingest_lease(kafka, HERE, "binance", ttl_s=LONG_S):
            first.check()


def test_a_run_that_lost_one_of_its_leases_is_told(kafka: KafkaSettings) -> None:
    with ingest_leases(kafka, ELSEWHERE, ["kraken", "coinbase"], ttl_s=TTL_S) as hung:
        hung.alive(0)
        with ingest_lease(kafka, HERE, "kraken", ttl_s=TTL_S), pytest.raises(LeaseLostError, match="over by run-1"):
            keep_checking(hung)


def keep_checking(leases: Leases) -> None:
    """Check them until one is lost, but not long."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        leases.check()
        threading.Event().wait(0.02)


def test_a_second_one_from_elsewhere_is_refused_with_run_host_and_home_of_the_first(kafka: KafkaSettings) -> None:
    with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=TTL_S) as lease, Living(lease) as living:
        with pytest.raises(AlreadyRunningError) as caught, ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S):
            pass
        assert living.error is None
    assert str(caught.value) == (
        f"Another run carries trades into {kafka.topic} already, run-2 on another-host, home /another/home: "
        "terminate that one first."
    )


def test_the_next_one_has_it_at_once_after_a_release_and_a_higher_fence(kafka: KafkaSettings) -> None:
    with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=LONG_S) as first:
        pass
    begun_s = time.monotonic()
    with ingest_lease(kafka, HERE, VENUE, ttl_s=LONG_S) as second:
        assert second.fence > first.fence
    assert time.monotonic() - begun_s < WAIT_S


def test_two_venues_have_a_lease_each(kafka: KafkaSettings) -> None:
    with ingest_lease(kafka, HERE, "a", ttl_s=LONG_S), ingest_lease(kafka, ELSEWHERE, "b", ttl_s=LONG_S):
        pass


def test_one_that_was_killed_on_this_machine_is_superseded_at_once(kafka: KafkaSettings, process: Start) -> None:
    process(kafka, LONG_S).kill()
    begun_s = time.monotonic()
    with ingest_lease(kafka, HERE, VENUE, ttl_s=LONG_S):
        assert time.monotonic() - begun_s < WAIT_S


def test_one_that_stood_still_is_replaced_after_the_time_to_live_and_learns_it_when_it_goes_on(
    kafka: KafkaSettings, process: Start
) -> None:
    first = process(kafka, TTL_S)
    first.send_signal(signal.SIGSTOP)
    with ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S) as lease, Living(lease) as living:
        first.send_signal(signal.SIGCONT)
        _, said = first.communicate(timeout=WAIT_S)
        assert living.error is None
    assert f"LeaseLostError: This run's lease to carry trades into {kafka.topic} was taken over by run-1 on" in said
    assert first.returncode == 1


def test_clocks_that_differ_by_an_hour_change_nothing(kafka: KafkaSettings, process: Start) -> None:
    first = process(kafka, TTL_S, 3600)
    with pytest.raises(AlreadyRunningError), ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S):
        pass
    first.send_signal(signal.SIGSTOP)
    with ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S) as lease, Living(lease):
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=WAIT_S)


def test_an_owner_that_hangs_loses_its_lease_to_the_next_one(kafka: KafkaSettings) -> None:
    with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=TTL_S) as hung:
        hung.alive(0)
        with ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S) as lease, Living(lease) as living:
            until_lost(hung)
            assert living.error is None
        with pytest.raises(LeaseLostError, match=r"taken over by run-1 on .*, home .*here, while it did not answer"):
            hung.check()


def test_an_owner_that_hung_while_another_came_and_went_has_lost_it_too(kafka: KafkaSettings, process: Start) -> None:
    first = process(kafka, TTL_S)
    first.send_signal(signal.SIGSTOP)
    with ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S):
        pass
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=WAIT_S)
    assert "was taken over by another one that has ended since, while it did not answer" in said


def until_lost(lease: Lease) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        try:
            lease.check()
        except LeaseLostError:
            return


def test_an_owner_that_ends_keeps_its_lease_for_as_long_as_it_says(kafka: KafkaSettings) -> None:
    with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=TTL_S) as ending:
        ending.alive(LONG_S)
        assert not threading.Event().wait(TTL_S * 1.5)
        with pytest.raises(AlreadyRunningError), ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S):
            pass


def test_one_whose_run_is_ending_is_waited_for(kafka: KafkaSettings) -> None:
    asked = threading.Event()

    def is_ending(run: str) -> bool:
        asked.set()
        return run == "run-2"

    def end() -> None:
        with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=TTL_S) as lease, Living(lease):
            held.set()
            asked.wait(WAIT_S)

    held = threading.Event()
    first = threading.Thread(target=end)
    first.start()
    assert held.wait(WAIT_S)
    with ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S, is_ending=is_ending):
        assert asked.is_set()
    first.join()


def test_who_is_told_to_stop_waits_no_longer(kafka: KafkaSettings) -> None:
    stop = Stop()
    with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=LONG_S) as lease, Living(lease):
        stop.set()
        with pytest.raises(AlreadyRunningError), ingest_lease(kafka, HERE, VENUE, stop=stop, ttl_s=LONG_S):
            pass


def test_of_several_at_once_exactly_one_has_it(kafka: KafkaSettings) -> None:
    refused, held, over = [], [], threading.Barrier(4)

    def contend(number: int) -> None:
        try:
            with ingest_lease(kafka, msgspec.structs.replace(ELSEWHERE, run=str(number)), VENUE, ttl_s=TTL_S) as lease:
                with Living(lease) as living:
                    held.append(number)
                    over.wait(WAIT_S)
                assert living.error is None
        except AlreadyRunningError:
            refused.append(number)
            over.wait(WAIT_S)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 3)


@leaks
def test_a_lone_holder_survives_its_brokers_death(mortal_kafka: MortalKafka, topic: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=mortal_kafka.server, topic=topic)
    make_topics(kafka)
    with ingest_lease(kafka, ELSEWHERE, VENUE, ttl_s=TTL_S) as lease, Living(lease) as living:
        mortal_kafka.kill()
        mortal_kafka.start()
        before = end_offsets(kafka, leases_topic(kafka))
        while end_offsets(kafka, leases_topic(kafka)) == before:  # until it beats again
            assert living.error is None
        with pytest.raises(AlreadyRunningError), ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S):
            pass
        assert living.error is None


@leaks
def test_a_broker_that_stands_still_does_not_hold_up_the_end(mortal_kafka: MortalKafka, topic: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=mortal_kafka.server, topic=topic)
    make_topics(kafka)
    with ingest_lease(kafka, HERE, VENUE, ttl_s=TTL_S):
        mortal_kafka.stand_still()
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < RELEASE_S + 3


def test_a_topic_of_leases_that_the_broker_does_not_stamp_is_refused(settings: KafkaSettings) -> None:
    with admin_client(settings, "to make it") as admin:
        admin.create_topics({leases_topic(settings): {"num_partitions": 1, "replication_factor": 1}})
    make_topics(settings)
    with (
        pytest.raises(KafkaError, match=r"leases are not stamped .* LogAppendTime"),
        ingest_lease(settings, HERE, VENUE),
    ):
        pass
