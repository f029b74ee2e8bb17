"""Laws of verdicts: an hour is proven to be whole only if it is, and what it lacks is told by its numbers."""

from collections.abc import Collection, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.verdict import (
    ALL_THERE,
    COMPLETE,
    LATE_TRADES,
    LOG_CUT,
    MOST_RANGES,
    NO_TRADE,
    NOT_AFTER,
    NOT_BEFORE,
    PROVEN,
    QUIET,
    REPAIRED,
    SUSPECT,
    Facts,
    Numbers,
    Range,
    Run,
    bounded,
    count,
    has,
    holes,
    joined,
    mark,
    missing,
    settled,
    verdict,
)

numbers = st.sets(st.integers(-20, 60))
runs = st.lists(st.tuples(st.integers(-20, 60), st.integers(0, 9)).map(lambda run: (run[0], run[0] + run[1])))


def runs_of(given: Collection[int]) -> list[Run]:
    return joined((number, number) for number in given)


def numbers_in(ranges: Sequence[Range]) -> set[int]:
    """Those of the ranges that have both ends."""
    return {n for a, b in ranges if a is not None and b is not None for n in range(a, b + 1)}


@given(runs)
def test_joined_runs_hold_the_same_numbers_in_as_few_runs_as_can_be(given: list[Run]) -> None:
    found = joined(given)
    assert numbers_in(found) == numbers_in(given)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))
    assert {number for number in range(-25, 75) if has(found, number)} == numbers_in(given)


@given(numbers, st.integers(-25, 70), st.integers(-25, 70))
def test_holes_are_what_no_run_has(known: set[int], first: int, last: int) -> None:
    assert numbers_in(holes(first, last, runs_of(known))) == set(range(first, last + 1)) - known


# numbers   0 .. before ..   here   .. after .. 39
@given(st.sets(st.integers(0, 39)), st.tuples(st.integers(1, 39), st.integers(1, 39)).map(sorted), st.booleans())
def test_an_hour_is_proven_only_if_all_of_its_trades_are_known(
    lost: set[int], edges: list[int], neighbours_are_judged: bool
) -> None:
    begin, end = edges  # the hour has the numbers from begin on and before end
    every = set(range(40))
    here, earlier, later = set(range(begin, end)) - lost, set(range(begin)) - lost, set(range(end, 40)) - lost
    known = Numbers(*map(runs_of, (here, earlier, later)))
    before = max(earlier, default=None) if neighbours_are_judged else None
    after = min(later, default=None) if neighbours_are_judged else None
    found = missing(known, before, after)
    if not found:
        assert set(range(begin, end)) == here
        assert begin - 1 in earlier
        assert end in later
    elif neighbours_are_judged and before is not None and after is not None:
        assert numbers_in(found) == {number for number in every & lost if before < number < after}
    assert numbers_in(found) <= lost
    if not lost & set(range(begin - 1, end + 1)) and end < 40:
        assert found == []


def test_what_is_not_known_of_the_hours_beside_leaves_it_open() -> None:
    here = [(10, 12), (14, 15)]
    assert missing(Numbers(here), None, None) == [(None, 9), (13, 13), (16, None)]
    assert missing(Numbers(here), 7, 18) == [(8, 9), (13, 13), (16, 17)]
    assert missing(Numbers(here, [(9, 9)], [(16, 20)]), None, None) == [(13, 13)]
    assert missing(Numbers(here, [(13, 13)]), 9, 16) == []  # out of order at the hour's edge
    assert missing(Numbers(), None, None) == [(None, None)]
    assert missing(Numbers(), 9, None) == [(10, None)]
    assert missing(Numbers(), 9, 12) == [(10, 11)]
    assert missing(Numbers((), [(3, 9)], [(10, 12)]), None, None) == []


def test_what_becomes_known_settles_the_hours_beside() -> None:
    open_end: list[Range] = [(3, 3), (16, None)]
    assert settled(open_end, [], high=15) == [(3, 3)]
    assert settled(open_end, [], high=20) == [(3, 3), (16, 20)]
    assert settled(open_end, [(1, 5), (18, 18)], high=20) == [(16, 17), (19, 20)]
    assert settled(open_end, [(16, 16)]) == open_end
    assert settled([(None, 9)], [], low=8) == [(8, 9)]
    assert settled([(None, 9)], [], low=10) == []
    assert settled([(None, None)], [], low=8) == [(8, None)]
    assert settled([(5, 20)], [], high=9) == [(5, 9)]
    assert settled([(None, None)], [(1, 9)]) == [(None, None)]


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3)), min_size=1, max_size=2 * MOST_RANGES))
def test_of_very_many_ranges_the_last_one_takes_in_the_rest(given: list[tuple[int, int]]) -> None:
    ranges = joined((first, first + more) for first, more in given)
    kept = bounded(ranges)
    assert len(kept) == min(len(ranges), MOST_RANGES)
    assert numbers_in(kept) >= numbers_in(ranges)
    assert count(ranges) == len(numbers_in(ranges))


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(trades=5), (COMPLETE, ALL_THERE)),
        (Facts(trades=5, numbered=True), (COMPLETE, PROVEN)),
        (Facts(trades=5, repaired=True, late=True), (REPAIRED, LATE_TRADES)),
        (Facts(trades=5, repaired=True, filled=True), (REPAIRED, "trades were filled in")),
        (Facts(trades=5, repaired=True), (REPAIRED, "the rows differed")),
        (Facts(trades=0, numbered=True), (QUIET, "the numbers before and after it join")),
        (Facts(trades=0, numbered=True, missing=[(4, None)]), (SUSPECT, NO_TRADE)),
        (Facts(trades=5, numbered=True, missing=[(None, 3)]), (SUSPECT, NOT_BEFORE)),
        (Facts(trades=5, numbered=True, missing=[(9, None)]), (SUSPECT, NOT_AFTER)),
        (Facts(trades=5, numbered=True, missing=[(9, None)], cut=True), (SUSPECT, LOG_CUT)),
        (Facts(trades=5, gaps=1, missing=[(3, 3)]), (SUSPECT, "1 trade missing: 3 did not come")),
        (
            Facts(trades=5, gaps=2007, missing=[(3, 3), (7, 9), (11, 12), (20, 2020), (2022, None)]),
            (SUSPECT, "2,007 trades missing: 3, 7 to 9, 11 to 12, ... did not come"),
        ),
        (Facts(trades=5, repaired=True, disagreement="off by 1"), (SUSPECT, "off by 1")),
        (Facts(trades=5, numbered=True, disagreement="off by 1", compared=False), (SUSPECT, "off by 1")),
        (Facts(trades=5, numbered=True, disagreement="off by 1"), (COMPLETE, f"{PROVEN}; off by 1")),
        (Facts(trades=5, numbered=True, missing=[(9, None)], disagreement="off by 1"), (SUSPECT, NOT_AFTER)),
    ],
)
def test_a_verdict_says_why(facts: Facts, expected: tuple[str, str]) -> None:
    assert verdict(facts) == expected


def test_candles_are_marked_with_the_worst_of_their_hours() -> None:
    assert [mark(each) for each in ([], [COMPLETE, ""], [QUIET, REPAIRED], [REPAIRED, SUSPECT])] == [
        "", "", REPAIRED, SUSPECT,
    ]  # fmt: skip
