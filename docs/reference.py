"""The reference pages of the site, made from the code at each build, as Markdown by the page's place.

The page of settings is made by `make_configuration.py`, and kept in the repository, as GitHub's readers need it too.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer
from fastapi import FastAPI
from msgspec import structs

from cryptoflow.cli import app
from cryptoflow.exporter.families import LABELS, OF_A_PART, exported
from cryptoflow.kafka_io.topics import topics_of
from cryptoflow.model.trade import Trade
from cryptoflow.runtime.metrics import EXPORTED
from cryptoflow.settings import KafkaSettings
from cryptoflow.tables.meanings import documented, meanings
from cryptoflow.tables.schema import TABLES, Table, create_table
from cryptoflow.web.api import router

TOPICS = {
    "": "The trades, keyed `{M}~{FSYM}~{TSYM}`: a pair's are in one partition, in order.",
    ".deadletter": "Frames that could not be read, as they came; headers `reason`, `source`, and where they lay.",
    ".gaps": "What the feed did not send and is to be filled, and where each pair stood when it last paused.",
    ".history": "Trades that were filled in or fetched from the past; read by batches only.",
    ".leases": "Who carries trades into the topic.",
}
"""What each topic of a topic is for, by its ending."""


def commands() -> str:
    """Every command with its arguments and options."""
    return "# Commands\n\n" + "\n".join(_command(typer.main.get_command(app), "cryptoflow"))


def _command(command: Any, name: str) -> Iterator[str]:
    if name != "cryptoflow":
        yield f"## {name}\n"
    yield f"{_plain(command.help or '')}\n"
    rows = [row for parameter in command.params for row in _parameter(parameter)]
    if rows:
        yield from ("| option | default | meaning |", "|---|---|---|", *rows, "")
    for below, inner in sorted(getattr(command, "commands", {}).items()):
        yield from _command(inner, f"{name} {below}")


def _parameter(parameter: Any) -> Iterator[str]:
    if getattr(parameter, "hidden", False):
        return
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    known = parameter.default is not None and not callable(parameter.default)
    default = f"`{parameter.default}`" if known and parameter.default is not False else ""
    yield f"| {names} | {default} | {_cell(_plain(getattr(parameter, 'help', None) or ''))} |"


def _plain(text: str) -> str:
    """Without rich's marks."""
    return re.sub(r"\[/?(?:dim)?\]", "", inspect.cleandoc(text))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("~", r"\~")


def tables() -> str:
    """Every table: what a row is, its columns, and the CQL that makes it."""
    return "# Tables\n\n" + "\n".join(_table(table) for table in TABLES)


def _table(table: Table) -> str:
    said = inspect.cleandoc(table.row.__doc__ or "")
    said_of = meanings(table)
    rows = [
        f"| `{name}` | `{kind}` | {_key(table, name)} | {_cell(said_of[name])} |"
        for name, kind in table.columns.items()
    ]
    head = ["| column | type | key | meaning |", "|---|---|---|---|"]
    return "\n".join(
        [f"## {table.name}\n", f"{said}\n", *head, *rows, "", "```sql", create_table(table, "KEYSPACE", 0), "```\n"]
    )


def _key(table: Table, column: str) -> str:
    if column in table.partition:
        return "partition"
    return table.clustering.get(column, "static" if column in table.static else "")


def topics() -> str:
    """Every topic, with the options that it is made with, and the fields of a trade."""
    kafka = KafkaSettings(topic="TOPIC", history_topic="TOPIC.history")
    made = topics_of(kafka)
    lines = [
        "# Topics\n",
        "`TOPIC` is `KAFKA_TOPIC`. The options are those of topics that cryptoflow makes, by default.\n",
    ]
    for name, options in made.items():
        lines += [f"## {name}\n", f"{TOPICS[name.removeprefix('TOPIC')]}\n", "| option | value |", "|---|---|"]
        plain = {key: value for key, value in options.items() if key != "configs"} | options["configs"]
        lines += [*(f"| `{key}` | `{value}` |" for key, value in plain.items()), ""]
    said_of = documented(Trade)
    lines += ["## A trade\n", "The fields of a record that are read; others are left alone.\n"]
    lines += ["| JSON | field | needed | meaning |", "|---|---|---|---|"]
    for field in structs.fields(Trade):
        needed = "yes" if field.required else ""
        lines.append(f"| `{field.encode_name}` | `{field.name}` | {needed} | {_cell(said_of.get(field.name, ''))} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric as Prometheus has it."""
    lines = [
        "# Metrics\n",
        "`cryptoflow metrics` serves them; see [monitoring](../operations.md#monitoring). A series is told apart by",
        "its labels; `run` is Dagster's id of the run, so sum the rates of counters over it.\n",
    ]
    for kind in EXPORTED:
        labels = ", ".join(f"`{label}`" for label in LABELS.get(kind, OF_A_PART)) or "none"
        lines += [f"## {kind.__name__.removesuffix('Metrics')}\n", f"{kind.__doc__} Labels: {labels}.\n"]
        lines += ["| metric | kind | meaning |", "|---|---|---|"]
        lines += [f"| `{each.name}` | {each.kind.value} | {_cell(each.meaning)} |" for each in exported(kind)]
        lines.append("")
    return "\n".join(lines)


def api() -> str:
    """Every route of the page's API with its parameters, as the API describes itself."""
    described = FastAPI()
    described.include_router(router)
    lines = [
        "# API\n",
        "What the server of [the page](../chart.md) answers. A running one tells the same: `/api/openapi.json`.\n",
    ]
    for path, routes in described.openapi()["paths"].items():
        for method, route in routes.items():
            lines += [f"## {method.upper()} {path}\n", f"{route['summary']}. {route.get('description', '')}\n"]
            lines += _parameters(route.get("parameters", []))
    return "\n".join(lines)


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not parameters:
        return
    yield from ("| parameter | in | default | meaning |", "|---|---|---|---|")
    for each in parameters:
        default = each["schema"].get("default")
        shown = "needed" if each["required"] else "" if default is None else f"`{default}`"
        yield f"| `{each['name']}` | {each['in']} | {shown} | {_cell(each.get('description', ''))} |"
    yield ""


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/tables.md": tables,
    "reference/topics.md": topics,
    "reference/metrics.md": metrics,
    "reference/api.md": api,
}
"""What makes each page."""
