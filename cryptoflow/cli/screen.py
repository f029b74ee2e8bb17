"""The screen of `cryptoflow run`: a table that refreshes in place, or plain lines where there is no terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cryptoflow.model.candle import Candle, CandleRow
from cryptoflow.render import candle_table
from cryptoflow.runtime.metrics import AggregateMetrics, FeedMetrics, IngestMetrics, MemoryMetrics
from cryptoflow.runtime.status import PartStatus
from cryptoflow.runtime.stop import Deadline

PLAIN_EVERY_S = 10.0
"""Between two lines of figures where there is no terminal."""

WAITING = "waiting for repair"

NO_TRADE = "No trade has come: the run's log tells why, and `cryptoflow doctor` whether the feed can be reached."

Candles = Sequence[Candle | CandleRow]


def totals(parts: Mapping[str, PartStatus]) -> dict[str, float]:
    """What the screen shows of a run, out of its parts' metrics."""
    ingest, aggregate, memory = (
        _of_kind(parts, IngestMetrics),
        _of_kind(parts, AggregateMetrics),
        _of_kind(parts, MemoryMetrics),
    )
    feed = ingest.feed if ingest else memory.feed if memory else FeedMetrics()
    table = aggregate or AggregateMetrics()
    shown: dict[str, float] = {"trades": ingest.acknowledged if ingest else feed.trades}
    if aggregate:
        shown |= {"aggregated": table.aggregated, "lag": table.stream.lag_trades or 0}
    shown["late"] = table.late + (memory.late if memory else 0)
    if table.waiting_trades:
        shown[WAITING] = table.waiting_trades
    # What the feed's client drops never reaches Kafka.
    shown["duplicates"] = feed.duplicates + table.duplicates
    shown["dead letters"] = feed.unreadable + table.unreadable
    if feed.gaps:
        shown["gaps"] = feed.gaps
    if feed.refused_subscriptions:
        shown["refused subscriptions"] = feed.refused_subscriptions
    if feed.silent_pairs:
        shown["silent pairs"] = feed.silent_pairs
    return shown | _backlog(table)


OfPart = TypeVar("OfPart", IngestMetrics, AggregateMetrics, MemoryMetrics)


def _of_kind(parts: Mapping[str, PartStatus], kind: type[OfPart]) -> OfPart | None:
    return next((part.metrics for part in parts.values() if isinstance(part.metrics, kind)), None)


def _backlog(metrics: AggregateMetrics) -> dict[str, float]:
    """How far a backlog is worked off, while there is one."""
    if not metrics.backlog_trades:
        return {}
    shown = {
        "backlog": metrics.backlog_trades,
        "done": metrics.backlog_done_trades,
        "backlog/s": metrics.backlog_trades_per_s,
        "seconds left": metrics.backlog_left_s,
    }
    return {name: value for name, value in shown.items() if value is not None}


def figures_line(parts: Mapping[str, PartStatus], trades_per_s: float) -> str:
    """The figures as one line."""
    shown = {"trades/s": trades_per_s, **totals(parts)}
    return "   ".join(f"{name} {value:,.0f}" for name, value in shown.items())


def remarks(shown: Mapping[str, float]) -> list[str]:
    """What is to be said of the figures at a run's end, in sentences."""
    said = [] if shown["trades"] else [NO_TRADE]
    if waiting := shown.get(WAITING):
        said.append(f"{waiting:,.0f} trades wait for a repair: `cryptoflow repair` works them off.")
    return said


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
