"""`python -m benchmarks.stream_job JSON`: the stream over a topic, in batches of one size; JSON of what each took.

That is (us of the cores for each trade, trades/s), of the last batches, when the JVM has compiled what it runs.
"""

import json
import sys
import threading
import time
from pathlib import Path

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from benchmarks.measured import Watch
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark.aggregation import FRAME, streamed
from cryptoflow.spark.decode import Frames
from cryptoflow.spark.pack import BLOCKS, Rules
from cryptoflow.spark.session import spark_session

TIMEOUT_S = 600.0


def rows(
    spark: SparkSession, kafka: KafkaSettings, settings: SparkSettings, batch_trades: int, whole: bool
) -> DataFrame:
    """The stream's rows, or without its state: what is read and packed."""
    log = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", kafka.bootstrap_servers)
        .option("subscribe", kafka.topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", batch_trades)
        .load()
    )
    rules = Rules(settings.window_s, settings.ahead_s)
    if whole:
        return streamed(log, rules, settings.watermark_s)
    return log.select(*FRAME).mapInArrow(
        lambda batches: rules.blocks(map(Frames.of, batches)), from_arrow_schema(BLOCKS)
    )


def batches(kafka: KafkaSettings, home: Path, batch_trades: int, number: int, whole: bool) -> list[tuple[float, float]]:
    """(us of the cores, trades/s) of each batch after the first."""
    settings, found, over = SparkSettings(), list[tuple[float, float]](), threading.Event()
    watch = Watch(psutil.Process())
    before: list[tuple[float, float]] = []

    def taken(batch: DataFrame, batch_id: int) -> None:
        batch.write.format("noop").mode("append").save()
        watch.look()
        now = time.perf_counter(), watch.cpu_s
        if before:
            seconds, cpu_s = (after - then for after, then in zip(now, before.pop(), strict=True))
            found.append((cpu_s / batch_trades * 1e6, batch_trades / seconds))
        before.append(now)
        if len(found) == number:
            over.set()

    with spark_session(settings, home, connector=True) as spark:
        query = (
            rows(spark, kafka, settings, batch_trades, whole)
            .writeStream.outputMode("update" if whole else "append")
            .foreachBatch(taken)
            .option("checkpointLocation", (home / f"checkpoint-{whole}").as_uri())
            .trigger(processingTime="0 seconds")
            .start()
        )
        over.wait(TIMEOUT_S)
        query.stop()
    return found


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    made = batches(
        KafkaSettings(**given["kafka"]), Path(given["home"]), given["batch_trades"], given["batches"], given["whole"]
    )
    sys.stdout.write(json.dumps(made))
