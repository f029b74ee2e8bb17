"""The counts of the batch at hand, read from its plan while it is being written.

Spark's progress reports come after a batch is committed, so the counts of the last batch before a kill would be lost.
The plan has them as soon as its rows were collected: written together with the candles, they are exact.
"""

from collections.abc import Iterator

import msgspec
from py4j.java_gateway import JavaObject
from pyspark.sql import DataFrame
from pyspark.sql import functions as sql
from pyspark.sql.streaming.query import StreamingQuery

from cryptoflow.model.offsets import Offsets
from cryptoflow.spark.aggregation import at_or_past

OBSERVATION = "frames"
"""Name of the counts that every batch carries."""


class BatchCounts(msgspec.Struct, frozen=True):
    """What became of the rows of one batch; those that an earlier stream or batch had counted are left out."""

    rows: int = 0
    unreadable: int = 0
    late: int = 0
    """Trades that wait for a repair: too late for the stream, or too far ahead."""
    duplicates: int = 0
    watermark_ms: int = 0

    def plus(self, later: "BatchCounts") -> "BatchCounts":
        """Those of a later batch added."""
        return BatchCounts(
            self.rows + later.rows,
            self.unreadable + later.unreadable,
            self.late + later.late,
            self.duplicates + later.duplicates,
            later.watermark_ms,
        )


def observed(trades: DataFrame, finished_ns: int = 0, counted: Offsets | None = None) -> DataFrame:
    """The readable trades of windows that are not finished; the counts go into the batch's metrics.

    Args:
        trades: rows of `decode.TRADES`.
        finished_ns: exchange times before it belong to finished windows.
        counted: what comes before these offsets has been counted; of partitions left out, nothing has.
    """
    new = at_or_past(counted or {})
    return (
        trades.observe(
            OBSERVATION,
            sql.expr(f"count_if({new})").alias("rows"),
            sql.expr(f"count_if(not readable and {new})").alias("unreadable"),
            sql.expr(f"count_if({unfit(finished_ns)} and {new})").alias("late"),
        )
        .where("readable")
        .where(f"time_ns >= {finished_ns}")
    )


def unfit(finished_ns: int) -> str:
    """The Spark condition that a trade can't be streamed: its window is finished, or it is too far ahead."""
    return f"readable and (ahead or time_ns < {finished_ns})"


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
    # There is no public way to the plan of a batch that is under way.
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
