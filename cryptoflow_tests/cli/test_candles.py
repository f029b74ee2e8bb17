"""`cryptoflow candles` against a real Cassandra."""

import csv
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO

import msgspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cryptoflow.cli.candles import candles
from cryptoflow.errors import CassandraError, CassandraUnreachableError, ConfigError
from cryptoflow.model.candle import Candle, CandleRow, Side, candle_row
from cryptoflow.model.verdict import COMPLETE, SUSPECT
from cryptoflow.model.window import utc_hour
from cryptoflow.render import amount, candle_table
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.connection import connect, ensure_schema
from cryptoflow.tables.schema import CANDLES, HOURS, HourRow
from cryptoflow.tables.writer import TableWriter
from cryptoflow_tests.running import RUN_ITSELF

THIS_MINUTE = datetime.now(UTC).replace(second=0, microsecond=0)

Write = Callable[[list[Candle]], None]


def a_candle(minute: int = 0, market: str = "Coinbase", coin: str = "BTC", close: float = 63239.88) -> Candle:
    start = THIS_MINUTE - timedelta(minutes=minute)
    return Candle(
        market,
        coin,
        "USD",
        start,
        60,
        63000.5,
        64000,
        62000,
        close,
        1234,
        7,
        441000,
        Side(3, 4, 5, 6),
        Side(2, 1, 5, 6),
    )


@pytest.fixture
def settings(cassandra_port: int, keyspace: str, monkeypatch: pytest.MonkeyPatch) -> CassandraSettings:
    """Set in the environment, too."""
    monkeypatch.setenv("CASSANDRA_PORT", str(cassandra_port))
    monkeypatch.setenv("CASSANDRA_KEYSPACE", keyspace)
    return CassandraSettings(port=cassandra_port, keyspace=keyspace)


@pytest.fixture
def write(settings: CassandraSettings) -> Write:
    def write(given: list[Candle]) -> None:
        with connect(settings) as session:
            ensure_schema(session, settings)
            TableWriter(session, settings).put_candles(given, 1)

    return write


def said(*options: str) -> str:
    app = typer.Typer()
    app.command()(candles)
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_pairs_newest_come_first(write: Write) -> None:
    given = [a_candle(minute) for minute in range(25)]
    write(given)
    shown = json.loads(said("--market", "Coinbase", "--pair", "btc-usd", "--last", "3", "--format", "json"))
    assert [row["window_start"] for row in shown] == [candle.window_start.isoformat() for candle in given[:3]]
    assert len(json.loads(said("--market", "Coinbase", "--pair", "BTC-USD", "--format", "json"))) == 20


def test_without_a_pair_the_newest_of_each_is_shown(write: Write) -> None:
    write([a_candle(minute, market, coin) for minute in range(2) for market in "AB" for coin in ("BTC", "ETH")])
    shown = json.loads(said("--format", "json"))
    assert [(row["market"], row["fromcoin"]) for row in shown] == [(m, c) for m in "AB" for c in ("BTC", "ETH")]
    assert {row["window_start"] for row in shown} == {THIS_MINUTE.isoformat()}
    assert len(json.loads(said("--market", "A", "--last", "2", "--format", "json"))) == 4


def test_csv_has_a_header_and_every_column(write: Write) -> None:
    write([a_candle()])
    [row] = csv.DictReader(StringIO(said("--format", "csv")))
    assert list(row) == list(CandleRow._fields)
    assert (row["close"], row["trades"]) == ("63239.88", "1234")


def test_a_piped_table_has_every_digit(write: Write) -> None:
    write([a_candle()])
    table = said()
    assert "63,239.88" in table
    assert "1,234" in table
    assert f"{THIS_MINUTE:%Y-%m-%d %H:%M}:00" in table


def test_candles_of_suspect_and_of_repaired_hours_are_marked(write: Write, settings: CassandraSettings) -> None:
    write([a_candle(), a_candle(market="Kraken"), a_candle(60)])
    hour = utc_hour(THIS_MINUTE)

    def row(market: str, verdict: str) -> HourRow:
        date = hour.replace(hour=0)
        return HourRow(market, "BTC", "USD", date, hour, 1, 1, 0, 0, 0, verdict, "", hour, "[]")

    with connect(settings) as session:
        TableWriter(session, settings).put(HOURS, [row("Coinbase", SUSPECT), row("Kraken", COMPLETE)], 1)
    lines = said("--last", "2").splitlines()
    assert [line.split()[-1] == SUSPECT for line in lines if "BTC-USD" in line] == [True, False, False]
    assert "verdict" not in said("--market", "Kraken")
    assert SUSPECT not in said("--format", "csv")


def test_other_window_lengths_are_asked_for(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write([a_candle()])
    assert "no such candle" in said("--window", "300")
    monkeypatch.setenv("CRYPTOFLOW_WINDOW", "300")
    assert "no such candle" in said()
    assert "Coinbase" in said("--window", "60")


def test_longer_windows_are_asked_for_by_name(write: Write, settings: CassandraSettings) -> None:
    write([])
    days = [THIS_MINUTE.replace(hour=0, minute=0) - number * timedelta(days=1) for number in range(30)]
    rows = [candle_row(msgspec.structs.replace(a_candle(), window_start=day, window_s=86_400)) for day in days]
    with connect(settings) as session:
        TableWriter(session, settings).put(CANDLES, rows, 1)
    of_one = ("--market", "Coinbase", "--pair", "BTC-USD", "--window", "1d", "--format", "json")
    shown = json.loads(said(*of_one, "--last", "25"))
    assert [row["window_start"] for row in shown] == [day.isoformat() for day in days[:25]]
    assert {row["window_seconds"] for row in json.loads(said("--window", "1D", "--format", "json"))} == {86_400}
    assert "no such candle" in said("--window", "15m")
    with pytest.raises(ConfigError, match="No candles are of 2d: take 5m, 15m, 1h, 1d, or a number of s"):
        said("--window", "2d")
    with pytest.raises(ConfigError, match="does not divide an hour"):
        said("--window", "7")


def test_no_keyspace_yet_is_one_sentence(settings: CassandraSettings) -> None:
    with pytest.raises(CassandraError, match="no candles in that keyspace yet; `cryptoflow run"):
        said()


def test_no_cassandra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASSANDRA_PORT", "1")
    with pytest.raises(CassandraUnreachableError, match="services up"):
        said()


def test_what_is_no_pair_is_refused() -> None:
    with pytest.raises(ConfigError, match="BTC-USD"):
        said("--pair", "BTCUSD")


def test_watching_as_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="--watch"):
        said("--watch", "--format", "json")


def read_until(screen: int, text: str) -> str:
    seen = ""
    while text not in seen:
        assert select.select([screen], [], [], 30)[0], seen
        seen += os.read(screen, 65536).decode(errors="replace")
    return seen


def test_watch_follows_the_table_until_ctrl_c(write: Write) -> None:
    write([a_candle(close=11111.5)])
    screen, terminal = pty.openpty()
    env = os.environ | {"COLUMNS": "160", "TERM": "xterm"}
    command = [sys.executable, "-c", RUN_ITSELF, "cryptoflow", "candles", "--watch"]
    shown = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=env)
    try:
        read_until(screen, "11,111.50")
        later = a_candle(close=22222.5)
        write([msgspec.structs.replace(later, window_start=later.window_start + timedelta(minutes=1))])
        read_until(screen, "▁█")  # the pair's course, from the first to the second
        read_until(screen, "22,222.50")
        shown.send_signal(signal.SIGINT)
        assert shown.wait(20) == 0
    finally:
        shown.kill()
        shown.wait()
        os.close(terminal)
        os.close(screen)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (119283.1, "119,283.10"),
        (63240.0, "63,240.00"),
        (1.23456789, "1.23457"),
        (0.00480162, "0.00480162"),
        (0.0000123456, "0.0000123456"),
        (0.0, "0.00"),
    ],
)
def test_amounts_have_their_digits(value: float, text: str) -> None:
    assert amount(value) == text


def test_a_table_takes_candles_and_rows_alike() -> None:
    def drawn(candle: Candle | CandleRow) -> str:
        console = Console(width=160, record=True, file=StringIO())
        console.print(candle_table([candle]))
        return console.export_text()

    assert drawn(a_candle()) == drawn(candle_row(a_candle()))
    assert "63,239.88" in drawn(a_candle())
