"""Every setting: its environment variable, default, limits and meaning, stated once.

The command line, the Dagster resources and the documentation are made from these models. What is given
explicitly wins over the environment, which wins over the default.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from cryptoflow.errors import ConfigError

DEFAULT_TIMEOUT_S = 150.0
"""How long a timed run streams, in seconds."""

MAX_HISTORY_DAYS = 36500
"""A hundred years: what ended before the year 1 is no date."""

DEFAULT_SUBSCRIPTIONS = "0~Coinbase~BTC~USD,0~Binance~BTC~USDT,0~Kraken~BTC~USD,0~CoinDeal~BTC~USD,0~Gemini~BTC~USD"
KEYSPACE_PATTERN = r"^[a-zA-Z]\w{0,47}$"
TOPIC_PATTERN = r"^[a-zA-Z0-9._-]{1,200}$"


def _setting(env: str, default: object, description: str, **limits: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"env": env}, **limits)


def _listed(value: str) -> str:
    items = [item.strip() for item in value.split(",") if item.strip()]
    if not items:
        raise ValueError("it is empty")
    return ",".join(items)


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    if "api_key" in parts.query or parts.password:
        raise ValueError("it holds a secret, and this is shown; the key belongs in CRYPTOCOMPARE_API_KEY")
    return url


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("it is no time zone, such as UTC or Europe/Berlin")
    return name


List = Annotated[str, AfterValidator(_listed)]
"""Comma-separated items."""

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    env_prefix: ClassVar[str] = ""
    """What the environment variables of the group begin with, where two groups have the same settings."""


class FeedSettings(Settings):
    """Where trades come from. The API key is not here: it is read from the environment, at the last moment."""

    source: Literal["auto", "cryptocompare", "simulator"] = _setting(
        "CRYPTOFLOW_SOURCE",
        "auto",
        "the feed; auto: cryptocompare if there is an API key, else the simulator",
    )
    url: Annotated[str, AfterValidator(_without_secrets)] = _setting(
        "CRYPTOCOMPARE_URL",
        "wss://streamer.cryptocompare.com/v2",
        "the feed's address, without the key",
        pattern=r"^wss?://",
    )
    subscriptions: List = _setting(
        "CRYPTOCOMPARE_SUBSCRIPTIONS", DEFAULT_SUBSCRIPTIONS, "comma-separated 0~MARKET~COIN~CURRENCY"
    )
    simulator_rate: Positive = _setting(
        "CRYPTOFLOW_SIMULATOR_RATE", 100.0, "trades/s that the run's own simulator generates"
    )
    replay: Annotated[str, AfterValidator(os.path.abspath)] | None = _setting(
        "CRYPTOFLOW_REPLAY", None, "a file of frames (JSON lines, .gz or plain) for the run's own simulator"
    )
    replay_speed: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CRYPTOFLOW_REPLAY_SPEED", 1.0, "how many times faster than recorded to replay; 0: as fast as it goes"
    )
    reconnect_for_s: Positive = _setting(
        "CRYPTOFLOW_RECONNECT_FOR", 900.0, "how long to try to reach the feed before the run fails, in s"
    )

    @property
    def subscription_list(self) -> tuple[str, ...]:
        """The subscriptions, one by one."""
        return tuple(self.subscriptions.split(","))


class KafkaSettings(Settings):
    """The broker and the topics."""

    bootstrap_servers: List = _setting("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092", "HOST:PORT, comma-separated")
    topic: str = _setting("KAFKA_TOPIC", "cryptocompare", "the topic of trades", pattern=TOPIC_PATTERN)
    partitions: Count = _setting("KAFKA_PARTITIONS", 4, "partitions of a topic that is made")
    replication: Count = _setting("KAFKA_REPLICATION", 1, "replication factor of a topic that is made")
    retention_hours: Count = _setting("KAFKA_RETENTION_HOURS", 168, "retention of a topic that is made, in hours")
    delivery_timeout_s: Positive = _setting(
        "KAFKA_DELIVERY_TIMEOUT", 120.0, "how long Kafka may be gone before the run fails, in s"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "how to talk to the broker"
    )
    ca_file: str | None = _setting("KAFKA_CA_FILE", None, "PEM file of the broker's certificate authority")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _setting(
        "KAFKA_SASL_MECHANISM", "PLAIN", "with a SASL protocol: how to log in"
    )
    username: str | None = _setting("KAFKA_USERNAME", None, "user of a SASL login")
    password: str | None = _setting("KAFKA_PASSWORD", None, "password of a SASL login", repr=False)

    @property
    def dead_letter_topic(self) -> str:
        """Where unreadable frames go, with the reason."""
        return f"{self.topic}.deadletter"


class SparkSettings(Settings):
    """The Spark session and the query."""

    master: str = _setting("SPARK_MASTER", "local[*]", "the Spark master", min_length=1)
    trigger_s: Positive = _setting("CRYPTOFLOW_TRIGGER", 5.0, "seconds between micro-batches")
    watermark_s: Positive = _setting("CRYPTOFLOW_WATERMARK", 300.0, "a trade this late, in s, is dropped and counted")
    window_s: Count = _setting("CRYPTOFLOW_WINDOW", 60, "length of a candle's window, in s")
    shuffle_partitions: Count = _setting("CRYPTOFLOW_SHUFFLE_PARTITIONS", 1, "partitions of the query's state")
    max_batch_trades: Count = _setting("CRYPTOFLOW_MAX_BATCH", 1_000_000, "trades in one micro-batch, at most")
    ui_port: Port = _setting("SPARK_UI_PORT", 4000, "port of the Spark UI")
    driver_memory: str = _setting("SPARK_DRIVER_MEMORY", "2g", "memory of Spark's JVM", pattern=r"^[1-9][0-9]*[mgMG]$")


class CassandraSettings(Settings):
    """The cluster and the keyspace."""

    contact_points: List = _setting("CASSANDRA_CONTACT_POINTS", "127.0.0.1", "hosts, comma-separated")
    port: Port = _setting("CASSANDRA_PORT", 9042, "the CQL port")
    keyspace: str = _setting("CASSANDRA_KEYSPACE", "cryptocompare", "the keyspace", pattern=KEYSPACE_PATTERN)
    replication: Count = _setting("CASSANDRA_REPLICATION", 1, "replication factor of a keyspace that is made")
    datacenter: str | None = _setting(
        "CASSANDRA_DATACENTER", None, "the local data center; a keyspace that is made then replicates there"
    )
    ttl_s: Annotated[int, Field(ge=0)] = _setting(
        "CASSANDRA_TTL", 0, "default time to live of candles in a table that is made, in s; 0: for ever"
    )
    username: str | None = _setting("CASSANDRA_USERNAME", None, "user")
    password: str | None = _setting("CASSANDRA_PASSWORD", None, "password", repr=False)
    ca_file: str | None = _setting("CASSANDRA_CA_FILE", None, "PEM file of the certificate authority: turns TLS on")
    retry_for_s: Positive = _setting(
        "CASSANDRA_RETRY_FOR", 120.0, "how long Cassandra may be gone before the run fails, in s"
    )


class TimedSettings(Settings):
    """When a schedule starts its timed runs, and how they stream."""

    cron: str = _setting("CRON", "0 * * * *", "when a run starts: minute, hour, day, month, day of the week")
    time_zone: Annotated[str, AfterValidator(_known_zone)] = _setting("TIME_ZONE", "UTC", "the time zone of that")
    timeout_s: Positive = _setting("TIMEOUT", DEFAULT_TIMEOUT_S, "how long a run streams, in s")
    subscriptions: List | None = _setting(
        "SUBSCRIPTIONS", None, "comma-separated 0~MARKET~COIN~CURRENCY; none: those of the feed"
    )


class TimedKafkaSettings(TimedSettings):
    """The schedule of kafka mode."""

    env_prefix = "CRYPTOFLOW_TIMED_KAFKA_"


class TimedMemorySettings(TimedSettings):
    """The schedule of memory mode."""

    env_prefix = "CRYPTOFLOW_TIMED_MEMORY_"


class HistorySettings(Settings):
    """What Dagster's history keeps."""

    days: Annotated[float, Field(ge=0, le=MAX_HISTORY_DAYS, allow_inf_nan=False)] = _setting(
        "CRYPTOFLOW_HISTORY_DAYS", 30.0, "days after which Dagster's record of a run is deleted; 0: never"
    )


FAULTS = {
    "int_parsing": "it is no whole number",
    "int_parsing_size": "it is too large",
    "int_type": "it is no whole number",
    "int_from_float": "it is no whole number",
    "float_parsing": "it is no number",
    "float_type": "it is no number",
    "finite_number": "it is not finite",
    "greater_than": "it must be more than {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than_equal": "it must be at most {le:g}",
    "literal_error": "it must be {expected}",
    "string_pattern_mismatch": "it must match {pattern}",
    "string_too_short": "it is empty",
    "string_type": "it is no text",
    "string_unicode": "it is no text",
    "value_error": "{error}",
}
"""What is wrong with a value, by pydantic's type of error."""

Model = TypeVar("Model", bound=Settings)


def setting_env(model: type[Settings], info: FieldInfo) -> str:
    """The environment variable of a field of `model`."""
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    return f"{model.env_prefix}{extra['env']}"


def settings_of(model: type[Settings]) -> Iterator[tuple[str, FieldInfo, str]]:
    """(name, field, environment variable) of each setting of `model`."""
    for name, info in model.model_fields.items():
        yield name, info, setting_env(model, info)


def load(model: type[Model], given: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None) -> Model:
    """The settings: what is `given` and not None, else what `env` (default: the process's) says, else the default.

    Raises:
        ConfigError: a value can't be used; the message names the setting, its variable and the value's fault.
    """
    env = os.environ if env is None else env
    values = {name: env[variable] for name, _, variable in settings_of(model) if env.get(variable)}
    values |= {name: value for name, value in (given or {}).items() if value is not None}
    try:
        return model(**values)
    except ValidationError as error:
        raise _refusal(model, error) from None


def _refusal(model: type[Settings], error: ValidationError) -> ConfigError:
    fault = error.errors(include_url=False, include_input=False)[0]
    name = str(fault["loc"][0])
    if name not in model.model_fields:
        return ConfigError(f"{name} is no setting of {model.__name__.removesuffix('Settings').lower()}.")
    return unusable(model, name, FAULTS[fault["type"]].format(**fault.get("ctx", {})))


def unusable(model: type[Settings], name: str, fault: str) -> ConfigError:
    """The error of a setting with a value that can't be used."""
    info = model.model_fields[name]
    return ConfigError(f"{name} ({setting_env(model, info)}: {info.description}) can't be used: {fault}.")


def api_key(env: Mapping[str, str] | None = None) -> str | None:
    """The feed's API key; from the environment only, so that no run config ever stores it."""
    return (os.environ if env is None else env).get("CRYPTOCOMPARE_API_KEY") or None


def home(env: Mapping[str, str] | None = None) -> Path:
    """The folder of jars, service data and checkpoints."""
    return Path((os.environ if env is None else env).get("CRYPTOFLOW_HOME") or ".cryptoflow").absolute()
