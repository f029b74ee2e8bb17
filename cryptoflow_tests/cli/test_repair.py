"""`cryptoflow repair` and `cryptoflow gaps` against a real Kafka and Cassandra, and the laws of what they say."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import typer
from typer.testing import CliRunner

from cryptoflow.cli.gaps import WAITING, gaps, lines_of
from cryptoflow.cli.repair import hour_line, progress_line, repair, stretch_of, summary_lines, time_of
from cryptoflow.errors import CassandraUnreachableError, ConfigError
from cryptoflow.pipeline.repair import Summary
from cryptoflow.runtime.metrics import RepairMetrics
from cryptoflow.tables.schema import HourRow, MarkRow
from cryptoflow_tests.repairing import BTC, ETH, HOUR_S, ONE_HOUR, T0, World, moment, some_trades

HOUR = moment(T0)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def late(world: World) -> World:
    """An hour of which two trades were late, and the beginning of the next one."""
    trades = some_trades(T0, T0 + HOUR_S, 60)
    in_time, two = trades[:-4], trades[-4::2]
    begins = world.log().ends()
    world.send([*in_time, *trades[-3::2]])
    world.commit(world.sent, HOUR, begins=begins)
    places = world.send(two)
    world.commit([], HOUR + ONE_HOUR, [world.mark(two[-1], places)])
    return world


def said(command: object, *options: str) -> list[str]:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [re.sub(" +", " ", line).strip() for line in result.stdout.splitlines()]


def test_all_hours_that_wait_are_repaired_and_the_verdicts_are_shown(late: World) -> None:
    before = said(gaps)
    assert f"{HOUR:%Y-%m-%d %H:%M} Coinbase BTC-USD {WAITING} late 2" in before
    assert before[-1].startswith("2 trades of 1 hours wait for a repair: ")

    [line] = said(repair)
    assert line.startswith(f"{HOUR:%Y-%m-%d %H:%M} UTC 120 trades of 2 pairs, 2 candles written, 0 removed: ")
    late.check()
    assert said(repair) == ["There is nothing to repair."]

    after = said(gaps)
    assert f"{HOUR:%Y-%m-%d %H:%M} Coinbase BTC-USD repaired late trades 60 60 0 2 0 0" in after
    assert len(after) == 3
    assert len(said(gaps, "--market", "Kraken")) == 2


def test_a_stretch_of_time_is_repaired_as_far_as_it_is_finished(late: World) -> None:
    start, end = HOUR.isoformat(), f"{HOUR + timedelta(minutes=61):%Y-%m-%dT%H:%M}"
    lines = said(repair, "--from", start, "--to", end, "--pair", "btc-usd")
    assert "60 trades of 1 pairs" in lines[0]
    assert lines[1].startswith(f"1 hours wait, the first is {HOUR + ONE_HOUR:%Y-%m-%d %H:%M}: ")
    late.check()


def test_without_anything_known_it_says_so(world: World) -> None:
    assert said(repair) == ["There is nothing to repair."]
    assert said(gaps) == ["No hour is known yet: each gets its verdict when it is finished."]
    assert said(repair, "--from", HOUR.isoformat(), "--to", (HOUR + ONE_HOUR).isoformat()) == [
        "1 hours wait: no aggregation of this topic has committed anything yet."
    ]


def test_no_cassandra_is_one_sentence(world: World) -> None:
    with pytest.raises(CassandraUnreachableError, match="services up"):
        said(repair, "--cassandra-port", "1")


def test_times_are_utc_unless_they_say_a_zone() -> None:
    assert time_of("2026-11-25T10:00") == time_of("2026-11-25T11:00+01:00") == datetime(2026, 11, 25, 10, tzinfo=UTC)
    assert stretch_of("2026-11-25", None, NOW) == (datetime(2026, 11, 25, tzinfo=UTC), NOW)
    assert stretch_of(None, None, NOW) is None


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (None, "2026-11-25", "needs a --from"),
        ("noon", None, "is no time"),
        ("0001-01-01T00:00+23:00", None, "is no time"),
        ("2026-11-25T13:00", None, "not before"),
    ],
)
def test_what_is_no_stretch_of_time_is_refused(start: str | None, end: str | None, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        stretch_of(start, end, NOW)


def test_what_waits_and_an_early_end_are_told() -> None:
    assert summary_lines(Summary(), stopped=True) == ["Ended on request; what is left waits for the next repair."]
    assert "windows are finished until" in summary_lines(Summary(waiting=[HOUR], finished=HOUR), stopped=False)[0]
    assert hour_line(HOUR, []).endswith("0 trades of 0 pairs, 0 candles written, 0 removed: no trades")
    told = RepairMetrics(hours=2, hours_left=3, trades_read=4000)
    line = "2 hours done, 3 left   trades read 4,000   trades/s 500   seconds left 12"
    assert progress_line(told, 500, elapsed_s=8) == line


@pytest.mark.parametrize("told", [RepairMetrics(hours_left=3), RepairMetrics(hours=3)])
def test_how_long_it_takes_is_told_only_once_it_is_known_and_while_there_is_something_left(told: RepairMetrics) -> None:
    assert "seconds left" not in progress_line(told, 0, elapsed_s=8)


def test_the_newest_hours_come_first_each_with_what_waits() -> None:
    def row(hour: datetime) -> HourRow:
        return HourRow(*BTC, HOUR, hour, 1, 1, 0, 0, 0, "complete", "", None, "[]")

    def mark(hour: datetime, first: int) -> MarkRow:
        return MarkRow(hour, *ETH, "t", 0, first, first, "t", 3, hour, "late")

    rows = [row(HOUR + number * ONE_HOUR) for number in range(3)]
    lines = lines_of(rows, [mark(HOUR + ONE_HOUR, 1), mark(HOUR + ONE_HOUR, 5)], 2)
    assert [(line.key[0], line.key[1], line.waiting) for line in lines] == [
        (HOUR + 2 * ONE_HOUR, "Coinbase", 0),
        (HOUR + ONE_HOUR, "Coinbase", 0),
        (HOUR + ONE_HOUR, "Kraken", 6),
    ]
