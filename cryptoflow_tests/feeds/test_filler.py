"""Filling: what a simulated market did not send comes out of its REST, whatever the faults, within its limits."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from cryptoflow.feeds import filler as module
from cryptoflow.feeds import numbers
from cryptoflow.feeds.events import NotFilling
from cryptoflow.feeds.gaps import Earlier, Gap, Standing, Unfilled
from cryptoflow.model.trade import NS_PER_S, Trade
from cryptoflow.simulator.config import VenueName
from cryptoflow.venues.events import Recorded, Unreadable
from cryptoflow_tests.feeds.filling import (
    SUBS,
    RecordingPast,
    TradeSink,
    market,
    receiving,
    traded,
    wait_for,
    wait_for_more,
    wait_until_whole,
)
from cryptoflow_tests.feeds.serving import Running

VENUES = pytest.mark.parametrize("name", SUBS)


@pytest.fixture(autouse=True)
def _a_pace_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYPTOFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(numbers, "FIRST_DELAY_S", 0.2)


def sink_of(running: Running) -> TradeSink:
    assert isinstance(running.sink, TradeSink)
    return running.sink


def live(running: Running) -> list[int]:
    return [int(number) for number in running.sink.ids]


@VENUES
def test_cuts_at_random_moments_and_lost_frames_leave_no_hole_and_no_limit_is_broken(name: VenueName) -> None:
    chance, past = random.Random(name), RecordingPast()
    with market(name, lost=0.03, rest_lag_s=0.5, rest_too_many=0.05, retry_after_s=1, rest_errors=0.05) as simulator:
        with receiving(simulator, past) as running:
            for _ in range(6):
                wait_for_more(lambda: running.sink.ids, chance.randint(1, 150))
                simulator.drop_connections()
            simulator.refuse(1)
            wait_for(lambda: bool(past.ids))
            wait_until_whole(simulator, live(running)[0], lambda: {*live(running), *past.ids})
        assert not simulator.tally.broken
        assert past.sources == {simulator.rest_url}
    assert sorted(past.ids) == sorted(set(past.ids) - set(live(running)))  # each once, and none that came
    assert len(past.ids) == running.client.stats.filled > 0


def test_what_runs_that_were_killed_had_to_fill_the_next_one_fills() -> None:
    """The REST is so far behind that the first two fill nothing, and time passes between them."""
    past, trades, earlier = RecordingPast(), list[Trade](), Earlier()
    with market("binance", lost=0.02, rest_lag_s=6) as simulator:
        for _ in range(2):
            with receiving(simulator, past, earlier) as running:
                wait_for(lambda: bool(past.open))
                wait_for_more(lambda: running.sink.ids, 50)
                trades += sink_of(running).trades
            # The end of the log alone is in reach: what lacks from before it is in the gaps that were put down.
            earlier = Earlier(trades[-30:], past.trades[-30:], past.standings)
            wait_for_more(lambda: traded(simulator), 50)
        assert past.ids == []
        with receiving(simulator, past, earlier) as running:
            before = {int(trade.id) for trade in trades}
            wait_until_whole(simulator, int(trades[0].id), lambda: {*before, *live(running), *past.ids})
        assert not simulator.tally.broken


def test_gaps_that_were_filled_when_the_run_was_killed_are_no_more_put_down_by_the_next_one() -> None:
    past = RecordingPast()
    with market("coinbase") as simulator:
        with receiving(simulator, past) as running:
            wait_for(lambda: len(running.sink.ids) > 10)
        trades = sink_of(running).trades
        gap = Gap(*trades[0].pair, 0, trades[5].event_time_ns, "cut", ((int(trades[4].id), int(trades[4].id)),))
        past.standings[gap.pair] = Standing((gap,))
        with receiving(simulator, past, Earlier(trades[5:], [trades[4]], past.standings)):
            wait_for(lambda: past.open == [])


def test_what_a_quiet_pair_has_traded_between_two_runs_is_filled_though_its_last_trade_is_far_back_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among busy pairs the end of the log, as far as it is read, has none of its trades."""
    monkeypatch.setattr(module, "KEEP_S", 0.05)
    past = RecordingPast()
    with market("binance", rate=4) as simulator:
        with receiving(simulator, past) as running:
            wait_for(lambda: any(standing.newest for standing in past.standings.values()))
        first = live(running)[0]
        have = {*live(running)}
        wait_for_more(lambda: traded(simulator), 3)
        with receiving(simulator, past, Earlier(standings=past.standings)) as running:
            wait_until_whole(simulator, first, lambda: {*have, *live(running), *past.ids})


def test_what_a_pair_trades_in_an_outage_is_filled_though_no_socket_ever_brings_a_trade_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only what the venue has as its newest trade tells of it, in a run and from run to run."""
    monkeypatch.setattr(module, "KEEP_S", 0.05)
    monkeypatch.setattr(numbers, "SILENT_S", 0.2)
    past = RecordingPast()
    with market("binance", rate=4, lost=1.0) as simulator:
        with receiving(simulator, past) as running:
            wait_for(lambda: any(standing.newest for standing in past.standings.values()))
            [standing] = past.standings.values()
            assert standing.newest
            wait_for_more(lambda: traded(simulator), 3)
            simulator.drop_connections()
            wait_until_whole(simulator, standing.newest[0] + 1, lambda: {*past.ids})
        begun = len(past.ids)
        wait_for_more(lambda: traded(simulator), 3)
        with receiving(simulator, past, Earlier(standings=past.standings)):
            wait_until_whole(simulator, standing.newest[0] + 1, lambda: {*past.ids})
        assert len(past.ids) >= begun + 3
        assert live(running) == []


def test_ids_that_no_trade_has_are_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_S", 3.0)
    past = RecordingPast()
    with market("coinbase") as simulator, receiving(simulator, past) as running:
        wait_for(lambda: len(running.sink.ids) > 20)
        skipped = simulator.skip_ids(SUBS["coinbase"], 7)
        wait_for(lambda: any(isinstance(event, Unfilled) for event in running.events))
    [unfilled] = [event for event in running.events if isinstance(event, Unfilled)]
    assert unfilled.gap.holes == ((skipped[0], skipped[-1]),)
    assert unfilled.why == module.GONE
    assert (past.ids, past.open) == ([], [])


def test_a_gap_that_is_known_by_its_times_alone_is_filled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_LAG_S", 0.2)
    past = RecordingPast()
    with market("binance") as simulator:
        wait_for(lambda: len(traded(simulator)) > 300)
        gone = list(simulator.trades(SUBS["binance"]))[50:150]
        gap = Gap(*gone[0].pair, gone[0].event_time_ns, gone[-1].event_time_ns, "no run")
        with receiving(simulator, past, Earlier(standings={gap.pair: Standing((gap,))})) as running:
            wait_for(lambda: len(past.ids) >= len(gone) and past.open == [])
            wait_for(lambda: running.client.stats.filled >= len(gone))
    assert {int(trade.id) for trade in gone} <= set(past.ids)


def test_what_is_longer_ago_than_the_limit_is_not_asked_for() -> None:
    past = RecordingPast()
    with market("binance") as simulator:
        hour_ago_s = time.time() - 3600
        past_trades = simulator.trades(SUBS["binance"], hour_ago_s, hour_ago_s + 1)
        old = [msgspec.structs.replace(trade, sequence=int(trade.id)) for trade in past_trades]
        with receiving(simulator, past, Earlier([old[0], old[3]]), limit_s=10) as running:
            wait_for(lambda: len(past.ids) > 1000)
        limit_ns = time.time_ns() - 20 * NS_PER_S
    assert min(trade.event_time_ns for trade in past.trades) > limit_ns
    [first, second] = [event for event in running.events if isinstance(event, Unfilled)][:2]
    assert (first.why, first.gap.holes) == (module.TOO_OLD, ((int(old[0].id) + 1, int(old[3].id) - 1),))
    assert (second.why, second.gap.holes[0][0]) == (module.TOO_OLD, int(old[3].id) + 1)


@pytest.mark.parametrize("lacks", [("historicalTrades",), ()], ids=["refused", "away"])
def test_a_rest_that_refuses_or_is_away_is_told_and_stops_no_trade(
    lacks: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_FOR_S", 0.5)
    monkeypatch.setattr("cryptoflow.feeds.link.REST_FOR_S", 0.5)
    monkeypatch.setattr("cryptoflow.venues.binance.Binance.patience_s", 0.1)
    past, errors = RecordingPast(), 0.0 if lacks else 1.0
    with market("binance", lost=0.05, rest_lacks=lacks, rest_errors=errors) as simulator:
        with receiving(simulator, past) as running:
            wait_for(lambda: any(isinstance(event, NotFilling) for event in running.events))
            wait_for_more(lambda: running.sink.ids, 100)
        assert past.open
        assert past.ids == []
        told = [event for event in running.events if isinstance(event, NotFilling)]
        assert len(told) == 1
        assert "binance" in str(told[0]).lower()


def test_a_pair_whose_past_is_refused_is_not_asked_for_again_for_as_long_as_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REST_LAG_S", 0.1)
    monkeypatch.setattr(module, "UNREACHABLE_FOR_S", 0.1)
    past = RecordingPast()
    with market("binance", rest_lacks=("aggTrades",)) as simulator:
        now_ns = time.time_ns()
        spans = [Gap("Binance", "BTC", "USDT", now_ns - ago_s * NS_PER_S, now_ns, "no run") for ago_s in (3, 2, 1)]
        with receiving(simulator, past, Earlier(standings={spans[0].pair: Standing((*spans,))})) as running:
            wait_for(lambda: any(isinstance(event, NotFilling) for event in running.events))
            wait_for_more(lambda: running.sink.ids, 300)
        assert sum("aggTrades" in target for target in simulator.tally.requests.elements()) == 1
    assert len([event for event in running.events if isinstance(event, NotFilling)]) == 1


class FailingPast(RecordingPast):
    """Takes nothing."""

    def put(self, trades: Sequence[Recorded], unreadable: Sequence[Unreadable], source: str, venue: str) -> None:
        raise OSError("the past is broken")


def test_a_past_that_can_not_be_kept_ends_the_client() -> None:
    with market("coinbase", lost=0.1) as simulator:
        with pytest.raises(OSError, match="the past is broken"), receiving(simulator, FailingPast()) as running:
            wait_for(lambda: running.error is not None)
        simulator.wait_until(lambda: simulator.connections == 0, 10)
