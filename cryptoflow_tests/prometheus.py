"""Prometheus' own programs, for tests of what it is given."""

import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cryptoflow.local.processes import free_port
from cryptoflow.local.service import LOOPBACK
from cryptoflow.runtime.stop import Deadline

READY_S = 20

NO_PROMETHEUS = "There is no {}: install Prometheus (Debian: apt-get install -y prometheus)."


def program(name: str) -> str:
    """The path of one of them; fails where it is missing."""
    found = shutil.which(name)
    assert found, NO_PROMETHEUS.format(name)
    return found


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    """What promtool prints; fails with that where it finds fault."""
    done = subprocess.run([program("promtool"), *arguments], input=stdin, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """A Prometheus over blocks of data that are there already, which scrapes nothing; gives its address."""
    port = free_port()
    config = data.parent / "prometheus.yml"
    config.write_text("{}")
    options = (f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={LOOPBACK}:{port}")
    keep = "--storage.tsdb.retention.time=100y"  # what is days old would be deleted else
    command = [program("prometheus"), *options, keep, "--log.level=error"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        url, deadline = f"http://{LOOPBACK}:{port}", Deadline(READY_S)
        try:
            while not _is_ready(url):
                assert server.poll() is None, "Prometheus has ended"
                assert not deadline.passed, "Prometheus does not become ready"
                threading.Event().wait(0.05)
            yield url
        finally:
            server.terminate()


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=READY_S) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except URLError:  # it does not listen yet, or says that it is not ready
        return False


class Given(Collector):
    """A registry's collector of families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def registry_of(families: Iterable[Metric]) -> CollectorRegistry:
    """A registry with these families."""
    made = CollectorRegistry()
    made.register(Given(families))
    return made
