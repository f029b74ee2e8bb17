"""The log of trades as Spark sees it: as a stream from a place on, and as the records between two places."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as sql

from cryptoflow.model.offsets import Offsets
from cryptoflow.settings import KafkaSettings
from cryptoflow.spark.aggregation import FRAME, FRAMES

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\""})
"""What Kafka's login configuration, which takes no other escapes, wants before a character of a quoted text."""


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


def between(spark: SparkSession, kafka: KafkaSettings, stretches: Sequence[Stretch]) -> DataFrame:
    """The frames of stretches of the log; partitions are counted on from topic to topic, as `first_partitions` says."""
    first = first_partitions(stretches)
    frames = [_between(spark, kafka, each, first[each.topic]) for each in stretches if each.partitions()]
    if not frames:
        return spark.createDataFrame([], FRAMES)
    whole = frames[0]
    for each in frames[1:]:
        whole = whole.unionAll(each)
    return whole


def first_partitions(stretches: Sequence[Stretch]) -> dict[str, int]:
    """What partition 0 of each topic is called, so that trades of a topic come before those of the ones named later."""
    return {topic: number * TOPIC_STEP for number, topic in enumerate(dict.fromkeys(each.topic for each in stretches))}


def _between(spark: SparkSession, kafka: KafkaSettings, stretch: Stretch, first: int) -> DataFrame:
    places = stretch.partitions()
    edges = {
        "startingOffsets": {place: stretch.begin.get(place, 0) for place in places},
        "endingOffsets": {place: stretch.end[place] for place in places},
    }
    reader = spark.read.format("kafka").options(**_options(kafka)).option("assign", json.dumps({stretch.topic: places}))
    for option, offsets in edges.items():
        reader = reader.option(option, json.dumps({stretch.topic: _named(offsets)}))
    frames = reader.load()
    return frames.withColumn("partition", sql.expr(f"partition + {first}")).select(*FRAME)


def _named(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(place): offset for place, offset in offsets.items()}
