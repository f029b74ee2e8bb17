"""Every setting: its environment variable, default, limits and meaning, stated once.

The command line, the Dagster resources and the documentation are made from these models. What is given
explicitly wins over the environment, which wins over the default.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from cryptoflow.errors import ConfigError
from cryptoflow.model.window import LONGER_S
from cryptoflow.venues import CRYPTOCOMPARE, VENUES

DEFAULT_TIMEOUT_S = 150.0
"""How long a timed run streams, in seconds."""

DEFAULT_AHEAD_S = 60.0
"""How far ahead of its receive time, in s, a trade is still streamed."""

MAX_HISTORY_DAYS = 36500
"""A hundred years: what ended before the year 1 is no date."""

OFFICIAL_URL = CRYPTOCOMPARE.url
DEFAULT_SUBSCRIPTIONS = "0~Coinbase~BTC~USD,0~Binance~BTC~USDT,0~Kraken~BTC~USD,0~CoinDeal~BTC~USD,0~Gemini~BTC~USD"
SIMULATED, REAL = "simulated", "cryptocompare"
"""The topic and the keyspace of simulated trades, and those of a real source, where none is named."""

BY_SOURCE = f"{REAL}; {SIMULATED} for the simulator"

LONE_SOURCES = ("auto", "cryptocompare", "simulator")
SOURCES = f"one of {', '.join(LONE_SOURCES)}, or some of {', '.join(VENUES)}, comma-separated"

HOUR_S = 3600

NONE = "none"
"""An empty list, where the environment has to say one: what is empty there is not said."""

LOOPBACKS = ("127.0.0.1", "::1", "localhost")
"""Hosts that only programs of this machine can reach."""

SHORTEST_TOKEN = 16

KEYSPACE_PATTERN = r"^[a-zA-Z]\w{0,47}$"
TOPIC_PATTERN = r"^[a-zA-Z0-9._-]{1,200}$"


def _setting(
    env: str,
    default: object,
    description: str,
    *,
    old_env: str | None = None,
    default_text: str | None = None,
    by_source: bool = False,
    option: bool = True,
    run_config: bool = True,
    **limits: Any,
) -> Any:
    """A field that is a setting.

    Args:
        old_env: another variable of it, which counts where `env` is not set.
        default_text: the default in words, where it follows from something else.
        by_source: its default follows from the source (`store_name`).
        option: whether it has an option of the command line, which everybody on the machine can read.
        run_config: whether a run config of Dagster, which is stored and shown, may say it.
    """
    extra: dict[str, Any] = {"env": env, "option": option, "run_config": run_config, "by_source": by_source}
    extra |= {"old_env": old_env, "default_text": BY_SOURCE if by_source else default_text}
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=extra, **limits)
    return Field(default, description=description, json_schema_extra=extra, **limits)


def _password(env: str, description: str) -> Any:
    return _setting(env, None, description, option=False, run_config=False, repr=False)


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


def _known_source(text: str) -> str:
    names = list(dict.fromkeys(_listed(text.lower()).split(",")))
    for name in names:
        if name not in (*LONE_SOURCES, *VENUES):
            raise ValueError(f"{name} is no source")
    if len(names) > 1 and (alone := [name for name in names if name in LONE_SOURCES]):
        raise ValueError(f"{alone[0]} is a source by itself alone")
    return ",".join(names)


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("it is no time zone, such as UTC or Europe/Berlin")
    return name


def _part_of_an_hour(window_s: int) -> int:
    if HOUR_S % window_s:
        raise ValueError("it does not divide an hour, as 60, 300 and 3600 do")
    return window_s


def _known_lengths(text: str) -> str:
    names = text.lower().replace(" ", "").split(",")
    if names == [NONE]:
        return NONE
    for name in names:
        if name not in LONGER_S:
            raise ValueError(f"{name or 'nothing'} is none of {', '.join(LONGER_S)}")
    return ",".join(names)


List = Annotated[str, AfterValidator(_listed)]
"""Comma-separated items."""

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


SocketUrl = Annotated[str, AfterValidator(_without_secrets)]
RestUrl = Annotated[str, AfterValidator(_without_secrets)]


def _socket_url(name: str) -> Any:
    venue = VENUES[name]
    return _setting(f"{name.upper()}_URL", venue.url, f"the address of {venue.market}'s websocket", pattern=r"^wss?://")


def _rest_url(name: str) -> Any:
    venue = VENUES[name]
    text = f"the address of {venue.market}'s REST: scheme and host"
    return _setting(f"{name.upper()}_REST_URL", venue.rest_url, text, pattern=r"^https?://[^/]+/?$")


def _venues(source: str) -> tuple[str, ...]:
    return tuple(name for name in source.split(",") if name in VENUES)


def _default_subscriptions(source: str) -> str:
    """Of a source of venues those of the default that they have."""
    venues, default = _venues(source), DEFAULT_SUBSCRIPTIONS.split(",")
    return ",".join(sub for sub in default if not venues or any(VENUES[name].takes(sub) for name in venues))


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    env_prefix: ClassVar[str] = ""
    """What the environment variables of the group begin with, where two groups have the same settings."""


class FeedSettings(Settings):
    """Where trades come from. The API key is not here: it is read from the environment, at the last moment."""

    source: Annotated[str, AfterValidator(_known_source)] = _setting(
        "CRYPTOFLOW_SOURCE",
        "auto",
        f"where trades come from: {SOURCES}; auto: cryptocompare if there is an API key, else the simulator",
    )
    url: Annotated[str, AfterValidator(_without_secrets)] = _setting(
        "CRYPTOCOMPARE_URL",
        OFFICIAL_URL,
        "CryptoCompare's address, without the key",
        pattern=r"^wss?://",
    )
    coinbase_url: SocketUrl = _socket_url("coinbase")
    coinbase_rest_url: RestUrl = _rest_url("coinbase")
    binance_url: SocketUrl = _socket_url("binance")
    binance_rest_url: RestUrl = _rest_url("binance")
    kraken_url: SocketUrl = _socket_url("kraken")
    kraken_rest_url: RestUrl = _rest_url("kraken")
    gemini_url: SocketUrl = _socket_url("gemini")
    gemini_rest_url: RestUrl = _rest_url("gemini")
    subscriptions: List = _setting(
        "CRYPTOFLOW_SUBSCRIPTIONS",
        lambda earlier: _default_subscriptions(earlier.get("source", "auto")),
        "comma-separated 0~MARKET~COIN~CURRENCY",
        old_env="CRYPTOCOMPARE_SUBSCRIPTIONS",
        default_text=f"{DEFAULT_SUBSCRIPTIONS.replace(',', ', ')}; of venues' own feeds those that they have",
    )
    simulator_rate: Positive = _setting(
        "CRYPTOFLOW_SIMULATOR_RATE", 100.0, "trades/s that the run's own simulator generates"
    )
    replay: Annotated[str, AfterValidator(os.path.abspath)] | None = _setting(
        "CRYPTOFLOW_REPLAY", None, "a file of frames (JSON lines, .gz or plain) for the run's own simulator"
    )
    replay_folder: Annotated[str, AfterValidator(os.path.abspath)] | None = _setting(
        "CRYPTOFLOW_REPLAY_FOLDER",
        None,
        "the only folder that a run config may name a replay in",
        option=False,
        run_config=False,
    )
    replay_speed: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CRYPTOFLOW_REPLAY_SPEED", 1.0, "how many times faster than recorded to replay; 0: as fast as it goes"
    )
    reconnect_for_s: Positive = _setting(
        "CRYPTOFLOW_RECONNECT_FOR", 900.0, "how long to try to reach the feed before the run fails, in s"
    )
    fill_limit_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _setting(
        "CRYPTOFLOW_FILL_LIMIT", 86_400.0, "how far back gaps are filled out of a venue's REST, in s; 0: not at all"
    )

    @property
    def subscription_list(self) -> tuple[str, ...]:
        """The subscriptions, one by one."""
        return tuple(self.subscriptions.split(","))

    @property
    def venues(self) -> tuple[str, ...]:
        """The names of the venues whose own feeds are the source; none if it is another."""
        return _venues(self.source)

    def venue_url(self, name: str) -> str:
        """Where the websocket of a venue is."""
        return str(getattr(self, f"{name}_url"))

    def venue_rest_url(self, name: str) -> str:
        """Where the REST of a venue is."""
        return str(getattr(self, f"{name}_rest_url"))


class KafkaSettings(Settings):
    """The broker and the topics."""

    bootstrap_servers: List = _setting("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092", "HOST:PORT, comma-separated")
    topic: str = _setting("KAFKA_TOPIC", SIMULATED, "the topic of trades", by_source=True, pattern=TOPIC_PATTERN)
    history_topic: str = _setting(
        "KAFKA_HISTORY_TOPIC",
        lambda earlier: f"{earlier['topic']}.history",
        "the topic of trades that are filled in or fetched from the past",
        default_text="the topic's name with .history",
        pattern=TOPIC_PATTERN,
    )
    partitions: Count = _setting("KAFKA_PARTITIONS", 4, "partitions of a topic that is made")
    replication: Count = _setting("KAFKA_REPLICATION", 1, "replication factor of a topic that is made")
    retention_hours: Count = _setting("KAFKA_RETENTION_HOURS", 168, "retention of a topic that is made, in hours")
    delivery_timeout_s: Positive = _setting(
        "KAFKA_DELIVERY_TIMEOUT", 120.0, "how long Kafka may be gone before the run fails, in s"
    )
    producer: Literal["auto", "kafka-python", "confluent-kafka"] = _setting(
        "KAFKA_PRODUCER",
        "auto",
        "what sends trades: kafka-python, or confluent-kafka of the extra `fast`; auto: that one if it is installed",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", "how to talk to the broker"
    )
    ca_file: str | None = _setting(
        "KAFKA_CA_FILE", None, "PEM file of the broker's certificate authority", run_config=False
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _setting(
        "KAFKA_SASL_MECHANISM", "PLAIN", "with a SASL protocol: how to log in"
    )
    username: str | None = _setting("KAFKA_USERNAME", None, "user of a SASL login")
    password: str | None = _password("KAFKA_PASSWORD", "password of a SASL login")

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


class SparkSettings(Settings):
    """The Spark session and the query."""

    master: str = _setting("SPARK_MASTER", "local[*]", "the Spark master", min_length=1)
    trigger_s: Positive = _setting("CRYPTOFLOW_TRIGGER", 5.0, "seconds between micro-batches")
    watermark_s: Positive = _setting("CRYPTOFLOW_WATERMARK", 300.0, "a trade this late, in s, is dropped and counted")
    max_ahead_s: Positive = _setting(
        "CRYPTOFLOW_MAX_AHEAD",
        DEFAULT_AHEAD_S,
        "how far ahead of its receive time, in s, a trade may be and still be streamed; always below the watermark",
    )
    window_s: Annotated[Count, AfterValidator(_part_of_an_hour)] = _setting(
        "CRYPTOFLOW_WINDOW", 60, "length of a candle's window, in s, a divisor of an hour"
    )
    shuffle_partitions: Count = _setting("CRYPTOFLOW_SHUFFLE_PARTITIONS", 1, "partitions of the query's state")
    max_batch_trades: Count = _setting(
        "CRYPTOFLOW_MAX_BATCH", 4_000_000, "trades in one batch, about: a backlog is worked off in slices of so many"
    )
    backlog_trades: Count = _setting(
        "CRYPTOFLOW_BACKLOG", 200_000, "from how many trades behind a start works in batches"
    )
    ui_port: Port = _setting("SPARK_UI_PORT", 4000, "port of the Spark UI")
    driver_memory: str = _setting("SPARK_DRIVER_MEMORY", "2g", "memory of Spark's JVM", pattern=r"^[1-9][0-9]*[mgMG]$")

    @field_validator("max_ahead_s")
    @classmethod
    def _below_the_watermark(cls, max_ahead_s: float, info: ValidationInfo) -> float:
        """Of a value that is given; the default follows the watermark (`ahead_s`)."""
        watermark_s = info.data.get("watermark_s")
        if watermark_s is not None and max_ahead_s >= watermark_s:
            raise ValueError(f"it must be less than the watermark, which is {watermark_s:g} s")
        return max_ahead_s

    @property
    def ahead_s(self) -> float:
        """`max_ahead_s`; half the watermark where that is too short for the default."""
        return self.max_ahead_s if self.max_ahead_s < self.watermark_s else self.watermark_s / 2


class CassandraSettings(Settings):
    """The cluster and the keyspace."""

    contact_points: List = _setting("CASSANDRA_CONTACT_POINTS", "127.0.0.1", "hosts, comma-separated")
    port: Port = _setting("CASSANDRA_PORT", 9042, "the CQL port")
    keyspace: str = _setting("CASSANDRA_KEYSPACE", SIMULATED, "the keyspace", by_source=True, pattern=KEYSPACE_PATTERN)
    replication: Count = _setting("CASSANDRA_REPLICATION", 1, "replication factor of a keyspace that is made")
    datacenter: str | None = _setting(
        "CASSANDRA_DATACENTER", None, "the local data center; a keyspace that is made then replicates there"
    )
    ttl_s: Annotated[int, Field(ge=0)] = _setting(
        "CASSANDRA_TTL", 0, "default time to live of candles in a table that is made, in s; 0: for ever"
    )
    longer_windows: Annotated[str, AfterValidator(_known_lengths)] = _setting(
        "CRYPTOFLOW_LONGER_WINDOWS",
        ",".join(LONGER_S),
        f"lengths of the longer candles that are made as well, of {', '.join(LONGER_S)}; {NONE}: none are",
    )
    username: str | None = _setting("CASSANDRA_USERNAME", None, "user")
    password: str | None = _password("CASSANDRA_PASSWORD", "password")
    ca_file: str | None = _setting(
        "CASSANDRA_CA_FILE", None, "PEM file of the certificate authority: turns TLS on", run_config=False
    )
    retry_for_s: Positive = _setting(
        "CASSANDRA_RETRY_FOR", 120.0, "how long Cassandra may be gone before the run fails, in s"
    )

    def longer_s(self, base_s: int) -> list[int]:
        """The lengths of the longer candles, in s, ascending: those that are made of candles of `base_s`."""
        wanted = {LONGER_S[name] for name in self.longer_windows.split(",") if name != NONE}
        return sorted(length_s for length_s in wanted if length_s > base_s and not length_s % base_s)


class WebSettings(Settings):
    """The page of live candles, and its API."""

    token: str | None = _password("CRYPTOFLOW_WEB_TOKEN", "what whoever looks has to know; needed beyond this machine")
    host: Annotated[str, Field(min_length=1)] = _setting(
        "CRYPTOFLOW_WEB_HOST", LOOPBACKS[0], "the address to listen at; any but this machine's own asks for a token"
    )
    port: Port = _setting("CRYPTOFLOW_WEB_PORT", 8050, "port of the page and its API")
    dagster_url: str = _setting(
        "CRYPTOFLOW_WEB_DAGSTER_URL",
        "http://127.0.0.1:3000",
        "where the page's links to Dagster lead",
        pattern=r"^https?://",
    )

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: str | None) -> str | None:
        if token is not None and len(token) < SHORTEST_TOKEN:
            raise ValueError(f"it must have {SHORTEST_TOKEN} characters at least")
        return token

    @field_validator("host")
    @classmethod
    def _guarded(cls, host: str, info: ValidationInfo) -> str:
        if host not in LOOPBACKS and not info.data.get("token"):
            raise ValueError("other machines may look there, so CRYPTOFLOW_WEB_TOKEN must be set")
        return host


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


def _extra(info: FieldInfo) -> dict[str, Any]:
    assert isinstance(info.json_schema_extra, dict)
    return info.json_schema_extra


def setting_env(model: type[Settings], info: FieldInfo) -> str:
    """The environment variable of a field of `model`."""
    return f"{model.env_prefix}{_extra(info)['env']}"


def old_env(info: FieldInfo) -> str | None:
    """Another variable of a setting, which counts where its own is not set."""
    found = _extra(info)["old_env"]
    return None if found is None else str(found)


def variables_text(model: type[Settings], info: FieldInfo) -> str:
    """The environment variables of a setting, the one that wins first."""
    return ", else ".join(filter(None, (setting_env(model, info), old_env(info))))


def has_option(info: FieldInfo) -> bool:
    """Whether a setting may be an option of the command line."""
    return bool(_extra(info)["option"])


def in_run_config(info: FieldInfo) -> bool:
    """Whether a run config of Dagster may say a setting."""
    return bool(_extra(info)["run_config"])


def default_text(info: FieldInfo) -> str | None:
    """A setting's default to be read; None if it has none."""
    said = _extra(info)["default_text"]
    return said if said or info.default is None else str(info.default)


def settings_of(model: type[Settings]) -> Iterator[tuple[str, FieldInfo, str]]:
    """(name, field, environment variable) of each setting of `model`."""
    for name, info in model.model_fields.items():
        yield name, info, setting_env(model, info)


def load(
    model: type[Model],
    given: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    feed: FeedSettings | None = None,
) -> Model:
    """The settings: what is `given` and not None, else what `env` (default: the process's) says, else the default.

    The defaults of the topic and the keyspace follow the source of `feed`, which is that of `env` by default.

    Raises:
        ConfigError: a value can't be used; the message names the setting, its variable and the value's fault.
    """
    env = os.environ if env is None else env
    values = {name: found for name, info, variable in settings_of(model) if (found := _said(info, variable, env))}
    values |= {name: value for name, value in (given or {}).items() if value is not None}
    values = _by_source(model, values.keys(), env, feed) | values
    try:
        return model(**values)
    except ValidationError as error:
        raise _refusal(model, error) from None


def _said(info: FieldInfo, variable: str, env: Mapping[str, str]) -> str | None:
    return env.get(variable) or env.get(old_env(info) or "")


def _by_source(
    model: type[Settings], said: Collection[str], env: Mapping[str, str], feed: FeedSettings | None
) -> dict[str, Any]:
    """The defaults that follow from the source, of those settings that nobody has said."""
    names = [name for name, info in model.model_fields.items() if _extra(info)["by_source"] and name not in said]
    if not names:
        return {}
    return dict.fromkeys(names, store_name(feed or load(FeedSettings, None, env), api_key(env)))


def is_simulated(feed: FeedSettings, key: str | None) -> bool:
    """Whether a run with these settings starts a simulator; not if it has a key, or the address of another feed."""
    return feed.source == "simulator" or (feed.source == "auto" and not key and feed.url == OFFICIAL_URL)


def store_name(feed: FeedSettings, key: str | None) -> str:
    """The topic and the keyspace of a source, unless they are named: simulated trades never stand among real ones."""
    return SIMULATED if is_simulated(feed, key) else REAL


def _refusal(model: type[Settings], error: ValidationError) -> ConfigError:
    fault = error.errors(include_url=False, include_input=False)[0]
    name = str(fault["loc"][0])
    if name not in model.model_fields:
        return ConfigError(f"{name} is no setting of {model.__name__.removesuffix('Settings').lower()}.")
    return unusable(model, name, FAULTS[fault["type"]].format(**fault.get("ctx", {})))


def unusable(model: type[Settings], name: str, fault: str) -> ConfigError:
    """The error of a setting with a value that can't be used."""
    info = model.model_fields[name]
    return ConfigError(f"{name} ({variables_text(model, info)}: {info.description}) can't be used: {fault}.")


def api_key(env: Mapping[str, str] | None = None) -> str | None:
    """The feed's API key; from the environment only, so that no run config ever stores it."""
    return (os.environ if env is None else env).get("CRYPTOCOMPARE_API_KEY") or None


def home(env: Mapping[str, str] | None = None) -> Path:
    """The folder of jars, service data and checkpoints."""
    return Path((os.environ if env is None else env).get("CRYPTOFLOW_HOME") or ".cryptoflow").absolute()
