"""`cryptoflow doctor`: what is missing on this machine, and what fixes it."""

import os
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from cryptoflow.cli.options import environment
from cryptoflow.local.doctor import Check, check_all
from cryptoflow.render import new_console
from cryptoflow.settings import home


def doctor(
    source: Annotated[
        str | None,
        typer.Option(help="For runs of this source; of venues: whether each can be reached from here."),
    ] = None,
) -> None:
    """Check this machine: what is there, what is missing, and the command that fixes it."""
    env = environment({"CRYPTOFLOW_SOURCE": source}) if source else os.environ
    checks = check_all(home(), env=env)
    new_console().print(check_table(checks))
    if any(check.needed and not check.ok for check in checks):
        raise typer.Exit(1)


def check_table(checks: list[Check]) -> Table:
    """A line per check."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    for check in checks:
        table.add_row(_mark(check), check.name, escape(check.text))
    return table


def _mark(check: Check) -> str:
    if check.ok:
        return "[green]ok[/]"
    return "[red]missing[/]" if check.needed else "[yellow]missing, not needed yet[/]"
