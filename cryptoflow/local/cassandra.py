"""Cassandra as a local process: one node."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cryptoflow.errors import CassandraError, CassandraLoginError, PrerequisiteError
from cryptoflow.local.java import FIX, Java
from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK, Layout, Service, is_local, jvm, listening, loopback
from cryptoflow.settings import CassandraSettings

HEAP = "1g"
NEWEST_JAVA = 23
"""Cassandra 5 installs a security manager, which Java 24 has no more."""

DEFAULT_USER = "cassandra"
"""User and password that a cluster with logins starts with."""

_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
)
_OPENS = (
    "jdk.management/com.sun.management.internal",
    *(f"java.base/jdk.internal.{name}" for name in ("loader", "ref", "reflect", "math", "module", "util.jar")),
    *(f"java.base/java.{name}" for name in ("io", "lang", "lang.module", "lang.reflect", "net", "nio", "util")),
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/sun.nio.ch",
)

LOGBACK = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"""


def cassandra_service(settings: CassandraSettings, heap: str = HEAP, authenticate: bool = False) -> Service:
    """Cassandra as the settings name it; `heap`: the JVM's, as -Xmx wants it.

    `authenticate`: it asks for a login, `DEFAULT_USER` at first; else it takes everybody.
    """
    hosts = settings.contact_points.split(",")
    return Service(
        name="Cassandra",
        key="cassandra",
        host=hosts[0],
        port=settings.port,
        external=not (all(map(is_local, hosts)) and settings.ca_file is None),
        setting="CASSANDRA_PORT",
        prepare=lambda java, layout: _prepare(java, layout, settings, heap, authenticate),
        healthy=lambda: listening(hosts[0], settings.port) and answers(settings, authenticate),
    )


def answers(settings: CassandraSettings, ready_for_login: bool = False) -> bool:
    """Whether a session opens.

    A node that refuses the login answers too; with `ready_for_login` it must know its first user already.

    Raises:
        ConfigError: the settings' CA file can't be read.
    """
    # Imported here, as the driver takes a while that no other command should wait for.
    from cryptoflow.tables.connection import connect

    if ready_for_login:
        settings = settings.model_copy(update={"username": DEFAULT_USER, "password": DEFAULT_USER})
    try:
        with connect(settings.model_copy(update={"keyspace": "system"})):
            return True
    except CassandraLoginError:
        return not ready_for_login
    except CassandraError:  # it is not there, or still starting, or no Cassandra
        return False


def cassandra_yaml(host: str, port: int, storage_port: int, data: Path, authenticate: bool) -> dict[str, Any]:
    """The node's config, on loopback addresses only; names as in Cassandra's documentation."""
    return {
        "cluster_name": "cryptoflow",
        "num_tokens": 1,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch": "SimpleSnitch",
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": f"{LOOPBACK}:{storage_port}"}],
            }
        ],
        "auto_bootstrap": False,
        "listen_address": LOOPBACK,
        "storage_port": storage_port,
        "rpc_address": host,
        "native_transport_port": port,
        "authenticator": "PasswordAuthenticator" if authenticate else "AllowAllAuthenticator",
        "data_file_directories": [str(data / "data")],
        "commitlog_directory": str(data / "commitlog"),
        "hints_directory": str(data / "hints"),
        "saved_caches_directory": str(data / "saved_caches"),
        "cdc_raw_directory": str(data / "cdc_raw"),
        # A write is acknowledged when it is on disk. "periodic" loses acknowledged ones to a kill -9: the log
        # is read back up to its last marker, set ten times a second (measured: 107 and 239 of some 7,000).
        "commitlog_sync": "batch",
        "concurrent_compactors": 1,
        "memtable_heap_space": "128MiB",
        "memtable_offheap_space": "128MiB",
        "key_cache_size": "16MiB",
        "file_cache_size": "64MiB",
    }


def java_options(java_version: int, config: Path, layout: Layout) -> Sequence[str]:
    """The JVM's options: those of Cassandra's own start scripts, without JMX or a wait for a ring."""
    return [
        *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS),
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENS),
        *(["-Djava.security.manager=allow"] if java_version > 17 else []),
        "-XX:MaxDirectMemorySize=256m",
        "-Djdk.attach.allowAttachSelf=true",
        f"-Dlogback.configurationFile={layout.folder / 'logback.xml'}",
        f"-Dcassandra.config={config.as_uri()}",
        f"-Dcassandra.storagedir={layout.data}",
        f"-Dcassandra.logdir={layout.folder}",
        "-Dcassandra-foreground=yes",
        "-Dcassandra.ring_delay_ms=0",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        "-Dcassandra.superuser_setup_delay_ms=0",
    ]


def _prepare(java: Java, layout: Layout, settings: CassandraSettings, heap: str, authenticate: bool) -> list[str]:
    if java.version > NEWEST_JAVA:
        raise PrerequisiteError(
            f"Cassandra 5 does not run on Java {java.version} ({java.executable}): set JAVA_HOME to a Java "
            f"17 or 21 (Debian: `{FIX}`)."
        )
    layout.make()
    config = layout.folder / "cassandra.yaml"
    host = loopback(settings.contact_points.split(",")[0])
    content = cassandra_yaml(host, settings.port, free_port(settings.port), layout.data, authenticate)
    config.write_text(yaml.safe_dump(content))
    (layout.folder / "logback.xml").write_text(LOGBACK)
    options = java_options(java.version, config, layout)
    return jvm(java, layout, heap, options, ("org.apache.cassandra.service.CassandraDaemon",))
