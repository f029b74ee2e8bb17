"""Laws of the run's screen: the right figures, and never more than the terminal holds."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from cryptoflow.cli.screen import NO_TRADE, Rate, figures_line, remarks, screen, totals
from cryptoflow.model.candle import Candle, Side
from cryptoflow.runtime.metrics import AggregateMetrics, FeedMetrics, IngestMetrics, MemoryMetrics, StreamMetrics
from cryptoflow.runtime.status import PartStatus

FEED = FeedMetrics(frames=1100, trades=1000, duplicates=20, unreadable=3, connects=2)
FOUND = AggregateMetrics(
    input_rows=900, late=5, duplicates=7, unreadable=1, rows_written=40, stream=StreamMetrics(lag_trades=100)
)

KAFKA_MODE = {
    "ingest_trades": PartStatus(IngestMetrics(feed=FEED, acknowledged=990)),
    "aggregate_trades": PartStatus(FOUND),
}
MEMORY_MODE = {"aggregate_in_memory": PartStatus(MemoryMetrics(feed=FEED, late=4))}


def aggregating(**told: float) -> dict[str, PartStatus]:
    return {"aggregate_trades": PartStatus(replace(FOUND, **told))}


def candle(number: int) -> Candle:
    start = datetime(2024, 8, 8, tzinfo=UTC) + timedelta(minutes=number)
    return Candle(
        "Coinbase", "BTC", "USD", start, 60, 63_240.0, 63_250.25, 63_239.88, 63_245.5, 12_345, 1.5, 94_868.25,
        Side(2, 1.25, 79_000.0, 126_490.0), Side(1, 0.25, 15_868.25, 63_240.0),
    )  # fmt: skip


def terminal(width: int = 80, height: int = 24) -> Console:
    return Console(file=StringIO(), force_terminal=True, width=width, height=height, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_run_of_kafka_mode_counts_what_kafka_has_and_what_became_of_it() -> None:
    assert totals(KAFKA_MODE) == {
        "trades": 990,
        "aggregated": 900 - 5 - 7 - 1,
        "lag": 100,
        "late": 5,
        "duplicates": 27,
        "dead letters": 4,
    }


def test_a_run_of_memory_mode_counts_each_once() -> None:
    assert totals(MEMORY_MODE) == {"trades": 1000, "late": 4, "duplicates": 20, "dead letters": 3}


def test_a_run_that_has_told_nothing_yet_has_zeros() -> None:
    assert totals({}) == {"trades": 0, "late": 0, "duplicates": 0, "dead letters": 0}
    assert totals(dict.fromkeys(("ingest_trades", "aggregate_trades"), PartStatus())) == totals({})


@pytest.mark.parametrize("part", ["ingest_trades", "aggregate_trades"])
def test_one_part_may_be_ahead_of_the_other(part: str) -> None:
    shown = totals({part: KAFKA_MODE[part]})
    assert set(shown) >= {"trades", "late", "duplicates", "dead letters"}


def test_gaps_and_refusals_show_only_where_there_are_some() -> None:
    assert not {"gaps", "refused subscriptions", "silent pairs"} & set(totals(KAFKA_MODE))
    feed = replace(FEED, gaps=2, refused_subscriptions=1, silent_pairs=4)
    troubled = {"ingest_trades": PartStatus(IngestMetrics(feed=feed))}
    names = ("gaps", "refused subscriptions", "silent pairs")
    assert [totals(troubled)[name] for name in names] == [2, 1, 4]


def test_what_waits_for_a_repair_shows_while_something_does() -> None:
    assert totals(aggregating(waiting_trades=4))["waiting for repair"] == 4
    assert "waiting for repair" not in totals(aggregating(waiting_trades=0))


def test_a_run_that_got_no_trade_says_so_at_its_end_and_one_that_left_something_to_do_what() -> None:
    assert remarks(totals(KAFKA_MODE)) == remarks(totals(MEMORY_MODE)) == []
    assert remarks(totals({})) == [NO_TRADE]
    [waiting] = remarks(totals(KAFKA_MODE | aggregating(waiting_trades=4)))
    assert waiting.startswith("4 trades wait for a repair")


def test_a_backlog_shows_with_its_rate_and_what_is_left_while_there_is_one() -> None:
    backlog = {"backlog_done_trades": 1000, "backlog_trades_per_s": 500.0, "backlog_left_s": 6.0}
    shown = totals(aggregating(backlog_trades=3000, **backlog))
    assert [shown[name] for name in ("backlog", "done", "backlog/s", "seconds left")] == [3000, 1000, 500, 6]
    assert totals(aggregating(backlog_trades=0, **backlog)) == totals(aggregating())
    assert totals(aggregating(backlog_trades=3000))["backlog"] == 3000


def test_the_figures_are_one_line() -> None:
    assert figures_line(KAFKA_MODE, 1234.4) == (
        "trades/s 1,234   trades 990   aggregated 887   lag 100   late 5   duplicates 27   dead letters 4"
    )


def test_the_rate_is_of_the_time_between_two_looks() -> None:
    rate = Rate()
    assert rate.of(100, 10.0) == 0
    assert rate.of(300, 12.0) == 100
    assert rate.of(300, 13.0) == 0
    assert rate.of(350, 13.5) == 100


def test_the_rate_is_never_negative_nor_divided_by_nothing() -> None:
    rate = Rate()
    rate.of(100, 10.0)
    assert rate.of(200, 10.0) == 0
    assert rate.of(0, 11.0) == 0


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0.1, 100)), min_size=2))
def test_the_rates_add_up_to_the_trades(steps: list[tuple[int, float]]) -> None:
    rate, trades, now_s, added = Rate(), 0, 0.0, 0.0
    rate.of(trades, now_s)
    for more, elapsed_s in steps:
        before_s, trades, now_s = now_s, trades + more, now_s + elapsed_s
        added += rate.of(trades, now_s) * (now_s - before_s)
    assert added == pytest.approx(trades, rel=1e-9)


def test_without_a_terminal_it_is_a_plain_line_now_and_then() -> None:
    console = Console(file=StringIO(), width=60)
    with screen(console) as display:
        for number in range(50):
            display.show(f"kafka mode, {number} s", "trades 990   " * 8, [candle(0)])
    lines = written(console).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("kafka mode, ")
    assert lines[0].count("trades 990") == 8
    assert "\x1b" not in lines[0]


def test_on_a_terminal_it_shows_headline_figures_and_candles() -> None:
    console = terminal(width=160)
    with screen(console) as display:
        display.show("kafka mode, started", "trades 990", [])
        assert "No candle yet." in written(console)
        display.show("kafka mode, ending cleanly", "trades 995", [candle(1)])
    text = written(console)
    for shown in ("kafka mode, started", "trades 990", "kafka mode, ending cleanly", "trades 995", "63,250.25"):
        assert shown in text


@pytest.mark.parametrize("height", [6, 12, 24, 50])
@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_page_fits_the_terminal(width: int, height: int) -> None:
    console = terminal(width, height)
    with screen(console) as display:
        display.show("kafka mode, started", figures_line(KAFKA_MODE, 1000), [candle(n) for n in range(200)])
        lines = written(console).splitlines()
    assert len(lines) <= height
    assert "kafka mode, started" in written(console)


def test_a_page_that_fits_is_shown_whole() -> None:
    console = terminal(width=160, height=24)
    with screen(console) as display:
        display.show("headline", "line", [candle(n) for n in range(10)])
        text = written(console)
    assert [n for n in range(10) if f"00:{n:02}:00" not in text] == []
