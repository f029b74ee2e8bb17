"""The topic of trades as a stream, where its query keeps its checkpoint, and what in it is unreadable."""

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyspark
from pyspark.sql import DataFrame, SparkSession

from cryptoflow.errors import UnreadableFrameError
from cryptoflow.kafka_io.offsets import beginning_offsets, offsets_for_times
from cryptoflow.kafka_io.records import first_times_ms, topic_id
from cryptoflow.model.trade import read_trade
from cryptoflow.settings import KafkaSettings, SparkSettings
from cryptoflow.spark import query
from cryptoflow.spark.checkpoint import (
    START_FILE,
    Offsets,
    Start,
    fingerprint,
    predecessor,
    read_start,
    source_name,
    start_after,
    start_at,
    write_start,
)


class Place(msgspec.Struct, frozen=True):
    """A query's checkpoint and where it began."""

    checkpoint: Path
    start: Start

    @property
    def query_id(self) -> str:
        """The query's name in the table `batches`."""
        return f"{self.checkpoint.parent.name}/{self.checkpoint.name}"


def locate(home: Path, kafka: KafkaSettings, settings: SparkSettings, tables_id: str) -> Place:
    """The checkpoint of this query over this topic into these tables; a new one if the query or either of them is."""
    source = source_name(kafka.topic, topic_id(kafka), tables_id)
    changed = fingerprint(
        pyspark.__version__,
        query.definition(),
        settings.watermark_s,
        settings.window_s,
        settings.shuffle_partitions,
    )
    checkpoint = (home / "checkpoints" / source / changed).absolute()
    if (checkpoint / START_FILE).exists():
        return Place(checkpoint, read_start(checkpoint))
    return Place(checkpoint, write_start(checkpoint, _first_start(checkpoint, kafka, settings.window_s)))


def _first_start(checkpoint: Path, kafka: KafkaSettings, window_s: int) -> Start:
    earliest = beginning_offsets(kafka, kafka.topic)
    cut = [partition for partition, offset in earliest.items() if offset]
    cut_ms = max(first_times_ms(kafka, kafka.topic, cut).values(), default=None)
    start = start_at(earliest, cut_ms, window_s)
    if before := predecessor(checkpoint, window_s):
        return start_after(
            *before, start, lambda ms: offsets_for_times(kafka, kafka.topic, dict.fromkeys(earliest, ms))
        )
    return start


def _topic_offsets(topic: str, offsets: Offsets) -> str:
    return json.dumps({topic: {str(partition): offset for partition, offset in offsets.items()}})


def _options(kafka: KafkaSettings) -> dict[str, str]:
    """Spark's options to reach the broker."""
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
        "subscribe": kafka.topic,
    }
    if kafka.ca_file:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": kafka.ca_file}
    if kafka.security_protocol.startswith("SASL"):
        module = "plain.Plain" if kafka.sasl_mechanism == "PLAIN" else "scram.Scram"
        login = f"username={json.dumps(kafka.username or '')} password={json.dumps(kafka.password or '')}"
        options |= {
            "kafka.sasl.mechanism": kafka.sasl_mechanism,
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module}LoginModule required {login};",
        }
    return options


def kafka_stream(spark: SparkSession, kafka: KafkaSettings, start: Start, max_batch_trades: int) -> DataFrame:
    """The topic's trades from `start` on."""
    frames = (
        spark.readStream.format("kafka")
        .options(**_options(kafka))
        .option("startingOffsets", _topic_offsets(kafka.topic, start.offsets))
        .option("maxOffsetsPerTrigger", max_batch_trades)
        .load()
    )
    return query.trades(frames, _from_offsets(start.counted), start.not_before_ns)


def _from_offsets(offsets: Offsets) -> str:
    """The Spark condition that a row of Kafka is at or past `offsets`."""
    entries = ", ".join(f"{partition}, {offset}L" for partition, offset in offsets.items())
    return f"offset >= coalesce(try_element_at(map({entries}), partition), 0)" if entries else "false"


def unreadable(
    spark: SparkSession, kafka: KafkaSettings, begin: Offsets, end: Offsets
) -> Iterator[tuple[bytes | None, str, int, int]]:
    """(record, reason, partition, offset) of each unreadable record between the offsets `begin` and `end`."""
    frames = (
        spark.read.format("kafka")
        .options(**_options(kafka))
        .option("startingOffsets", _topic_offsets(kafka.topic, begin))
        .option("endingOffsets", _topic_offsets(kafka.topic, end))
        .load()
    )
    rows = query.parsed(frames).where("not readable").select("value", "partition", "offset")
    for row in rows.toLocalIterator():
        record = None if row.value is None else bytes(row.value)
        yield record, _reason(record or b""), row.partition, row.offset


def _reason(record: bytes) -> str:
    try:
        read_trade(record)
    except UnreadableFrameError as error:
        return str(error)
    return "its exchange time is too far ahead of the time Kafka received it"
