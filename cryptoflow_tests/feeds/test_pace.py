"""A pair's silence is told once, if it is longer than its own pace suggests, and never where it is proven quiet."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.feeds.pace import FADES, LEAST_S, SLACK, UNKNOWN_S, Paces, PairBack, PairSilent, Told

A, B = ("Kraken", "BTC", "USD"), ("Kraken", "ETH", "USD")

LOOK_S = 1.0

pauses = st.lists(st.integers(1, 400), min_size=1, max_size=40)
moments = st.lists(st.sampled_from([(), (A,), (B,), (A, B)]), max_size=900)


def looked(
    paces: Paces, moments: Iterable[Iterable[tuple[str, str, str]]], begin_s: float = 0
) -> list[tuple[float, Told]]:
    """What is told at each look, LOOK_S apart, before which these pairs have traded."""
    told = []
    for number, pairs in enumerate(moments, 1):
        now_s = begin_s + number * LOOK_S
        for pair in pairs:
            paces.traded(pair)
        told += [(now_s, each) for each in paces.look(now_s)]
    return told


def trades_after(pauses: Iterable[int]) -> list[tuple[tuple[str, str, str], ...]]:
    """A trade of A at the begin, and then one after each pause."""
    moments: list[tuple[tuple[str, str, str], ...]] = [(A,)]
    for pause in pauses:
        moments += [()] * (pause - 1) + [(A,)]
    return moments


@given(moments)
def test_silent_and_back_take_turns(moments: list[tuple[tuple[str, str, str], ...]]) -> None:
    paces = Paces([A, B], 0)
    told = [each for _, each in looked(paces, moments)]
    for pair in (A, B):
        kinds = [type(each) for each in told if each.pair == pair]
        assert kinds == [PairSilent, PairBack] * (len(kinds) // 2) + [PairSilent] * (len(kinds) % 2)
    assert len(paces.silent) == sum(isinstance(each, PairSilent) for each in told) - sum(
        isinstance(each, PairBack) for each in told
    )


@given(pauses)
def test_it_is_told_of_just_those_pauses_that_are_too_long_for_what_was_before(pauses: list[int]) -> None:
    told, longest_s, now_s = looked(Paces([A], 0), trades_after(pauses)), 0.0, 1.0
    wanted: list[tuple[type[Told], float]] = []
    for pause in pauses:
        bearable_s = max(LEAST_S, SLACK * longest_s)
        if pause - LOOK_S >= bearable_s:  # at the last look before the trade
            wanted.append((PairSilent, now_s + -(-bearable_s // LOOK_S) * LOOK_S))
            wanted.append((PairBack, now_s + pause))
        now_s += pause
        longest_s = max(pause, longest_s * (1 - FADES))
    assert [(type(each), at_s) for at_s, each in told] == wanted


@given(st.integers(1, 200), st.integers(10, 100))
def test_a_steady_pace_is_never_told_however_slow(pause: int, times: int) -> None:
    assert (
        looked(Paces([A], 0), trades_after([pause] * times if pause < LEAST_S else [5, 24, 100, 99] + [98] * 9)) == []
    )


@given(moments)
def test_a_pair_that_is_proven_quiet_is_never_told(moments: list[tuple[tuple[str, str, str], ...]]) -> None:
    paces, told = Paces([A], 0), []
    for number, pairs in enumerate(moments, 1):
        paces.reached(A, 7, number)
        for pair in pairs:
            paces.traded(pair)
        told += paces.look(number)
        assert paces.quiet(number) == (number > 1)
    assert not told


def test_a_heartbeat_with_a_newer_id_proves_nothing() -> None:
    paces = Paces([A], 0)
    paces.traded(A)
    told = []
    for now_s in range(1, 60):
        paces.reached(A, now_s, now_s)
        told += paces.look(now_s)
        assert not paces.quiet(now_s)
    assert [type(each) for each in told] == [PairSilent]


@given(st.integers(1, 600))
def test_a_pair_that_never_came_is_told_if_others_trade(seconds: int) -> None:
    told = looked(Paces([A, B], 0), [(B,)] * seconds)
    assert told == ([(UNKNOWN_S, PairSilent(A, UNKNOWN_S, None))] if seconds >= UNKNOWN_S else [])
    assert looked(Paces([A, B], 0), [()] * seconds) == []


def test_what_was_silent_while_there_was_no_socket_counts_for_nothing() -> None:
    paces = Paces([A], 0)
    assert looked(paces, trades_after([1, 1, 1])) == []
    paces.opened(1000)
    assert looked(paces, [()] * int(LEAST_S - 1), 1000) == []
    paces.traded(A)
    assert paces.look(1030) == []
    assert [at_s for at_s, _ in looked(paces, [()] * 40, 1030)] == [1030 + LEAST_S]


def test_sentences_name_the_pair_and_how_long() -> None:
    assert str(PairSilent(A, 65, 12)).startswith(
        "Nothing has come of BTC-USD on Kraken for 65 s, its longest pause lat"
    )
    assert "though others trade" in str(PairSilent(A, 300, None))
    assert str(PairBack(A, 90)) == "BTC-USD on Kraken is no longer silent, after 90 s."


def test_other_pairs_are_passed_over() -> None:
    paces = Paces([A], 0)
    paces.traded(B)
    paces.reached(B, 1, 1)
    assert paces.look(1) == []
    assert not Paces([], 0).quiet(1)
