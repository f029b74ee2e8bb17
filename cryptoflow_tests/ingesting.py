"""Ingesters in threads of a test, each with a home of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptoflow.errors import AlreadyRunningError, LeaseLostError
from cryptoflow.feeds.source import Feed
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import IngestMetrics, PartMetrics
from cryptoflow.settings import KafkaSettings

WAIT_S = 30


class Ingester(threading.Thread):
    """One in a thread, with a home of its own."""

    def __init__(
        self,
        feed: Feed,
        kafka: KafkaSettings,
        home: Path,
        run: str = "run-1",
        report: Callable[[PartMetrics], None] | None = None,
    ) -> None:
        super().__init__()
        self.streams = threading.Event()
        self.metrics = IngestMetrics()
        self.error: Exception | None = None
        self.context = RunContext(home, run, report=report or self._report, report_every_s=0.05)
        self._place = feed, kafka

    def _report(self, metrics: PartMetrics) -> None:
        assert isinstance(metrics, IngestMetrics)
        if metrics.acknowledged:
            self.streams.set()

    def run(self) -> None:
        try:
            self.metrics = ingest(*self._place, self.context)
        except (AlreadyRunningError, LeaseLostError) as error:
            self.error = error


@contextmanager
def running(ingester: Ingester) -> Iterator[Ingester]:
    ingester.start()
    try:
        yield ingester
    finally:
        ingester.context.stop.set()
        ingester.join(WAIT_S)
