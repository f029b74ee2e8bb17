"""Candles in Cassandra against the candles of simulated venues, which know all that was traded."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from cryptoflow.cli import app
from cryptoflow.defs.parity import agrees_with_venue
from cryptoflow.defs.resources import FeedResource
from cryptoflow.errors import CassandraError, ConfigError
from cryptoflow.feeds.rest import Rest
from cryptoflow.model.candle import candles_of
from cryptoflow.model.parity import Parity, Share
from cryptoflow.model.trade import Trade
from cryptoflow.model.verdict import COMPLETE, DIFFERENT, NOT_AFTER, NOT_BEFORE, PROVEN, REPAIRED, SUSPECT
from cryptoflow.pipeline import agreement
from cryptoflow.pipeline.parity import (
    DayOfPair,
    compare,
    finished_by,
    pairs_of,
    refuse_other_windows,
    report,
    told_by,
    total,
)
from cryptoflow.runtime.holder import Holder
from cryptoflow.settings import FeedSettings, load
from cryptoflow.tables import lease
from cryptoflow.tables.schema import MARKS
from cryptoflow.tables.writer import TableWriter
from cryptoflow.testing import Faults, Simulator, SimulatorConfig
from cryptoflow.venues import VENUES
from cryptoflow_tests.defs.test_repair import resources_of
from cryptoflow_tests.feeds.test_past import FASTER, hurried
from cryptoflow_tests.repairing import HOUR_S, ONE_HOUR, World, moment, numbered

NOW_S = int(time.time()) // HOUR_S * HOUR_S
START, FINISHED = moment(NOW_S) - 4 * ONE_HOUR, moment(NOW_S) - ONE_HOUR

each_venue = pytest.mark.parametrize("name", ["coinbase", "binance", "kraken"])


def sub_of(name: str) -> str:
    return f"0~{VENUES[name].market}~BTC~{'USDT' if name == 'binance' else 'USD'}"


@contextmanager
def market(name: Any, **faults: Any) -> Iterator[Simulator]:
    """A venue that has traded a pair every 40 s, so that some minutes are empty."""
    config = SimulatorConfig(
        venue=name, pairs=(sub_of(name).split("~", 2)[2].replace("~", "-"),), rate=1, start_time_s=NOW_S + 60,
        history_s=6 * HOUR_S, history_rate=0.025, max_trades=1, limit_factor=FASTER, faults=Faults(**faults),
    )  # fmt: skip
    with Simulator(config) as simulator:
        yield simulator


def known(world: World, name: str, simulator: Simulator) -> list[Trade]:
    """What the venue has traded, as it came, in candles up to `FINISHED`."""
    trades = numbered(simulator.trades(sub_of(name), START.timestamp(), FINISHED.timestamp()))
    begins = world.log().ends()
    world.send(trades)
    world.commit(trades, FINISHED, begins=begins)
    return trades


def feed_of(name: str, simulator: Simulator) -> FeedSettings:
    given = {"source": name, f"{name}_rest_url": simulator.rest_url, "subscriptions": sub_of(name)}
    return load(FeedSettings, given, {})


def found(world: World, name: str, simulator: Simulator, end: datetime = FINISHED) -> list[DayOfPair]:
    finished = finished_by(world.session, world.kafka)
    assert finished == FINISHED
    rest = Rest(hurried(name), simulator.rest_url, threading.Event(), for_s=5)
    return list(compare(world.session, finished, pairs_of(feed_of(name, simulator)), lambda _: rest, START, end))


@each_venue
def test_candles_of_all_trades_are_exact_and_what_is_not_finished_is_pending(name: str, world: World) -> None:
    with market(name) as simulator:
        known(world, name, simulator)
        assert total(found(world, name, simulator)) == Share(exact=180)
        assert total(found(world, name, simulator, FINISHED + timedelta(minutes=30))) == Share(exact=180, pending=30)
        assert not simulator.tally.broken


@each_venue
def test_a_lost_trade_is_off_by_it_and_pending_while_its_hour_waits_for_a_repair(name: str, world: World) -> None:
    with market(name) as simulator:
        trades = known(world, name, simulator)
        lost = trades[len(trades) // 2]
        minute = moment(lost.time_s // 60 * 60)
        old = next(iter(candles_of([t for t in trades if t.time_s // 60 == lost.time_s // 60], 60).values()))
        world.delete_candle(old)
        share = total(found(world, name, simulator))
        assert share == Share(exact=179, off=1)
        [off] = [each for day in found(world, name, simulator) for each in day.minutes if each.parity is Parity.OFF]
        assert moment(off.start_s) == minute
        assert off.trades == (0 if name == "coinbase" else -old.trades)
        assert off.quantity == pytest.approx(-old.quantity)
        assert f"- {minute:%Y-%m-%d %H:%M} {VENUES[name].market}" in report(found(world, name, simulator))
        mark = world.mark(lost, [(0, 0)])
        TableWriter(world.session, world.cassandra).put(MARKS, [mark], time.time_ns() // 1000)
        assert total(found(world, name, simulator)) == Share(exact=179, pending=1)


@each_venue
def test_a_venue_whose_candles_count_otherwise_is_off_there(name: str, world: World) -> None:
    with market(name, klines_off=0.3) as simulator:
        known(world, name, simulator)
        days = found(world, name, simulator)
        off = [each for day in days for each in day.minutes if each.parity is Parity.OFF]
        assert total(days) == Share(exact=180 - len(off), off=len(off))
        assert 20 < len(off) < 80
        assert {(each.trades, round(each.quantity, 8)) for each in off} == {(0 if name == "coinbase" else -1, -0.0001)}
        assert "more minutes are off" in report(days)


@each_venue
def test_a_venue_that_can_not_be_asked_tells_none_and_why(name: str, world: World) -> None:
    with market(name) as simulator:
        known(world, name, simulator)
        simulator.refuse(600)
        rest = Rest(hurried(name), simulator.rest_url, threading.Event(), for_s=0.1)
        pairs = pairs_of(feed_of(name, simulator))
        days = list(compare(world.session, FINISHED, pairs, lambda _: rest, START, FINISHED))
        assert total(days) == Share(none=180)
        assert all(f"The REST of {name} was no help" in day.why for day in days)
        assert f"The REST of {name} was no help" in report(days)


@dataclass(frozen=True)
class AskedTogether(Rest):
    """Answers when another one is asked, too."""

    both: threading.Barrier = field(kw_only=True)

    def ask(self, target: str, read: Any) -> Any:
        self.both.wait(10)
        return []


def test_venues_are_asked_side_by_side() -> None:
    both = threading.Barrier(2)
    names = "coinbase", "kraken"
    rests = {name: AskedTogether(VENUES[name], "http://127.0.0.1", threading.Event(), both=both) for name in names}
    pairs = {(str(VENUES[name].market), "BTC", "USD"): name for name in names}
    told = told_by(rests, pairs, START, START + ONE_HOUR)
    assert [(len(bars or {}), why) for bars, why in told.values()] == [(60, ""), (0, "")]


def test_older_candles_than_kraken_keeps_are_none(world: World) -> None:
    with market("kraken") as simulator:
        known(world, "kraken", simulator)
        rest = Rest(hurried("kraken"), simulator.rest_url, threading.Event())
        pairs = pairs_of(feed_of("kraken", simulator))
        start = FINISHED - 24 * ONE_HOUR
        assert total(list(compare(world.session, FINISHED, pairs, lambda _: rest, start, start + ONE_HOUR))).none == 60


def test_the_check_the_command_and_the_job_say_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with market("binance", klines_off=0.3) as simulator:
        known(world, "binance", simulator)
        share = total(found(world, "binance", simulator))
        assert share.off
        given = {"source": "binance", "binance_rest_url": simulator.rest_url, "subscriptions": sub_of("binance")}
        with dg.instance_for_test() as instance:
            checked = check_run(world, instance, FeedResource(**given))
        [evaluation] = checked.get_asset_check_evaluations()
        metadata = {key: value.value for key, value in evaluation.metadata.items()}
        assert (evaluation.passed, metadata["minutes_exact"], metadata["minutes_off"]) == (
            False,
            share.exact,
            share.off,
        )
        assert metadata["exact_share"] == pytest.approx(share.exact / 180, abs=1e-6)
        for key, value in {"CRYPTOFLOW_SOURCE": "binance", "BINANCE_REST_URL": simulator.rest_url}.items():
            monkeypatch.setenv(key, value)
        told = CliRunner().invoke(app, ["parity", "--from", START.isoformat(), "--pair", "BTC-USDT"])
        assert told.exit_code == 0, told.output
        assert f"| all | | | {share.exact} | {share.off} | 0 | 0 | {share.text} |" in told.output


def test_before_a_window_is_finished_nobody_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with market("binance") as simulator:
        for key, value in {"CRYPTOFLOW_SOURCE": "binance", "BINANCE_REST_URL": simulator.rest_url}.items():
            monkeypatch.setenv(key, value)
        told = CliRunner().invoke(app, ["parity"])
        assert (told.exit_code, told.output) == (0, "No hour is finished yet, so there is nothing to compare.\n")
    monkeypatch.setenv("CASSANDRA_KEYSPACE", "no_such_keyspace")
    with pytest.raises(CassandraError, match="has no candles in that keyspace yet"):
        CliRunner().invoke(app, ["parity"], catch_exceptions=False)


def test_an_hour_that_is_off_is_suspect_until_a_repair_has_made_its_candles_those_of_the_log(world: World) -> None:
    hours = [START + number * ONE_HOUR for number in range(3)]

    def verdicts() -> list[tuple[str, str]]:
        rows = [world.hour(hour, ("Binance", "BTC", "USDT")) for hour in hours]
        return [(row.verdict, row.reason) for row in rows]

    def compared(**faults: Any) -> None:
        with market("binance", **faults) as simulator, dg.instance_for_test() as instance:
            check_run(world, instance, FeedResource(**given, binance_rest_url=simulator.rest_url))

    given: Any = {"source": "binance", "subscriptions": sub_of("binance")}
    with market("binance") as simulator:
        trades = known(world, "binance", simulator)
    world.repair(*hours)
    proven = [(SUSPECT, NOT_BEFORE), (COMPLETE, PROVEN), (SUSPECT, NOT_AFTER)]
    assert verdicts() == proven

    # Its ids prove an hour to be whole, so it is the venue's candles that are wrong.
    compared(klines_off=0.3)
    doubted = verdicts()
    assert [doubted[0], doubted[1][0], doubted[2]] == [proven[0], SUSPECT, proven[2]]
    told = CliRunner().invoke(app, ["gaps"], env={"COLUMNS": "200"})
    assert told.output.count("the venue's own candles differ in") == 1, told.output
    assert [mark.hour for mark in world.marks()] == [hours[1]]
    world.repair()
    assert verdicts()[1] == (COMPLETE, f"{PROVEN}; {doubted[1][1]}")
    compared(klines_off=0.3)
    assert world.marks() == []
    compared()
    assert verdicts() == proven

    # A candle that the table has lost is written again.
    first = next(trade for trade in trades if moment(trade.time_s) >= hours[1])
    [lost] = candles_of([trade for trade in trades if trade.time_s // 60 == first.time_s // 60], 60).values()
    world.delete_candle(lost)
    compared()
    assert verdicts()[1][0] == SUSPECT
    world.repair()
    compared()
    assert verdicts() == [proven[0], (REPAIRED, DIFFERENT), proven[2]]
    world.check()


def test_verdicts_are_left_as_they_are_while_a_repair_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "WAIT_S", 1e-9)
    monkeypatch.setattr(lease, "TTL_S", 6.0)
    with market("binance", klines_off=0.3) as simulator:
        known(world, "binance", simulator)
        world.repair(START)
        days, said = found(world, "binance", simulator), list[str]()
        holder = Holder.current("", world.home)
        with lease.held(world.session, lease.REPAIR, holder, "repairs", ttl_s=6.0):
            agreement.put_down(world.session, world.kafka, world.cassandra, days, holder, said.append)
    [sentence] = said
    assert "until a later comparison. Another run repairs" in sentence
    assert not world.hour(START, ("Binance", "BTC", "USDT")).disagreement


def check_run(world: World, instance: dg.DagsterInstance, feed: FeedResource) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions(asset_checks=[agrees_with_venue], resources=resources_of(world) | {"feed": feed})
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)


def test_only_candles_of_a_minute_can_be_compared_and_only_pairs_of_the_source() -> None:
    refuse_other_windows(60)
    with pytest.raises(ConfigError, match="those here of 300 s"):
        refuse_other_windows(300)
    feed = load(FeedSettings, {"source": "kraken,coinbase"}, {})
    assert set(pairs_of(feed).values()) == {"kraken", "coinbase"}
    assert {*pairs_of(feed, "Kraken")} == {("Kraken", "BTC", "USD")}
    assert not pairs_of(load(FeedSettings, {"source": "simulator"}, {}))
