"""Gaps of a whole ingester: whatever is lost and whenever it dies, each trade is live or in the history."""

import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cryptoflow.feeds.gaps import Gap, Standing
from cryptoflow.feeds.source import Feed
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.tail import newest_values
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import Trade, read_trade
from cryptoflow.pipeline import history as module
from cryptoflow.pipeline.aggregate import aggregate
from cryptoflow.pipeline.history import earlier_of
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.pipeline.repair import Wanted, repair
from cryptoflow.runtime.aside import Aside
from cryptoflow.settings import CassandraSettings, FeedSettings, KafkaSettings, SparkSettings
from cryptoflow.simulator.config import VenueName
from cryptoflow.tables.connection import connect
from cryptoflow.testing import Simulator
from cryptoflow_tests.feeds.filling import SUBS, lacking, market, traded, wait_for, wait_for_more
from cryptoflow_tests.topics import read_topic

RUN = """
import sys
from pathlib import Path
from cryptoflow.feeds.gaps import Gap, Standing
from cryptoflow.feeds.source import Feed
from cryptoflow.pipeline.ingest import ingest
from cryptoflow.pipeline.part import RunContext
from cryptoflow.settings import FeedSettings, KafkaSettings
feed, kafka = FeedSettings.model_validate_json(sys.argv[1]), KafkaSettings.model_validate_json(sys.argv[2])
ingest(Feed("", feed, simulated=False), kafka, RunContext(Path(sys.argv[3])))
"""


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic)
    make_topics(settings)
    return settings


@pytest.fixture(autouse=True)
def _a_pace_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))


def feed_of(*simulators: Simulator) -> Feed:
    urls = {f"{each.config.venue}_url": each.url for each in simulators}
    rests = {f"{each.config.venue}_rest_url": each.rest_url for each in simulators}
    names = [each.config.venue for each in simulators]
    subscriptions = ",".join(SUBS[name] for name in names)
    settings = FeedSettings(source=",".join(names), subscriptions=subscriptions, **urls, **rests)  # type: ignore[arg-type]
    return Feed("", settings, simulated=False)


@contextmanager
def killed(feed: Feed, kafka: KafkaSettings, home: Path) -> Iterator[None]:
    """An ingester in a process of its own, that is killed."""
    command = [sys.executable, "-c", RUN, feed.settings.model_dump_json(), kafka.model_dump_json(), str(home)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextmanager
def ingesting(feed: Feed, kafka: KafkaSettings, home: Path) -> Iterator[None]:
    """An ingester that ends cleanly."""
    context = RunContext(home)
    running = Aside("ingester", lambda: ingest(feed, kafka, context), context.stop.set).start()
    try:
        yield
    finally:
        running.end()


def in_topic(kafka: KafkaSettings, topic: str) -> list[Trade]:
    return [read_trade(record.value) for record in read_topic(kafka, topic)]


def ids(trades: list[Trade], simulator: Simulator) -> set[int]:
    return {int(trade.id) for trade in trades if trade.market.lower() == simulator.config.venue}


def put_down(kafka: KafkaSettings) -> int:
    """How many gaps stand in the topic of gaps."""
    return sum(len(json.loads(value)["gaps"]) for value in newest_values(kafka, kafka.gaps_topic).values())


def test_three_venues_that_lose_frames_and_sockets_and_two_runs_that_are_killed_leave_no_hole(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    names: tuple[VenueName, ...] = ("coinbase", "binance", "kraken")
    with ExitStack() as stack:
        markets = [stack.enter_context(market(name, 100, lost=0.02, rest_lag_s=1)) for name in names]
        feed = feed_of(*markets)
        for _ in range(2):
            with killed(feed, kafka, tmp_path):
                wait_for(lambda: all(each.connections for each in markets))
                for each in markets:
                    wait_for_more(lambda each=each: traded(each), 60)  # type: ignore[misc]
                    each.drop_connections()
                wait_for(lambda: put_down(kafka) > 0)
            wait_for_more(lambda: traded(markets[0]), 150)  # the markets go on
        ends = {each: traded(each)[-1] for each in markets}

        def left() -> list[list[int]]:
            live, filled = in_topic(kafka, kafka.topic), in_topic(kafka, kafka.history_topic)
            have = {each: ids(live, each) | ids(filled, each) for each in markets}
            return [
                [number for number in lacking(each, min(ids(live, each)), have[each] | {end}) if number <= end]
                for each, end in ends.items()
            ]

        with ingesting(feed, kafka, tmp_path):
            wait_for(lambda: not any(left()), left)
        assert all(not each.tally.broken for each in markets)
    live, filled = read_topic(kafka, kafka.topic), read_topic(kafka, kafka.history_topic)
    assert filled
    assert {tuple(record.headers) for record in live} == {()}
    sources = {dict(record.headers)["source"].decode() for record in filled}
    assert sources <= {each.rest_url for each in markets}
    assert {dict(record.headers)["reason"] for record in filled} == {b"gap"}
    # The venues' exact records: what came both ways is the same, byte for byte.
    values = {(record.key, json.loads(record.value)["ID"]): record.value for record in live}
    assert all(values.get((each.key, json.loads(each.value)["ID"]), each.value) == each.value for each in filled)


def test_the_next_run_begins_where_the_log_ends_and_takes_only_trades_of_its_own_source(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live topic has trades of the same market, out of CryptoCompare, with other numbers."""
    monkeypatch.setattr(module, "LIVE_WITHIN_S", 30.0)
    with market("coinbase", 100) as simulator, Simulator() as other:
        compared = Feed(other.url, FeedSettings(subscriptions=SUBS["coinbase"]), simulated=False)
        own = feed_of(simulator)
        for feed in (own, compared):
            with ingesting(feed, kafka, tmp_path):
                count = len(in_topic(kafka, kafka.topic))
                wait_for(lambda count=count: len(in_topic(kafka, kafka.topic)) > count + 20)  # type: ignore[misc]
        trades = in_topic(kafka, kafka.topic)
        found = [earlier_of(kafka, feed).trades for feed in (own, compared)]
        assert {trade.id for trade in found[0]} == {str(number) for number in ids(trades, simulator)} - {
            trade.id for trade in found[1]
        }
        assert len(found[0]) + len(found[1]) == len(trades)
        assert all(str(trade.sequence) == trade.id for trade in found[0])
        assert not any(str(trade.sequence) == trade.id for trade in found[1])


def test_what_was_put_down_is_read_again_and_what_can_not_be_read_stops_no_start(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    with market("coinbase", 100) as simulator:
        feed = feed_of(simulator)
        with ingesting(feed, kafka, tmp_path):
            wait_for(lambda: bool(in_topic(kafka, kafka.topic)))
        with HistoryProducer(kafka, "gap") as producer:
            past, pair = module.FilledGaps(producer), ("Coinbase", "BTC", "USD")
            standing = Standing((Gap(*pair, 1, 3, "cut", ((5, 6), (8, 8))),), (9, 7))
            past.keep({pair: standing, ("Coinbase", "ETH", "USD"): standing})
            assert earlier_of(kafka, feed).standings == {pair: standing}
            for garbage in (b"garbage", b'{"gaps": [{"market": "\xff"}]}', b'{"x":' + b"[" * 100_000):
                producer.put_gaps({b"Coinbase~BTC~USD": garbage})
                assert earlier_of(kafka, feed).standings == {pair: Standing()}


@pytest.mark.usefixtures("one_spark")
def test_what_was_filled_is_in_the_candles_after_a_repair_and_its_hour_is_known_to_be_whole(
    kafka: KafkaSettings, cassandra_port: int, keyspace: str, tmp_path: Path
) -> None:
    """A minute of the market passes in each second."""
    cassandra = CassandraSettings(port=cassandra_port, keyspace=keyspace)
    spark, context = SparkSettings(watermark_s=60, backlog_trades=1), RunContext(tmp_path, timeout_s=0.01)
    start_s = int(time.time()) // 3600 * 3600 - 7200 + 30
    with market("binance", 100, start_s, 0.6, lost=0.05) as simulator:
        with ingesting(feed_of(simulator), kafka, tmp_path):
            wait_for(lambda: len(in_topic(kafka, kafka.topic)) > 300)
            simulator.drop_connections()
            wait_for_more(lambda: in_topic(kafka, kafka.topic), 300)
            simulator.drop_connections()
            wait_for_more(lambda: in_topic(kafka, kafka.topic), 100)
            live = in_topic(kafka, kafka.topic)
            end = max(ids(live, simulator))
            wait_for(lambda: not [
                number
                for number in lacking(
                    simulator,
                    min(ids(live, simulator)),
                    ids(in_topic(kafka, kafka.topic) + in_topic(kafka, kafka.history_topic), simulator),
                )
                if number <= end
            ])  # fmt: skip
        trades = list(simulator.trades(SUBS["binance"]))
    filled = in_topic(kafka, kafka.history_topic)
    assert filled
    aggregate(kafka, cassandra, spark, context)
    with connect(cassandra) as session:
        before = {row.window_start: row.trades for row in session.execute("SELECT window_start, trades FROM candles")}
        summary = repair(
            kafka, cassandra, spark, RunContext(tmp_path), Wanted([datetime.fromtimestamp(start_s - 30, UTC)])
        )
        rows = session.execute("SELECT window_seconds, window_start, trades, quantity FROM candles")
        after = {row.window_start: row for row in rows if row.window_seconds == 60}
    assert summary.finished
    finished_s = summary.finished.timestamp()
    truth: dict[int, list[Trade]] = defaultdict(list)
    for trade in trades:
        truth[trade.time_s // 60 * 60].append(trade)
    first = min(ids(live, simulator))
    known = {window: ids(trades, simulator) for window, trades in truth.items() if window + 60 <= finished_s}
    windows = [window for window, numbers in known.items() if first < min(numbers) and max(numbers) <= end]
    assert len(windows) >= 3
    for window in windows:
        row = after[datetime.fromtimestamp(window, UTC).replace(tzinfo=None)]
        assert row.trades == len(truth[window]), (window, before)
        assert row.quantity == pytest.approx(sum(trade.quantity for trade in truth[window]), rel=1e-9)
