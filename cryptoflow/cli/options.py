"""The settings as options of the command line, made from their models.

An option stands for its environment variable, and wins over it: `environment` has both.
Passwords have no option: a command line can be read by everybody on the machine.
"""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from cryptoflow.settings import (
    CassandraSettings,
    FeedSettings,
    KafkaSettings,
    Settings,
    SparkSettings,
    default_text,
    has_option,
    load,
    settings_of,
    variables_text,
)

MODELS = (FeedSettings, KafkaSettings, SparkSettings, CassandraSettings)

OLD_NAMES = {
    "KAFKA_BOOTSTRAP_SERVERS": "--kafkabroker",
    "KAFKA_TOPIC": "--kafkatopic",
    "CASSANDRA_CONTACT_POINTS": "--cassandraurl",
}
"""What the program before this one called them."""


def option_name(env: str) -> str:
    """The option of an environment variable: KAFKA_TOPIC is --kafka-topic, CRYPTOFLOW_TRIGGER is --trigger."""
    for prefix in ("CRYPTOCOMPARE_", "CRYPTOFLOW_"):
        env = env.removeprefix(prefix)
    return "--" + env.lower().replace("_", "-")


def _options(models: Sequence[type[Settings]]) -> Iterator[inspect.Parameter]:
    for model in models:
        panel = model.__name__.removesuffix("Settings")
        for _, info, env in settings_of(model):
            if has_option(info):
                names = [option_name(env), *([OLD_NAMES[env]] if env in OLD_NAMES else [])]
                said = default_text(info)
                default = "" if said is None else f"default: {said}; "
                text = f"{info.description} [dim]({default}{variables_text(model, info)})[/]"
                option = typer.Option(*names, help=text, rich_help_panel=panel, show_default=False)
                kind = Annotated[str | None, option]
                yield inspect.Parameter(env, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def with_settings(command: Callable[..., None], models: Sequence[type[Settings]] = MODELS) -> Callable[..., None]:
    """Give a command an option for each setting of the models, which come in as `**settings`, by variable."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]

    def wrapped(**arguments: Any) -> None:
        command(**arguments)

    wrapped.__signature__ = signature.replace(parameters=[*own, *_options(models)])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in [*own, *_options(models)]}
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def environment(given: Mapping[str, str | None], env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment with the options that were given: for what is read here, and for processes that are started.

    Raises:
        ConfigError: a setting, given or from the environment, can't be used.
    """
    made = {**env, **{variable: value for variable, value in given.items() if value is not None}}
    for model in MODELS:
        loaded = load(model, env=made)
        # As the settings have them: a path is absolute there, and means the same in another folder.
        made |= {variable: str(getattr(loaded, name)) for name, _, variable in settings_of(model) if made.get(variable)}
    return made
