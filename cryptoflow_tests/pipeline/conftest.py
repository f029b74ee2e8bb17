"""What the tests of the pipeline share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cryptoflow.pipeline import aggregate, memory, recompute
from cryptoflow.settings import SparkSettings


@pytest.fixture
def one_spark(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the pipeline work in the session of all tests; a run's own is tested by whole runs."""

    @contextmanager
    def shared(settings: SparkSettings, home: Path, connector: bool = False) -> Iterator[SparkSession]:
        yield spark

    for module in (aggregate, memory, recompute):
        monkeypatch.setattr(module, "spark_session", shared)
