"""`cryptoflow repair`: hours of candles computed anew from Kafka, without Dagster."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cryptoflow import settings
from cryptoflow.cli.candles import MarketOption, PairOption, coins_of
from cryptoflow.cli.options import environment, with_settings
from cryptoflow.cli.screen import Rate
from cryptoflow.errors import ConfigError
from cryptoflow.render import new_console
from cryptoflow.runtime.metrics import PartMetrics, RepairMetrics
from cryptoflow.runtime.stop import stop_on_signals
from cryptoflow.settings import CassandraSettings, KafkaSettings, SparkSettings, load

if TYPE_CHECKING:
    from cryptoflow.pipeline.correct import RepairedHour
    from cryptoflow.pipeline.repair import Summary

From = Annotated[
    str | None,
    typer.Option("--from", help="From this time on, such as 2026-11-25T10:00; UTC unless it says a zone."),
]
To = Annotated[str | None, typer.Option("--to", help="Up to this time; now if left out.")]


@with_settings
def repair(
    start: From = None, end: To = None, market: MarketOption = None, pair: PairOption = None, **given: str | None
) -> None:
    """Repair hours: those that wait for it, or all of a stretch of time. Ctrl-C ends it after the hour at hand."""
    env = environment(given)
    from cryptoflow.pipeline import repair as repairs  # here, as it takes a while to import
    from cryptoflow.pipeline.part import RunContext

    stretch = stretch_of(start, end, datetime.now(UTC))
    wanted = repairs.Wanted(stretch and repairs.hours_between(*stretch), market, coins_of(pair))
    stores = load(KafkaSettings, env=env), load(CassandraSettings, env=env), load(SparkSettings, env=env)
    console = new_console()

    def say(hour: datetime, done: "Sequence[RepairedHour]") -> None:
        console.print(hour_line(hour, done), highlight=False, soft_wrap=True)

    with stop_on_signals() as stop, console.status("Looking what is to be repaired.") as status:
        context = RunContext(settings.home(env), stop=stop, report=_reporter(status.update))
        summary = repairs.repair(*stores, context, wanted, say)
    for line in summary_lines(summary, stopped=stop.is_set()):
        console.print(line, highlight=False, soft_wrap=True)


def stretch_of(start: str | None, end: str | None, now: datetime) -> tuple[datetime, datetime] | None:
    """The stretch of time that the options ask for; None: all hours that are marked.

    Raises:
        ConfigError: they are no times, or the wrong way round.
    """
    if start is None:
        if end is not None:
            raise ConfigError("--to needs a --from; without both all hours are repaired that wait for it.")
        return None
    found = time_of(start), now if end is None else time_of(end)
    if found[0] >= found[1]:
        raise ConfigError(f"--from {start} is not before --to {end or 'now'}.")
    return found


def time_of(text: str) -> datetime:
    """The aware UTC time that an option says.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"{text} is no time; write it as 2026-11-25T10:00, or with a zone.") from None


def _reporter(show: Callable[[str], None]) -> Callable[[PartMetrics], None]:
    rate, began_s = Rate(), time.monotonic()

    def report(metrics: PartMetrics) -> None:
        assert isinstance(metrics, RepairMetrics)
        now_s = time.monotonic()
        show(progress_line(metrics, rate.of(metrics.trades_read, now_s), now_s - began_s))

    return report


def progress_line(metrics: RepairMetrics, trades_per_s: float, elapsed_s: float) -> str:
    """How far it has come, and how long the rest takes at the pace so far, as one line."""
    done, left, read = metrics.hours, metrics.hours_left, metrics.trades_read
    line = f"{done:,} hours done, {left:,} left   trades read {read:,}   trades/s {trades_per_s:,.0f}"
    return f"{line}   seconds left {elapsed_s / done * left:,.0f}" if done and left else line


def hour_line(hour: datetime, done: "Sequence[RepairedHour]") -> str:
    """What was done about an hour, as one line."""
    rows = [each.row for each in done]
    verdicts = ", ".join(sorted({f"{row.verdict} ({row.reason})" for row in rows})) or "no trades"
    written, removed = sum(each.written for each in done), sum(each.removed for each in done)
    counts = f"{sum(row.in_candles for row in rows):,} trades of {len(rows)} pairs"
    return f"{hour:%Y-%m-%d %H:%M} UTC   {counts}, {written:,} candles written, {removed:,} removed: {verdicts}"


def summary_lines(summary: "Summary", stopped: bool) -> list[str]:
    """What is left to say at the end."""
    if summary.waiting and summary.finished is None:
        return [f"{len(summary.waiting)} hours wait: no aggregation of this topic has committed anything yet."]
    if summary.waiting:
        until, named = f"{summary.finished:%Y-%m-%d %H:%M} UTC", f"{summary.waiting[0]:%Y-%m-%d %H:%M}"
        return [
            f"{len(summary.waiting)} hours wait, the first is {named}: windows are finished until {until}. "
            "Once the aggregation has gone on, repair again."
        ]
    if stopped:
        return ["Ended on request; what is left waits for the next repair."]
    return [] if summary.repaired else ["There is nothing to repair."]
