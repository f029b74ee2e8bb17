"""`cryptoflow record`: the raw frames of a feed, in a file that a simulator replays."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cryptoflow.cli.options import environment, with_settings
from cryptoflow.feeds.events import ClientEvent
from cryptoflow.feeds.recording import NoSink, Recorder
from cryptoflow.feeds.source import open_feed
from cryptoflow.pipeline.feeding import Feeding
from cryptoflow.render import new_console
from cryptoflow.runtime.metrics import FeedMetrics
from cryptoflow.runtime.stop import Deadline, checked_timeout_s, stop_on_signals
from cryptoflow.settings import FeedSettings, api_key, load
from cryptoflow.simulator.config import VENUES as SIMULATED

LOOK_S = 0.25

DEFAULT_S = 60.0


@partial(with_settings, models=(FeedSettings,))
def record(
    file: Annotated[Path, typer.Argument(help="A new file of JSON lines; gzipped if its name ends with .gz.")],
    seconds: Annotated[float, typer.Option(help="How long; 0: until Ctrl-C.")] = DEFAULT_S,
    **given: str | None,
) -> None:
    """Write a feed's raw frames, each with when it came and from which venue and socket; Ctrl-C ends it cleanly."""
    checked_timeout_s(seconds)
    env = environment(given)
    settings = load(FeedSettings, env=env)
    console = new_console()
    with stop_on_signals() as stop, open_feed(settings, api_key(env)) as feed, Recorder(file) as recorder:
        typer.echo(feed.notice)
        feeding = Feeding(feed.client(NoSink(), _tell, overhear=recorder.overhear))
        try:
            feeding.start()
            deadline = Deadline(seconds)
            with console.status("Recording.") as status:
                while not (stop.wait(deadline.left_s(LOOK_S)) or deadline.passed):
                    feeding.check()
                    status.update(f"Recording: {_counts(recorder, feeding.metrics())}.")
            feeding.end()
        finally:
            feeding.stop()
    if not recorder.frames:
        typer.echo("No frame came, so no file is written; `cryptoflow doctor --source NAME` tells what is in the way.")
        raise typer.Exit(1)
    typer.echo(f"{file} has {_counts(recorder, feeding.metrics())}, in {file.stat().st_size:,} bytes.")
    if recorder.left_out:
        typer.echo(f"{recorder.left_out:,} frames were no text and are left out.")
    for venue in sorted(recorder.frames.keys() & set(SIMULATED)):
        typer.echo(f"replay it: cryptoflow simulate --venue {venue} --replay {file}")


def _tell(event: ClientEvent) -> None:
    typer.echo(str(event), err=True)


def _counts(recorder: Recorder, metrics: FeedMetrics) -> str:
    by_venue = ", ".join(f"{count:,} of {venue}" for venue, count in sorted(recorder.frames.items()))
    return f"{recorder.frames.total():,} frames{f' ({by_venue})' if by_venue else ''} with {metrics.trades:,} trades"
