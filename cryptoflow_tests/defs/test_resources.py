"""The resources are the settings as Dagster configures them: same fields, same winners, same refusals."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cryptoflow.cli.options import environment
from cryptoflow.definitions import defs
from cryptoflow.defs.resources import (
    RESOURCES,
    CassandraResource,
    FeedResource,
    KafkaResource,
    SparkResource,
    shares_venue,
    works_here,
)
from cryptoflow.errors import ConfigError
from cryptoflow.settings import (
    CassandraSettings,
    FeedSettings,
    KafkaSettings,
    Settings,
    SparkSettings,
    in_run_config,
    settings_of,
)

PAIRS: list[tuple[Any, type[Settings]]] = [
    (FeedResource, FeedSettings),
    (KafkaResource, KafkaSettings),
    (SparkResource, SparkSettings),
    (CassandraResource, CassandraSettings),
]

# Dagster makes its own definitions with a parameter of its own that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `owners` of")

every_pair = pytest.mark.parametrize(("resource", "model"), PAIRS)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, model in PAIRS:
        for _, _, env in settings_of(model):
            monkeypatch.delenv(env, raising=False)
    for env in ("CRYPTOCOMPARE_API_KEY", "CRYPTOCOMPARE_SUBSCRIPTIONS"):
        monkeypatch.delenv(env, raising=False)


@cache
def instance() -> dg.DagsterInstance:
    """Where all runs here are recorded: to make one takes as long as a run."""
    return dg.DagsterInstance.ephemeral()


@pytest.fixture(scope="module", autouse=True)
def _no_instance_stays() -> Iterator[None]:
    yield
    instance().dispose()
    instance.cache_clear()


def settings_in_a_run(name: str, config: dict[str, Any], **others: dict[str, Any]) -> Any:
    """The settings that an op of a run gets, with `config` for the resource, and configs for others."""
    found: list[Settings] = []

    @dg.op(required_resource_keys={name})
    def look(context: dg.OpExecutionContext) -> None:
        found.append(getattr(context.resources, name).settings())

    @dg.job
    def looking() -> None:
        look()

    job = dg.Definitions(jobs=[looking], resources=RESOURCES).resolve_job_def("looking")
    configs = {key: {"config": given} for key, given in {name: config, **others}.items()}
    assert job.execute_in_process(run_config={"resources": configs}, instance=instance()).success
    return found[0]


@every_pair
def test_a_resource_has_the_fields_of_its_settings(resource: Any, model: type[Settings]) -> None:
    assert [name for name in resource.model_fields if name != "feed"] == [
        name for name, info, _ in settings_of(model) if in_run_config(info)
    ]


@every_pair
def test_every_field_may_be_left_out(resource: Any, model: type[Settings]) -> None:
    assert resource().settings() == model()


@every_pair
def test_every_field_tells_its_meaning_and_its_variable(resource: Any, model: type[Settings]) -> None:
    for name, info, env in settings_of(model):
        if in_run_config(info):
            assert resource.model_fields[name].description == f"{info.description} [{env}]"


@every_pair
def test_every_default_can_be_given(resource: Any, model: type[Settings]) -> None:
    defaults = model().model_dump()
    given = {name: defaults[name] for name, info, _ in settings_of(model) if in_run_config(info)}
    assert resource(**given).settings() == model()


def test_the_run_config_wins_over_the_environment_which_wins_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert settings_in_a_run("kafka", {}) == KafkaSettings()
    monkeypatch.setenv("KAFKA_TOPIC", "from-env")
    assert settings_in_a_run("kafka", {}) == KafkaSettings(topic="from-env")
    assert settings_in_a_run("kafka", {"topic": "from-config"}) == KafkaSettings(topic="from-config")


def test_the_environment_is_that_of_the_run_not_of_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_DRIVER_MEMORY", "1g")
    spark: Any = RESOURCES["spark"]
    assert spark.settings() == SparkSettings(driver_memory="1g")


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("feed", {"source": "nasdaq"}, "CRYPTOFLOW_SOURCE"),
        ("feed", {"url": "https://feed"}, "CRYPTOCOMPARE_URL"),
        ("kafka", {"partitions": 0}, "KAFKA_PARTITIONS"),
        ("spark", {"window_s": -1}, "CRYPTOFLOW_WINDOW"),
        ("cassandra", {"keyspace": "1st"}, "CASSANDRA_KEYSPACE"),
    ],
)
def test_a_wrong_value_is_a_sentence(name: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"{said}.* can't be used: .*\.$"):
        settings_in_a_run(name, config)


def test_a_value_of_the_wrong_type_is_refused_at_launch() -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="partitions"):
        settings_in_a_run("kafka", {"partitions": "many"})


@pytest.mark.parametrize("name", ["kafka", "cassandra"])
def test_a_password_from_the_environment_is_not_in_the_resource(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{name.upper()}_PASSWORD", "s3cret-that-nobody-may-see")
    resource: Any = {"kafka": KafkaResource, "cassandra": CassandraResource}[name]()
    assert resource.settings().password == "s3cret-that-nobody-may-see"
    assert "s3cret" not in repr(resource) + repr(resource.settings())


STORES = [("kafka", "topic", "KAFKA_TOPIC"), ("cassandra", "keyspace", "CASSANDRA_KEYSPACE")]

every_store = pytest.mark.parametrize(("name", "field", "env"), STORES)

OTHER_URL = "ws://127.0.0.1:1/v2"


@every_store
@pytest.mark.parametrize(
    ("key", "feed", "place"),
    [
        (None, {}, "simulated"),
        (None, {"source": "cryptocompare"}, "cryptocompare"),
        (None, {"url": OTHER_URL}, "cryptocompare"),
        (None, {"url": OTHER_URL, "source": "simulator"}, "simulated"),
        ("a-key", {}, "cryptocompare"),
        ("a-key", {"source": "simulator"}, "simulated"),
    ],
)
def test_topic_and_keyspace_follow_the_feed_of_the_same_run(
    name: str, field: str, env: str, key: str | None, feed: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOCOMPARE_API_KEY", key or "")
    monkeypatch.setenv(env, "")  # as docker/compose.yaml passes it
    assert getattr(settings_in_a_run(name, {}, feed=feed), field) == place


@every_store
def test_a_name_that_is_given_wins_over_the_source(
    name: str, field: str, env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert getattr(settings_in_a_run(name, {field: "mixed"}, feed={"source": "simulator"}), field) == "mixed"
    monkeypatch.setenv(env, "named")
    assert getattr(settings_in_a_run(name, {}, feed={"source": "simulator"}), field) == "named"


@pytest.mark.parametrize("job", ["ingest", "aggregate", "kafka_mode", "data_checks"])
def test_one_run_config_rules_all_parts_of_every_job_that_uses_the_topic(job: str) -> None:
    config = {"resources": {"feed": {"config": {"source": "simulator"}}}}
    found = dg.validate_run_config(defs.resolve_job_def(job), config)
    assert found["resources"]["feed"]["config"]["source"] == "simulator"


@pytest.mark.parametrize(
    ("config", "here"),
    [
        ({}, True),
        ({"feed": {"config": {"subscriptions": "0~Kraken~BTC~USD"}}}, True),
        ({"feed": {"config": {"source": "simulator"}}}, False),
        ({"kafka": {"config": {"topic": "cryptocompare"}}}, True),
        ({"kafka": {"config": {"topic": "trial"}}}, False),
        ({"kafka": {"config": {"topic": {"env": "ANY"}}}}, False),
        ({"kafka": {"config": {"bootstrap_servers": "elsewhere:9092"}}}, False),
        ({"cassandra": {"config": {"keyspace": "trial"}}}, False),
        ({"cassandra": {"config": {"port": 9043}}}, False),
        ({"cassandra": {}, "spark": {"config": {"trigger_s": 1}}}, True),
    ],
)
def test_whether_a_run_works_on_the_stores_of_the_environment(
    config: dict[str, Any], here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOCOMPARE_API_KEY", "a-key")
    assert works_here({"resources": config}) is here
    assert works_here({})


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        ({}, True),
        ({"source": "kraken,gemini"}, True),
        ({"source": "gemini"}, False),
        ({"source": "simulator"}, False),
        ({"source": "cryptocompare"}, False),
        ({"source": "nasdaq"}, True),
    ],
)
def test_whether_a_run_has_trades_of_a_venue_of_the_environment(
    config: dict[str, Any], shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYPTOFLOW_SOURCE", "coinbase,kraken")
    assert shares_venue({"resources": {"feed": {"config": config}}}) is shares
    assert shares_venue({})


SECRET = "s3cret-that-nobody-may-see"

LOGIN = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": "me", "KAFKA_PASSWORD": SECRET}
TABLES_LOGIN = {"CASSANDRA_USERNAME": "me", "CASSANDRA_PASSWORD": SECRET}
KEY = {"CRYPTOCOMPARE_API_KEY": SECRET}


@pytest.mark.parametrize(
    ("env", "name", "config", "variable"),
    [
        (KEY, "feed", {"url": OTHER_URL}, "CRYPTOCOMPARE_URL"),
        (KEY, "feed", {"url": OTHER_URL, "source": "cryptocompare"}, "CRYPTOCOMPARE_URL"),
        (LOGIN, "kafka", {"bootstrap_servers": "elsewhere:9092"}, "KAFKA_BOOTSTRAP_SERVERS"),
        (LOGIN, "kafka", {"bootstrap_servers": "127.0.0.1:9092,elsewhere:9092"}, "KAFKA_BOOTSTRAP_SERVERS"),
        (LOGIN, "kafka", {"security_protocol": "SASL_PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL"),
        (LOGIN | {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, "kafka", {"sasl_mechanism": "PLAIN"}, "KAFKA_SASL_MECH"),
        (
            {"KAFKA_PASSWORD": SECRET},
            "kafka",
            {"bootstrap_servers": "elsewhere:9092", "security_protocol": "SASL_PLAINTEXT", "username": "me"},
            "KAFKA_BOOTSTRAP_SERVERS",
        ),
        (TABLES_LOGIN, "cassandra", {"contact_points": "elsewhere"}, "CASSANDRA_CONTACT_POINTS"),
        (TABLES_LOGIN, "cassandra", {"port": 9043}, "CASSANDRA_PORT"),
        ({"CASSANDRA_PASSWORD": SECRET}, "cassandra", {"username": "me", "port": 9043}, "CASSANDRA_PORT"),
        (LOGIN, "spark", {"master": "spark://elsewhere:7077"}, "SPARK_MASTER"),
    ],
)
def test_a_secret_of_the_environment_goes_only_where_the_environment_says(
    env: dict[str, str], name: str, config: dict[str, Any], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each, value in env.items():
        monkeypatch.setenv(each, value)
    with pytest.raises(
        ConfigError, match=rf"^A run config can't .* set {variable}.* in the environment of Dagster.*\.$"
    ) as caught:
        settings_in_a_run(name, config)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "name", "config"),
    [
        ({}, "feed", {"url": OTHER_URL}),
        (KEY, "feed", {"url": OTHER_URL, "source": "simulator"}),
        (KEY | {"CRYPTOCOMPARE_URL": OTHER_URL}, "feed", {"url": OTHER_URL}),
        ({}, "kafka", {"bootstrap_servers": "elsewhere:9092"}),
        (LOGIN, "kafka", {"bootstrap_servers": "127.0.0.1:9092", "topic": "trial"}),
        (LOGIN, "kafka", {"bootstrap_servers": "elsewhere:9092", "security_protocol": "PLAINTEXT"}),
        ({}, "cassandra", {"contact_points": "elsewhere", "port": 9043}),
        (TABLES_LOGIN, "cassandra", {"contact_points": " 127.0.0.1 ,", "keyspace": "trial"}),
        (LOGIN, "spark", {"master": "local[2]"}),
        (LOGIN | {"SPARK_MASTER": "spark://ours:7077"}, "spark", {"master": "spark://ours:7077"}),
        ({}, "spark", {"master": "spark://elsewhere:7077"}),
    ],
)
def test_a_run_config_may_name_hosts_that_get_no_secret(
    env: dict[str, str], name: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each, value in env.items():
        monkeypatch.setenv(each, value)
    assert settings_in_a_run(name, config)


@pytest.mark.parametrize(
    ("name", "field"), [("feed", "subscriptions"), ("kafka", "topic"), ("kafka", "username"), ("cassandra", "keyspace")]
)
@pytest.mark.parametrize("variable", ["CRYPTOCOMPARE_API_KEY", "CASSANDRA_PASSWORD", "DAGSTER_POSTGRES_PASSWORD"])
def test_a_run_config_cannot_have_a_secret_of_the_environment_as_another_setting(
    name: str, field: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "hushhush")
    with pytest.raises(ConfigError, match=f"{field} .*{variable}") as caught:
        settings_in_a_run(name, {field: {"env": variable}})
    assert "hushhush" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *[(name, field) for name in ("kafka", "cassandra") for field in ("password", "ca_file")],
        *[("feed", field) for field in ("replay_folder", "api_key")],
    ],
)
def test_what_the_environment_alone_may_say_is_no_field(name: str, field: str) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=f'unexpected config entry "{field}"') as caught:
        settings_in_a_run(name, {field: SECRET})
    assert SECRET not in str(caught.value)


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the recordings that a run config may name, itself behind a link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "day.jsonl").touch()
    (tmp_path / "private.txt").touch()
    (tmp_path / "recordings").symlink_to("real")
    (tmp_path / "real" / "link.jsonl").symlink_to(tmp_path / "private.txt")
    monkeypatch.setenv("CRYPTOFLOW_REPLAY_FOLDER", str(tmp_path / "recordings"))
    return tmp_path / "recordings"


@pytest.mark.parametrize("name", ["day.jsonl", "{folder}/day.jsonl", "{folder}/../real/day.jsonl"])
def test_a_run_config_may_name_a_recording_in_the_folder_of_the_environment(name: str, recordings: Path) -> None:
    found = settings_in_a_run("feed", {"replay": name.format(folder=recordings)})
    assert found.replay == str(recordings.resolve() / "day.jsonl")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../private.txt", "link.jsonl", "{folder}/../private.txt", "{folder}-of-another/day.jsonl", "a\0b"],
)
def test_a_run_config_cannot_name_another_file(name: str, recordings: Path) -> None:
    with pytest.raises(ConfigError, match=r"^A run config can't name .*CRYPTOFLOW_REPLAY_FOLDER.*\.$"):
        settings_in_a_run("feed", {"replay": name.format(folder=recordings)})


def test_without_such_a_folder_it_can_name_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^A run config can't name .*set CRYPTOFLOW_REPLAY_FOLDER"):
        settings_in_a_run("feed", {"replay": str(tmp_path / "day.jsonl")})


def test_the_environment_may_name_any_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_REPLAY", str(tmp_path / "day.jsonl"))
    assert settings_in_a_run("feed", {}).replay == str(tmp_path / "day.jsonl")
    assert settings_in_a_run("feed", {"replay": str(tmp_path / "day.jsonl")}).replay == str(tmp_path / "day.jsonl")


def test_what_a_command_line_says_is_the_environments_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (KEY | LOGIN).items():
        monkeypatch.setenv(name, value)
    given = {
        "CRYPTOCOMPARE_URL": OTHER_URL,
        "KAFKA_BOOTSTRAP_SERVERS": "elsewhere:9092",
        "CRYPTOFLOW_REPLAY": str(tmp_path / "day.jsonl"),
    }
    for name, value in environment(given).items():
        monkeypatch.setenv(name, value)
    feed = settings_in_a_run("feed", {})
    assert (feed.url, feed.replay) == (OTHER_URL, str(tmp_path / "day.jsonl"))
    assert settings_in_a_run("kafka", {}).bootstrap_servers == "elsewhere:9092"
