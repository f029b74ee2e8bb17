"""What a local service is: a name, an address, a way to make its command, and a test of its health."""

import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptoflow.local.java import Java

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Layout:
    """Where a service finds its things."""

    folder: Path
    """Its own: config, log, `data`, `tmp`."""
    jars: Path
    """The folder of its jars."""

    @property
    def data(self) -> Path:
        """What is kept between starts."""
        return self.folder / "data"

    @property
    def tmp(self) -> Path:
        """What the JVM unpacks (native libraries); emptied at each start: a killed JVM leaves it behind."""
        return self.folder / "tmp"

    def make(self) -> None:
        """Make the folders, with an empty `tmp`."""
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.tmp.mkdir(parents=True)


@dataclass(frozen=True)
class Service:
    """Kafka or Cassandra, as the settings name it."""

    name: str
    key: str
    """Its folder and its jar set."""
    host: str
    port: int
    external: bool
    """On another machine, or secured: used as it is, never started nor stopped."""
    setting: str
    """The environment variable that chooses its port."""
    prepare: Callable[[Java, Layout], Sequence[str]]
    """Writes its files and gives the command that runs it. Called with the service's lock held."""
    healthy: Callable[[], bool]
    """Whether it answers a request of its protocol; takes seconds at most."""
    start_timeout_s: float = 120.0

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"


def is_local(host: str) -> bool:
    """Whether the host is this machine by its name: localhost or a loopback address of IPv4."""
    return host == "localhost" or host.startswith("127.")


def loopback(host: str) -> str:
    """The loopback address to serve on for a local `host`."""
    return LOOPBACK if host == "localhost" else host


def listening(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def jvm(java: Java, layout: Layout, heap: str, options: Sequence[str], main: Sequence[str]) -> list[str]:
    """The command of a JVM whose memory is bounded; `heap` as -Xmx wants it, `main`: class and arguments."""
    return [
        *(str(java.executable), f"-Xmx{heap}", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"),
        *(f"-Djava.io.tmpdir={layout.tmp}", "-Djava.awt.headless=true", *options),
        *("-cp", f"{layout.jars}/*", *main),
    ]
