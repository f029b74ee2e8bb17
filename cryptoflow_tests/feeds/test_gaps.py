"""Gaps: which pairs missed trades, and when.

T: a trade, #: its sequence, x: the socket is lost. What stands further right came later.
"""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.feeds.gaps import WATCHED, Gap, GapFinder
from cryptoflow.model.trade import NS_PER_S, Trade

SUBSCRIPTIONS = ["0~Kraken~BTC~USD", "0~Gemini~BTC~USD"]


def at(time_s: int, market: str = "Kraken", number: int | None = None) -> Trade:
    return Trade(market, "BTC", "USD", "1", str(number or time_s), time_s, 1.0, 2.0, 2.0, sequence=number)


def nth(number: int, time_s: int | None = None) -> Trade:
    """Trade number `number` of Kraken's, at 10 s for each unless told."""
    return at(10 * number if time_s is None else time_s, number=number)


def finder(*seen_s: int) -> GapFinder:
    gaps = GapFinder(SUBSCRIPTIONS)
    for time_s in seen_s:
        assert gaps.seen(at(time_s), new=True) is None
    return gaps


def gap(from_s: int, to_s: int, reason: str, market: str = "Kraken") -> Gap:
    return Gap(market, "BTC", "USD", from_s * NS_PER_S, to_s * NS_PER_S, reason)


def test_a_gap_runs_from_the_last_trade_before_to_the_first_one_after() -> None:
    # T10  T20  x25 ........ T90  T95
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90), new=True) == gap(20, 90, "cut")
    assert gaps.seen(at(95), new=True) is None


def test_a_replayed_trade_that_was_seen_bridges_the_hole() -> None:
    # T10  T20  x25 ... T20 again  T90
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(20), new=False) is None
    assert gaps.seen(at(90), new=True) is None


def test_a_replay_that_begins_with_known_trades_and_goes_on_in_order_bridges_the_hole() -> None:
    # T10  T20  x25 ... T10 again  T20 again  T30  T40
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    replay = [gaps.seen(at(10), new=False), gaps.seen(at(20), new=False)]
    assert [*replay, gaps.seen(at(30), new=True), gaps.seen(at(40), new=True)] == [None] * 4


def test_a_late_trade_does_not_hide_the_gap() -> None:
    # T10  T20  x25 ........ T15 (never seen)  T90
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(15), new=True) is None
    assert gaps.seen(at(90), new=True) == gap(20, 90, "cut")


def test_an_old_trade_that_comes_twice_does_not_hide_the_gap() -> None:
    # T10  T20  x25 ........ T10 again  T90
    gaps = finder(10, 20)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(10), new=False) is None
    assert gaps.seen(at(90), new=True) == gap(20, 90, "cut")


def test_the_last_one_that_came_bridges_the_hole_though_another_is_later_by_exchange_time() -> None:
    # T20  T10 (late)  x25 ... T10 again  T30
    gaps = finder(20, 10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(10), new=False) is None
    assert gaps.seen(at(30), new=True) is None


def test_a_replay_from_before_the_outage_is_enough_for_a_pair_without_trades() -> None:
    # x25 ... T15  T90
    gaps = finder()
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(15), new=True) is None
    assert gaps.seen(at(90), new=True) is None


def numbered(*numbers: int) -> GapFinder:
    """A finder that has seen these, and then lost its socket."""
    gaps = GapFinder(SUBSCRIPTIONS)
    for number in numbers:
        assert gaps.seen(nth(number), new=True) is None
    gaps.lost(10_000 * NS_PER_S, "cut")
    return gaps


def test_the_next_in_sequence_was_not_missed_whatever_is_replayed() -> None:
    # #1  #2  x ... #3  #4
    gaps = numbered(1, 2)
    assert gaps.seen(nth(3), new=True) is None
    assert gaps.seen(nth(4), new=True) is None
    assert list(gaps.end(20_000 * NS_PER_S)) == []


def test_a_hole_in_the_sequence_is_a_gap_at_once() -> None:
    # #1  #2  x ...... #5
    gaps = numbered(1, 2)
    assert gaps.seen(nth(5), new=True) == gap(20, 50, "cut")
    assert gaps.seen(nth(6), new=True) is None


def test_a_late_next_in_sequence_does_not_hide_the_gap() -> None:
    # #1  #2  x ... #3 (held back)  ...... #51  #52 ...
    gaps = numbered(1, 2)
    assert gaps.seen(nth(3, time_s=15), new=True) is None
    found = [gaps.seen(nth(number), new=True) for number in range(51, 51 + WATCHED)]
    assert [each for each in found if each] == [gap(20, 510, "cut")]


def test_a_last_trade_that_comes_twice_hides_no_hole_in_the_sequence() -> None:
    # #1  #2  x ... #2 again  ...... #5  end
    gaps = numbered(1, 2)
    assert gaps.seen(nth(2), new=False) is None
    assert gaps.seen(nth(5), new=True) is None
    assert list(gaps.end(20_000 * NS_PER_S)) == [gap(20, 50, "cut")]


def test_a_replay_in_disorder_has_no_holes_in_the_end() -> None:
    # #1  #2  x ... #2 again  #5  #3  #4
    gaps = numbered(1, 2)
    assert gaps.seen(nth(2), new=False) is None
    assert [gaps.seen(nth(number), new=True) for number in (5, 3, 4)] == [None] * 3
    assert list(gaps.end(20_000 * NS_PER_S)) == []


def test_what_was_on_its_way_when_the_socket_was_lost_is_missed() -> None:
    # #1  #3 (before #2)  x ...... #4
    gaps = numbered(1, 3)
    assert gaps.seen(nth(4), new=True) == gap(10, 30, "cut")


def test_a_sequence_that_begins_anew_is_a_gap_and_counts_from_there() -> None:
    # #71  #72  x ...... #1  #2
    gaps = numbered(71, 72)
    assert gaps.seen(nth(1, time_s=900), new=True) == gap(720, 900, "cut")
    assert gaps.seen(nth(2, time_s=910), new=True) is None
    assert list(gaps.end(20_000 * NS_PER_S)) == []


def test_a_hole_without_an_outage_is_none_of_its_gaps() -> None:
    # #1  #5 ... #40  x ... #41
    gaps = numbered(1, *range(5, 41))
    assert gaps.seen(nth(41), new=True) is None


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 60), st.booleans())
def test_a_replay_tells_a_gap_exactly_if_it_does_not_overlap(before: int, missed: int, after: int, seq: bool) -> None:
    # #1 ... #before  x  (missed)  the last 20 of all so far, and `after` live ones
    gaps = GapFinder(SUBSCRIPTIONS)
    make = nth if seq else lambda number: at(10 * number)
    for number in range(1, before + 1):
        assert gaps.seen(make(number), new=True) is None
    gaps.lost(10_000 * NS_PER_S, "cut")
    begin = max(before + missed - 19, 1)
    found = [gaps.seen(make(n), new=n > before) for n in range(begin, before + missed + after + 1)]
    expected = [gap(10 * before, 10 * begin, "cut")] if begin > before + (1 if seq else 0) else []
    assert [each for each in found if each] == expected
    assert list(gaps.end(20_000 * NS_PER_S)) == []


def test_pairs_that_nobody_subscribed_are_not_remembered() -> None:
    gaps = finder()
    for number in range(1000):
        gaps.seen(at(10, f"Market{number}"), new=True)
    assert len(gaps._pairs) == len(SUBSCRIPTIONS)


def test_a_socket_lost_again_lengthens_the_gap_that_is_open() -> None:
    gaps = finder(10)
    gaps.lost(25 * NS_PER_S, "cut")
    gaps.lost(40 * NS_PER_S, "refused")
    assert gaps.seen(at(90), new=True) == gap(10, 90, "cut")


def test_each_pair_has_a_gap_of_its_own() -> None:
    gaps = finder(10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90, "Gemini"), new=True) == gap(25, 90, "cut", "Gemini")
    assert gaps.seen(at(91), new=True) == gap(10, 91, "cut")


def test_the_last_trade_is_the_latest_by_exchange_time() -> None:
    gaps = finder(20, 10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90), new=True) == gap(20, 90, "cut")


def test_an_open_gap_ends_with_the_run_for_pairs_that_had_trades() -> None:
    gaps = finder(10)
    gaps.lost(25 * NS_PER_S, "cut")
    assert list(gaps.end(99 * NS_PER_S)) == [gap(10, 99, "cut")]
    assert list(gaps.end(99 * NS_PER_S)) == []


def test_only_trade_subscriptions_have_gaps() -> None:
    gaps = GapFinder(["2~Kraken~BTC~USD", "5~CCCAGG~BTC~USD", "nonsense"])
    gaps.lost(25 * NS_PER_S, "cut")
    assert gaps.seen(at(90), new=True) is None
