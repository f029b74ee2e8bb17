"""Settings read: what is given, the environment and the defaults; and what is wrong with a value, in a sentence."""

import os
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cryptoflow.errors import ConfigError
from cryptoflow.settings.feed import FeedSettings, api_key, store_name
from cryptoflow.settings.setting import Settings, extra_of, old_env, settings_of, variables_text

FAULTS = {
    "int_parsing": "it is no whole number",
    "int_parsing_size": "it is too large",
    "int_type": "it is no whole number",
    "int_from_float": "it is no whole number",
    "float_parsing": "it is no number",
    "float_type": "it is no number",
    "finite_number": "it is not finite",
    "greater_than": "it must be more than {gt:.10g}",
    "greater_than_equal": "it must be at least {ge:.10g}",
    "less_than_equal": "it must be at most {le:.10g}",
    "literal_error": "it must be {expected}",
    "string_pattern_mismatch": "it must match {pattern}",
    "string_too_short": "it is empty",
    "string_type": "it is no text",
    "string_unicode": "it is no text",
    "value_error": "{error}",
}
"""What is wrong with a value, by pydantic's type of error."""

Model = TypeVar("Model", bound=Settings)


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
    names = [name for name, info in model.model_fields.items() if extra_of(info)["by_source"] and name not in said]
    if not names:
        return {}
    return dict.fromkeys(names, store_name(feed or load(FeedSettings, None, env), api_key(env)))


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
