"""How the old program's readers look at its table: with cqlsh."""

import subprocess
import sys
from datetime import UTC, datetime

from cassandra.cluster import Session

from cryptoflow.model.candle import Candle, Side
from cryptoflow.settings import CassandraSettings
from cryptoflow.tables.writer import TableWriter


def test_the_old_programs_query_shows_the_rows_of_the_date(session: Session, settings: CassandraSettings) -> None:
    candles = [
        Candle("Coinbase", coin, "USD", start, 60, 9, 9, 9, 9, 1, 0.5, 4.5, Side(1, 0.5, 4.5, 9.25), Side())
        for coin in ("BTC", "ETH")
        for start in (datetime(2021, 1, 7, 23, 58, tzinfo=UTC), datetime(2021, 1, 7, 23, 59, tzinfo=UTC))
    ]
    TableWriter(session, settings).put_candles(candles, 1)
    cql = f"select * from {settings.keyspace}.trademsgs1minutewindow where date = '2021-01-08 00:00:00+0000'"
    shell = [sys.executable, "-m", "cqlshlib", "127.0.0.1", str(settings.port), "--no-color", "-e", cql]
    said = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    rows = [line for line in said.stdout.splitlines() if "Coinbase" in line]
    assert ["BTC" in row for row in rows] == [True, False]
    assert all("BUY" in row and "9.25" in row and "2021-01-07 23:59:00" in row for row in rows)
