"""Laws of what a run config may say: secrets go where the environment sends them, files lie in its folder."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example
from hypothesis import given as drawn
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError
from cryptoflow.settings import CassandraSettings, FeedSettings, KafkaSettings, Settings, SparkSettings, load
from cryptoflow.trust import DIRECTIONS, load_trusted

SECRET = "s3cret-that-nobody-may-see"

ENV = {
    "CRYPTOCOMPARE_API_KEY": SECRET,
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_USERNAME": "me",
    "KAFKA_PASSWORD": SECRET,
    "CASSANDRA_USERNAME": "me",
    "CASSANDRA_PASSWORD": SECRET,
}

HOSTS = st.sampled_from(["127.0.0.1", "127.0.0.1:9092", "elsewhere", "127.0.0.1:9092,elsewhere:9092", "", " , "])

CONFIGS: list[tuple[type[Settings], dict[str, st.SearchStrategy[Any]]]] = [
    (
        FeedSettings,
        {
            "source": st.sampled_from(["auto", "cryptocompare", "simulator", "kraken", "coinbase,binance"]),
            "url": st.sampled_from(["wss://streamer.cryptocompare.com/v2", "ws://elsewhere", "wss://127.0.0.1:1"]),
        },
    ),
    (
        KafkaSettings,
        {
            "bootstrap_servers": HOSTS,
            "security_protocol": st.sampled_from(["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
            "sasl_mechanism": st.sampled_from(["PLAIN", "SCRAM-SHA-256"]),
            "username": st.sampled_from(["me", "another", ""]),
        },
    ),
    (
        CassandraSettings,
        {"contact_points": HOSTS, "port": st.sampled_from([9042, 9043]), "username": st.sampled_from(["me", ""])},
    ),
    (SparkSettings, {"master": st.sampled_from(["local[*]", "local[2]", "spark://elsewhere:7077", "yarn"])}),
]

a_config = st.sampled_from(CONFIGS).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.fixed_dictionaries({}, optional=pair[1]))
)


def sends_no_secret(found: Any) -> bool:
    """Whether the settings need none of the secrets."""
    if isinstance(found, FeedSettings):
        return found.source == "simulator" or bool(found.venues)
    if isinstance(found, KafkaSettings):
        return "SASL" not in found.security_protocol
    return isinstance(found, SparkSettings) and found.master.startswith("local")


def taken(model: type[Settings], config: dict[str, Any], env: dict[str, str]) -> Any:
    """The settings, or the sentence that refuses them."""
    try:
        return load_trusted(model, config, env=env)
    except ConfigError as error:
        return str(error)


@drawn(a_config)
def test_no_run_config_redirects_a_secret(drawn: tuple[type[Settings], dict[str, Any]]) -> None:
    model, config = drawn
    own = load(model, None, ENV)
    found = taken(model, config, ENV)
    if isinstance(found, str):
        assert SECRET not in found
        return
    same = [getattr(found, name) == getattr(own, name) for name in DIRECTIONS[model]]
    assert all(same) or sends_no_secret(found)


@drawn(a_config)
def test_without_a_secret_a_run_config_says_what_it_likes(drawn: tuple[type[Settings], dict[str, Any]]) -> None:
    model, config = drawn
    try:
        wanted = load(model, config, {})
    except ConfigError:
        return
    assert load_trusted(model, config, env={}) == wanted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file, a folder, and links that lead out of it."""
    top = tmp_path_factory.mktemp("trust")
    (top / "in" / "deep").mkdir(parents=True)
    (top / "in" / "day").touch()
    (top / "in" / "out").symlink_to("..")
    (top / "in" / "root").symlink_to("/")
    (top / "in" / "loop").symlink_to("loop")
    return top / "in"


PARTS = st.sampled_from(["day", "deep", "out", "root", "loop", "..", ".", "", "in", "etc", "/"])


@drawn(st.lists(PARTS, min_size=1, max_size=6))
@example(["loop", "..", "out"])
@example(["loop", "..", "root", "etc"])
def test_a_replay_that_a_run_config_names_lies_in_the_folder(folder: Path, parts: list[str]) -> None:
    found = taken(FeedSettings, {"replay": "/".join(parts)}, {"CRYPTOFLOW_REPLAY_FOLDER": str(folder)})
    if isinstance(found, str):
        assert "CRYPTOFLOW_REPLAY_FOLDER" in found
        return
    assert Path(os.path.realpath(found.replay)).is_relative_to(os.path.realpath(folder))
