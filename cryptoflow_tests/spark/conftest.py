"""The Spark session of these tests: one for all of them, and gone before other tests start their own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cryptoflow.services.processes import free_port
from cryptoflow.settings import SparkSettings
from cryptoflow.spark.session import spark_session
from cryptoflow_tests.spark.streaming import SETTINGS, Streaming

Start = Callable[..., Streaming]


@pytest.fixture(scope="package")
def spark(jars_home: Path) -> Iterator[SparkSession]:
    settings = SparkSettings(ui_port=free_port(), driver_memory="1g")
    with spark_session(settings, jars_home, connector=True) as session:
        yield session


@pytest.fixture
def streaming(spark: SparkSession, tmp_path: Path) -> Iterator[Callable[..., Streaming]]:
    """Makes a query over a buffer of its own; it is stopped with the test."""
    with ExitStack() as stack:

        def make(settings: SparkSettings = SETTINGS) -> Streaming:
            return stack.enter_context(Streaming(spark, tmp_path / "checkpoint", settings))

        yield make
