"""Kafka as a local process: one node that is broker and controller (KRaft)."""

import base64
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

from cryptoflow.errors import ServiceError
from cryptoflow.local.java import ONE_COMPILER, Java
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK, Layout, Service, is_local, jvm, listening, loopback
from cryptoflow.settings import KafkaSettings

HEAP = "512m"
PROBE_TIMEOUT_MS = 3_000

_LOGGING = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    # Hundreds of lines of config at each start.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
)


def kafka_service(settings: KafkaSettings, heap: str = HEAP) -> Service:
    """Kafka as the settings name it; `heap`: the JVM's, as -Xmx wants it."""
    servers = settings.bootstrap_servers.split(",")
    host, port = host_and_port(servers[0])
    local = len(servers) == 1 and is_local(host) and settings.security_protocol == "PLAINTEXT"
    return Service(
        name="Kafka",
        key="kafka",
        host=host,
        port=port,
        external=not local,
        setting="KAFKA_BOOTSTRAP_SERVERS",
        prepare=lambda java, layout: _prepare(java, layout, loopback(host), port, heap),
        healthy=lambda: listening(host, port) and answers(settings),
    )


def host_and_port(server: str) -> tuple[str, int]:
    """The parts of HOST:PORT; Kafka's own port where none is given."""
    host, _, port = server.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else (server.strip("[]"), 9092)


def answers(settings: KafkaSettings) -> bool:
    """Whether a broker answers a metadata request.

    Raises:
        ConfigError: the settings' login lacks a user or password, or the CA file is not there.
    """
    # Imported here, as the driver takes a while that no other command should wait for.
    from cryptoflow.kafka_io.probe import has_brokers

    return has_brokers(settings, PROBE_TIMEOUT_MS)


def server_properties(host: str, port: int, controller_port: int, data: Path) -> dict[str, str]:
    """The broker's config, on loopback addresses only; names as in Kafka's documentation."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        # A misspelt topic is to fail, not to appear with one partition.
        "auto.create.topics.enable": "false",
        # What is acknowledged is in the page cache, which outlives a killed broker. A power cut takes that;
        # with no replica to get it from, these bound the loss to a second.
        "log.flush.interval.ms": "1000",
        "log.flush.scheduler.interval.ms": "1000",
        # A killed broker that comes back is refused until its old session is over.
        "broker.session.timeout.ms": "2000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "log.cleaner.dedupe.buffer.size": "16777216",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }


def properties_text(properties: Mapping[str, str]) -> str:
    """A Java properties file: Latin-1, so that what is beyond ASCII is escaped."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in properties.items())


def cluster_id(unique: uuid.UUID) -> str:
    """The 16 bytes as Kafka writes a cluster's id: base64 for URLs, without padding."""
    # "A" before a leading dash, which the storage tool would take for an option
    text = base64.urlsafe_b64encode(unique.bytes).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _prepare(java: Java, layout: Layout, host: str, port: int, heap: str) -> list[str]:
    layout.make()
    if not layout.data.exists():
        _format(java, layout, host, port)
    config = _write_config(layout, host, port, layout.data)
    return jvm(java, layout, heap, _LOGGING, ("kafka.Kafka", str(config)))


def _write_config(layout: Layout, host: str, port: int, data: Path) -> Path:
    config = layout.folder / "server.properties"
    config.write_text(properties_text(server_properties(host, port, free_port(port), data)))
    return config


def _format(java: Java, layout: Layout, host: str, port: int) -> None:
    """Give the storage its cluster id, once; beside its place, so that it is there whole or not at all."""
    new = layout.folder / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    config = _write_config(layout, host, port, new)
    tool = ("kafka.tools.StorageTool", "format", "-t", cluster_id(uuid.uuid4()), "-c", str(config))
    done = subprocess.run(
        jvm(java, layout, HEAP, (ONE_COMPILER,), tool),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"Kafka could not format its storage {new}: {(done.stderr or done.stdout).strip()}")
    new.rename(layout.data)
