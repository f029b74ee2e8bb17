"""What a run config may not say: where a secret of the environment goes, and which file of the machine is read.

Who may launch a run is trusted with its trades, not with the secrets and the files of the machine it runs on.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from cryptoflow.errors import ConfigError
from cryptoflow.settings import (
    CassandraSettings,
    FeedSettings,
    KafkaSettings,
    Settings,
    SparkSettings,
    api_key,
    is_simulated,
    load,
    setting_env,
)

SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY", re.IGNORECASE)
"""Environment variables that hold a secret, ours and others'."""

DIRECTIONS: dict[type[Settings], tuple[str, ...]] = {
    FeedSettings: ("url",),
    KafkaSettings: ("bootstrap_servers", "security_protocol", "sasl_mechanism"),
    CassandraSettings: ("contact_points", "port"),
    SparkSettings: ("master",),
}
"""The settings that decide to whom a secret goes, and how well it is kept on the way."""

Model = TypeVar("Model", bound=Settings)


def load_trusted(
    model: type[Model], given: Mapping[str, Any], feed: FeedSettings | None = None, env: Mapping[str, str] | None = None
) -> Model:
    """The settings as `load` has them, of what a run config has `given`.

    Raises:
        ConfigError: as `load`; or they would send a secret of the environment to where the environment does not say,
            or read a file outside of the folder that it names.
    """
    env = os.environ if env is None else env
    said = {name: value for name, value in given.items() if value is not None}
    _refuse_secrets(said, env)
    if "replay" in said:
        said["replay"] = _allowed_replay(str(said["replay"]), env)
    found = load(model, said, env, feed)
    if secret := _secret_sent(found, env):
        _refuse_redirection(found, load(model, None, env, feed), said, secret)
    return found


def _refuse_secrets(said: Mapping[str, Any], env: Mapping[str, str]) -> None:
    """Dagster lets a run config take any variable for a text, which is sent, logged and stored as a name is."""
    secrets = {value: name for name, value in env.items() if value and SECRET_NAME.search(name)}
    for name, value in said.items():
        if value in secrets:
            raise ConfigError(
                f"A run config can't say {name} by the value of {secrets[value]}, which is a secret: give another."
            )


def _secret_sent(found: Settings, env: Mapping[str, str]) -> str | None:
    """The variable of a secret that is sent with these settings."""
    match found:
        case FeedSettings():
            key = api_key(env)
            sent = key and not found.venues and not is_simulated(found, key)
            return "CRYPTOCOMPARE_API_KEY" if sent else None
        case KafkaSettings():
            return "KAFKA_PASSWORD" if found.password and "SASL" in found.security_protocol else None
        case CassandraSettings():
            return "CASSANDRA_PASSWORD" if found.password and found.username is not None else None
        case SparkSettings() if not found.master.startswith("local"):
            # Its executors get what a source needs to log in.
            return "KAFKA_PASSWORD" if env.get("KAFKA_PASSWORD") else None
    return None


def _refuse_redirection(found: Settings, own: Settings, said: Mapping[str, Any], secret: str) -> None:
    for name in DIRECTIONS[type(found)]:
        if name in said and getattr(found, name) != getattr(own, name):
            variable = setting_env(type(found), type(found).model_fields[name])
            raise ConfigError(
                f"A run config can't change {name}, as it decides where {secret} goes: "
                f"leave it out, or set {variable} in the environment of Dagster."
            )


def _allowed_replay(replay: str, env: Mapping[str, str]) -> str:
    """The file, links resolved; a relative name is one in the folder."""
    own = load(FeedSettings, None, env)
    if replay == own.replay:
        return replay
    if own.replay_folder is None:
        raise ConfigError(
            "A run config can't name a replay: set CRYPTOFLOW_REPLAY_FOLDER, in the environment of Dagster, "
            "to the folder of those that it may."
        )
    folder = os.path.realpath(own.replay_folder)
    path = _real(Path(folder, replay))
    if path is None or not Path(path).is_relative_to(folder):
        raise ConfigError(
            f"A run config can't name a replay outside of CRYPTOFLOW_REPLAY_FOLDER: put it into {own.replay_folder}."
        )
    return path


def _real(path: Path) -> str | None:
    try:
        real = os.path.realpath(path)
        # Behind a link that leads to itself it takes links for folders; asked again it follows them.
        return real if os.path.realpath(real) == real else None
    except ValueError:  # no name of a file
        return None
