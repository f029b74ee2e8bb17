"""Laws of generated trades."""

import math
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError
from cryptoflow.model.trade import Trade, read_trade
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.generator import STEP, WALK_LIMIT, Generator, usd_price

PAIRS = ("0~Coinbase~BTC~USD", "0~Binance~ETH~USDT", "0~Kraken~SHIB~EUR", "0~Kraken~ETH~BTC")
START_S = 1_600_000_000.0


def config(**changes: object) -> SimulatorConfig:
    return SimulatorConfig(**({"start_time_s": START_S, "max_trades": 300} | changes))  # type: ignore[arg-type]


def trades(of: SimulatorConfig, subscriptions: tuple[str, ...] = PAIRS) -> list[Trade]:
    return [read_trade(frame) for frame in frames(of, subscriptions)]


seeds = st.integers(0, 2**32)
names = st.text("ABCXYZ", min_size=1, max_size=6)


@given(seeds, st.lists(names, min_size=1, max_size=4, unique=True))
def test_every_frame_is_a_readable_trade_of_a_subscribed_pair(seed: int, coins: list[str]) -> None:
    subscriptions = tuple(f"0~M~{coin}~USD" for coin in coins)
    made = trades(config(seed=seed, max_trades=50), subscriptions)
    assert len(made) == 50
    assert {trade.pair for trade in made} <= {("M", coin, "USD") for coin in coins}


@given(seeds)
def test_ids_are_unique_and_increase(seed: int) -> None:
    ids = [int(trade.id) for trade in trades(config(seed=seed))]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


@given(seeds)
def test_the_sequence_of_each_pair_steps_by_one(seed: int) -> None:
    sequences = defaultdict(list)
    for trade in trades(config(seed=seed)):
        sequences[trade.pair].append(trade.sequence)
    assert len(sequences) == len(PAIRS)
    assert all(steps == list(range(1, len(steps) + 1)) for steps in sequences.values())


@given(seeds)
def test_total_is_price_times_quantity_and_receipt_follows_the_trade(seed: int) -> None:
    for trade in trades(config(seed=seed)):
        assert trade.total == trade.quantity * trade.price
        assert trade.received_s is not None
        received_ns = trade.received_s * 10**9 + (trade.received_ns or 0)
        assert 0 < received_ns - trade.event_time_ns < 10**8


@given(seeds)
def test_prices_walk_in_small_steps_from_the_coins_price(seed: int) -> None:
    prices = [trade.price for trade in trades(config(seed=seed), PAIRS[:1])]
    assert prices[0] == pytest.approx(60_000, rel=STEP)
    assert all(after == pytest.approx(before, rel=2 * STEP) for before, after in pairwise(prices))
    assert len(set(prices)) > len(prices) / 2
    assert all(price == round(price, 2) for price in prices)


def test_a_long_walk_stays_within_its_limit() -> None:
    prices = [trade.price for trade in trades(config(max_trades=20_000), ("0~M~SHIB~USD",))]
    start = usd_price("SHIB")
    assert start / WALK_LIMIT <= min(prices) < max(prices) <= start * WALK_LIMIT


@given(names)
def test_unknown_coins_have_plausible_prices(name: str) -> None:
    assert 0.001 <= usd_price(name) <= 100_000


@given(seeds)
def test_the_same_config_makes_the_same_frames(seed: int) -> None:
    of = config(seed=seed, max_trades=20)
    assert list(frames(of, PAIRS)) == list(frames(of, PAIRS))


def test_another_seed_makes_other_frames() -> None:
    assert list(frames(config(seed=1), PAIRS)) != list(frames(config(seed=2), PAIRS))


@given(st.floats(0.001, 60), st.integers(0, 50))
def test_the_virtual_clock_steps_evenly(step_s: float, number: int) -> None:
    made = trades(config(time_step_s=step_s, max_trades=51))
    assert made[number].event_time_ns == int(START_S * 10**9) + number * round(step_s * 10**9)


@pytest.mark.parametrize(("rate", "step_s"), [(50.0, 0.02), (0.0, 0.01)])
def test_the_virtual_step_follows_the_rate(rate: float, step_s: float) -> None:
    first, second = trades(config(rate=rate, max_trades=2))
    assert second.event_time_ns - first.event_time_ns == round(step_s * 10**9)


def test_without_a_start_time_trades_have_the_clocks_time_and_never_go_back() -> None:
    times = iter([5_000, 5_000, 9_000, 8_000, 12_000])
    of = SimulatorConfig(max_trades=4, start_id=7)
    made = [read_trade(frame) for frame in frames(of, PAIRS, lambda: 10**18 + next(times))]
    assert [trade.event_time_ns - 10**18 for trade in made] == [5_000, 5_000, 9_000, 9_000]
    assert [trade.id for trade in made] == ["7", "8", "9", "10"]


def test_ids_of_a_later_start_do_not_meet_those_of_an_earlier_one() -> None:
    def ids(start_ns: int) -> set[str]:
        made = frames(SimulatorConfig(max_trades=900), PAIRS, lambda: start_ns)
        return {read_trade(frame).id for frame in made}

    assert not ids(10**18) & ids(10**18 + 10**6)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_the_share_of_other_flags_is_near_what_was_asked(share: float) -> None:
    flags = [trade.flags for trade in trades(config(max_trades=5_000, other_flags_share=share))]
    others = sum(flag in {"4", "9", "10"} for flag in flags)
    assert set(flags) <= {"1", "2", "4", "9", "10"}
    assert math.isclose(others / len(flags), share, abs_tol=0.03)


@given(st.floats(0.5, 1000), st.integers(0, 100))
def test_a_trade_is_due_at_the_rate(rate: float, number: int) -> None:
    generator = Generator(config(rate=rate), lambda: 0)
    for _ in range(number):
        generator.pull(PAIRS)
    assert generator.next_due_s() == pytest.approx(number / rate)


def test_what_is_no_trade_channel_cannot_be_generated() -> None:
    with pytest.raises(ConfigError, match="5~CCCAGG~BTC~USD"):
        list(frames(config(), ["5~CCCAGG~BTC~USD"]))
