"""`cryptoflow deadletters`: the frames that could not be read, and those of them that can be by now."""

import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from cryptoflow.cli.options import environment, with_settings
from cryptoflow.model.window import utc_time
from cryptoflow.render import new_console, utc_text
from cryptoflow.settings import FeedSettings, KafkaSettings, load

if TYPE_CHECKING:
    from cryptoflow.kafka_io.dead_letters import DeadLetter
    from cryptoflow.pipeline.revive import Reader

LAST = 20

SHOWN_CHARACTERS = 100
"""Of a frame."""

NS_PER_MS = 1_000_000

Venue = Annotated[str | None, typer.Option(help="Of one venue alone, by its name, such as kraken.")]

with_own_settings = partial(with_settings, models=(FeedSettings, KafkaSettings))

deadletters_app = typer.Typer(no_args_is_help=True, help="Frames that could not be read: look at them, replay them.")


@deadletters_app.command("list")
@with_own_settings
def list_letters(
    venue: Venue = None,
    last: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = LAST,
    **given: str | None,
) -> None:
    """Show the newest dead letters: when, who sent them, why they could not be read, and whether they can be now."""
    from cryptoflow.kafka_io.dead_letters import dead_letters
    from cryptoflow.pipeline.revive import Reader

    env = environment(given)
    kafka, feed = load(KafkaSettings, env=env), load(FeedSettings, env=env)
    letters = [each for each in dead_letters(kafka, last) if venue in (None, each.venue)]
    if not letters:
        typer.echo(f"No dead letters of {venue or 'anybody'} are among the last {last} in {kafka.dead_letter_topic}.")
        return
    new_console().print(letters_table(letters, Reader(feed.subscription_list), time.time()))


@deadletters_app.command()
@with_own_settings
def replay(venue: Venue = None, **given: str | None) -> None:
    """Send the trades of dead letters that can be read by now into the topic of trades; to repeat it does no harm."""
    from cryptoflow.kafka_io.dead_letters import dead_letters
    from cryptoflow.pipeline.revive import Reader, revive

    env = environment(given)
    kafka, feed = load(KafkaSettings, env=env), load(FeedSettings, env=env)
    letters = (each for each in dead_letters(kafka) if venue in (None, each.venue))
    found = revive(kafka, letters, Reader(feed.subscription_list))
    typer.echo(
        f"{found.readable:,} of {found.letters:,} dead letters can be read now; their {found.trades:,} trades are in "
        f"{kafka.topic}."
    )
    if found.trades:
        typer.echo("Those that are late get into their candles by a repair: `cryptoflow repair` does it now.")
    if found.letters > found.readable:
        typer.echo("`cryptoflow deadletters list` tells why the others can't be read.")


def letters_table(letters: "Iterable[DeadLetter]", reader: "Reader", now_s: float) -> Table:
    """The dead letters, one a line in the order given; times are UTC."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("offset", "time (UTC)", "found by", "venue", "reason", "now", "frame"):
        table.add_column(name, no_wrap=name in ("offset", "time (UTC)", "found by", "venue"), overflow="fold")
    for each in letters:
        time_text = utc_text(utc_time(each.time_ms * NS_PER_MS))
        _, reason = reader.read(each, now_s)
        texts = (each.source, each.venue, each.reason, reason or "can be read", _shown(each.frame))
        table.add_row(str(each.offset), time_text, *map(escape, texts))
    return table


def _shown(frame: bytes) -> str:
    text = frame.decode(errors="replace")
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
