"""What others recorded at the venues, through venue's protocol, socket, Kafka, Spark and Cassandra: the true candles.

The truth is made of the recorded frames' own fields, by plain Decimal arithmetic, apart from the project's code.
"""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.feeds.events import ClientEvent
from cryptoflow.feeds.gaps import Gap
from cryptoflow.feeds.source import Feed
from cryptoflow.model.recording import Record, record_line
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import IngestMetrics, PartMetrics
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import FeedSettings, SparkSettings
from cryptoflow.tables.connection import connect
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow_tests.exactness import cassandra, check_tables, kafka, read_candles
from cryptoflow_tests.running import Workplace
from cryptoflow_tests.truth import true_candles

pytestmark = pytest.mark.usefixtures("one_spark")

BOUGHT, SOLD = "2", "1"

MISSING = 348656872
"""The id that the author of a recording has left out."""


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data"


def lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") as found:
        yield from found


def numbered(path: Path) -> Iterator[Record]:
    """hftbacktest's form: `RECEIVED_NS FRAME`."""
    for line in lines(path):
        received, _, frame = line.strip().partition(" ")
        yield Record(received_ns=int(received), venue="binance", frame=frame)


def tabled(path: Path) -> Iterator[Record]:
    """Frames of `@trade` as the rows of a table."""
    for row in csv.DictReader(lines(path)):
        trade = {
            "e": row["EventType"], "E": int(row["EventTime"]), "s": row["Symbol"], "t": int(row["TradeId"]),
            "p": row["Price"], "q": row["Quantity"], "T": int(row["TransactionTime"]),
            "m": row["IsBuyerMarketMaker"] == "1", "M": True,
        }  # fmt: skip
        frame = json.dumps({"stream": row["Stream"], "data": trade})
        yield Record(received_ns=int(row["TimestampOfReceive"]) * 1000, venue="binance", frame=frame)


def timed(path: Path) -> Iterator[Record]:
    """cryptofeed's form: `RECEIVED_S: FRAME`, between lines of what was sent."""
    for line in lines(path):
        received, _, frame = line.strip().partition(": ")
        if received[:1].isdigit():
            yield Record(received_ns=int(float(received) * 10**9), venue="coinbase", frame=frame)


def true_frame(pair: tuple[str, str, str], flags: str, id_: int, time_us: int, price: str, quantity: str) -> bytes:
    """What the topic is to hold of a trade, as far as candles are made of it."""
    market, coin, currency = pair
    total = Decimal(price) * Decimal(quantity)
    seconds, micros = divmod(time_us, 10**6)
    return (
        f'{{"TYPE":"0","M":"{market}","FSYM":"{coin}","TSYM":"{currency}","F":"{flags}","ID":"{id_}","TS":{seconds},'
        f'"TSNS":{micros * 1000},"P":{price},"Q":{quantity},"TOTAL":{total:f}}}'
    ).encode()


def binance_truth(records: Iterable[Record]) -> Iterator[bytes]:
    """Of trades in ms, and from 2025 on in microseconds; a buyer who made had a taker who sold."""
    for record in records:
        trade = json.loads(record.frame).get("data", {})
        if trade.get("e") == "trade":
            coin = trade["s"].removesuffix("USDT")
            time_us = trade["T"] if trade["T"] > 10**15 else trade["T"] * 1000
            flags = SOLD if trade["m"] else BOUGHT
            yield true_frame(("Binance", coin, "USDT"), flags, trade["t"], time_us, trade["p"], trade["q"])


def coinbase_truth(records: Iterable[Record]) -> Iterator[bytes]:
    """The taker's side is that of the ticker of the same trade."""
    said = [json.loads(record.frame) for record in records]
    tickers = [each for each in said if each["type"] == "ticker" and "trade_id" in each]
    taker = {(each["product_id"], each["trade_id"]): each["side"] for each in tickers}
    for match in said:
        if match["type"] in ("match", "last_match"):
            coin, currency = match["product_id"].split("-")
            bought = taker[match["product_id"], match["trade_id"]] == "buy"
            time_us = micros(match["time"])
            pair = "Coinbase", coin, currency
            flags = BOUGHT if bought else SOLD
            yield true_frame(pair, flags, match["trade_id"], time_us, match["price"], match["size"])


def micros(text: str) -> int:
    """Of a time such as 2021-04-17T16:43:37.020616Z, in microseconds since the epoch."""
    seconds, _, rest = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp()) * 10**6 + int(f"{rest:0<6.6}")


def carried(place: Workplace, recordings: dict[str, list[Record]], subscriptions: Iterable[str]) -> list[Gap]:
    """Replay the recordings by their venues' simulators, ingest all and aggregate it; the gaps that were told."""
    stop, events = Stop(), list[ClientEvent]()
    with ExitStack() as stack:
        simulators = {
            name: stack.enter_context(Simulator(SimulatorConfig(venue=name, replay=path, speed=0)))  # type: ignore[arg-type]
            for name, path in written(place.folder, recordings).items()
        }

        def report(metrics: PartMetrics) -> None:
            assert isinstance(metrics, IngestMetrics)
            sent = sum(each.sent.trades for each in simulators.values())
            finished = all(each.finished.is_set() for each in simulators.values())
            received = metrics.feed.trades + metrics.feed.duplicates
            if finished and received >= sent and metrics.acknowledged == metrics.feed.trades:
                stop.set()

        home = Path(place.env["CRYPTOFLOW_HOME"])
        run = RunContext(home, timeout_s=120, stop=stop, report=report, report_every_s=0.1, on_event=events.append)
        addresses: dict[str, Any] = {f"{name}_url": each.url for name, each in simulators.items()}
        addresses |= {f"{name}_rest_url": each.rest_url for name, each in simulators.items()}
        settings = FeedSettings(source=",".join(simulators), subscriptions=",".join(subscriptions), **addresses)
        ingest(Feed("", settings, simulated=False), kafka(place), run)
    aggregate(kafka(place), cassandra(place), SparkSettings(trigger_s=3600), RunContext(home, timeout_s=0.01))
    return [event for event in events if isinstance(event, Gap)]


def written(folder: Path, recordings: dict[str, list[Record]]) -> dict[str, Path]:
    """A file of each venue's frames."""
    paths = {}
    for name, records in recordings.items():
        paths[name] = folder / f"{name}.jsonl.gz"
        with gzip.open(paths[name], "wb", compresslevel=1) as file:
            file.writelines(map(record_line, records))
    return paths


def test_two_venues_at_once_give_the_true_candles_and_the_sides_of_the_takers(place: Workplace, data: Path) -> None:
    """Binance across midnight UTC, ten thousand trades with a hole and a double, and ten products of Coinbase."""
    spot = [record for path in sorted((data / "hftbacktest").glob("spot_*.gz")) for record in numbered(path)]
    [faulty] = (data / "daniellasota").glob("test_negative_*.gz")
    binance, coinbase = [*spot, *tabled(faulty)], list(timed(data / "cryptofeed" / "COINBASE.ws.28.0.gz"))
    frames = [*binance_truth(binance), *coinbase_truth(coinbase)]
    truth = true_candles(frames)
    pairs = {f"0~{market}~{coin}~{currency}" for market, coin, currency, _ in truth}
    assert len(pairs) == 2 + 10
    gaps = carried(place, {"binance": binance, "coinbase": coinbase}, sorted(pairs))
    check_tables(place, truth)
    assert [gap.holes for gap in gaps if gap.from_coin == "TRX"] == [((MISSING, MISSING),)]
    assert not [gap for gap in gaps if gap.from_coin != "TRX"]
    assert sum(candle["trades"] for candle in truth.values()) == len(frames) - 1 == 19_904 + 9_999 + 107


def test_a_recordings_full_minutes_are_the_venues_own_klines(place: Workplace, data: Path) -> None:
    records = list(numbered(data / "hftbacktest" / "usdm_btcusdt_20240808.gz"))
    carried(place, {"binance": records}, ["0~Binance~BTC~USDT"])
    check_tables(place, true_candles(binance_truth(records)))
    [file] = (data / "binance-vision-klines").glob("*.csv")
    with file.open() as rows:
        klines = {int(row["open_time"]) // 1000: row for row in csv.DictReader(rows)}
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        ours = {key[3]: row for key, row in read_candles(session).items()}
    full = sorted(ours.keys() & klines.keys())[1:]  # the recording begins within its first minute
    assert len(full) == 5
    for start in full:
        row, kline = ours[start], klines[start]
        prices = [getattr(row, name) for name in ("open", "high", "low", "close")]
        assert prices == [float(kline[name]) for name in ("open", "high", "low", "close")]
        assert row.trades == int(kline["count"])
        amounts = [float(kline[name]) for name in ("volume", "quote_volume", "taker_buy_volume")]
        assert [row.quantity, row.volume, row.buy_quantity] == pytest.approx(amounts, rel=1e-12)
