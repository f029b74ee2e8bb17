"""An hour's candles out of stretches of the log: by plain Python where there is little to read, else by Spark."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from pyspark.sql import SparkSession

from cryptoflow.kafka_io.records import records_between, trades_of
from cryptoflow.local import jars
from cryptoflow.model.candle import Candle, candles_of
from cryptoflow.model.trade import MAX_AHEAD_S, Pair
from cryptoflow.model.window import epoch_ns, window
from cryptoflow.pipeline.repair_plan import Plan
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.batch import candles_between
from cryptoflow.spark.session import spark_session

SMALL = 150_000
"""Records up to which plain Python takes less time than Spark takes to start."""


class _CanceledError(Exception):
    """The repair has to end before the hour at hand is done; nobody is told, as nobody waits for it."""


class Made(msgspec.Struct):
    """The candles of a pair in an hour, out of the log."""

    candles: list[Candle] = []
    duplicates: int = 0


class Recomputer:
    """Computes candles anew; it starts Spark when it first has much to read, until the stack ends.

    Attributes:
        read: the records that it has read.
    """

    def __init__(self, kafka: KafkaSettings, settings: SparkSettings, home: Path, stack: ExitStack) -> None:
        self._kafka, self._settings, self._home, self._stack = kafka, settings, home, stack
        self._spark: SparkSession | None = None
        self._canceled = threading.Event()
        self.read = 0

    def cancel(self) -> None:
        """Give up what is being read, and read no more."""
        self._canceled.set()
        if self._spark:
            self._spark.sparkContext.cancelAllJobs()

    def candles(self, plan: Plan) -> dict[Pair, Made]:
        """The candles of a plan's windows by pair."""
        if self._canceled.is_set():
            raise _CanceledError
        made: dict[Pair, Made] = {}
        for candle, copies in self._by_python(plan) if plan.size <= SMALL else self._by_spark(plan):
            pair = made.setdefault(candle.pair, Made())
            pair.candles.append(candle)
            pair.duplicates += copies - candle.trades
        return made

    def _by_spark(self, plan: Plan) -> Iterator[tuple[Candle, int]]:
        window_s, since_ns = self._settings.window_s, epoch_ns(plan.start)
        found, counted = candles_between(
            self._session(), self._kafka, plan.stretches, window_s, MAX_AHEAD_S + 1, since_ns
        )
        self.read += counted.rows
        return ((each.candle, each.copies) for each in found if each.candle.window_start < plan.end)

    def _session(self) -> SparkSession:
        if self._spark is None:
            jars.install(self._home, ["spark"])
            # One core is left to the live aggregation.
            settings = self._settings.model_copy(update={"master": "local[1]", "shuffle_partitions": 2})
            self._spark = self._stack.enter_context(spark_session(settings, self._home, connector=True))
        return self._spark

    def _by_python(self, plan: Plan) -> Iterator[tuple[Candle, int]]:
        window_s = self._settings.window_s
        trades = list(trades_of(self._records(plan), plan.start, plan.end))
        copies = Counter((*trade.pair, window(trade.event_time_ns, window_s)[0]) for trade in trades)
        for key, candle in candles_of(trades, window_s).items():
            yield candle, copies[key]

    def _records(self, plan: Plan) -> Iterable[Any]:
        for stretch in plan.stretches:
            for record in records_between(self._kafka, stretch.topic, stretch.begin, stretch.end):
                if self._canceled.is_set():
                    raise _CanceledError
                self.read += 1
                yield record
