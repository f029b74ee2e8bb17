"""Hours' candles and numbers of trades out of stretches of the log: by Spark where there is much to read."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from pyspark.sql import SparkSession

from cryptoflow.local import jars
from cryptoflow.model.candle import Candle
from cryptoflow.model.trade import MAX_AHEAD_S, Pair
from cryptoflow.model.verdict import Numbers, Run, joined
from cryptoflow.pipeline.repair_plan import Plan, size_of, together
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.batch import candles_between, candles_in
from cryptoflow.spark.decode import Frames
from cryptoflow.spark.folded import Found
from cryptoflow.spark.kafka_log import Stretch, parts
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.session import spark_session

SMALL = 1_000_000
"""Records up to which this process takes no more time than Spark with its start; they take some 400 MB."""

AHEAD_S = MAX_AHEAD_S + 1
"""What is not readable is left out, and nothing else: what is too far ahead for the stream has its hour by now."""


class _CanceledError(Exception):
    """The repair has to end before the hour at hand is done; nobody is told, as nobody waits for it."""


class Made(msgspec.Struct):
    """What the log says of a pair in an hour."""

    candles: list[Candle] = []
    duplicates: int = 0
    numbers: Numbers = Numbers()

    @property
    def trades(self) -> int:
        """The trades in the candles."""
        return sum(candle.trades for candle in self.candles)

    @property
    def numbered(self) -> bool:
        """Whether each trade has a number of its own."""
        return self.trades == sum(last - first + 1 for first, last in self.numbers.here)


class Recomputer:
    """Computes candles anew; it starts Spark when it first has much to read, until the stack ends.

    Attributes:
        read: the records that it has read.
    """

    def __init__(self, kafka: KafkaSettings, settings: SparkSettings, home: Path, stack: ExitStack) -> None:
        self._kafka, self._settings, self._home, self._stack = kafka, settings, home, stack
        self._rules = Rules(settings.window_s, AHEAD_S, numbered=True)
        self._spark: SparkSession | None = None
        self._canceled = threading.Event()
        self.read = 0

    def cancel(self) -> None:
        """Give up what is being read, and read no more."""
        self._canceled.set()
        if self._spark:
            self._spark.sparkContext.cancelAllJobs()

    def candles(self, plans: Sequence[Plan]) -> list[dict[Pair, Made]]:
        """What the log says of each plan's hour, by pair; of trades that came twice the first counts.

        It is read once for all of them.
        """
        if self._canceled.is_set():
            raise _CanceledError
        stretches = together(plans)
        found = self._by_python(stretches) if size_of(stretches) <= SMALL else self._by_spark(stretches)
        by_pair: dict[Pair, list[Found]] = {}
        for each in found:
            by_pair.setdefault(each.candle.pair, []).append(each)
        return [{pair: _made(each, plan) for pair, each in by_pair.items()} for plan in plans]

    def _by_spark(self, stretches: Sequence[Stretch]) -> Sequence[Found]:
        folded = candles_between(self._session(), self._kafka, stretches, self._rules)
        self.read += folded.counts.rows
        return folded.found

    def _session(self) -> SparkSession:
        if self._spark is None:
            jars.install(self._home, ["spark"])
            # One core is left to the live aggregation.
            settings = self._settings.model_copy(update={"master": "local[1]", "shuffle_partitions": 2})
            self._spark = self._stack.enter_context(spark_session(settings, self._home, connector=True))
        return self._spark

    def _by_python(self, stretches: Sequence[Stretch]) -> Sequence[Found]:
        return candles_in(self._frames(stretches), self._rules).found

    def _frames(self, stretches: Sequence[Stretch]) -> Iterator[Frames]:
        for part in parts(self._kafka, stretches):
            for frames in part():
                if self._canceled.is_set():
                    raise _CanceledError
                self.read += len(frames.values)
                yield frames


def _made(found: Iterable[Found], plan: Plan) -> Made:
    """What was found of a pair, in the plan's hour and beside it."""
    made = Made()
    here: list[Run] = []
    earlier: list[Run] = []
    later: list[Run] = []
    for each in found:
        start = each.candle.window_start
        if start < plan.hour:
            earlier += each.runs
        elif start >= plan.end:
            later += each.runs
        else:
            here += each.runs
            made.candles.append(each.candle)
            made.duplicates += each.copies - each.candle.trades
    made.numbers = Numbers(joined(here), joined(earlier), joined(later))
    return made
