"""The jobs: the two halves by themselves, both side by side in a timed run, and memory mode."""

import dagster as dg

from cryptoflow.defs.ops import aggregate_in_memory, aggregate_trades, ingest_trades
from cryptoflow.defs.streaming import StreamingConfig

side_by_side = dg.multiprocess_executor.configured({"max_concurrent": 2}, name="side_by_side")
"""Both halves at once, however few cores there are: one after the other would aggregate nothing while it lasts."""


def _until_stopped(op: str) -> dg.RunConfig:
    return dg.RunConfig(ops={op: StreamingConfig(timeout_s=0)})


@dg.job(executor_def=dg.in_process_executor, config=_until_stopped("ingest_trades"))
def ingest() -> None:
    """websocket -> Kafka, until it is stopped."""
    ingest_trades()


@dg.job(executor_def=dg.in_process_executor, config=_until_stopped("aggregate_trades"))
def aggregate() -> None:
    """Kafka -> Spark -> Cassandra, until it is stopped."""
    aggregate_trades()


@dg.job(executor_def=side_by_side)
def kafka_mode() -> None:
    """websocket -> Kafka -> Spark -> Cassandra, for a time."""
    ingest_trades()
    aggregate_trades()


@dg.job(executor_def=dg.in_process_executor)
def memory_mode() -> None:
    """websocket -> Spark -> console, for a time."""
    aggregate_in_memory()


STREAMING = [ingest, aggregate, kafka_mode, memory_mode]
"""The jobs that stream."""
