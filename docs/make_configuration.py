"""Writes docs/configuration.md's tables from the settings: `python docs/make_configuration.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from cryptoflow.cli.options import MODELS, OLD_NAMES, option_name
from cryptoflow.settings import (
    HistorySettings,
    Settings,
    TimedKafkaSettings,
    TimedMemorySettings,
    WebSettings,
    default_text,
    has_option,
    in_run_config,
    old_env,
    settings_of,
)

PAGE = Path(__file__).with_name("configuration.md")
AUTOMATION: dict[type[Settings], str] = {
    TimedKafkaSettings: "schedule `timed_kafka_mode`",
    TimedMemorySettings: "schedule `timed_memory_mode`",
    HistorySettings: "schedule `daily_clean_history`",
}
"""What Dagster does by itself: its settings are neither options of a command nor fields of a resource."""

PAGE_OF_CANDLES: dict[type[Settings], str] = {WebSettings: "the page of live candles"}
"""Its settings are options of its own command, and fields of no resource."""

BEGIN, END = "<!-- settings: made by docs/make_configuration.py -->", "<!-- end of settings -->"


def page(text: str) -> str:
    """The page `text` with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """A section with a table for each group of settings."""
    sections = [_section(model) for model in MODELS]
    return "\n".join([*sections, *(_automation(model, of) for model, of in (PAGE_OF_CANDLES | AUTOMATION).items())])


def _section(model: type[Settings]) -> str:
    name = model.__name__.removesuffix("Settings")
    head = ["| option | environment | field | default | meaning |", "|---|---|---|---|---|"]
    lines = (_line(field, info, env) for field, info, env in settings_of(model))
    return "\n".join([f"### {name}: resource `{name.lower()}`\n", *head, *lines, ""])


def _line(field: str, info: FieldInfo, env: str) -> str:
    named = f"`{field}`" if in_run_config(info) else "none"
    return f"| {_option(info, env)} | `{env}` | {named} | {_default(info)} | {'; '.join(_meaning(info))} |"


def _automation(model: type[Settings], of: str) -> str:
    head = ["| environment | default | meaning |", "|---|---|---|"]
    lines = (f"| `{env}` | {_default(info)} | {'; '.join(_meaning(info))} |" for _, info, env in settings_of(model))
    return "\n".join([f"### {of[0].upper()}{of[1:]}\n", *head, *lines, ""])


def _default(info: FieldInfo) -> str:
    said = default_text(info)
    if said is None or said != str(info.default):
        return (said or "none").replace("~", r"\~")
    return f"`{said.replace(',', ', ')}`"


def _option(info: FieldInfo, env: str) -> str:
    if not has_option(info):
        return "none"
    return ", ".join(f"`{name}`" for name in (option_name(env), OLD_NAMES.get(env)) if name)


def _meaning(info: FieldInfo) -> Iterator[str]:
    yield str(info.description).replace("~", r"\~")  # GitHub strikes out what is between two of them
    if old := old_env(info):
        yield f"where it is not set, `{old}` counts"
    if get_origin(info.annotation) is Literal:
        yield "one of " + ", ".join(f"`{value}`" for value in get_args(info.annotation))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
