"""Up, down and status of real services."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from cryptoflow.errors import PrerequisiteError, ServiceError
from cryptoflow.local import lifecycle, processes
from cryptoflow.local.cassandra import cassandra_service
from cryptoflow.local.java import ONE_COMPILER
from cryptoflow.local.kafka import kafka_service
from cryptoflow.local.processes import Process, free_port
from cryptoflow.local.service import Service, listening
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables.connection import connect
from cryptoflow_tests.running import up

UP = """
import json, sys
from pathlib import Path
from cryptoflow.local import lifecycle
from cryptoflow.settings import CassandraSettings, KafkaSettings, load

services = lifecycle.services(load(KafkaSettings), load(CassandraSettings))
started = lifecycle.up(Path(sys.argv[1]), services, jars_home=Path(sys.argv[2]))
print(json.dumps({key: process.pid for key, process in started.items()}))
"""


@dataclass(frozen=True)
class Pair:
    """Kafka and Cassandra, started by two commands at once."""

    home: Path
    kafka: KafkaSettings
    cassandra: CassandraSettings
    started: list[dict[str, int]]
    """What each of the two commands says it started: pids by key."""

    @property
    def services(self) -> tuple[Service, Service]:
        return lifecycle.services(self.kafka, self.cassandra)

    @property
    def processes(self) -> dict[str, Process | None]:
        return {each.service.key: each.process for each in lifecycle.status(self.home, self.services)}


@pytest.fixture(scope="module")
def pair(jars_home: Path) -> Iterator[Pair]:
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    cassandra = CassandraSettings(port=free_port())
    env = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CASSANDRA_PORT": str(cassandra.port),
        "JDK_JAVA_OPTIONS": ONE_COMPILER,
        "PYTHONPATH": str(Path(lifecycle.__file__).parents[2]),
    }
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command = (sys.executable, "-c", UP, folder, str(jars_home))
        try:
            commands = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            started = [json.loads(each.communicate()[0]) for each in commands]
            yield Pair(home, kafka, cassandra, started)
        finally:
            left = {key: processes.running(home / "services" / key) for key in ("kafka", "cassandra")}
            lifecycle.end({key: process for key, process in left.items() if process}, timeout_s=0)


def kill(process: Process | None) -> None:
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(process.pid)], timeout=10)


def test_two_commands_at_once_start_each_service_once(pair: Pair) -> None:
    assert sorted(key for started in pair.started for key in started) == ["cassandra", "kafka"]


def test_services_go_on_when_the_command_that_started_them_has_ended(pair: Pair) -> None:
    found = lifecycle.status(pair.home, pair.services)
    assert [each.state for each in found] == ["up", "up"]
    assert all(each.log.is_file() for each in found)


def test_up_again_starts_nothing(pair: Pair) -> None:
    before, told = pair.processes, list[str]()
    assert lifecycle.up(pair.home, pair.services, tell=told.append) == {}
    assert pair.processes == before
    assert all("is up already" in sentence for sentence in told)


def test_what_another_home_started_is_used_and_never_stopped(pair: Pair, tmp_path: Path) -> None:
    told: list[str] = []
    assert lifecycle.up(tmp_path, pair.services, tell=told.append) == {}
    assert all("not started from here" in sentence for sentence in told)
    assert lifecycle.down(tmp_path) == []
    assert [each.state for each in lifecycle.status(tmp_path, pair.services)] == ["up", "up"]


def test_a_service_on_another_port_than_the_settings_is_told(pair: Pair) -> None:
    elsewhere = kafka_service(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    with pytest.raises(PrerequisiteError, match="runs already, on port"):
        lifecycle.up(pair.home, [elsewhere])


def test_killed_services_come_back_with_all_that_was_acknowledged(
    pair: Pair, jars_home: Path, topic: str, keyspace: str
) -> None:
    append(pair.kafka, topic, b"trade")
    with connect(pair.cassandra) as session:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {replication}")
        session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY)")
        for i in range(200):
            session.execute(f"INSERT INTO {keyspace}.t (id) VALUES ({i})")
        kill(pair.processes["cassandra"])
    kill(pair.processes["kafka"])

    assert [each.state for each in lifecycle.status(pair.home, pair.services)] == ["down", "down"]
    started = up(pair.home, jars_home, *pair.services)

    assert started.keys() == {"kafka", "cassandra"}
    assert read(pair.kafka, topic) == [b"trade"]
    with connect(pair.cassandra) as session:
        assert {row.id for row in session.execute(f"SELECT id FROM {keyspace}.t")} == set(range(200))


def append(settings: KafkaSettings, topic: str, value: bytes) -> None:
    with KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers) as admin:
        admin.create_topics([NewTopic(topic, 1, 1)])
    producer = KafkaProducer(bootstrap_servers=settings.bootstrap_servers, acks="all")
    producer.send(topic, value).get(30)
    producer.close()


def read(settings: KafkaSettings, topic: str) -> list[bytes]:
    """All values of the topic's one partition."""
    consumer = KafkaConsumer(bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest")
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end, values = consumer.end_offsets([partition])[partition], list[bytes]()
        while len(values) < end:
            values += [record.value for record in consumer.poll(30_000).get(partition, [])]
        return values
    finally:
        consumer.close()


def test_down_ends_what_up_started_and_may_be_repeated(tmp_path: Path, jars_home: Path) -> None:
    service = kafka_service(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    started = up(tmp_path, jars_home, service)
    try:
        assert started["kafka"].tied_to == os.getpid()
        assert lifecycle.down(tmp_path) == ["kafka"]
        assert not psutil.pid_exists(started["kafka"].pid)
        assert not listening("127.0.0.1", service.port)
        assert lifecycle.down(tmp_path) == []
        assert (tmp_path / "services" / "kafka" / "data" / "meta.properties").is_file()
    finally:
        lifecycle.end(started, timeout_s=0)


def test_a_start_that_fails_says_why_and_leaves_nothing_running(tmp_path: Path, jars_home: Path) -> None:
    fine = kafka_service(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    broken = cassandra_service(CassandraSettings(port=free_port()), heap="1k")
    with pytest.raises(ServiceError, match=r"(?s)Cassandra ended while it started.*Too small maximum heap"):
        lifecycle.up(tmp_path, [fine, broken], jars_home=jars_home)
    assert [each.state for each in lifecycle.status(tmp_path, [fine, broken])] == ["down", "down"]
    assert lifecycle.down(tmp_path) == []


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port where something listens that is neither Kafka nor Cassandra."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_another_program_has_is_told(taken_port: int, tmp_path: Path) -> None:
    service = kafka_service(KafkaSettings(bootstrap_servers=f"127.0.0.1:{taken_port}"))
    expected = rf"Port {taken_port} is taken .* set KAFKA_BOOTSTRAP_SERVERS"
    with pytest.raises(PrerequisiteError, match=expected):
        lifecycle.up(tmp_path, [service])


def test_an_external_service_is_checked_and_not_started(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    service = kafka_service(KafkaSettings(bootstrap_servers=address, security_protocol="SSL"))
    with pytest.raises(PrerequisiteError, match=f"Kafka at {address} does not answer"):
        lifecycle.up(tmp_path, [service])


def test_no_java_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    service = kafka_service(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    with pytest.raises(PrerequisiteError, match="There is no Java"):
        lifecycle.up(tmp_path, [service])
    assert not (tmp_path / "services" / "kafka").exists()
