"""Laws of a venue's market: every trade a function of its number."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.events import Event
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import venue_of
from cryptoflow.simulator.generator import Walk
from cryptoflow.simulator.market import (
    AGGREGATES,
    BLOCK,
    FIRST_ID,
    SWEEP,
    Clock,
    Market,
    Tape,
    aggregate_of,
    decimal_text,
    decimal_units,
    level_of,
    of_aggregate,
    order_of,
)

SUB = "0~Kraken~BTC~USD"
NOW_NS = 1_790_000_000 * 10**9

numbers = st.integers(-(10**12), 10**12)
seeds = st.integers(0, 2**32)


def tape(gap_ns: int = 10**7, past_gap_ns: int = 10**9, resolution_ns: int = 1, seed: int = 0, **changes: Any) -> Tape:
    """Trades of one pair, from a second after the anchor on live."""
    clock = Clock(NOW_NS, gap_ns, past_gap_ns, resolution_ns)
    options = {"live_ns": NOW_NS + 10**9, "listed_ns": NOW_NS - 10**15, "lost_ids": 0.0, "start_id": FIRST_ID} | changes
    return Tape(Walk(("Kraken", "BTC", "USD"), seed), clock, **options)


def market(clock_ns: int = NOW_NS, **changes: Any) -> Market:
    made = venue_of(SimulatorConfig(**({"venue": "kraken"} | changes)), lambda: clock_ns).market
    assert made is not None
    return made


def pulled(of: Market, frames: int) -> list[Event]:
    return [of.pull(()) for _ in range(frames)]


# Numbers


@given(numbers)
def test_an_aggregate_is_of_the_trades_that_say_so(number: int) -> None:
    aggregate = aggregate_of(number)
    assert number in of_aggregate(aggregate)
    assert {aggregate_of(each) for each in of_aggregate(aggregate)} == {aggregate}
    assert of_aggregate(aggregate + 1)[0] == of_aggregate(aggregate)[-1] + 1


@given(numbers)
def test_a_sweep_is_one_order_at_two_prices_and_any_other_trade_an_order_by_itself(number: int) -> None:
    block = range(number // BLOCK * BLOCK, (number // BLOCK + 1) * BLOCK)
    assert len({order_of(each) for each in block}) == BLOCK - SWEEP + 1
    assert len({level_of(each) for each in block}) == len({aggregate_of(each) for each in block}) == AGGREGATES
    assert order_of(number) <= level_of(number) <= number


@given(st.integers(0, 10**18), st.integers(0, 12))
def test_a_decimal_text_is_read_back(units: int, decimals: int) -> None:
    assert decimal_units(decimal_text(units, decimals)) == (units, decimals)
    assert float(decimal_text(units, decimals)) == units / 10**decimals


# Times


@given(seeds, numbers, st.sampled_from([1, 1000, 10**6]), st.integers(1, 10**12), st.integers(1, 10**12))
def test_times_never_go_back_and_are_cut_to_the_venues_resolution(
    seed: int, number: int, resolution_ns: int, gap_ns: int, past_gap_ns: int
) -> None:
    of = tape(gap_ns, past_gap_ns, resolution_ns, seed)
    times_ns = [of.time_ns(each) for each in range(number - 70, number + 70)]
    assert times_ns == sorted(times_ns)
    assert all(time_ns % resolution_ns == 0 for time_ns in times_ns)
    assert len({of.time_ns(each) for each in range(number // BLOCK * BLOCK, number // BLOCK * BLOCK + SWEEP)}) == 1


@given(
    seeds,
    st.integers(-(10**6), 10**6),
    st.sampled_from([1, 1000, 10**6]),
    st.integers(1, 10**12),
    st.integers(1, 10**12),
    st.integers(-(10**9), 10**9),
)
def test_the_first_trade_of_a_time_is_found_in_the_past_and_in_the_future(
    seed: int, number: int, resolution_ns: int, gap_ns: int, past_gap_ns: int, off_ns: int
) -> None:
    of = tape(gap_ns, past_gap_ns, resolution_ns, seed)
    time_ns = of.time_ns(number) + off_ns
    found = of.at(time_ns)
    assert of.time_ns(found - 1) < time_ns <= of.time_ns(found)


def test_a_market_goes_on_in_the_same_way_after_a_restart() -> None:
    before, after = market(rate=50), market(rate=50, clock_ns=NOW_NS + 10 * 10**9)
    events = pulled(before, 2000)
    assert before.tapes[SUB].next > after.tapes[SUB].live + 100
    frames = {event.frame for event in events}
    assert all(event.frame in frames for event in pulled(after, 400))


# Trades


@given(
    seeds, st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=50), st.sampled_from(["BTC", "SHIB", "JPY"])
)
def test_many_trades_at_once_are_the_same_as_one_by_one(seed: int, asked: list[int], coin: str) -> None:
    for pair in ((coin, "USD"), ("BTC", coin)):
        walk = Walk(("Kraken", *pair), seed)
        leads = [number - number % 3 for number in asked]
        one_by_one = [walk.draw(*each) for each in zip(asked, leads, strict=True)]
        price, quantity, buy = walk.draws(np.array(asked), np.array(leads))
        assert [(draw.price, draw.quantity, draw.buy) for draw in one_by_one] == list(
            zip(price.tolist(), quantity.tolist(), buy.tolist(), strict=True)
        )
        assert all(draw.price > 0 < draw.quantity for draw in one_by_one)


def test_takers_buy_and_sell_about_as_often() -> None:
    of = tape()
    assert 0.45 < sum(of.trade(number).buy for number in range(5_000)) / 5_000 < 0.55


def test_a_sweep_has_one_side_and_two_prices() -> None:
    sweep = [tape().trade(number) for number in range(BLOCK, BLOCK + SWEEP)]
    assert len({(trade.time_ns, trade.buy) for trade in sweep}) == 1
    assert [len({trade.price for trade in half}) for half in (sweep[:4], sweep[4:])] == [1, 1]
    assert len({trade.quantity for trade in sweep}) == SWEEP


def test_a_trade_is_written_as_the_log_has_it() -> None:
    traded = tape(start_id=5000).trade(107)
    trade = traded.trade()
    assert trade.pair == ("Kraken", "BTC", "USD")
    assert (trade.id, trade.event_time_ns) == (str(traded.id), traded.time_ns // 1000 * 1000)
    assert trade.direction == ("BUY" if traded.buy else "SELL")
    assert f"{trade.price:.2f}" == traded.price_text
    assert f"{trade.quantity:.8f}" == traded.quantity_text
    assert trade.total == trade.price * trade.quantity


@given(seeds, st.floats(0.01, 0.9))
def test_lost_ids_are_the_share_that_was_asked_for_and_whole_aggregates(seed: int, share: float) -> None:
    of = tape(lost_ids=share, seed=seed)
    held = [number for number in range(6400) if of.exists(number)]
    assert 1 - len(held) / 6400 == pytest.approx(share, abs=0.1)
    assert all(of.exists(number) == of.exists(level_of(number)) for number in range(640))


def test_what_is_before_the_listing_or_not_made_yet_is_told_to_nobody() -> None:
    of = tape(listed_ns=NOW_NS - 100 * 10**9)
    assert list(of.between(-(10**9), 10**9)) == list(range(of.first, of.live))
    assert list(of.before(10**9)) == list(range(of.live - 1, of.first - 1, -1))
    assert NOW_NS - 100 * 10**9 <= of.time_ns(of.first) < NOW_NS - 80 * 10**9
    assert len(of.draws(-(10**9), 10**9).price) == of.live - of.first


# The source


def test_trades_of_all_pairs_come_in_the_order_of_their_times_without_a_hole() -> None:
    of = market(rate=200, pairs=("BTC-USD", "ETH-USD", "XRP-EUR"))
    events = pulled(of, 3000)
    assert [event.stream_ns for event in events] == sorted(event.stream_ns for event in events)
    for subscription in of.tapes:
        ids = [id_ for event in events if event.subscription == subscription for id_ in event.ids]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert len({event.subscription for event in events}) == 3


@pytest.mark.parametrize("rate", [2.0, 50.0, 3000.0])
def test_the_rate_is_that_of_all_pairs_together(rate: float) -> None:
    of = market(rate=rate)
    trades = 0
    while (due_s := of.next_due_s()) is not None and due_s < 1000 / rate:
        trades += of.pull(()).trades
    assert trades == pytest.approx(1000, rel=0.05)


def test_a_quiet_pair_trades_seldom_and_the_others_as_they_would_alone() -> None:
    of = market(rate=10, faults=Faults(quiet_pairs=("ETH-USD",), quiet_every_s=30))
    times_ns: dict[str, list[int]] = {subscription: [] for subscription in of.tapes}
    while (due_s := of.next_due_s()) is not None and due_s < 3600:
        event = of.pull(())
        times_ns[str(event.subscription)] += [event.stream_ns] * event.trades
    assert len(times_ns["0~Kraken~ETH~USD"]) == pytest.approx(120, abs=16)
    assert len(times_ns[SUB]) == pytest.approx(36_000, rel=0.01)
    quiet = times_ns["0~Kraken~ETH~USD"]
    assert max(after - before for before, after in pairwise(quiet)) > 120 * 10**9


def test_a_named_start_makes_the_same_market_each_time() -> None:
    named: dict[str, Any] = {"start_time_s": 1_600_000_000, "time_step_s": 5.0, "rate": 10.0}
    first, second = market(**named), market(clock_ns=7, **named)
    assert pulled(first, 300) == pulled(second, 300)
    assert first.tapes[SUB].live == 0
    assert first.tapes[SUB].offset == FIRST_ID
    assert first.next_due_s() == pytest.approx(300 / 10, abs=8)
    assert first.now_ns(60) == 1_600_003_000 * 10**9


def test_max_trades_ends_the_market() -> None:
    of = market(rate=0, max_trades=100)
    made = 0
    while of.next_due_s() is not None:
        made += of.pull(()).trades
    assert made == 100


def test_a_history_of_another_rate_has_ids_before_the_first_live_one() -> None:
    of = market(rate=100, history_rate=1, history_s=86_400, start_time_s=1_600_000_000)
    past = of.tapes[SUB]
    assert past.live - past.first == pytest.approx(86_400 / 2, abs=10)
    assert past.trade(past.live).id == FIRST_ID
    day_before = past.at((1_600_000_000 - 3600) * 10**9)
    assert past.live - day_before == pytest.approx(1800, abs=10)


def test_skipped_ids_are_in_no_trade_and_the_others_go_on() -> None:
    of = market(rate=100)
    before = pulled(of, 50)
    hole = of.skip(SUB, 40)
    ids = [id_ for event in before + pulled(of, 400) if event.subscription == SUB for id_ in event.ids]
    assert sorted({*ids, *hole}) == list(range(ids[0], ids[-1] + 1))
    assert not set(ids) & set(hole)
    assert len(hole) == 40
    assert not any(of.tapes[SUB].exists(id_ - of.tapes[SUB].offset) for id_ in hole)


def test_a_frame_of_several_trades_may_have_them_in_no_order() -> None:
    of = market(rate=100, faults=Faults(disordered_ids=1))
    several = [event.ids for event in pulled(of, 500) if len(event.ids) > 1]
    assert len(several) > 3
    assert all(len(ids) == SWEEP for ids in several[1:])
    assert any(list(ids) != sorted(ids) for ids in several)


@pytest.mark.parametrize("pair", ["BTC", "-USD", "BTC-", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match="BTC-USD"):
        market(pairs=(pair,))
