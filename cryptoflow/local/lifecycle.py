"""Up, down and status of the local services.

Everything is idempotent, and one command at a time does it (a lock in HOME/services). What this home did not
start is used when it answers, and never stopped.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptoflow.errors import PrerequisiteError, ServiceError
from cryptoflow.local import jars, processes
from cryptoflow.local.cassandra import cassandra_service
from cryptoflow.local.java import Java, find_java
from cryptoflow.local.kafka import kafka_service
from cryptoflow.local.machine import require_disk, require_memory
from cryptoflow.local.processes import Process
from cryptoflow.local.service import Layout, Service, listening
from cryptoflow.runtime.locks import exclusive
from cryptoflow.settings import CassandraSettings, KafkaSettings

STOP_TIMEOUT_S = 30.0
"""Cassandra, told to end, writes its memory to disk first: 5 s as a rule."""

Tell = Callable[[str], None]
"""Called with a sentence on what happens; from any thread."""


@dataclass(frozen=True)
class Status:
    """How a service is."""

    service: Service
    state: Literal["up", "down", "silent", "taken"]
    """silent: our process runs and does not answer; taken: something else has its port."""
    process: Process | None
    """Ours, if it runs."""
    log: Path


def services(kafka: KafkaSettings, cassandra: CassandraSettings) -> tuple[Service, Service]:
    """Kafka and Cassandra as the settings name them."""
    return kafka_service(kafka), cassandra_service(cassandra)


def status(home: Path, wanted: Iterable[Service]) -> list[Status]:
    """How the services are now; reads only."""
    return [_status(home, service) for service in wanted]


def up(
    home: Path,
    wanted: Sequence[Service],
    tied: bool = False,
    jars_home: Path | None = None,
    tell: Tell | None = None,
    progress: jars.Progress | None = None,
) -> dict[str, Process]:
    """Have all the services answering, side by side; gives the processes that this call started, by key.

    `tied`: they die with this process. `jars_home`: whose jars to use, `home`'s by default; missing ones are
    fetched. When it fails or is interrupted, what it has started is ended.

    Raises:
        PrerequisiteError: Java, jars, disk, memory or a free port is missing.
        ServiceError: a service does not come up.
    """
    tell = tell or _silent
    with exclusive(home / "services" / ".lock"):
        down_now = [service for service in wanted if not _usable(home, service, tell)]
        if not down_now:
            return {}
        java = _require_all(home, jars_home or home, down_now, progress)
        return _Start(home, jars_home or home, java, tied, tell).all(down_now)


def down(home: Path, tell: Tell | None = None, keys: Iterable[str] = ("kafka", "cassandra")) -> list[str]:
    """End the services that this home runs, side by side; gives the keys of those that it ended.

    Raises:
        ServiceError: a process does not end.
    """
    with exclusive(home / "services" / ".lock"):
        found = {key: processes.running(_folder(home, key)) for key in keys}
        ours = {key: process for key, process in found.items() if process}
        end(ours)
        for key in ours:
            (tell or _silent)(f"{key} is down; its data is kept in {_folder(home, key)}.")
        return list(ours)


def end(started: Mapping[str, Process], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End these processes side by side, such as those that `up` gave; what lasts `timeout_s` is killed.

    Raises:
        ServiceError: a process does not end.
    """
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda process: processes.stop(process, timeout_s), started.values()))


class _Start:
    """One start of several services."""

    def __init__(self, home: Path, jars_home: Path, java: Java, tied: bool, tell: Tell) -> None:
        self._home, self._jars_home, self._java, self._tied, self._tell = home, jars_home, java, tied, tell
        self._started: dict[str, Process] = {}
        self._given_up = threading.Event()

    def all(self, wanted: Sequence[Service]) -> dict[str, Process]:
        with ExitStack() as undo:
            undo.callback(lambda: end(self._started))
            with ThreadPoolExecutor() as pool:
                self._await(pool, wanted)
            undo.pop_all()
        return self._started

    def _await(self, pool: ThreadPoolExecutor, wanted: Sequence[Service]) -> None:
        try:
            for future in [pool.submit(self._one, service) for service in wanted]:
                future.result()
        except BaseException:
            self._given_up.set()
            end(self._started)  # whoever waits for its health notices the end at once
            raise

    def _one(self, service: Service) -> None:
        layout = Layout(_folder(self._home, service.key), jars.jar_folder(self._jars_home, service.key))
        command = service.prepare(self._java, layout)
        if self._given_up.is_set():
            return
        self._tell(f"{service.name} starts on {service.address}.")
        process = processes.start(command, layout.folder, service.port, self._tied)
        self._started[service.key] = process
        _await_health(service, process, layout.folder)
        self._tell(f"{service.name} is up on {service.address}.")


def _folder(home: Path, key: str) -> Path:
    return home / "services" / key


def _await_health(service: Service, process: Process, folder: Path) -> None:
    processes.await_health(service.name, process, folder, service.healthy, service.start_timeout_s)


def _status(home: Path, service: Service) -> Status:
    folder = _folder(home, service.key)
    process = None if service.external else processes.running(folder)
    if process and process.port != service.port:
        process = None
    if service.healthy():
        state: Literal["up", "down", "silent", "taken"] = "up"
    elif process:
        state = "silent"
    else:
        state = "taken" if listening(service.host, service.port) else "down"
    return Status(service, state, process, folder / "log")


def _usable(home: Path, service: Service, tell: Tell) -> bool:
    """Whether the service answers already, or will soon; False: it is to be started."""
    found = _status(home, service)
    if found.state == "up":
        whose = "" if found.process else ", not started from here, and used as it is"
        tell(f"{service.name} is up already on {service.address}{whose}.")
        return True
    if service.external:
        raise PrerequisiteError(
            f"{service.name} at {service.address} does not answer, and is not this machine's to start: start "
            f"it there, or unset {service.setting} to have one here."
        )
    if found.process and _recovers(service, found.process, found.log.parent):
        return True
    _require_free(home, service, found)
    return False


def _recovers(service: Service, process: Process, folder: Path) -> bool:
    """Wait for the process's health, or for its end (it was killed just now): False."""
    try:
        _await_health(service, process, folder)
    except ServiceError:
        if processes.running(folder):
            raise
        return False
    return True


def _require_free(home: Path, service: Service, found: Status) -> None:
    if found.state == "taken":
        raise PrerequisiteError(
            f"Port {service.port} is taken by a program that is not {service.name}: end that, or set "
            f"{service.setting} to choose another port."
        )
    if other := processes.running(_folder(home, service.key)):
        raise PrerequisiteError(
            f"{service.name} of {home} runs already, on port {other.port}: run `cryptoflow services down` "
            f"first, or set {service.setting} to that port."
        )


def _require_all(home: Path, jars_home: Path, wanted: Iterable[Service], progress: jars.Progress | None) -> Java:
    java = find_java()
    require_disk(home)
    require_memory()
    jars.install(jars_home, [service.key for service in wanted], progress)
    return java


def _silent(sentence: str) -> None:
    """For whoever does not want to be told."""
