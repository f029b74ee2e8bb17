"""Laws of the options: one for each setting that is no secret, and they win over the environment."""

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cryptoflow.cli.options import MODELS, OLD_NAMES, environment, option_name, with_settings
from cryptoflow.errors import ConfigError
from cryptoflow.settings import CassandraSettings, FeedSettings, KafkaSettings, load, settings_of

WITHOUT = {"KAFKA_PASSWORD", "CASSANDRA_PASSWORD", "CRYPTOFLOW_REPLAY_FOLDER"}
"""What the environment alone says: secrets, and what bounds a run config."""

VARIABLES = {env for model in MODELS for _, _, env in settings_of(model)}


def given(*arguments: str) -> dict[str, str]:
    """The settings that a command gets from a command line, by environment variable."""
    found: dict[str, str | None] = {}
    app = typer.Typer()

    @app.command()
    @with_settings
    def command(**settings: str | None) -> None:
        """Takes settings."""
        found.update(settings)

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return {env: value for env, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("env", "option"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "--kafka-bootstrap-servers"),
        ("KAFKA_TOPIC", "--kafka-topic"),
        ("CASSANDRA_CONTACT_POINTS", "--cassandra-contact-points"),
        ("SPARK_MASTER", "--spark-master"),
        ("CRYPTOFLOW_TRIGGER", "--trigger"),
        ("CRYPTOFLOW_WATERMARK", "--watermark"),
        ("CRYPTOFLOW_SOURCE", "--source"),
        ("CRYPTOFLOW_REPLAY", "--replay"),
        ("CRYPTOCOMPARE_URL", "--url"),
        ("CRYPTOFLOW_SUBSCRIPTIONS", "--subscriptions"),
    ],
)
def test_an_option_is_named_after_its_variable(env: str, option: str) -> None:
    assert option_name(env) == option
    assert given(option, "x") == {env: "x"}


def test_no_two_variables_have_one_option() -> None:
    assert len({option_name(env) for env in VARIABLES}) == len(VARIABLES)


def test_every_setting_but_those_of_the_environment_alone_has_an_option() -> None:
    arguments = [word for env in sorted(VARIABLES - WITHOUT) for word in (option_name(env), "x")]
    assert given(*arguments).keys() == VARIABLES - WITHOUT


@pytest.mark.parametrize("env", sorted(WITHOUT))
def test_those_have_none(env: str) -> None:
    with pytest.raises(AssertionError, match="No such option"):
        given(option_name(env), "x")


@pytest.mark.parametrize(("env", "old"), OLD_NAMES.items())
def test_the_old_names_work(env: str, old: str) -> None:
    assert given(old, "x") == {env: "x"}


def test_the_old_names_are_those_of_the_old_program() -> None:
    assert set(OLD_NAMES.values()) == {"--kafkabroker", "--kafkatopic", "--cassandraurl"}


def test_what_is_not_given_is_left_to_the_environment() -> None:
    assert given() == {}


def test_a_command_keeps_its_own_options_and_its_help() -> None:
    app = typer.Typer()
    seen: list[object] = []

    @app.command()
    @with_settings
    def command(times: int = 1, **settings: str | None) -> None:
        """Does it so many times."""
        seen.extend((times, settings["KAFKA_TOPIC"]))

    runner = CliRunner()
    assert runner.invoke(app, ["--times", "3", "--kafka-topic", "t"]).exit_code == 0
    assert seen == [3, "t"]
    shown = runner.invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for text in (
        "Does it so many times.",
        "--times",
        "--kafka-topic",
        "--kafkatopic",
        "KAFKA_TOPIC",
        "simulated for the simulator",
    ):
        assert text in shown


def test_an_option_wins_over_the_environment_which_wins_over_the_default() -> None:
    given = {"KAFKA_TOPIC": "from-option", "KAFKA_PARTITIONS": None}
    env = environment(given, {"KAFKA_TOPIC": "from-env", "CASSANDRA_PORT": "9999"})
    assert load(KafkaSettings, env=env) == KafkaSettings(topic="from-option")
    assert load(CassandraSettings, env=env) == CassandraSettings(port=9999)


def test_the_process_itself_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    assert environment({"CRYPTOFLOW_TRIGGER": "2.5"})["CRYPTOFLOW_TRIGGER"] == "2.5"
    assert dict(os.environ) == before


def test_all_else_of_the_environment_stays_for_the_processes_that_are_started() -> None:
    assert environment({"CRYPTOFLOW_TRIGGER": "2.5"}, {"PATH": "/bin"}) == {"PATH": "/bin", "CRYPTOFLOW_TRIGGER": "2.5"}


def test_what_is_not_given_is_not_set() -> None:
    assert environment(dict.fromkeys(VARIABLES), {}) == {}


def test_an_empty_variable_stays_without_meaning() -> None:
    env = environment({}, dict.fromkeys(VARIABLES, ""))
    assert [load(model, env=env) for model in MODELS] == [model() for model in MODELS]


@pytest.mark.parametrize("by_option", [True, False])
def test_a_relative_replay_is_absolute_for_processes_in_other_folders(
    by_option: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    replay = {"CRYPTOFLOW_REPLAY": "day.jsonl"}
    env = environment(replay, {}) if by_option else environment({}, replay)
    assert env == {"CRYPTOFLOW_REPLAY": str(tmp_path / "day.jsonl")}


def test_a_setting_stays_the_same_when_it_is_put_into_the_environment() -> None:
    values = {
        "CRYPTOFLOW_SUBSCRIPTIONS": "0~Kraken~BTC~USD, 0~Gemini~BTC~USD",
        "CRYPTOFLOW_WATERMARK": "60",
        "CASSANDRA_TTL": "86400",
        "CASSANDRA_USERNAME": "me",
    }
    env = environment({}, values)
    assert [load(model, env=env) for model in MODELS] == [load(model, env=values) for model in MODELS]
    assert load(FeedSettings, env=env).subscription_list == ("0~Kraken~BTC~USD", "0~Gemini~BTC~USD")


def test_an_option_wins_over_both_variables_of_a_setting() -> None:
    both = {"CRYPTOCOMPARE_SUBSCRIPTIONS": "0~Kraken~BTC~USD", "CRYPTOFLOW_SUBSCRIPTIONS": "0~Binance~BTC~USDT"}
    env = environment({"CRYPTOFLOW_SUBSCRIPTIONS": "0~Gemini~BTC~USD"}, both)
    assert load(FeedSettings, env=env).subscriptions == "0~Gemini~BTC~USD"


@pytest.mark.parametrize(
    ("given", "place"),
    [({}, "cryptocompare"), ({"CRYPTOFLOW_SOURCE": "simulator"}, "simulated"), ({"KAFKA_TOPIC": "mixed"}, "mixed")],
)
def test_the_source_that_is_given_rules_the_topic_of_this_process_and_of_those_it_starts(
    given: dict[str, str], place: str
) -> None:
    assert load(KafkaSettings, env=environment(given, {"CRYPTOCOMPARE_API_KEY": "a-key"})).topic == place


def test_a_wrong_option_is_told() -> None:
    with pytest.raises(ConfigError, match=r"CASSANDRA_PORT: .* it must be at most 65535"):
        environment({"CASSANDRA_PORT": "70000"}, {})
