"""The main job: simulator, websocket, Kafka, Spark, Cassandra; by the dagster command as users run it, or its parts."""

import csv
import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cryptoflow.feeds.source import Feed
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import IngestMetrics, PartMetrics
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import FeedSettings, SparkSettings
from cryptoflow.tables.connection import connect
from cryptoflow.tables.reader import totals
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.exactness import cassandra, check_tables, kafka, read_candles
from cryptoflow_tests.running import SECRET_KEY, Workplace
from cryptoflow_tests.topics import read_topic
from cryptoflow_tests.truth import true_candles

BINANCE = "0~Binance~BTC~USDT"
TIMED = {"ingest_trades": {"timeout_s": 8}, "aggregate_trades": {"timeout_s": 8}}

SEVEN_PAIRS = (
    "0~Coinbase~BTC~USD",
    "0~Coinbase~ETH~USD",  # one market quoting two coins
    "0~Coinbase~BTC~EUR",  # one coin in two currencies
    "0~Kraken~BTC~USD",
    "0~Binance~BTC~USDT",
    "0~Gemini~ETH~BTC",
    "0~CoinDeal~SHIB~USD",
)


def run_kafka_mode(place: Workplace, config: SimulatorConfig, subscriptions: Sequence[str]) -> Simulator:
    """A timed run on a simulator's whole feed."""
    with Simulator(config) as simulator:
        place.env |= {
            "CRYPTOCOMPARE_URL": simulator.url,
            "CRYPTOCOMPARE_SUBSCRIPTIONS": ",".join(subscriptions),
        }
        done = place.job("kafka_mode", TIMED)
        assert done.returncode == 0, done.stdout[-5000:]
        assert simulator.finished.is_set()
        assert SECRET_KEY not in done.stdout
    return simulator


def ingest_all(place: Workplace, config: SimulatorConfig) -> None:
    """Carry a simulator's whole feed into Kafka, in this process."""
    stop = Stop()
    with Simulator(config) as simulator:

        def report(metrics: PartMetrics) -> None:
            assert isinstance(metrics, IngestMetrics)
            if simulator.finished.is_set() and metrics.acknowledged >= simulator.sent.distinct:
                stop.set()

        home = Path(place.env["CRYPTOFLOW_HOME"])
        run = RunContext(home, timeout_s=120, stop=stop, report=report, report_every_s=0.1)
        feed = Feed(simulator.url, FeedSettings(subscriptions=BINANCE), simulated=False)
        ingest(feed, kafka(place), run)


def test_recorded_trades_become_the_venues_own_candles(place: Workplace, shared: Path) -> None:
    replay = shared / "replay" / "binance-futures-btcusdt.jsonl.gz"
    run_kafka_mode(place, SimulatorConfig(replay=replay, speed=0), [BINANCE])

    with (shared / "replay" / "binance-futures-btcusdt.klines.csv").open() as file:
        venue = {int(line["open_time"]) // 1000: line for line in csv.DictReader(file)}
    with connect(cassandra(place)) as session:
        session.set_keyspace(place.env["CASSANDRA_KEYSPACE"])
        ours = read_candles(session)
        counted = totals(session)
    full_minutes = [
        int((datetime(2024, 8, 8, 23, 55, tzinfo=UTC) + timedelta(minutes=i)).timestamp()) for i in range(5)
    ]
    for start in full_minutes:
        row, line = ours["Binance", "BTC", "USDT", start], venue[start]
        for name in ("open", "high", "low", "close"):
            assert getattr(row, name) == float(line[name])
        assert row.trades == int(line["count"])
        figures = (row.quantity, row.volume, row.buy_quantity)
        names = ("volume", "quote_volume", "taker_buy_volume")
        assert figures == pytest.approx([float(line[name]) for name in names], abs=1e-9, rel=1e-15)
    assert sum(row.trades for row in ours.values()) == counted.input_rows == 21_313
    assert place.files_holding(SECRET_KEY) == []


@pytest.mark.usefixtures("one_spark")
def test_rows_on_both_sides_of_midnight_utc_are_exact(place: Workplace, shared: Path) -> None:
    replay = shared / "replay" / "binance-spot-btcusdt-midnight.jsonl.gz"
    ingest_all(place, SimulatorConfig(replay=replay, speed=0))
    settings = SparkSettings(trigger_s=3600)
    run = RunContext(Path(place.env["CRYPTOFLOW_HOME"]), timeout_s=0.01)
    aggregate(kafka(place), cassandra(place), settings, run)
    with gzip.open(replay) as lines:
        check_tables(place, true_candles(lines))


def test_a_feed_of_every_kind_of_trouble_gives_exactly_the_true_candles(place: Workplace) -> None:
    faults = Faults(duplicates=0.01, disorder_s=1.0, malformed=0.005)
    config = SimulatorConfig(
        rate=0,
        max_trades=30_000,
        start_time_s=1_763_900_000,
        time_step_s=0.01,
        other_flags_share=0.2,
        faults=faults,
        record=True,
        seed=7,
    )
    simulator = run_kafka_mode(place, config, SEVEN_PAIRS)
    frames = simulator.sent_frames()
    assert simulator.sent.malformed > 50
    assert simulator.sent.duplicates > 100
    assert {json.loads(f)["F"] for f in frames if f.startswith(b'{"TYPE":"0"') and f.endswith(b"}")} >= {
        "1",
        "2",
        "4",
        "9",
        "10",
    }
    check_tables(place, true_candles(frames))

    letters = read_topic(kafka(place), kafka(place).dead_letter_topic)
    assert len(letters) == simulator.sent.malformed
    assert all(dict(letter.headers)["reason"] for letter in letters)
