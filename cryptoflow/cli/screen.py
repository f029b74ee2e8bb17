"""The screen of `cryptoflow run`: a table that refreshes in place, or plain lines where there is no terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cryptoflow.model.candle import Candle, CandleRow
from cryptoflow.render import candle_table
from cryptoflow.runtime.status import PartStatus
from cryptoflow.runtime.stop import Deadline

PLAIN_EVERY_S = 10.0
"""Between two lines of figures where there is no terminal."""

WAITING = "waiting for repair"

BACKLOG = {
    "backlog": "backlog",
    "backlog_done": "done",
    "backlog_per_s": "backlog/s",
    "backlog_left_s": "seconds left",
}
"""By the figure's name, what it is called on the screen."""

Candles = Sequence[Candle | CandleRow]


def totals(parts: Mapping[str, PartStatus]) -> dict[str, float]:
    """The run's figures, out of its parts'."""
    ingest = parts.get("ingest_trades", PartStatus()).figures
    aggregate = parts.get("aggregate_trades", PartStatus()).figures
    memory = parts.get("aggregate_in_memory", PartStatus()).figures
    feed = ingest or memory
    found = aggregate or memory
    shown: dict[str, float] = {"trades": feed.get("acknowledged", feed.get("trades", 0))}
    if aggregate:
        shown["aggregated"] = (
            aggregate["input_rows"] - aggregate["late"] - aggregate["duplicates"] - aggregate["unreadable"]
        )
        shown["lag"] = aggregate.get("lag", 0)
    shown["late"] = found.get("late", 0)
    if found.get("waiting"):
        shown[WAITING] = found["waiting"]
    # What the feed's client drops never reaches Kafka; in memory mode both are counted in one place.
    both = (ingest, aggregate) if ingest or aggregate else (memory,)
    shown["duplicates"] = sum(part.get("duplicates", 0) for part in both)
    shown["dead letters"] = sum(part.get("unreadable", 0) for part in both)
    for name in ("gaps", "refused_subscriptions"):
        if feed.get(name):
            shown[name.replace("_", " ")] = feed[name]
    return shown | _backlog(aggregate)


def _backlog(aggregate: Mapping[str, float]) -> dict[str, float]:
    """How far a backlog is worked off, while there is one."""
    if not aggregate.get("backlog"):
        return {}
    return {label: aggregate[name] for name, label in BACKLOG.items() if name in aggregate}


def figures_line(parts: Mapping[str, PartStatus], trades_per_s: float) -> str:
    """The figures as one line."""
    shown = {"trades/s": trades_per_s, **totals(parts)}
    return "   ".join(f"{name} {value:,.0f}" for name, value in shown.items())


class Rate:
    """Trades/s between two looks."""

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None

    def of(self, trades: float, now_s: float) -> float:
        """The rate since the last look, at the time `now_s`."""
        before, self._seen = self._seen, (trades, now_s)
        return max(0.0, (trades - before[0]) / (now_s - before[1])) if before and now_s > before[1] else 0.0


class Screen:
    """Shows a run as it goes."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console, self._live = console, live
        self._next_line: Deadline | None = None

    def show(self, headline: str, line: str, candles: Candles) -> None:
        """Replace what is shown."""
        if self._live:
            self._live.update(_page(headline, line, candles, self._console), refresh=True)
        elif self._next_line is None or self._next_line.passed:
            self._next_line = Deadline(PLAIN_EVERY_S)
            self._console.print(f"{headline}   {line}", highlight=False, soft_wrap=True)


def _page(headline: str, line: str, candles: Candles, console: Console) -> RenderableType:
    rows = candles[: max(3, console.height - 8)]
    table: RenderableType = candle_table(rows, width=console.width) if rows else Text("No candle yet.", style="dim")
    return Group(Text(headline, style="bold"), Text(line), table)


@contextmanager
def screen(console: Console) -> Iterator[Screen]:
    """A screen for as long as the block lasts."""
    if not console.is_terminal:
        yield Screen(console, None)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Screen(console, live)
