"""`python -m benchmarks.cryptoflow_job JSON`: the topic's candles by cryptoflow, into both tables."""

import json
import sys
from pathlib import Path

from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.part import RunContext
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings


def aggregate_all(kafka: KafkaSettings, cassandra: CassandraSettings, spark: SparkSettings, home: Path) -> None:
    """Aggregate what the topic holds, and end."""
    aggregate(kafka, cassandra, spark, RunContext(home, timeout_s=0.01))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    aggregate_all(
        KafkaSettings(**given["kafka"]),
        CassandraSettings(**given["cassandra"]),
        SparkSettings(**given["spark"]),
        Path(given["home"]),
    )
