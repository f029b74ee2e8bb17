"""The counts of an aggregation's run."""

import threading
from typing import Any

from msgspec.structs import replace

from cryptoflow.runtime.metrics import AggregateMetrics
from cryptoflow.tables.schema import COUNTS, BatchRecord


class Tally:
    """The counts of all batches; of a batch that comes again, the last ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metrics = AggregateMetrics()
        self._newest = BatchRecord()

    def add(self, record: BatchRecord) -> None:
        """Count a batch."""
        with self._lock:
            before, self._newest = self._newest, record
            if (before.query_id, before.batch_id) != (record.query_id, record.batch_id):
                before = BatchRecord()
                self._metrics = replace(self._metrics, batches=self._metrics.batches + 1)
            sums = {
                name: getattr(self._metrics, name) + getattr(record, name) - getattr(before, name) for name in COUNTS
            }
            self._metrics = replace(self._metrics, **sums)
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
