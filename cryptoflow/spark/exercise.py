"""A small run of the query in a process of its own: `archive` keeps the classes that the JVM loads for it."""

from pathlib import Path

from cryptoflow.model.trade import read_trade
from cryptoflow.runtime.stop import Deadline
from cryptoflow.settings import SparkSettings
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.feed import frames
from cryptoflow.spark.aggregation import batched, streamed
from cryptoflow.spark.archive import BUILD_TIMEOUT_S
from cryptoflow.spark.memory_source import FrameBuffer
from cryptoflow.spark.pack import Rules
from cryptoflow.spark.session import spark_session
from cryptoflow.spark.stream import CandleStream


def exercise(folder: Path) -> None:
    """Run the query over a few trades; the JVM writes the archive when it ends with the session."""
    settings = SparkSettings(trigger_s=0.1)
    with spark_session(settings, folder) as spark, FrameBuffer() as buffer:
        rules = Rules(settings.window_s, settings.ahead_s)
        rows = streamed(buffer.stream(spark), rules, settings.watermark_s)
        stream = CandleStream(rows, settings, folder / "checkpoint", lambda batch: None)
        stream.start()
        for frame in frames(SimulatorConfig(max_trades=1000, start_time_s=1.6e9), ["0~Coinbase~BTC~USD"]):
            buffer.trade(read_trade(frame), frame)
        deadline = Deadline(BUILD_TIMEOUT_S)
        stream.drain({0: buffer.end}, lambda: deadline.passed)
        stream.stop()
        batched(spark, [list], rules).collect()


if __name__ == "__main__":
    exercise(Path.cwd())
