"""Laws of the settings: who wins, what is refused and how, and that no secret is shown."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from cryptoflow import settings
from cryptoflow.errors import ConfigError
from cryptoflow.settings import (
    CassandraSettings,
    FeedSettings,
    HistorySettings,
    KafkaSettings,
    Settings,
    SparkSettings,
    TimedKafkaSettings,
    TimedMemorySettings,
    WebSettings,
    has_option,
    in_run_config,
    load,
    settings_of,
    store_name,
    unusable,
    variables_text,
)

MODELS = (
    FeedSettings,
    KafkaSettings,
    SparkSettings,
    CassandraSettings,
    TimedKafkaSettings,
    TimedMemorySettings,
    HistorySettings,
    WebSettings,
)

SECRET = "s3cret-that-nobody-may-see"

PROMISED = {
    "CRYPTOCOMPARE_URL": "wss://streamer.cryptocompare.com/v2",
    "COINBASE_URL": "wss://ws-feed.exchange.coinbase.com",
    "COINBASE_REST_URL": "https://api.exchange.coinbase.com",
    "BINANCE_URL": "wss://stream.binance.com:9443",
    "BINANCE_REST_URL": "https://api.binance.com",
    "KRAKEN_URL": "wss://ws.kraken.com/v2",
    "KRAKEN_REST_URL": "https://api.kraken.com",
    "GEMINI_URL": "wss://ws.gemini.com",
    "GEMINI_REST_URL": "https://api.gemini.com",
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "KAFKA_TOPIC": "simulated",
    "CASSANDRA_CONTACT_POINTS": "127.0.0.1",
    "CASSANDRA_PORT": 9042,
    "CASSANDRA_KEYSPACE": "simulated",
    "SPARK_MASTER": "local[*]",
    "CRYPTOFLOW_TIMED_KAFKA_CRON": "0 * * * *",
    "CRYPTOFLOW_TIMED_KAFKA_TIME_ZONE": "UTC",
    "CRYPTOFLOW_TIMED_KAFKA_TIMEOUT": 150,
    "CRYPTOFLOW_TIMED_KAFKA_SUBSCRIPTIONS": None,
    "CRYPTOFLOW_TIMED_MEMORY_CRON": "0 * * * *",
    "CRYPTOFLOW_TIMED_MEMORY_TIME_ZONE": "UTC",
    "CRYPTOFLOW_TIMED_MEMORY_TIMEOUT": 150,
    "CRYPTOFLOW_TIMED_MEMORY_SUBSCRIPTIONS": None,
    "CRYPTOFLOW_HISTORY_DAYS": 30,
    "CRYPTOFLOW_WEB_HOST": "127.0.0.1",
    "CRYPTOFLOW_WEB_PORT": 8050,
    "CRYPTOFLOW_WEB_TOKEN": None,
    "CRYPTOFLOW_MAX_AHEAD": 60,
    "CRYPTOFLOW_BACKLOG": 200_000,
    "CRYPTOFLOW_REPLAY_FOLDER": None,
    "CRYPTOFLOW_FILL_LIMIT": 86_400,
}
"""Environment variables and defaults that users rely on."""

BAD = [
    (FeedSettings, "source", "nasdaq", "nasdaq is no source"),
    (FeedSettings, "source", "coinbase,krakn", "krakn is no source"),
    (FeedSettings, "source", "coinbase,simulator", "simulator is a source by itself alone"),
    (FeedSettings, "source", ",", "it is empty"),
    (FeedSettings, "kraken_url", "https://feed", "it must match ^wss?://"),
    (FeedSettings, "kraken_rest_url", "https://api/path", "it must match ^https?://[^/]+/?$"),
    (FeedSettings, "url", "https://feed", "it must match ^wss?://"),
    (FeedSettings, "subscriptions", " , ", "it is empty"),
    (FeedSettings, "simulator_rate", "0", "it must be more than 0"),
    (FeedSettings, "simulator_rate", "fast", "it is no number"),
    (FeedSettings, "reconnect_for_s", "inf", "it is not finite"),
    (FeedSettings, "replay_speed", "-1", "it must be at least 0"),
    (FeedSettings, "replay_speed", "nan", "it is not finite"),
    (FeedSettings, "fill_limit_s", "-1", "it must be at least 0"),
    (KafkaSettings, "bootstrap_servers", ",", "it is empty"),
    (KafkaSettings, "topic", "two words", "it must match ^[a-zA-Z0-9._-]{1,200}$"),
    (KafkaSettings, "topic", "t" * 201, "it must match ^[a-zA-Z0-9._-]{1,200}$"),
    (KafkaSettings, "partitions", "0", "it must be at least 1"),
    (KafkaSettings, "partitions", "many", "it is no whole number"),
    (KafkaSettings, "partitions", "9" * 5000, "it is too large"),
    (
        KafkaSettings,
        "security_protocol",
        "TLS",
        "it must be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'",
    ),
    (SparkSettings, "window_s", "1.5", "it is no whole number"),
    (SparkSettings, "window_s", "7", "it does not divide an hour, as 60, 300 and 3600 do"),
    (SparkSettings, "window_s", "7200", "it does not divide an hour, as 60, 300 and 3600 do"),
    (SparkSettings, "max_ahead_s", "300", "it must be less than the watermark, which is 300 s"),
    (SparkSettings, "backlog_trades", "0", "it must be at least 1"),
    (SparkSettings, "ui_port", "65536", "it must be at most 65535"),
    (SparkSettings, "driver_memory", "lots", "it must match ^[1-9][0-9]*[mgMG]$"),
    (CassandraSettings, "keyspace", "1st", r"it must match ^[a-zA-Z]\w{0,47}$"),
    (CassandraSettings, "ttl_s", "-1", "it must be at least 0"),
    (CassandraSettings, "ttl_s", "630720001", "it must be at most 630720000"),
    (TimedKafkaSettings, "time_zone", "Berlin", "it is no time zone, such as UTC or Europe/Berlin"),
    (TimedKafkaSettings, "timeout_s", "0", "it must be more than 0"),
    (TimedMemorySettings, "time_zone", "/etc/localtime", "it is no time zone, such as UTC or Europe/Berlin"),
    (TimedMemorySettings, "subscriptions", ",", "it is empty"),
    (HistorySettings, "days", "-1", "it must be at least 0"),
    (HistorySettings, "days", "1e9", "it must be at most 36500"),
    (HistorySettings, "days", "nan", "it is not finite"),
    (WebSettings, "port", "0", "it must be at least 1"),
    (WebSettings, "token", "short", "it must have 16 characters at least"),
    (WebSettings, "token", "не для всех глаз", "it must be of printable ASCII, as headers carry nothing else"),
    (WebSettings, "dagster_url", "dagster", "it must match ^https?://"),
]


OURS = r"(CRYPTO|KAFKA|CASSANDRA|SPARK|COINBASE|BINANCE|KRAKEN|GEMINI)[A-Z]*_[A-Z_]+"

FIVE = "0~Coinbase~BTC~USD,0~Binance~BTC~USDT,0~Kraken~BTC~USD,0~CoinDeal~BTC~USD,0~Gemini~BTC~USD"


def all_settings() -> Iterator[tuple[type[Settings], str, Any, str]]:
    """(model, name, field, environment variable) of every setting."""
    return ((model, *setting) for model in MODELS for setting in settings_of(model))


def variable(model: type[Settings], name: str) -> str:
    return next(env for found, _, env in settings_of(model) if found == name)


def test_the_given_wins_over_the_environment_which_wins_over_the_default() -> None:
    env = {"KAFKA_TOPIC": "from-env"}
    assert load(KafkaSettings, {"topic": "given"}, env).topic == "given"
    assert load(KafkaSettings, {"topic": None}, env).topic == "from-env"
    assert load(KafkaSettings, {}, {}).topic == "simulated"


def test_an_empty_variable_counts_as_not_set() -> None:
    env = dict.fromkeys((variable for *_, variable in all_settings()), "")
    assert [load(model, None, env) for model in MODELS] == [model() for model in MODELS]


def test_without_an_environment_it_is_the_processs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_TOPIC", "of-this-process")
    assert load(KafkaSettings).topic == "of-this-process"


@pytest.mark.parametrize("model", MODELS)
def test_each_default_is_a_value_that_the_environment_could_say(model: type[Settings]) -> None:
    defaults = model().model_dump()
    env = {env: str(defaults[name]) for name, _, env in settings_of(model) if defaults[name] is not None}
    assert load(model, None, env) == model()


def test_every_setting_has_a_variable_of_its_own_and_a_description() -> None:
    variables = [env for *_, env in all_settings()]
    assert len(set(variables)) == len(variables)
    assert [env for env in variables if not re.fullmatch(OURS, env)] == []
    assert [env for _, _, info, env in all_settings() if not info.description] == []


def test_the_promised_variables_and_defaults_hold() -> None:
    defaults = {env: info.default for _, _, info, env in all_settings()}
    assert {name: defaults.get(name) for name in PROMISED} == PROMISED
    assert settings.DEFAULT_TIMEOUT_S == 150


@pytest.mark.parametrize(("model", "name", "value", "fault"), BAD)
def test_a_bad_value_is_one_sentence_that_names_setting_and_variable(
    model: type[Settings], name: str, value: str, fault: str
) -> None:
    env = variable(model, name)
    description = model.model_fields[name].description
    for given, environment in (({name: value}, {}), ({}, {env: value})):
        with pytest.raises(ConfigError) as caught:
            load(model, given, environment)
        said = str(caught.value)
        assert (
            said == f"{name} ({variables_text(model, model.model_fields[name])}: {description}) can't be used: {fault}."
        )


def refusal(model: type[Settings], given: Mapping[str, object]) -> str | None:
    """Why the settings are refused, if they are."""
    try:
        load(model, given, {})
    except ConfigError as error:
        return str(error)
    return None


ANYTHING = st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.lists(st.integers()), st.booleans())


@drawn(st.sampled_from(list(all_settings())), ANYTHING)
def test_whatever_is_given_is_taken_or_told_in_our_words(
    setting: tuple[type[Settings], str, Any, str], value: object
) -> None:
    model, name, _, env = setting
    said = refusal(model, {name: value})
    assert said is None or said.startswith(f"{name} ({env}")
    assert not re.search(r"[Ii]nput|[Vv]alue error|String", said or "")


def test_a_fault_that_somebody_else_finds_is_told_alike() -> None:
    said = str(unusable(TimedMemorySettings, "cron", "it is none"))
    assert said.startswith("cron (CRYPTOFLOW_TIMED_MEMORY_CRON: when ")
    assert said.endswith("can't be used: it is none.")


def test_two_groups_of_the_same_settings_have_each_their_own_variables() -> None:
    env = {"CRYPTOFLOW_TIMED_KAFKA_TIMEOUT": "10", "CRYPTOFLOW_TIMED_MEMORY_TIMEOUT": "20"}
    assert [load(model, {}, env).timeout_s for model in (TimedKafkaSettings, TimedMemorySettings)] == [10, 20]


def test_what_is_no_setting_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^port is no setting of kafka\.$"):
        load(KafkaSettings, {"port": 9092}, {})


@pytest.mark.parametrize("model", [KafkaSettings, CassandraSettings])
def test_a_password_shows_nowhere(model: type[Settings]) -> None:
    env = {variable(model, "password"): SECRET}
    loaded = load(model, None, env)
    assert loaded.model_dump()["password"] == SECRET
    assert SECRET not in repr(loaded) + str(loaded)
    for bad in ({"replication": "none", "password": SECRET}, {"password": [SECRET]}):
        with pytest.raises(ConfigError) as caught:
            load(model, bad, {})
        assert SECRET not in repr(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", [f"wss://feed/v2?api_key={SECRET}", f"ws://user:{SECRET}@feed/v2"])
def test_a_url_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="CRYPTOCOMPARE_API_KEY") as caught:
        load(FeedSettings, {"url": url}, {})
    assert SECRET not in repr(caught.value)


def test_the_fields_that_are_secret_are_not_in_repr() -> None:
    secret = {env for _, _, info, env in all_settings() if not info.repr}
    assert not [
        env for _, _, info, env in all_settings() if env in secret and (has_option(info) or in_run_config(info))
    ]
    assert secret == {"KAFKA_PASSWORD", "CASSANDRA_PASSWORD", "CRYPTOFLOW_WEB_TOKEN"}


def test_the_api_key_comes_from_the_environment_only() -> None:
    assert settings.api_key({"CRYPTOCOMPARE_API_KEY": SECRET}) == SECRET
    assert settings.api_key({"CRYPTOCOMPARE_API_KEY": ""}) is None
    assert settings.api_key({}) is None
    assert "CRYPTOCOMPARE_API_KEY" not in {env for *_, env in all_settings()}
    with pytest.raises(ConfigError, match="api_key is no setting of feed"):
        load(FeedSettings, {"api_key": SECRET}, {})


def test_home_is_absolute_wherever_one_goes_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.home({}) == tmp_path / ".cryptoflow"
    assert settings.home({"CRYPTOFLOW_HOME": "elsewhere"}) == tmp_path / "elsewhere"
    assert settings.home({"CRYPTOFLOW_HOME": "/data"}) == Path("/data")


def test_a_replay_file_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(FeedSettings, {}, {"CRYPTOFLOW_REPLAY": "day.jsonl"}).replay == str(tmp_path / "day.jsonl")


def test_lists_are_read_with_blanks_and_empty_items() -> None:
    loaded = FeedSettings(subscriptions=" 0~Kraken~BTC~USD ,, 0~Gemini~BTC~USD,")
    assert loaded.subscription_list == ("0~Kraken~BTC~USD", "0~Gemini~BTC~USD")


def test_the_other_topics_are_beside_the_trades() -> None:
    kafka = load(KafkaSettings, {"topic": "mine"}, {})
    assert (kafka.dead_letter_topic, kafka.history_topic) == ("mine.deadletter", "mine.history")
    assert kafka.gaps_topic == "mine.gaps"
    assert load(KafkaSettings, {}, {"CRYPTOFLOW_SOURCE": "cryptocompare"}).history_topic == "cryptocompare.history"
    assert load(KafkaSettings, {}, {"KAFKA_HISTORY_TOPIC": "past"}).history_topic == "past"
    with pytest.raises(ConfigError, match=r"KAFKA_HISTORY_TOPIC.*another one than the topic of trades"):
        load(KafkaSettings, {"topic": "mine", "history_topic": "mine"}, {})


OTHER_URL = "ws://127.0.0.1:1/v2"


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, "simulated"),
        ({"CRYPTOCOMPARE_API_KEY": SECRET}, "cryptocompare"),
        ({"CRYPTOCOMPARE_API_KEY": SECRET, "CRYPTOFLOW_SOURCE": "simulator"}, "simulated"),
        ({"CRYPTOFLOW_SOURCE": "cryptocompare"}, "cryptocompare"),
        ({"CRYPTOCOMPARE_URL": OTHER_URL}, "cryptocompare"),
        ({"CRYPTOCOMPARE_URL": OTHER_URL, "CRYPTOFLOW_SOURCE": "simulator"}, "simulated"),
    ],
)
def test_simulated_trades_have_a_topic_and_a_keyspace_of_their_own(env: dict[str, str], place: str) -> None:
    assert store_name(load(FeedSettings, {}, env), settings.api_key(env)) == place
    for names in ({}, {"KAFKA_TOPIC": "", "CASSANDRA_KEYSPACE": ""}):
        assert load(KafkaSettings, {}, env | names).topic == place
        assert load(CassandraSettings, {}, env | names).keyspace == place


def test_only_a_name_that_is_given_mixes_simulated_trades_with_others() -> None:
    env = {"KAFKA_TOPIC": "cryptocompare", "CASSANDRA_KEYSPACE": "cryptocompare", "CRYPTOFLOW_SOURCE": "simulator"}
    assert load(KafkaSettings, {}, env).topic == load(CassandraSettings, {}, env).keyspace == "cryptocompare"
    assert load(KafkaSettings, {"topic": "given"}, env).topic == "given"


def test_a_source_that_cannot_be_used_is_told_where_the_topic_depends_on_it() -> None:
    with pytest.raises(ConfigError, match="CRYPTOFLOW_SOURCE"):
        load(KafkaSettings, {}, {"CRYPTOFLOW_SOURCE": "nasdaq"})
    assert load(KafkaSettings, {}, {"CRYPTOFLOW_SOURCE": "nasdaq", "KAFKA_TOPIC": "t"}).topic == "t"


def test_the_better_name_of_a_setting_wins_over_its_old_one() -> None:
    old = {"CRYPTOCOMPARE_SUBSCRIPTIONS": "0~Kraken~BTC~USD"}
    assert load(FeedSettings, {}, old).subscriptions == "0~Kraken~BTC~USD"
    assert load(FeedSettings, {}, old | {"CRYPTOFLOW_SUBSCRIPTIONS": ""}).subscriptions == "0~Kraken~BTC~USD"
    both = old | {"CRYPTOFLOW_SUBSCRIPTIONS": "0~Gemini~BTC~USD"}
    assert load(FeedSettings, {}, both).subscriptions == "0~Gemini~BTC~USD"


@drawn(st.floats(1e-3, 1e6), st.none() | st.floats(1e-3, 1e6))
def test_a_trade_may_be_ahead_by_less_than_the_watermark(watermark_s: float, max_ahead_s: float | None) -> None:
    given = {"watermark_s": watermark_s, "max_ahead_s": max_ahead_s}
    said = refusal(SparkSettings, given)
    assert (said is not None) == (max_ahead_s is not None and max_ahead_s >= watermark_s)
    if said is None:
        ahead_s = load(SparkSettings, given, {}).ahead_s
        assert 0 < ahead_s < watermark_s
        assert ahead_s == (max_ahead_s or 60) or (max_ahead_s is None and watermark_s <= 60)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        KafkaSettings().topic = "another"


@pytest.mark.parametrize(
    ("source", "venues", "subscriptions"),
    [
        ("auto", (), FIVE),
        ("cryptocompare", (), FIVE),
        ("simulator", (), FIVE),
        ("coinbase", ("coinbase",), "0~Coinbase~BTC~USD"),
        ("gemini", ("gemini",), "0~Gemini~BTC~USD"),
        (" Kraken, coinbase,kraken ", ("kraken", "coinbase"), "0~Coinbase~BTC~USD,0~Kraken~BTC~USD"),
        (
            "coinbase,binance,kraken",
            ("coinbase", "binance", "kraken"),
            "0~Coinbase~BTC~USD,0~Binance~BTC~USDT,0~Kraken~BTC~USD",
        ),
    ],
)
def test_a_source_has_the_subscriptions_of_its_markets(
    source: str, venues: tuple[str, ...], subscriptions: str
) -> None:
    feed = load(FeedSettings, {"source": source}, {})
    assert (feed.venues, feed.subscriptions) == (venues, subscriptions)
    said = load(FeedSettings, {"source": source}, {"CRYPTOCOMPARE_SUBSCRIPTIONS": "0~Kraken~ETH~EUR"})
    assert said.subscriptions == "0~Kraken~ETH~EUR"


def test_venues_of_their_own_are_real_and_have_their_addresses() -> None:
    feed = load(FeedSettings, {"source": "kraken", "kraken_url": "ws://127.0.0.1:1/v2"}, {})
    assert (store_name(feed, None), store_name(feed, "key")) == ("cryptocompare", "cryptocompare")
    assert (feed.venue_url("kraken"), feed.venue_rest_url("kraken")) == (
        "ws://127.0.0.1:1/v2",
        "https://api.kraken.com",
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "chart.example"])
def test_the_page_is_open_to_other_machines_only_with_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match=r"CRYPTOFLOW_WEB_HOST.*other machines may look.*CRYPTOFLOW_WEB_TOKEN"):
        load(WebSettings, {"host": host}, {})
    assert load(WebSettings, {"host": host}, {"CRYPTOFLOW_WEB_TOKEN": SECRET}).host == host


@pytest.mark.parametrize("host", settings.LOOPBACKS)
def test_the_page_needs_no_token_on_its_own_machine(host: str) -> None:
    assert load(WebSettings, {"host": host}, {}).token is None
