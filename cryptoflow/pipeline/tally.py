"""The counts of an aggregation's run."""

import threading
from typing import Any

from msgspec.structs import replace

from cryptoflow.runtime.metrics import AggregateMetrics
from cryptoflow.tables.schema import COUNTS, BatchRecord


class Tally:
    """The counts of all batches that were committed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics = AggregateMetrics()

    def add(self, record: BatchRecord) -> None:
        """Count a batch."""
        with self._lock:
            sums = {name: getattr(self._metrics, name) + getattr(record, name) for name in COUNTS}
            self._metrics = replace(self._metrics, batches=self._metrics.batches + 1, **sums)
            if record.watermark:
                self._metrics = replace(self._metrics, watermark_s=record.watermark.timestamp())

    def tell(self, **metrics: Any) -> None:
        """Note what is no sum, by the names of `AggregateMetrics`."""
        with self._lock:
            self._metrics = replace(self._metrics, **metrics)

    def metrics(self) -> AggregateMetrics:
        """What has been counted so far."""
        with self._lock:
            return self._metrics
