"""Laws of the lease's log: one holder at each offset, and the same one for all who read.

C: a claim, B: a beat, R: a release; time runs to the right, in s. The time to live is 10 s.
"""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.runtime.holder import Holder
from cryptoflow.runtime.lease_log import (
    CUT,
    WHOLE,
    Beat,
    Claim,
    Entry,
    LeaseState,
    Record,
    Release,
    fold,
    read_record,
    write_record,
)

TTL_MS = 10_000

Told = tuple[float, Record]


def holder(run: str) -> Holder:
    return Holder(run, "host", "home", 1, 1, "boot", "space")


def claim(run: str, supersedes: str | None = None) -> Claim:
    return Claim(run, holder(run), supersedes)


def beat(run: str, fence: int) -> Beat:
    return Beat(run, holder(run), fence)


def log(*told: Told) -> list[Entry]:
    return [Entry(offset, int(time_s * 1000), record) for offset, (time_s, record) in enumerate(told)]


def after(*told: Told) -> LeaseState:
    return fold(log(*told), TTL_MS)


def test_the_first_claim_wins_and_its_offset_is_the_fence() -> None:
    # 0 C(a)  1 C(b)
    state = after((0, claim("a")), (1, claim("b")))
    assert (state.holder, state.fence) == (holder("a"), 0)


def test_a_holder_that_beats_keeps_the_lease_for_ever() -> None:
    # 0 C(a)  9 B(a)  18 B(a)  27 C(b)
    assert after((0, claim("a")), (9, beat("a", 0)), (18, beat("a", 0)), (27, claim("b"))).token == "a"


@pytest.mark.parametrize(("time_s", "token"), [(10, "a"), (10.001, "b")])
def test_who_is_silent_for_longer_than_the_time_to_live_loses_to_the_next_claim(time_s: float, token: str) -> None:
    assert after((0, claim("a")), (time_s, claim("b"))).token == token


def test_who_is_silent_keeps_the_lease_until_somebody_claims_it() -> None:
    # 0 C(a)  99 B(a)  100 C(b)
    assert after((0, claim("a")), (99, beat("a", 0)), (100, claim("b"))).token == "a"


def test_beats_after_another_has_taken_over_change_nothing() -> None:
    # 0 C(a)  11 C(b)  12 B(a)  20 B(a)  22 C(c)
    told: list[Told] = [(0, claim("a")), (11, claim("b")), (12, beat("a", 0)), (20, beat("a", 0))]
    assert after(*told).token == "b"
    assert after(*told, (22, claim("c"))).token == "c"


def test_a_release_frees_the_lease_at_once_but_only_the_holders() -> None:
    assert after((0, claim("a")), (1, Release("a", 0)), (2, claim("b"))).token == "b"
    assert after((0, claim("a")), (11, claim("b")), (12, Release("a", 0)), (13, claim("c"))).token == "b"


def test_a_beat_that_comes_behind_the_release_does_not_bring_the_lease_back() -> None:
    assert after((0, claim("a")), (1, Release("a", 0)), (2, beat("a", 0))).holder is None


def test_a_claim_supersedes_exactly_the_dead_holder() -> None:
    # 0 C(a)  1 C(b instead of a)  2 C(c instead of a)
    state = after((0, claim("a")), (1, claim("b", "a")), (2, claim("c", "a")))
    assert (state.token, state.fence) == ("b", 1)


def test_a_clock_set_back_ends_no_lease_and_keeps_none() -> None:
    # 100 C(a)  0 B(a)  5 C(b)  11 C(c)
    told: list[Told] = [(100, claim("a")), (0, beat("a", 0)), (5, claim("b"))]
    assert after(*told).token == "a"
    assert after(*told, (11, claim("c"))).token == "c"


def test_a_log_made_anew_under_a_holder_knows_it_again_and_goes_on_counting() -> None:
    # 0 B(a, fence 70)  11 C(b)  12 B(a)
    state = after((0, beat("a", 70)), (11, claim("b")), (12, beat("a", 70)))
    assert (state.token, state.fence) == ("b", 71)


def test_who_starts_in_the_middle_judges_no_claim_until_it_is_past_doubt() -> None:
    # ... 0 C(b)  1 B(a)      the claim lost
    # ... 0 C(b)  1 B(b)      the claim won
    begun = CUT.after(Entry(7, 0, claim("b")), TTL_MS)
    assert begun.holder is None
    assert begun.after(Entry(8, 1000, beat("a", 3)), TTL_MS).token == "a"
    assert begun.after(Entry(8, 1000, beat("b", 7)), TTL_MS).token == "b"


def test_who_starts_in_the_middle_of_silence_lets_the_next_claim_win() -> None:
    # ... 0 C(b)  11 C(c)
    begun = CUT.after(Entry(7, 0, claim("b")), TTL_MS)
    assert begun.after(Entry(8, 11_000, claim("c")), TTL_MS).token == "c"


def test_a_claim_that_could_not_be_judged_puts_those_that_follow_in_doubt_too() -> None:
    # ... 0 R(a)  8 C(b)  12 C(c)  13 B(b)      b has won: c's claim came too early
    told: list[Told] = [(0, Release("a", 3)), (8, claim("b")), (12, claim("c")), (13, beat("b", 8))]
    entries = [Entry(7 + place, int(time_s * 1000), record) for place, (time_s, record) in enumerate(told)]
    assert fold(entries[:3], TTL_MS, CUT).holder is None
    assert fold(entries, TTL_MS, CUT).token == "b"


def test_records_are_read_as_they_were_written_and_others_passed_over() -> None:
    for record in (claim("a", "b"), beat("a", 5), Release("a", 5)):
        assert read_record(write_record(record)) == record
    for strange in (None, b"", b"\xff", b"{}", b'{"kind":"new"}', b'{"x":' + b"[" * 100_000):
        assert read_record(strange) is None


# Any log that contenders can write: whoever beats or releases has won before, whether it still holds the lease or not.

RUNS = "abcd"
Move = tuple[str, str, int, int]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["claim", "supersede", "beat", "beat", "release"]),
        st.sampled_from(RUNS),
        st.integers(-1_000, 7_000),
        st.sampled_from([0, 0, 0, 1, 2]),
    ),
    min_size=2,
    max_size=30,
)


def written(moves: Sequence[Move]) -> list[Entry]:
    """The log of these moves, by contenders who know the log so far; each claim has a token of its own."""
    entries: list[Entry] = []
    state, won = WHOLE, [("", -1)]
    time_ms = 1_000_000
    for kind, run, passed_ms, which in moves:
        time_ms += passed_ms
        offset = len(entries)
        token, fence = won[-1 - min(which, len(won) - 1)]
        record: Record = Claim(f"{run}{offset}", holder(run), token if kind == "supersede" else None)
        if kind in ("beat", "release") and fence >= 0:
            record = Beat(token, holder(token[0]), fence) if kind == "beat" else Release(token, fence)
        entries.append(Entry(offset, time_ms, record))
        state = state.after(entries[-1], TTL_MS)
        if state.heard == offset and isinstance(record, Claim):
            won.append((state.token, state.fence))
    return entries


def states(entries: Sequence[Entry], start: LeaseState = WHOLE) -> list[LeaseState]:
    found = [start]
    for entry in entries:
        found.append(found[-1].after(entry, TTL_MS))
    return found


@given(MOVES)
def test_the_holder_changes_only_by_a_claim_or_its_own_release_and_fences_only_grow(moves: list[Move]) -> None:
    entries = written(moves)
    for entry, (before, now) in zip(entries, pairwise(states(entries)), strict=True):
        assert now.fence >= before.fence
        if now.token != before.token:
            won = isinstance(entry.record, Claim) and now.token == entry.record.token
            assert (won and now.fence > before.fence) or entry.record == Release(before.token, before.fence)


@given(MOVES)
def test_a_live_holder_loses_to_nobody_who_does_not_know_it_dead(moves: list[Move]) -> None:
    entries = written(moves)
    for entry, (before, now) in zip(entries, pairwise(states(entries)), strict=True):
        taken = before.holder is not None and now.token != before.token and isinstance(entry.record, Claim)
        if taken and isinstance(entry.record, Claim) and entry.record.supersedes != before.token:
            assert sum(step_ms(a, b) for a, b in pairwise(entries[before.heard : entry.offset + 1])) > TTL_MS


def step_ms(before: Entry, now: Entry) -> int:
    return max(0, now.time_ms - before.time_ms)


@given(MOVES)
def test_beats_of_who_does_not_hold_the_lease_change_nothing(moves: list[Move]) -> None:
    entries = written(moves)
    before = fold(entries, TTL_MS)
    for token, fence in {(f"{run}{n}", n) for run in RUNS for n in range(before.fence)}:
        if token != before.token:
            stale = Entry(len(entries), before.last_ms or 0, Beat(token, holder(token[0]), fence))
            assert before.after(stale, TTL_MS) == before


@given(MOVES, st.integers(0, 40))
def test_all_readers_agree_once_past_doubt_and_a_beat_of_the_holder(moves: list[Move], cut: int) -> None:
    entries = written(moves)
    cut %= len(entries)
    whole, late = states(entries)[cut:], states(entries[cut:], CUT)
    agreed = False
    for entry, full, part in zip(entries[cut:], whole[1:], late[1:], strict=False):
        heard = isinstance(entry.record, Beat) and entry.record.token == full.token
        agreed = (agreed and part.doubt_ms is None) or (heard and part.doubt_ms is None)
        if heard:
            assert (part.holder, part.fence, part.silent_ms) == (full.holder, full.fence, full.silent_ms)
        if agreed:
            assert part == full
