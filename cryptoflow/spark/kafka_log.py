"""The log of trades as Spark sees it: as a stream from a place on, and as the records between two places."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from cryptoflow.kafka_io.columns import columns_between
from cryptoflow.model.offsets import Offsets
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark.aggregation import Part
from cryptoflow.spark.decode import Frames

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\""})
"""What Kafka's login configuration, which takes no other escapes, wants before a character of a quoted text."""


PART_TRADES = 500_000
"""Records that one task reads, at most."""

US_PER_MS = 1000

TOPIC_STEP = 1 << 20
"""Between the partitions of one topic and those of the next, where several are read as one log: more than any has."""


class Stretch(NamedTuple):
    """The records of a topic from `begin` on and before `end`, by partition."""

    topic: str
    begin: Mapping[int, int]
    end: Mapping[int, int]

    def partitions(self) -> list[int]:
        """Those that have records in it."""
        return [place for place, end in sorted(self.end.items()) if self.begin.get(place, 0) < end]


def _options(kafka: KafkaSettings) -> dict[str, str]:
    """Spark's options to reach the broker."""
    options = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.ca_file:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": kafka.ca_file}
    if kafka.security_protocol.startswith("SASL"):
        module = "plain.Plain" if kafka.sasl_mechanism == "PLAIN" else "scram.Scram"
        login = f"username={_quoted(kafka.username)} password={_quoted(kafka.password)}"
        options |= {
            "kafka.sasl.mechanism": kafka.sasl_mechanism,
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module}LoginModule required {login};",
        }
    return options


def _quoted(text: str | None) -> str:
    return '"' + (text or "").translate(_ESCAPES) + '"'


def stream(spark: SparkSession, kafka: KafkaSettings, begin: Offsets) -> DataFrame:
    """The frames of the topic of trades from a place on; each batch takes all that is there.

    A batch that took a part of it would take more of the time of one partition than of another's, and what comes
    after it would be late.
    """
    return (
        spark.readStream.format("kafka")
        .options(**_options(kafka))
        .option("subscribe", kafka.topic)
        .option("startingOffsets", json.dumps({kafka.topic: _named(begin)}))
        .load()
    )


def parts(kafka: KafkaSettings, stretches: Sequence[Stretch]) -> list[Part]:
    """What reads stretches of the log; partitions are counted on from topic to topic, as `_first_partitions` says."""
    first = _first_partitions(stretches)
    return [
        partial(
            _frames,
            kafka,
            stretch.topic,
            first[stretch.topic],
            place,
            begin,
            min(begin + PART_TRADES, stretch.end[place]),
        )
        for stretch in stretches
        for place in stretch.partitions()
        for begin in range(stretch.begin.get(place, 0), stretch.end[place], PART_TRADES)
    ]


def _frames(kafka: KafkaSettings, topic: str, first: int, partition: int, begin: int, end: int) -> Iterator[Frames]:
    for offsets, times_ms, values in columns_between(kafka, topic, partition, begin, end):
        place = np.full(len(values), first + partition, np.int32)
        yield Frames(values, times_ms * US_PER_MS, place, offsets)


def _first_partitions(stretches: Sequence[Stretch]) -> dict[str, int]:
    """What partition 0 of each topic is called, so that trades of a topic come before those of the ones named later."""
    return {topic: number * TOPIC_STEP for number, topic in enumerate(dict.fromkeys(each.topic for each in stretches))}


def _named(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(place): offset for place, offset in offsets.items()}
