"""Days of the past from a simulator's REST, which counts requests, into a real Kafka: whole, and no page twice."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cryptoflow.errors import ConfigError, FeedRefusedError, FeedUnreachableError
from cryptoflow.kafka_io.connection import admin_client
from cryptoflow.kafka_io.fetches import Fetches
from cryptoflow.kafka_io.history import HistoryProducer
from cryptoflow.kafka_io.topics import make_topics
from cryptoflow.model.trade import read_trade
from cryptoflow.pipeline import history_fetch
from cryptoflow.pipeline.history_fetch import Fetcher, PairDay, fetch, summed, venue_of
from cryptoflow.pipeline.history_plan import Fetched
from cryptoflow.pipeline.part import POLL_S, RunContext
from cryptoflow.runtime.metrics import HistoryMetrics
from cryptoflow.runtime.stop import Stop
from cryptoflow.settings import FeedSettings, KafkaSettings, load
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues import VENUES
from cryptoflow_tests.feeds.test_past import FASTER, hurried
from cryptoflow_tests.topics import read_topic

START_S = 1_793_750_400 + 3600
"""An hour into 2026-11-04."""

DAY = datetime(2026, 11, 3, tzinfo=UTC)

each_venue = pytest.mark.parametrize("name", ["coinbase", "binance", "kraken"])


@pytest.fixture
def kafka(kafka_bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(history_fetch, "VENUES", {name: hurried(name) for name in VENUES})
    return KafkaSettings(bootstrap_servers=kafka_bootstrap, topic=topic, partitions=5)


@pytest.fixture
def market(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """Two pairs, each a trade every 200 s in the past, and none any more."""
    name: Any = request.getfixturevalue("name")
    config = SimulatorConfig(
        venue=name, rate=1, start_time_s=START_S, history_s=4 * 86_400, history_rate=0.01, max_trades=1,
        limit_factor=FASTER, faults=Faults(lost_ids=0.01),
    )  # fmt: skip
    with Simulator(config) as simulator:
        yield simulator


def pair_of(name: str, simulator: Simulator) -> tuple[str, str, str]:
    return str(VENUES[name].market), "BTC", "USDT" if name == "binance" else "USD"


def fetched(
    name: str, simulator: Simulator, kafka: KafkaSettings, stop: Stop | None = None, day: datetime = DAY
) -> Any:
    feed = load(FeedSettings, {"source": name, f"{name}_rest_url": simulator.rest_url}, {})
    run, days = RunContext(Path("/nowhere"), stop=stop or Stop()), [PairDay(pair_of(name, simulator), day.date())]
    done: list[Fetched] = []
    metrics = fetch(feed, kafka, days, run, lambda _, found: done.append(found))
    return (done or [Fetched()])[0], metrics


def traded(name: str, simulator: Simulator, day: datetime = DAY, beside_s: int = 0) -> list[str]:
    begin_s = day.timestamp()
    sub = "0~" + "~".join(pair_of(name, simulator))
    return [trade.id for trade in simulator.trades(sub, begin_s - beside_s, begin_s + 86_400 + beside_s)]


def in_topic(kafka: KafkaSettings) -> list[Any]:
    return read_topic(kafka, kafka.history_topic)


@each_venue
def test_a_day_is_in_the_topic_once_with_where_it_came_from_and_a_second_run_asks_nothing(
    name: str, market: Simulator, kafka: KafkaSettings
) -> None:
    before = datetime.now(UTC).timestamp()
    found, metrics = fetched(name, market, kafka)
    wanted = traded(name, market)
    assert len(wanted) > 400
    assert (found.trades, found.over, found.is_done(VENUES[name])) == (len(wanted), True, True)
    assert found.missing == int(found.after) - int(found.before) - 1 - len(wanted) > 0
    records = in_topic(kafka)
    ids = [read_trade(record.value).id for record in records]
    assert sorted(ids) == sorted([*wanted, str(found.before), str(found.after)])
    assert metrics.past_trades == len(ids)
    came_from = {"source": market.rest_url.encode(), "reason": b"history"}
    assert all(dict(record.headers) == came_from for record in records)
    assert min(record.timestamp for record in records) / 1000 >= before - 1
    asked = market.tally.requests.total()
    again, metrics = fetched(name, market, kafka)
    assert (again, metrics.past_trades) == (found, 0)
    assert (metrics.share_done, market.tally.requests.total(), len(in_topic(kafka))) == (1.0, asked, len(records))
    assert not market.tally.broken


class _KilledError(BaseException):
    """As kill -9 would end it, at a line."""


@each_venue
@pytest.mark.parametrize("dies_in", ["put", "keep"])
def test_a_run_that_dies_at_any_page_asks_only_for_that_page_again(
    name: str, dies_in: str, market: Simulator, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before the first page is written, then before the second is, and so on; or right after each."""
    dying = HistoryProducer if dies_in == "put" else Fetches
    alive, pages_left = getattr(dying, dies_in), [0]

    def mortal(self: object, *arguments: Any) -> Any:
        if dies_in == "keep" or arguments[0]:
            pages_left[0] -= 1
            if pages_left[0] < 0:
                raise _KilledError
        return alive(self, *arguments)

    monkeypatch.setattr(dying, dies_in, mortal)
    deaths = 0
    while True:
        pages_left[0] = 1 if deaths else 0
        try:
            found, _ = fetched(name, market, kafka)
        except _KilledError:
            deaths += 1
            continue
        if found.over:
            break
    assert deaths > 2
    ids = Counter(read_trade(record.value).id for record in in_topic(kafka))
    assert {*ids} == {*traded(name, market), str(found.before), str(found.after)}
    assert found.trades == len(traded(name, market))
    assert max(market.tally.requests.values()) <= 2
    sought = 2  # before the first page that has a trade
    assert sum(times - 1 for times in market.tally.requests.values()) <= deaths + sought
    if dies_in == "put":
        assert max(ids.values()) == 1


@pytest.mark.parametrize("name", ["coinbase"])
def test_a_run_that_is_told_to_stop_ends_after_the_page_at_hand_and_the_next_goes_on(
    name: str, market: Simulator, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, alive = Stop(), Fetcher._take

    def take(self: Fetcher, *arguments: Any) -> Any:
        stop.set()
        time.sleep(2 * POLL_S)  # the part is looked after so often
        return alive(self, *arguments)

    monkeypatch.setattr(Fetcher, "_take", take)
    found, _ = fetched(name, market, kafka, stop)
    assert not found.over
    monkeypatch.setattr(Fetcher, "_take", alive)
    found, _ = fetched(name, market, kafka)
    assert found.trades == len(traded(name, market))
    assert max(market.tally.requests.values()) <= 2


@pytest.mark.parametrize("name", ["kraken"])
def test_what_the_topic_has_lost_is_fetched_anew(name: str, market: Simulator, kafka: KafkaSettings) -> None:
    found, _ = fetched(name, market, kafka)
    with admin_client(kafka, "to delete a topic") as admin:
        admin.delete_topics([kafka.history_topic])
    make_topics(kafka)
    again, metrics = fetched(name, market, kafka)
    assert again.trades == found.trades == metrics.past_trades - 2
    assert {read_trade(record.value).id for record in in_topic(kafka)} >= {*traded(name, market)}


@pytest.mark.parametrize("name", ["binance"])
def test_days_are_fetched_side_by_side_and_a_day_that_can_not_be_proven_yet_is_asked_for_again(
    name: str, market: Simulator, kafka: KafkaSettings
) -> None:
    days = [datetime(2026, 11, number, tzinfo=UTC) for number in (1, 2, 4)]
    found: dict[int, Fetched] = {}

    def fetch(day: datetime) -> None:
        found[day.day], _ = fetched(name, market, kafka, day=day)

    threads = [threading.Thread(target=fetch, args=(day,)) for day in days]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for day in days:
        assert found[day.day].trades == len(traded(name, market, day)) > 0
    assert found[1].is_done(VENUES[name])
    assert (found[4].after, found[4].missing, found[4].is_done(VENUES[name])) == (None, None, False)
    asked = market.tally.requests.total()
    fetch(days[2])
    assert market.tally.requests.total() > asked


@pytest.mark.parametrize("name", ["kraken"])
def test_a_pair_that_can_not_be_had_is_told_at_the_end_and_the_others_are_fetched(
    name: str, market: Simulator, kafka: KafkaSettings
) -> None:
    feed = load(FeedSettings, {"source": name, "kraken_rest_url": market.rest_url}, {})
    pairs, done = (("Kraken", "NO", "USD"), ("Kraken", "BTC", "USD"), ("Coinbase", "BTC", "USD")), []
    days = [PairDay(pair, DAY.date() + timedelta(days=number)) for number in range(2) for pair in pairs]
    with pytest.raises(FeedRefusedError, match=r"NO-USD: EQuery:Unknown asset pair\. The past of Coinbase goes"):
        fetch(feed, kafka, days, RunContext(Path("/nowhere")), lambda day, _: done.append(day))
    assert [day.pair[1:] for day in done] == [("BTC", "USD")] * 2
    assert {day.pair[0] for day in done} == {"Kraken"}
    assert sum(times for target, times in market.tally.requests.items() if "NOUSD" in target) == 1


def quiet(name: Any) -> SimulatorConfig:
    """A venue that has traded each pair every 500 s, and does no more."""
    return SimulatorConfig(
        venue=name, max_trades=1, start_time_s=START_S, history_s=2 * 86_400, history_rate=0.004, limit_factor=FASTER
    )


def test_a_venue_that_does_not_answer_delays_no_other(kafka: KafkaSettings) -> None:
    with Simulator(quiet("kraken")) as kraken, Simulator(quiet("binance")) as binance:
        urls = {"kraken_rest_url": kraken.rest_url, "binance_rest_url": binance.rest_url}
        feed = load(FeedSettings, {"source": "kraken,binance", **urls}, {})
        days = [PairDay(pair_of("kraken", kraken), DAY.date()), PairDay(pair_of("binance", binance), DAY.date())]
        done: list[str] = []

        def note(day: PairDay, fetched: Fetched) -> None:
            done.append(day.pair[0])
            kraken.refuse(0)

        kraken.refuse(600)
        metrics = fetch(feed, kafka, days, RunContext(Path("/nowhere"), timeout_s=60), note)
        assert done == ["Binance", "Kraken"]
        assert (metrics.partitions, metrics.partitions_left, metrics.share_done, metrics.left_s) == (2, 0, 1.0, 0.0)
        assert metrics.past_trades == len(in_topic(kafka))


def test_a_venue_that_is_away_for_too_long_is_told_when_the_others_are_done(
    kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_fetch, "REST_FOR_S", 0.1)
    with Simulator(quiet("binance")) as binance:
        urls = {"kraken_rest_url": "http://127.0.0.1:9", "binance_rest_url": binance.rest_url}
        feed = load(FeedSettings, {"source": "kraken,binance", **urls}, {})
        days, done = [PairDay(pair_of(name, binance), DAY.date()) for name in ("kraken", "binance")], list[str]()
        with pytest.raises(FeedUnreachableError, match=r"The REST of kraken was no help for 0\.1 s"):
            fetch(feed, kafka, days, RunContext(Path("/nowhere")), lambda day, _: done.append(day.pair[0]))
    assert done == ["Binance"]


def test_what_venues_have_come_to_is_counted_by_days_and_the_slowest_tells_how_long_it_takes() -> None:
    one = HistoryMetrics(partitions=3, partitions_left=0, pages=5, past_trades=7, share_done=1.0, left_s=0.0)
    other = HistoryMetrics(partitions=0, partitions_left=1, pages=2, past_trades=4, share_done=0.5, left_s=8.0)
    assert summed([one, other]) == HistoryMetrics(3, 1, 7, 11, 0.875, 8.0)
    assert summed([one, HistoryMetrics(partitions_left=1)]).left_s is None


def test_the_past_of_a_market_goes_where_its_live_trades_do_and_nowhere_else() -> None:
    assert venue_of(FeedSettings(source="kraken,coinbase"), ("Coinbase", "BTC", "USD")).name == "coinbase"
    for source in ("kraken", "simulator"):
        with pytest.raises(ConfigError, match="take a source with coinbase in it"):
            venue_of(FeedSettings(source=source), ("Coinbase", "BTC", "USD"))
