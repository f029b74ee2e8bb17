"""`cryptoflow services`: real Kafka and Cassandra as local processes."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cryptoflow.local import jars, lifecycle
from cryptoflow.local.lifecycle import Status
from cryptoflow.local.service import Service
from cryptoflow.render import new_console
from cryptoflow.settings import CassandraSettings, KafkaSettings, home, load

COLOURS = {"up": "green", "down": "red", "silent": "yellow", "taken": "red"}

services_app = typer.Typer(
    no_args_is_help=True, help="Real Kafka and Cassandra as processes of this machine, without Docker."
)


@services_app.command()
def up() -> None:
    """Start Kafka and Cassandra where the settings say, unless they run; they go on until `down`."""
    console, wanted, folder = new_console(), _wanted(), home()
    with fetching(console) as progress:
        lifecycle.up(folder, wanted, tell=console.print, progress=progress)
    console.print(status_table(lifecycle.status(folder, wanted)))


@services_app.command()
def down() -> None:
    """End what `up` started; the data is kept."""
    if not lifecycle.down(home(), tell=new_console().print):
        new_console().print("No service of this home runs.")


@services_app.command()
def status() -> None:
    """Show how the services are; exits with 1 when one of them is not up."""
    found = lifecycle.status(home(), _wanted())
    new_console().print(status_table(found))
    if any(each.state != "up" for each in found):
        raise typer.Exit(1)


@services_app.command("jars")
def fetch_jars(
    check: Annotated[bool, typer.Option("--check", help="Hash again the jars that are there.")] = False,
) -> None:
    """Fetch the jars of Kafka, Cassandra and Spark's Kafka connector, and prepare a faster start of Spark."""
    from cryptoflow.spark import archive  # here, as it takes a while to import

    console, folder = new_console(), home()
    with ThreadPoolExecutor() as pool, fetching(console) as progress:
        if not archive.archive_path(folder).exists():
            console.print("Meanwhile Spark's classes are archived for faster starts: half a minute, once.")
        archiving = pool.submit(archive.build, folder)  # beside the fetching, which mostly waits
        jars.install(folder, progress=progress, rehash=check)
        archiving.result()
    console.print(f"The jars are in {folder / 'jars'}.", soft_wrap=True)


def status_table(found: Iterable[Status]) -> Table:
    """A line per service."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("service", "state", "address", "pid", "since", "log"):
        table.add_column(column, overflow="fold")
    for each in found:
        table.add_row(*_cells(each))
    return table


@contextmanager
def fetching(console: Console) -> Iterator[jars.Progress]:
    """Bars for the sets of jars that are fetched, lines where the console is no terminal; nothing where nothing is."""
    if not console.is_terminal:
        yield Lines(console).show
        return
    columns = (
        TextColumn("jars of {task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {name: bars.add_task(name, total=1.0, visible=False) for name in jars.SETS}

        def show(name: str, share: float) -> None:
            # a set that is there already tells of 1.0 at once
            visible = share < 1.0 or bars.tasks[tasks[name]].visible
            bars.update(tasks[name], completed=share, visible=visible)

        yield show


class Lines:
    """A line for each quarter of a set of jars that is fetched."""

    def __init__(self, console: Console) -> None:
        self._console, self._quarters = console, dict.fromkeys(jars.SETS, 0)

    def show(self, name: str, share: float) -> None:
        """Tell how far a set has come; one that is there already tells of 1.0 at once."""
        quarters, before = int(4 * share), self._quarters[name]
        self._quarters[name] = quarters
        if quarters > before and (before or quarters < 4):
            self._console.print(f"jars of {name}: {quarters * 25} %", highlight=False)


def _cells(each: Status) -> tuple[str, ...]:
    state = f"[{COLOURS[each.state]}]{each.state}[/]{_whose(each)}"
    process = each.process
    if process is None:
        return each.service.name, state, each.service.address, "-", "-", "-"
    since = datetime.fromtimestamp(process.created_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return each.service.name, state, each.service.address, str(process.pid), since, escape(str(each.log))


def _whose(each: Status) -> str:
    if each.process and each.process.tied_to:
        return f", until process {each.process.tied_to} ends"
    if each.service.external:
        return ", not this machine's"
    return ", not started from here" if each.state == "up" and each.process is None else ""


def _wanted() -> tuple[Service, Service]:
    return lifecycle.services(load(KafkaSettings), load(CassandraSettings))
