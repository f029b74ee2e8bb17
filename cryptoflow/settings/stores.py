"""Kafka and Cassandra: where they are, and how the topics and tables are made."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from cryptoflow.model.window import LONGER_S
from cryptoflow.settings.setting import SIMULATED, Count, List, Port, Positive, Settings, secret, setting

NONE = "none"
"""An empty list, where the environment has to say one: what is empty there is not said."""

LONGEST_TTL_S = 630_720_000
"""Twenty years, which is the longest that Cassandra takes."""

KEYSPACE_PATTERN = r"^[a-zA-Z]\w{0,47}$"
TOPIC_PATTERN = r"^[a-zA-Z0-9._-]{1,200}$"


def _known_lengths(text: str) -> str:
    names = text.lower().replace(" ", "").split(",")
    if names == [NONE]:
        return NONE
    for name in names:
        if name not in LONGER_S:
            raise ValueError(f"{name or 'nothing'} is none of {', '.join(LONGER_S)}")
    return ",".join(names)


class KafkaSettings(Settings):
    """The broker and the topics."""

    bootstrap_servers: List = setting("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092", "HOST:PORT, comma-separated")
    topic: str = setting("KAFKA_TOPIC", SIMULATED, "the topic of trades", by_source=True, pattern=TOPIC_PATTERN)
    history_topic: str = setting(
        "KAFKA_HISTORY_TOPIC",
        lambda earlier: f"{earlier['topic']}.history",
        "the topic of trades that are filled in or fetched from the past",
        default_text="the topic's name with .history",
        pattern=TOPIC_PATTERN,
    )
    partitions: Count = setting("KAFKA_PARTITIONS", 4, "partitions of a topic that is made")
    replication: Count = setting("KAFKA_REPLICATION", 1, "replication factor of a topic that is made")
    retention_hours: Count = setting("KAFKA_RETENTION_HOURS", 168, "retention of a topic that is made, in hours")
    delivery_timeout_s: Positive = setting(
        "KAFKA_DELIVERY_TIMEOUT", 120.0, "how long Kafka may be gone before the run fails, in s"
    )
    producer: Literal["auto", "kafka-python", "confluent-kafka"] = setting(
        "KAFKA_PRODUCER",
        "auto",
        "what sends trades: kafka-python, or confluent-kafka of the extra `fast`; auto: that one if it is installed",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "how to talk to the broker"
    )
    ca_file: str | None = setting(
        "KAFKA_CA_FILE", None, "PEM file of the broker's certificate authority", run_config=False
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting(
        "KAFKA_SASL_MECHANISM", "PLAIN", "with a SASL protocol: how to log in"
    )
    username: str | None = setting("KAFKA_USERNAME", None, "user of a SASL login")
    password: str | None = secret("KAFKA_PASSWORD", "password of a SASL login")

    @property
    def dead_letter_topic(self) -> str:
        """Where unreadable frames go, with the reason."""
        return f"{self.topic}.deadletter"

    @property
    def gaps_topic(self) -> str:
        """Where the gaps stand that are to be filled."""
        return f"{self.topic}.gaps"

    @field_validator("history_topic")
    @classmethod
    def _beside_the_trades(cls, history_topic: str, info: ValidationInfo) -> str:
        if history_topic == info.data.get("topic"):
            raise ValueError("it must be another one than the topic of trades, which holds live trades only")
        return history_topic


class CassandraSettings(Settings):
    """The cluster and the keyspace."""

    contact_points: List = setting("CASSANDRA_CONTACT_POINTS", "127.0.0.1", "hosts, comma-separated")
    port: Port = setting("CASSANDRA_PORT", 9042, "the CQL port")
    keyspace: str = setting("CASSANDRA_KEYSPACE", SIMULATED, "the keyspace", by_source=True, pattern=KEYSPACE_PATTERN)
    replication: Count = setting("CASSANDRA_REPLICATION", 1, "replication factor of a keyspace that is made")
    datacenter: str | None = setting(
        "CASSANDRA_DATACENTER", None, "the local data center; a keyspace that is made then replicates there"
    )
    ttl_s: Annotated[int, Field(ge=0, le=LONGEST_TTL_S)] = setting(
        "CASSANDRA_TTL", 0, "default time to live of candles in a table that is made, in s; 0: for ever"
    )
    longer_windows: Annotated[str, AfterValidator(_known_lengths)] = setting(
        "CRYPTOFLOW_LONGER_WINDOWS",
        ",".join(LONGER_S),
        f"lengths of the longer candles that are made as well, of {', '.join(LONGER_S)}; {NONE}: none are",
    )
    username: str | None = setting("CASSANDRA_USERNAME", None, "user")
    password: str | None = secret("CASSANDRA_PASSWORD", "password")
    ca_file: str | None = setting(
        "CASSANDRA_CA_FILE", None, "PEM file of the certificate authority: turns TLS on", run_config=False
    )
    retry_for_s: Positive = setting(
        "CASSANDRA_RETRY_FOR", 120.0, "how long Cassandra may be gone before the run fails, in s"
    )

    def longer_s(self, base_s: int) -> list[int]:
        """The lengths of the longer candles, in s, ascending: those that are made of candles of `base_s`."""
        wanted = {LONGER_S[name] for name in self.longer_windows.split(",") if name != NONE}
        return sorted(length_s for length_s in wanted if length_s > base_s and not length_s % base_s)
