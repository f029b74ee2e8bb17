"""Memory mode: the same candles as kafka mode for the same frames, without Kafka or Cassandra."""

import csv
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cryptoflow.feeds.source import Feed
from cryptoflow.model.candle import Candle
from cryptoflow.pipeline.memory import aggregate_in_memory
from cryptoflow.pipeline.part import RunContext
from cryptoflow.runtime.metrics import MemoryMetrics, PartMetrics
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import FeedSettings, SparkSettings
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow_tests.truth import true_candles

BINANCE = "0~Binance~BTC~USDT"
HOME = Path("none")
"""Where a session of the run's own would have its jars."""

SPARK = SparkSettings(trigger_s=0.5)

pytestmark = pytest.mark.usefixtures("one_spark")


def run_memory_mode(
    config: SimulatorConfig, subscriptions: Sequence[str] = (BINANCE,)
) -> tuple[list[Candle], MemoryMetrics, Simulator, list[str]]:
    """Memory mode until the client has had all that the simulator sent."""
    letters: list[str] = []
    with Simulator(config) as simulator:
        feed = Feed(simulator.url, FeedSettings(subscriptions=",".join(subscriptions)), simulated=False)
        stop = Stop()

        def report(metrics: PartMetrics) -> None:
            assert isinstance(metrics, MemoryMetrics)
            sent = simulator.sent
            if simulator.finished.is_set() and metrics.feed.trades >= sent.distinct:
                stop.set()

        run = RunContext(HOME, timeout_s=120, stop=stop, report=report, report_every_s=0.1)
        candles, metrics = aggregate_in_memory(
            feed, SPARK, run, lambda batch: None, lambda frame, why: letters.append(why)
        )
    return candles, metrics, simulator, letters


def start_s(candle: Candle) -> int:
    return int(candle.window_start.timestamp())


def check(candles: list[Candle], frames: Sequence[bytes]) -> None:
    truth = true_candles(frames)
    found = {(c.market, c.from_coin, c.to_currency, start_s(c)): c for c in candles}
    assert found.keys() == truth.keys()
    for key, candle in found.items():
        expected = {name: value for name, value in truth[key].items() if name != "sides"}
        assert {name: getattr(candle, name) for name in expected} == pytest.approx(expected, rel=1e-12), key


def test_recorded_trades_become_the_venues_own_candles(shared: Path) -> None:
    replay = shared / "replay" / "binance-futures-btcusdt.jsonl.gz"
    candles, metrics, _, _ = run_memory_mode(SimulatorConfig(replay=replay, speed=0))
    with (shared / "replay" / "binance-futures-btcusdt.klines.csv").open() as file:
        venue = {int(line["open_time"]) // 1000: line for line in csv.DictReader(file)}
    first = datetime(2024, 8, 8, 23, 55, tzinfo=UTC)
    ours = {start_s(candle): candle for candle in candles}
    for minute in range(5):
        start = int((first + timedelta(minutes=minute)).timestamp())
        candle, line = ours[start], venue[start]
        prices = [candle.open, candle.high, candle.low, candle.close, candle.trades]
        assert prices == [float(line[name]) for name in ("open", "high", "low", "close", "count")]
        sums = [candle.quantity, candle.volume, candle.buy_quantity]
        names = ("volume", "quote_volume", "taker_buy_volume")
        assert sums == pytest.approx([float(line[name]) for name in names], abs=1e-9, rel=1e-15)
    assert metrics.feed.trades == 21_313


def test_trades_around_midnight_utc_are_exact(shared: Path) -> None:
    replay = shared / "replay" / "binance-spot-btcusdt-midnight.jsonl.gz"
    candles, _, _, _ = run_memory_mode(SimulatorConfig(replay=replay, speed=0))
    with gzip.open(replay) as lines:
        check(candles, list(lines))
    assert {candle.date.day for candle in candles} == {8, 9}


def test_a_feed_of_every_kind_of_trouble_gives_exactly_the_true_candles() -> None:
    config = SimulatorConfig(
        rate=0,
        max_trades=10_000,
        start_time_s=1_763_900_000,
        time_step_s=0.02,
        other_flags_share=0.2,
        faults=Faults(duplicates=0.01, disorder_s=1.0, malformed=0.01),
        record=True,
        seed=3,
    )
    pairs = ("0~Coinbase~BTC~USD", "0~Coinbase~ETH~USD", "0~Coinbase~BTC~EUR")
    candles, metrics, simulator, letters = run_memory_mode(config, pairs)
    check(candles, simulator.sent_frames())
    assert len(letters) == metrics.feed.unreadable == simulator.sent.malformed > 0
    assert metrics.feed.duplicates == simulator.sent.duplicates > 0


def test_the_whole_memory_run_is_wound_up_when_the_feed_refuses_the_key() -> None:
    from cryptoflow.errors import UnauthorizedError

    config = SimulatorConfig(faults=Faults(api_keys=("good",)))
    with Simulator(config) as simulator:
        feed = Feed(simulator.url, FeedSettings(), simulated=False, key="bad-key-of-mine")
        with pytest.raises(UnauthorizedError, match="UNAUTHORIZED") as caught:
            aggregate_in_memory(feed, SPARK, RunContext(HOME, timeout_s=60), lambda b: None, lambda f, w: None)
    assert "bad-key-of-mine" not in repr(caught.value)
