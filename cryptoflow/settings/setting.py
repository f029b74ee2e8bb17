"""What a setting is: its environment variable, default, limits and meaning, in one statement."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

SIMULATED, REAL = "simulated", "cryptocompare"
"""The topic and the keyspace of simulated trades, and those of a real source, where none is named."""

BY_SOURCE = f"{REAL}; {SIMULATED} for the simulator"


def setting(
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


def secret(env: str, description: str) -> Any:
    """A field that is a setting which the environment alone may say."""
    return setting(env, None, description, option=False, run_config=False, repr=False)


def listed(value: str) -> str:
    """A comma-separated list without spaces or empty items; a ValueError if it is empty."""
    items = [item.strip() for item in value.split(",") if item.strip()]
    if not items:
        raise ValueError("it is empty")
    return ",".join(items)


List = Annotated[str, AfterValidator(listed)]
"""Comma-separated items."""

Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    env_prefix: ClassVar[str] = ""
    """What the environment variables of the group begin with, where two groups have the same settings."""


def extra_of(info: FieldInfo) -> dict[str, Any]:
    """What `setting` has put down."""
    assert isinstance(info.json_schema_extra, dict)
    return info.json_schema_extra


def setting_env(model: type[Settings], info: FieldInfo) -> str:
    """The environment variable of a field of `model`."""
    return f"{model.env_prefix}{extra_of(info)['env']}"


def old_env(info: FieldInfo) -> str | None:
    """Another variable of a setting, which counts where its own is not set."""
    found = extra_of(info)["old_env"]
    return None if found is None else str(found)


def variables_text(model: type[Settings], info: FieldInfo) -> str:
    """The environment variables of a setting, the one that wins first."""
    return ", else ".join(filter(None, (setting_env(model, info), old_env(info))))


def has_option(info: FieldInfo) -> bool:
    """Whether a setting may be an option of the command line."""
    return bool(extra_of(info)["option"])


def in_run_config(info: FieldInfo) -> bool:
    """Whether a run config of Dagster may say a setting."""
    return bool(extra_of(info)["run_config"])


def default_text(info: FieldInfo) -> str | None:
    """A setting's default to be read; None if it has none."""
    said = extra_of(info)["default_text"]
    return said if said or info.default is None else str(info.default)


def settings_of(model: type[Settings]) -> Iterator[tuple[str, FieldInfo, str]]:
    """(name, field, environment variable) of each setting of `model`."""
    for name, info in model.model_fields.items():
        yield name, info, setting_env(model, info)
