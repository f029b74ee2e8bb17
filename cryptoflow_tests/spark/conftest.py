"""What the tests of Spark's queries share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cryptoflow.settings import SparkSettings
from cryptoflow_tests.spark.streaming import SETTINGS, Streaming


@pytest.fixture
def streaming(spark: SparkSession, tmp_path: Path) -> Iterator[Callable[..., Streaming]]:
    """Makes a query over a buffer of its own; it is stopped with the test."""
    with ExitStack() as stack:

        def make(settings: SparkSettings = SETTINGS) -> Streaming:
            return stack.enter_context(Streaming(spark, tmp_path / "checkpoint", settings))

        yield make
