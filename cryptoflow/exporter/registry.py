"""One exporter for all runs of a home and the stores behind them; whoever serves it has only to ask the registry.

One that reads what runs leave, rather than Prometheus' multiprocess mode: runs are short, and end by kill -9 too; their
files of counters would have to be merged and cleaned for ever, in a folder that all share. And what matters most (lag,
what waits for repair, verdicts) belongs to no process: it is in Kafka and Cassandra. A counter carries the run that it
is of, as Dagster names it, so it only grows: sum the rates over it.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from cryptoflow.errors import CassandraError, CassandraLoginError, CassandraUnreachableError
from cryptoflow.exporter.families import Sample, families
from cryptoflow.exporter.runs import of_home, of_runs
from cryptoflow.exporter.stores import Look, down, of_log, up
from cryptoflow.runtime.aside import Aside
from cryptoflow.settings import CassandraSettings, KafkaSettings
from cryptoflow.tables.connection import connect

EVERY_S = 15.0
"""Between two looks at the stores. A scrape never waits for one: a store that hangs must not hide the runs."""


@dataclass(frozen=True)
class Sources:
    """Where the metrics are found."""

    home: Path
    kafka: KafkaSettings
    cassandra: CassandraSettings
    window_s: int


@contextmanager
def registry(sources: Sources, every_s: float = EVERY_S) -> Iterator[CollectorRegistry]:
    """A registry that has all metrics for as long as the block lasts; from any thread. It has looked once already."""
    watching = _Watching(sources, every_s)
    aside = Aside("stores", watching.go_on, watching.over.set).start()
    try:
        watching.looked.wait()
        made = CollectorRegistry()
        made.register(_Exporter(sources.home, watching, aside.done))
        yield made
    finally:
        aside.end()


class _Exporter(Collector):
    """Collects at each scrape what the runs tell; of the stores, the last look."""

    def __init__(self, home: Path, watching: "_Watching", raise_fault: Callable[[], bool]) -> None:
        self._home, self._watching, self._raise_fault = home, watching, raise_fault

    def collect(self) -> Iterable[Metric]:
        self._raise_fault()  # a scrape that fails is seen; old facts would pass for new ones
        disk = [of_home(self._home)] if self._home.is_dir() else []
        return families([*of_runs(self._home), *disk, *self._watching.samples])


class _Watching:
    """Looks at the stores now and then."""

    def __init__(self, sources: Sources, every_s: float) -> None:
        self._sources, self._every_s = sources, every_s
        self.over, self.looked = threading.Event(), threading.Event()
        self.samples: list[Sample] = []

    def go_on(self) -> None:
        """Look until it is over."""
        try:
            while not self.over.is_set():
                self._watch()
                self.over.wait(self._every_s)
        finally:
            self.looked.set()

    def _watch(self) -> None:
        """Over one session, for as long as that works."""
        kafka, window_s = self._sources.kafka, self._sources.window_s
        try:
            with connect(self._sources.cassandra) as session:
                look = Look(kafka, session, window_s)
                while not self.over.is_set():
                    self._tell(look.samples())
                    self.over.wait(self._every_s)
        except (CassandraUnreachableError, CassandraLoginError):
            self._tell([down("cassandra"), *of_log(kafka)])
        except CassandraError:  # it has no tables yet
            self._tell([up("cassandra"), *of_log(kafka)])

    def _tell(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.looked.set()
