"""The counts of the batch at hand, read from its plan while it is being written.

Spark's progress reports come after a batch is committed, so the counts of the last batch before a kill would be lost.
The plan has them as soon as its rows were collected: written together with the candles, they are exact.
"""

from collections.abc import Iterator

import msgspec
from py4j.java_gateway import JavaObject
from pyspark.sql.streaming.query import StreamingQuery

from cryptoflow.spark.query import OBSERVATION


class BatchCounts(msgspec.Struct, frozen=True):
    """What became of the rows of one batch."""

    rows: int
    unreadable: int
    late: int
    duplicates: int
    watermark_ms: int


def _plan_nodes(plan: JavaObject) -> Iterator[JavaObject]:
    yield plan
    children = plan.children()
    for index in range(children.size()):
        yield from _plan_nodes(children.apply(index))


def _total(nodes: list[JavaObject], metric: str) -> int:
    values = (node.metrics().get(metric) for node in nodes if node.nodeName().startswith("StreamingDeduplicate"))
    return sum(value.get().value() for value in values if value.isDefined())


def batch_counts(query: StreamingQuery) -> BatchCounts:
    """The counts of the batch that `query` is writing; call it from foreachBatch, after collecting the rows."""
    execution = query._jsq.streamingQuery().lastExecution()
    nodes = list(_plan_nodes(execution.executedPlan()))
    rows, unreadable, late = (execution.observedMetrics().apply(OBSERVATION).getLong(i) for i in range(3))
    return BatchCounts(
        rows=rows,
        unreadable=unreadable,
        # Deduplication comes before the windows and sees each trade by itself.
        late=late + _total(nodes, "numRowsDroppedByWatermark"),
        duplicates=_total(nodes, "numDroppedDuplicateRows"),
        watermark_ms=execution.offsetSeqMetadata().batchWatermarkMs(),
    )
