"""The resources are the settings as Dagster configures them: same fields, same winners, same refusals."""

from typing import Any

import dagster as dg
import pytest

from cryptoflow.definitions import defs
from cryptoflow.defs.resources import (
    RESOURCES,
    CassandraResource,
    FeedResource,
    KafkaResource,
    SparkResource,
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
    assert job.execute_in_process(run_config={"resources": configs}).success
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
        ("feed", {"source": "binance"}, "CRYPTOFLOW_SOURCE"),
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
