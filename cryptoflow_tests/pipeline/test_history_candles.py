"""A fetched day of the past, through the topic of history, marks and repairs, into candles as the venue has them."""

import threading
import time
from pathlib import Path

import pytest

from cryptoflow.feeds.rest import Rest
from cryptoflow.model.parity import Share
from cryptoflow.model.verdict import COMPLETE, QUIET, REPAIRED
from cryptoflow.pipeline import history_fetch
from cryptoflow.pipeline.history_fetch import PairDay, fetch
from cryptoflow.pipeline.parity import compare, pairs_of, total
from cryptoflow.pipeline.part import RunContext
from cryptoflow.pipeline.tally import Tally
from cryptoflow.settings import FeedSettings, load
from cryptoflow.tables import hours
from cryptoflow.testing import Simulator, SimulatorConfig
from cryptoflow.venues import VENUES
from cryptoflow_tests.feeds.test_past import FASTER, hurried
from cryptoflow_tests.pipeline.test_history_marks import following, never
from cryptoflow_tests.repairing import ONE_HOUR, World, moment

DAY_S = 86_400
BEGIN_S = int(time.time()) // DAY_S * DAY_S - 2 * DAY_S
START, END = moment(BEGIN_S), moment(BEGIN_S + DAY_S)
SUB = "0~Binance~BTC~USDT"
PAIR = ("Binance", "BTC", "USDT")


def test_a_fetched_day_is_whole_in_the_candles_and_the_venue_agrees(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_fetch, "VENUES", {name: hurried(name) for name in VENUES})
    world.commit([], END + ONE_HOUR, begins=world.log().ends())
    config = SimulatorConfig(
        venue="binance", pairs=("BTC-USDT",), rate=1, start_time_s=BEGIN_S + DAY_S + 7200, history_s=2 * DAY_S,
        history_rate=0.02, max_trades=1, limit_factor=FASTER,
    )  # fmt: skip
    with Simulator(config) as simulator:
        given = {"source": "binance", "binance_rest_url": simulator.rest_url, "subscriptions": SUB}
        feed = load(FeedSettings, given, {})
        fetch(feed, world.kafka, [PairDay(PAIR, START.date())], RunContext(Path("/nowhere")))
        with following(world.kafka, world.cassandra, world.session, world.home, Tally()) as marks:
            marks.drain(never)
        world.repair()
        trades = [*simulator.trades(SUB, START.timestamp(), END.timestamp())]
        rest = Rest(hurried("binance"), simulator.rest_url, threading.Event())
        finished = END + ONE_HOUR
        days = list(compare(world.session, finished, pairs_of(feed), lambda _: rest, START, END))
        assert total(days) == Share(exact=24 * 60)
    rows = [row for row in hours.of_day(world.session, PAIR, START) if START <= row.hour < END]
    assert sum(row.in_candles for row in rows) == len(trades) > 1500
    assert len(rows) == 24
    assert {row.verdict for row in rows} <= {COMPLETE, REPAIRED, QUIET}
    assert {row.gaps for row in rows} == {0}
