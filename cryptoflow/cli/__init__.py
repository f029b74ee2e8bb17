"""The command line `cryptoflow`."""

import logging
import sys
from typing import Annotated

import typer

from cryptoflow import __version__
from cryptoflow.cli.candles import candles
from cryptoflow.cli.chart import chart
from cryptoflow.cli.deadletters import deadletters_app
from cryptoflow.cli.doctor import doctor
from cryptoflow.cli.gaps import gaps
from cryptoflow.cli.metrics import metrics
from cryptoflow.cli.parity import parity
from cryptoflow.cli.record import record
from cryptoflow.cli.repair import repair
from cryptoflow.cli.run import run
from cryptoflow.cli.services import services_app
from cryptoflow.cli.simulate import simulate
from cryptoflow.errors import CryptoflowError

app = typer.Typer(
    help="Live crypto trades from websocket feeds, through Kafka and Spark, into candles in Cassandra.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


app.command()(run)
app.command()(candles)
app.command()(chart)
app.command()(repair)
app.command()(gaps)
app.command()(metrics)
app.command()(parity)
app.command()(record)
app.command()(simulate)
app.command()(doctor)
app.add_typer(deadletters_app, name="deadletters")
app.add_typer(services_app, name="services")


def main() -> None:
    """Run the command line; what cryptoflow reports is one line on stderr, with exit code 1."""
    try:
        app()
    except CryptoflowError as error:
        logging.getLogger(__name__).debug("the error's origin", exc_info=True)
        typer.echo(f"cryptoflow: {error}", err=True)
        sys.exit(1)
