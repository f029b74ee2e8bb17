"""`cryptoflow parity`: our candles against the venues' own, as a report in Markdown."""

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cryptoflow.cli.candles import MarketOption, PairOption, coins_of
from cryptoflow.cli.options import environment, with_settings
from cryptoflow.cli.repair import stretch_of
from cryptoflow.errors import ConfigError
from cryptoflow.feeds.rest import Rest
from cryptoflow.model.parity import MINUTE_S
from cryptoflow.model.window import EPOCH, HOUR, floor_window, utc_hour
from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.stop import stop_on_signals
from cryptoflow.settings import CassandraSettings, FeedSettings, KafkaSettings, SparkSettings, home, load
from cryptoflow.venues import VENUES

if TYPE_CHECKING:
    from cryptoflow.pipeline.parity import RestOf

LAST_HOURS = 24

NOTHING_FINISHED = "No hour is finished yet, so there is nothing to compare."

From = Annotated[
    str | None,
    typer.Option("--from", help="From this time on, such as 2026-11-25T10:00; UTC unless it says a zone. Else a day."),
]
To = Annotated[str | None, typer.Option("--to", help="Up to this time; the last finished hour if left out.")]


@with_settings
def parity(
    start: From = None, end: To = None, market: MarketOption = None, pair: PairOption = None, **given: str | None
) -> None:
    """Compare candles with the venues' own, minute by minute, and print a report in Markdown.

    Whole hours that differ are suspect and marked, until their repair has compared them with the log.
    """
    env = environment(given)
    from cryptoflow.pipeline import agreement  # here, as it takes a while to import
    from cryptoflow.pipeline import parity as parities
    from cryptoflow.tables.connection import connect

    feed, kafka, cassandra = (
        load(FeedSettings, env=env),
        load(KafkaSettings, env=env),
        load(CassandraSettings, env=env),
    )
    parities.refuse_other_windows(load(SparkSettings, env=env).window_s)
    pairs = parities.pairs_of(feed, market, coins_of(pair))
    if not pairs:
        raise ConfigError(
            "No pair is of a venue of the source: take `--source coinbase,binance,kraken`, or other pairs."
        )
    with connect(cassandra) as session, stop_on_signals() as stop:
        finished = parities.finished_by(session, kafka)
        if finished == EPOCH:
            typer.echo(NOTHING_FINISHED)
            return
        span = stretch_of(start, end, finished) or (utc_hour(finished) - LAST_HOURS * HOUR, utc_hour(finished))
        begin, over = (floor_window(each, MINUTE_S) for each in span)
        days = list(parities.compare(session, finished, pairs, rests(feed, stop), begin, over))
        agreement.put_down(session, kafka, cassandra, days, Holder.current("", home(env)), _tell)
    typer.echo(f"# Agreement with the venues' own candles, {_text(begin)} to {_text(over)} UTC\n")
    typer.echo(parities.report(days))
    if stop.is_set():
        typer.echo("\nEnded on request: the rest was not compared.")


def rests(feed: FeedSettings, stop: threading.Event) -> "RestOf":
    """The REST of each venue of the source."""
    return lambda name: Rest(VENUES[name], feed.venue_rest_url(name), stop, tell=_tell)


def _tell(said: str) -> None:
    typer.echo(said, err=True)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
