"""Laws of the stream's faults."""

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.errors import ConfigError, UnreadableFrameError
from cryptoflow.model.trade import NS_PER_S, Trade, read_trade
from cryptoflow.simulator.config import SimulatorConfig
from cryptoflow.simulator.cryptocompare import CryptoCompare
from cryptoflow.simulator.events import Event, Kind, in_ns
from cryptoflow.simulator.faults import Faults
from cryptoflow.simulator.feed import frames
from cryptoflow.simulator.stages import breakages, flushed, pushed, stages

PAIRS = ("0~Coinbase~BTC~USD", "0~Binance~ETH~USDT")
START_S = 1_600_000_000
SUB = PAIRS[0]

seeds = st.integers(0, 2**32)
BREAKAGES = breakages(CryptoCompare.fields)

shares = st.floats(0, 1)
times_s = st.lists(st.floats(0, 1000, width=32), max_size=60).map(sorted)


def sent(max_trades: int = 2_000, seed: int = 0, **faults: Any) -> list[bytes]:
    return list(
        frames(
            SimulatorConfig(
                start_time_s=START_S,
                time_step_s=0.1,
                max_trades=max_trades,
                seed=seed,
                faults=Faults(**faults),
            ),
            PAIRS,
        )
    )


def readable(frame: bytes) -> Trade | None:
    try:
        return read_trade(frame)
    except UnreadableFrameError:
        return None


def through(faults: Faults, seed: int, stream_s: list[float]) -> list[Event]:
    events = [Event(b"%d" % number, SUB, in_ns(time_s)) for number, time_s in enumerate(stream_s)]
    on = stages(faults, seed, dated_back=False, fields=CryptoCompare.fields)
    return [out for event in events for out in pushed(on, (event,))] + flushed(on)


def test_all_faults_are_off_by_default() -> None:
    assert stages(Faults(), 0, dated_back=False, fields=CryptoCompare.fields) == ()
    assert len({read_trade(frame).id for frame in sent()}) == 2_000


@given(seeds, times_s, st.floats(0.1, 100), shares)
def test_disorder_and_holding_back_lose_nothing_and_repeat_nothing(
    seed: int, stream_s: list[float], disorder_s: float, late: float
) -> None:
    out = through(Faults(disorder_s=disorder_s, late=late, late_by_s=50), seed, stream_s)
    assert Counter(event.frame for event in out) == Counter(b"%d" % number for number in range(len(stream_s)))


@given(seeds, times_s, st.floats(0.1, 100))
def test_no_trade_leaves_after_one_that_is_newer_by_more_than_the_disorder(
    seed: int, stream_s: list[float], disorder_s: float
) -> None:
    newest_ns = 0
    for event in through(Faults(disorder_s=disorder_s), seed, stream_s):
        assert newest_ns - event.stream_ns <= in_ns(disorder_s)
        newest_ns = max(newest_ns, event.stream_ns)


@given(seeds, times_s, shares)
def test_overtaken_trades_are_all_sent_and_no_more_than_three_frames_late(
    seed: int, stream_s: list[float], share: float
) -> None:
    out = [int(event.frame) for event in through(Faults(disordered_ids=share), seed, stream_s)]
    assert sorted(out) == list(range(len(stream_s)))
    assert all(number - 3 <= place <= number + 3 for place, number in enumerate(out))


@given(seeds, st.floats(0.05, 0.95))
def test_lost_trades_are_the_share_asked_for_and_the_others_are_as_they_were(seed: int, share: float) -> None:
    every, left = sent(max_trades=500, seed=seed), sent(max_trades=500, seed=seed, lost=share)
    assert math.isclose(1 - len(left) / 500, share, abs_tol=0.15)
    assert left == [frame for frame in every if frame in set(left)]


def test_disorder_does_disorder() -> None:
    times_ns = [read_trade(frame).event_time_ns for frame in sent(disorder_s=5)]
    assert times_ns != sorted(times_ns)


@given(seeds, times_s, shares)
def test_a_trade_called_late_is_sent_that_late(seed: int, stream_s: list[float], late: float) -> None:
    newest_ns = 0
    for event in through(Faults(late=late, late_by_s=50), seed, stream_s):
        entered_ns = in_ns(stream_s[int(event.frame)])
        newest_ns = max(newest_ns, event.stream_ns)
        assert (newest_ns - entered_ns >= in_ns(50)) == (event.kind is Kind.LATE)


def test_generated_late_trades_are_dated_back_and_the_others_not() -> None:
    newest_ns, late = 0, 0
    for trade in map(read_trade, sent(late=0.1, late_by_s=300)):
        behind_ns = newest_ns - trade.event_time_ns
        assert behind_ns <= 0 or behind_ns == pytest.approx(300 * NS_PER_S, abs=NS_PER_S)
        late += behind_ns > 0
        newest_ns = max(newest_ns, trade.event_time_ns)
    assert 150 < late < 250


@given(seeds, st.floats(0.01, 1))
def test_duplicates_are_frames_sent_before_and_come_in_the_share_asked_for(seed: int, share: float) -> None:
    seen: set[bytes] = set()
    repeats = 0
    for frame in sent(max_trades=500, seed=seed, duplicates=share):
        repeats += frame in seen
        seen.add(frame)
    assert len(seen) == 500
    assert math.isclose(repeats / 500, share, abs_tol=0.15)


@given(seeds, st.floats(0.01, 1))
def test_broken_frames_come_in_addition_to_all_trades(seed: int, share: float) -> None:
    out = [readable(frame) for frame in sent(max_trades=500, seed=seed, malformed=share)]
    assert len({trade.id for trade in out if trade}) == 500
    assert math.isclose(out.count(None) / 500, share, abs_tol=0.15)


@pytest.mark.parametrize("number", range(len(BREAKAGES)))
def test_every_breakage_makes_a_frame_unreadable(number: int) -> None:
    for frame in sent(max_trades=50):
        assert readable(BREAKAGES[number](frame)) is None


def test_one_fault_does_not_change_what_another_does() -> None:
    alone = [frame for frame in sent(malformed=0.1) if readable(frame) is None]
    both = [frame for frame in sent(malformed=0.1, duplicates=0.1) if readable(frame) is None]
    assert alone == both


def test_a_seed_repeats_all_faults() -> None:
    everything: dict[str, Any] = {"duplicates": 0.1, "disorder_s": 3, "late": 0.1, "malformed": 0.1}
    assert sent(seed=5, **everything) == sent(seed=5, **everything)
    assert sent(seed=5, **everything) != sent(seed=6, **everything)


@pytest.mark.parametrize(
    "wrong",
    [
        {"duplicates": 1.1},
        {"late": -0.1},
        {"malformed": 2},
        {"disorder_s": -1},
        {"max_sockets": -1},
        {"heartbeat_s": 0},
        {"quiet_every_s": 0},
        {"lost_ids": 0.95},
        {"rest_errors": 1.5},
        {"refuse_status": 200},
    ],
)
def test_a_switch_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Faults(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"rate": -1}, {"speed": -1}, {"other_flags_share": 2}, {"history_s": 0}, {"limit_factor": -1}]
)
def test_a_config_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SimulatorConfig(**wrong)


def test_no_key_shows_in_a_repr() -> None:
    assert "SECRET" not in repr(SimulatorConfig(faults=Faults(api_keys=("SECRET",))))
