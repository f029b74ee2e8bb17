"""`python -m benchmarks [--trades N]`: how many trades a second each stage carries, and the share of its ceiling.

The ceiling of the ingester is a client that only receives; that of the aggregation is Spark only reading and parsing
the same topic. Both are measured in the same run, on the same data.
"""

import argparse
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table
from websockets.sync.client import connect as connect_socket

from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.offsets import end_offsets
from cryptoflow.kafka_io.producer import TradeProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.local import lifecycle
from cryptoflow.local.processes import free_port
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.supervision import Control, Figures
from cryptoflow.render import new_console
from cryptoflow.settings import CassandraSettings, FeedSettings, KafkaSettings, SparkSettings, home
from cryptoflow.spark.checkpoint import Start
from cryptoflow.spark.kafka_source import kafka_stream
from cryptoflow.spark.session import spark_session
from cryptoflow.testing import Simulator, SimulatorConfig

Result = tuple[str, float]
"""(what, trades/s)."""


@contextmanager
def services() -> Iterator[tuple[KafkaSettings, CassandraSettings]]:
    """Kafka and Cassandra of their own, gone after the block."""
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", topic=f"bench-{uuid.uuid4().hex}")
    cassandra = CassandraSettings(port=free_port(), keyspace="bench")
    with tempfile.TemporaryDirectory() as folder:
        started = lifecycle.up(Path(folder), lifecycle.services(kafka, cassandra), tied=True, jars_home=home())
        try:
            yield kafka, cassandra
        finally:
            lifecycle.end(started, timeout_s=0)


def feed(trades: int) -> SimulatorConfig:
    """A feed as fast as the socket carries: 2,000 trades a second of exchange time."""
    return SimulatorConfig(rate=0, max_trades=trades, start_time_s=1_763_900_000, time_step_s=0.0005)


def receive_only(trades: int) -> Result:
    """A client that does nothing with what it receives."""
    with Simulator(feed(trades)) as simulator, connect_socket(simulator.url, max_queue=4096) as socket:
        socket.send('{"action":"SubAdd","subs":["0~Coinbase~BTC~USD","0~Kraken~BTC~USD"]}')
        begun_s, received = time.perf_counter(), 0
        while received < trades:
            received += b'"TYPE":"0"' in socket.recv(decode=False)
        return "socket, received only", trades / (time.perf_counter() - begun_s)


def ingest_all(trades: int, kafka: KafkaSettings) -> Result:
    """The ingester, until Kafka has acknowledged everything."""
    control = Control(report_every_s=0.05)

    def report(figures: Figures) -> None:
        if figures["acknowledged"] >= trades:
            control.stop.set()

    control.report = report
    settings = FeedSettings(subscriptions="0~Coinbase~BTC~USD,0~Kraken~BTC~USD")
    with Simulator(feed(trades)) as simulator:
        begun_s = time.perf_counter()
        ingest(Feed(simulator.url, settings, simulated=True), kafka, home(), control, lambda event: None)
        return "socket -> Kafka, acknowledged", trades / (time.perf_counter() - begun_s)


def parse_s(kafka: KafkaSettings, spark: SparkSettings) -> float:
    """Seconds that Spark takes to read and parse the topic, and do nothing else; session start included."""
    begun_s = time.perf_counter()
    with spark_session(spark, home(), connector=True) as session, tempfile.TemporaryDirectory() as folder:
        start = Start(spark.window_s, dict.fromkeys(end_offsets(kafka, kafka.topic), 0))
        rows = kafka_stream(session, kafka, start, spark.max_batch_trades)
        writer = rows.writeStream.format("noop").option("checkpointLocation", folder)
        writer.trigger(availableNow=True).start().awaitTermination()
    return time.perf_counter() - begun_s


def aggregate_s(kafka: KafkaSettings, cassandra: CassandraSettings, spark: SparkSettings) -> float:
    """Seconds that the aggregation takes until both tables hold the whole topic; session start included."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "jars").symlink_to(home() / "jars")
        begun_s = time.perf_counter()
        figures = aggregate(kafka, cassandra, spark, Path(folder), Control(timeout_s=0.01))
        assert figures["lag"] == 0, figures
        return time.perf_counter() - begun_s


def fill(trades: int, kafka: KafkaSettings) -> None:
    """Put the feed's trades into the topic."""
    from cryptoflow.model.trade import read_trade
    from cryptoflow.testing import frames

    with TradeProducer(kafka) as producer:
        for frame in frames(feed(trades), ["0~Coinbase~BTC~USD", "0~Kraken~BTC~USD"]):
            producer.trade(read_trade(frame), frame)
        producer.flush()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--trades", type=int, default=1_000_000)
    trades = parser.parse_args().trades
    few = trades // 4
    spark = SparkSettings(trigger_s=3600, ui_port=free_port(), max_batch_trades=few)
    with services() as (kafka, cassandra):
        small, large, ingested = (kafka.model_copy(update={"topic": f"{kafka.topic}-{name}"}) for name in "sli")
        for topic, count in ((small, few), (large, trades)):
            make_topics(topic)
            fill(count, topic)
        received, ingesting = receive_only(few), ingest_all(few, ingested)
        parsing_s = [parse_s(topic, spark) for topic in (small, large)]
        aggregating_s = [aggregate_s(topic, cassandra, spark) for topic in (small, large)]
    table = Table("stage", "trades/s", "of its ceiling")
    # What the longer run takes more is without the start of Spark and the warming up of the JVM.
    warm = [(trades - few) / (long_s - short_s) for short_s, long_s in (parsing_s, aggregating_s)]
    for name, rate, ceiling in (
        (*received, received[1]),
        (*ingesting, received[1]),
        ("Kafka -> parsed only, warm", warm[0], warm[0]),
        ("Kafka -> tables, warm", warm[1], warm[0]),
        ("Kafka -> tables, start included", trades / aggregating_s[1], warm[0]),
    ):
        table.add_row(name, f"{rate:,.0f}", f"{rate / ceiling:.0%}")
    new_console().print(table)


if __name__ == "__main__":
    main()
