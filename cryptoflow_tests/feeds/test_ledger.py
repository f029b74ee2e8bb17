"""The ledger: which trades of a pair are missing, since when, what to ask for, and when they have come after all.

T: a trade, #: its number, x: the socket is lost, ~: longer than the ledger's patience. What stands further right came
later.
"""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.feeds.gaps import Earlier, Filled, Gap, Standing, Told, bounded
from cryptoflow.feeds.holes import NOT_SENT
from cryptoflow.feeds.ledger import Ledger
from cryptoflow.feeds.numbers import BEGUN_ANEW, MAX_HOLES, SILENT_S
from cryptoflow.model.trade import NS_PER_S, Trade

SUBSCRIPTIONS = ["0~Kraken~BTC~USD", "0~Gemini~BTC~USD"]
PAIR = ("Kraken", "BTC", "USD")
PATIENCE_S = 2.0


def at(time_s: int, market: str = "Kraken", number: int | None = None) -> Trade:
    return Trade(market, "BTC", "USD", "1", str(number or time_s), time_s, 1.0, 2.0, 2.0, sequence=number)


def nth(number: int, time_s: int | None = None) -> Trade:
    """Trade number `number` of Kraken's, at 10 s for each unless told."""
    return at(10 * number if time_s is None else time_s, number=number)


def made(*trades: Trade) -> Ledger:
    """A ledger that has seen these."""
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    assert told(ledger, trades) == []
    return ledger


def told(ledger: Ledger, trades: Iterable[Trade], *, new: bool = True, now_s: float = 0) -> list[Told]:
    """What the ledger says as these come, one after the other."""
    return [each for trade in trades for each in ledger.seen(trade, now_s, new=new)]


def finder(*seen_s: int) -> Ledger:
    return made(*map(at, seen_s))


def numbered(*numbers: int) -> Ledger:
    return made(*map(nth, numbers))


def cut(ledger: Ledger, time_s: int = 25) -> Ledger:
    ledger.lost(time_s * NS_PER_S, "cut")
    return ledger


def gap(from_s: int, to_s: int, reason: str = "cut", market: str = "Kraken") -> Gap:
    return Gap(market, "BTC", "USD", from_s * NS_PER_S, to_s * NS_PER_S, reason)


def hole(first: int, last: int, reason: str = NOT_SENT) -> Gap:
    """The gap of numbers whose neighbours came, each at 10 s."""
    return holes((first, last), reason=reason)


def holes(*numbers: tuple[int, int], reason: str = NOT_SENT) -> Gap:
    """The gap of several stretches of them."""
    from_ns, to_ns = 10 * (numbers[0][0] - 1) * NS_PER_S, 10 * (numbers[-1][1] + 1) * NS_PER_S
    return Gap(*PAIR, from_ns, to_ns, reason, numbers)


# Without numbers


def test_a_gap_runs_from_the_last_trade_before_to_the_first_one_after() -> None:
    # T10  T20  x25 ........ T90  T95
    ledger = cut(finder(10, 20))
    assert told(ledger, [at(90), at(95)]) == [gap(20, 90)]


def test_a_replayed_trade_that_was_seen_bridges_the_hole() -> None:
    # T10  T20  x25 ... T20 again  T90
    ledger = cut(finder(10, 20))
    assert told(ledger, [at(20)], new=False) == []
    assert told(ledger, [at(90)]) == []


def test_a_replay_that_begins_with_known_trades_and_goes_on_in_order_bridges_the_hole() -> None:
    # T10  T20  x25 ... T10 again  T20 again  T30  T40
    ledger = cut(finder(10, 20))
    assert told(ledger, [at(10), at(20)], new=False) == []
    assert told(ledger, [at(30), at(40)]) == []


def test_a_late_trade_does_not_hide_the_gap() -> None:
    # T10  T20  x25 ........ T15 (never seen)  T90
    assert told(cut(finder(10, 20)), [at(15), at(90)]) == [gap(20, 90)]


def test_an_old_trade_that_comes_twice_does_not_hide_the_gap() -> None:
    # T10  T20  x25 ........ T10 again  T90
    ledger = cut(finder(10, 20))
    assert told(ledger, [at(10)], new=False) == []
    assert told(ledger, [at(90)]) == [gap(20, 90)]


def test_the_last_one_that_came_bridges_the_hole_though_another_is_later_by_exchange_time() -> None:
    # T20  T10 (late)  x25 ... T10 again  T30
    ledger = cut(finder(20, 10))
    assert told(ledger, [at(10)], new=False) == []
    assert told(ledger, [at(30)]) == []


def test_a_replay_from_before_the_outage_is_enough_for_a_pair_without_trades() -> None:
    # x25 ... T15  T90
    assert told(cut(finder()), [at(15), at(90)]) == []


def test_a_socket_lost_again_lengthens_the_gap_that_is_open() -> None:
    ledger = cut(finder(10))
    ledger.lost(40 * NS_PER_S, "refused")
    assert told(ledger, [at(90)]) == [gap(10, 90)]


def test_each_pair_has_a_gap_of_its_own() -> None:
    ledger = cut(finder(10))
    assert told(ledger, [at(90, "Gemini"), at(91)]) == [gap(25, 90, market="Gemini"), gap(10, 91)]


def test_the_last_trade_is_the_latest_by_exchange_time() -> None:
    assert told(cut(finder(20, 10)), [at(90)]) == [gap(20, 90)]


def test_an_open_gap_ends_with_the_run_for_pairs_that_had_trades() -> None:
    ledger = cut(finder(10))
    assert ledger.end(99 * NS_PER_S) == [gap(10, 99)]
    assert ledger.end(99 * NS_PER_S) == []


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_a_replay_without_numbers_tells_a_gap_exactly_if_it_does_not_overlap(
    before: int, missed: int, after: int
) -> None:
    # T ... T  x  (missed)  the last 20 of all so far, and `after` live ones
    ledger = cut(finder(*range(10, 10 * before + 10, 10)), 10_000)
    begin = max(before + missed - 19, 1)
    found = [
        each
        for number in range(begin, before + missed + after + 1)
        for each in ledger.seen(at(10 * number), 0, new=number > before)
    ]
    assert found == ([gap(10 * before, 10 * begin)] if begin > before else [])
    assert ledger.end(20_000 * NS_PER_S) == []


# With numbers


def test_a_hole_is_a_gap_when_patience_is_over() -> None:
    # #1  #2  #5  ~
    ledger = numbered(1, 2, 5)
    assert ledger.due(PATIENCE_S - 0.1) == []
    assert ledger.due(PATIENCE_S) == [hole(3, 4)]
    assert ledger.due(2 * PATIENCE_S) == []


def test_what_comes_out_of_order_is_no_gap() -> None:
    # #1  #5  #3  #4  #2  ~
    ledger = numbered(1, 5, 3, 4, 2)
    assert ledger.due(PATIENCE_S) == ledger.end(99 * NS_PER_S) == []


def test_holes_of_a_pair_that_are_due_together_are_one_gap() -> None:
    # #1  #3  #7  ~
    assert numbered(1, 3, 7).due(PATIENCE_S) == [holes((2, 2), (4, 6))]


def test_a_hole_has_the_reason_of_the_outage_before_it() -> None:
    # #1  #2  x  #5  #7  ~
    ledger = cut(numbered(1, 2))
    told(ledger, [nth(5)])
    assert ledger.due(PATIENCE_S) == [hole(3, 4, "cut")]
    told(ledger, [nth(7)])
    assert ledger.due(PATIENCE_S) == [hole(6, 6)]


def test_the_next_number_was_not_missed_whatever_is_replayed() -> None:
    # #1  #2  x  #3  #4
    ledger = cut(numbered(1, 2))
    assert told(ledger, [nth(3), nth(4)]) == ledger.end(99 * NS_PER_S) == []


def test_a_last_trade_that_comes_twice_hides_no_hole() -> None:
    # #1  #2  x  #2 again  #5  end
    ledger = cut(numbered(1, 2))
    assert told(ledger, [nth(2)], new=False) == []
    assert told(ledger, [nth(5)]) == []
    assert ledger.end(99 * NS_PER_S) == [hole(3, 4, "cut")]


def test_an_outage_that_nothing_ended_may_hide_something_unless_the_last_trade_came_again() -> None:
    # #1  #2  x  end;  #1  #2  x  #2 again  end
    assert cut(numbered(1, 2)).end(99 * NS_PER_S) == [gap(20, 99)]
    ledger = cut(numbered(1, 2))
    told(ledger, [nth(2)], new=False)
    assert ledger.end(99 * NS_PER_S) == []


def test_numbers_that_begin_anew_are_a_gap_and_count_from_there() -> None:
    # #7001  #7002  x ...... #1  #2  #4  ~
    old = [nth(7001, time_s=710), nth(7002, time_s=720)]
    ledger = cut(made(*old))
    assert told(ledger, [nth(1, time_s=900), nth(2, time_s=910)]) == [gap(720, 900)]
    told(ledger, [nth(4, time_s=920)])
    assert [each.holes for each in ledger.due(PATIENCE_S)] == [((3, 3),)]
    assert told(made(*old), [nth(1, time_s=900)]) == [gap(720, 900, BEGUN_ANEW)]


def test_a_first_trade_that_came_out_of_order_hides_no_hole_before_it() -> None:
    # #5  #3  #6  ~
    ledger = numbered(5, 3, 6)
    assert ledger.due(PATIENCE_S) == [hole(4, 4)]


def test_a_number_from_before_what_the_log_holds_is_no_hole() -> None:
    # (#60 #61)  #10
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    ledger.restore(Earlier([nth(60), nth(61)]), 700 * NS_PER_S, "no run")
    assert told(ledger, [nth(10), nth(62)]) == ledger.due(PATIENCE_S) == []


def test_an_old_number_is_no_new_beginning() -> None:
    # #7001  #1 (older)  #6990 (newer)
    assert told(made(nth(7001, time_s=710)), [nth(1, time_s=700), nth(6990, time_s=720)]) == []


def test_numbers_that_come_first_after_times_end_an_outage_by_time() -> None:
    # T10  x25  #7 at 90  #8
    ledger = cut(finder(10))
    assert told(ledger, [nth(7, time_s=90), nth(8, time_s=91)]) == [gap(10, 90)]
    assert ledger.end(99 * NS_PER_S) == []


def test_a_feed_that_says_how_far_it_is_shows_what_it_did_not_send() -> None:
    # #1  #2  (up to 4)  ~  #4  #3
    ledger = numbered(1, 2)
    ledger.reached(PAIR, 2, 20 * NS_PER_S, 0)
    assert ledger.due(PATIENCE_S) == []
    ledger.reached(PAIR, 4, 50 * NS_PER_S, 0)
    [found] = ledger.due(PATIENCE_S)
    assert found == hole(3, 4)
    assert told(ledger, [nth(4)]) == []
    assert told(ledger, [nth(3)]) == [Filled(found)]
    assert told(ledger, [nth(5)]) == ledger.due(9) == []


def test_a_feed_that_says_it_has_what_came_ends_an_outage() -> None:
    # #1  #2  x  (up to 2)  end
    ledger = cut(numbered(1, 2))
    ledger.reached(PAIR, 2, 30 * NS_PER_S, 0)
    assert ledger.end(99 * NS_PER_S) == []


def test_how_far_a_feed_is_says_nothing_before_its_first_trade() -> None:
    ledger = numbered()
    ledger.reached(PAIR, 90, NS_PER_S, 0)
    assert told(ledger, [nth(91)]) == ledger.due(PATIENCE_S) == []


def alone(*numbers: int) -> Ledger:
    """A ledger of one pair, which has seen these."""
    ledger = Ledger(SUBSCRIPTIONS[:1], PATIENCE_S)
    assert told(ledger, map(nth, numbers)) == []
    return ledger


def test_a_silent_pair_is_looked_up_after_an_outage_and_its_newest_trade_tells_what_is_missing() -> None:
    # #1 #2 x (open) (silent) (the venue's newest is #5)
    ledger = cut(alone(1, 2))
    assert ledger.unsure(1000) is None  # no socket is open
    ledger.opened(100)
    assert ledger.unsure(100 + SILENT_S - 1) is None
    assert ledger.unsure(100 + SILENT_S) == PAIR
    ledger.looked(PAIR, nth(5), 200)
    assert ledger.missing(PAIR) == [(3, 5)]
    assert [each.reason for each in ledger.due(200 + PATIENCE_S)] == ["cut"]
    assert ledger.unsure(1000) is None


@pytest.mark.parametrize("newest", [nth(2), None], ids=["it has come", "nobody tells"])
def test_a_silent_pair_is_looked_up_once_for_each_socket(newest: Trade | None) -> None:
    ledger = cut(alone(1, 2))
    for opened_s in (0, 100):
        ledger.opened(opened_s)
        assert ledger.unsure(opened_s + SILENT_S) == PAIR
        ledger.looked(PAIR, newest, opened_s + SILENT_S)
        assert ledger.unsure(opened_s + 50) is None
        assert ledger.missing(PAIR) == []
        cut(ledger)


def test_a_pair_that_trades_on_or_whose_trade_came_again_is_not_looked_up() -> None:
    # #1 #2 x (open) #3, or #2 again
    for trade, new in ((nth(3), True), (nth(2), False)):
        ledger = cut(alone(1, 2))
        ledger.opened(0)
        told(ledger, [trade], new=new)
        assert ledger.unsure(SILENT_S) is None


def test_a_pair_of_which_nothing_has_come_begins_with_its_newest_trade_whatever_is_cut_before() -> None:
    # x (open) x (open) (the venue's newest is #5)   |    (the next run) (open) (its newest is #7)
    ledger = alone()
    ledger.opened(0)
    cut(ledger, 1000).opened(SILENT_S - 1)
    assert ledger.unsure(SILENT_S) == PAIR
    ledger.looked(PAIR, nth(5), SILENT_S)
    assert (ledger.missing(PAIR), ledger.unsure(100)) == ([], None)
    second = alone()
    second.restore(Earlier(standings={PAIR: Standing(newest=ledger.newest(PAIR))}), NOW_NS, "no run")
    second.opened(0)
    second.looked(PAIR, nth(7), SILENT_S)
    assert second.missing(PAIR) == [(6, 7)]


def test_a_pair_that_began_in_an_outage_has_a_gap_by_time() -> None:
    # x (open) (the venue's newest is #5, from after the cut) #6
    ledger = cut(Ledger(SUBSCRIPTIONS, PATIENCE_S), 45)
    ledger.opened(0)
    ledger.looked(PAIR, nth(5), SILENT_S)
    assert told(ledger, [nth(6)]) == [gap(45, 60)]


def test_a_pair_that_is_put_off_is_looked_up_later() -> None:
    ledger = cut(alone(1))
    ledger.opened(0)
    ledger.postpone(PAIR, 100)
    assert (ledger.unsure(99), ledger.unsure(100)) == (None, PAIR)


def test_only_trade_subscriptions_have_gaps() -> None:
    ledger = Ledger(["2~Kraken~BTC~USD", "5~CCCAGG~BTC~USD", "nonsense"], PATIENCE_S)
    ledger.lost(25 * NS_PER_S, "cut")
    ledger.reached(PAIR, 90, NS_PER_S, 0)
    assert told(ledger, [at(90), nth(7), nth(9)]) == ledger.due(PATIENCE_S) == []
    assert ledger.missing(PAIR) == []


def test_a_feed_that_sends_every_second_number_fills_no_memory_and_no_hole_is_forgotten() -> None:
    #  sent    1 . 3 . 5 .  ...  101 . 103 .
    #  known     ===============     =     =     the oldest holes as one
    ledger = numbered(*range(1, 2 * MAX_HOLES + 100, 2))
    missing = ledger.missing(PAIR)
    assert (len(missing), missing[0], missing[-1]) == (MAX_HOLES, (2, 100), (2 * MAX_HOLES + 98,) * 2)
    [found] = ledger.due(PATIENCE_S)
    assert found.holes == tuple(missing)
    told(ledger, [nth(2 * MAX_HOLES + 101)])
    assert ledger.missing(PAIR)[0] == (2, 102)
    assert ledger.due(PATIENCE_S)[0].holes == ((2 * MAX_HOLES + 100,) * 2,)
    *_, filled = ledger.filled(nth(number) for number in range(2, 103))
    assert isinstance(filled, Filled)
    assert (filled.gap.holes, ledger.due(PATIENCE_S)) == (((2, 102),), [])


@pytest.mark.parametrize("most", range(1, 6))
def test_more_gaps_than_are_kept_lose_none(most: int) -> None:
    #  gaps    2-3   5   8-9   12     and one known by its times
    #  2 kept  2-3   5----------12
    numbered = [hole(first, last) for first, last in ((2, 3), (5, 5), (8, 9), (12, 12))]
    by_time = Gap(*PAIR, 0, 7 * NS_PER_S, "cut")
    *kept, last = bounded([*numbered, by_time], most)
    assert (last, len(kept)) == (by_time, min(most, 4))
    assert kept[: most - 1] == numbered[: most - 1]
    assert (kept[-1].holes[-1][-1], kept[-1].to_ns) == (12, numbered[-1].to_ns)
    assert flat(each for gap in kept for each in gap.holes) >= {2, 3, 5, 8, 9, 12}


numbers = st.integers(1, 40)
losses = st.sets(st.integers(2, 59))


@given(st.permutations(range(1, 31)), st.lists(st.integers(1, 30)))
def test_in_whatever_order_all_have_come_nothing_is_missing(order: list[int], again: list[int]) -> None:
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    assert told(ledger, map(nth, order)) == []
    told(ledger, map(nth, again), new=False)
    assert (ledger.missing(PAIR), ledger.due(9), ledger.end(99 * NS_PER_S)) == ([], [], [])


def flat(stretches: Iterable[tuple[int, int]]) -> set[int]:
    return {number for first, last in stretches for number in range(first, last + 1)}


@given(losses, st.lists(st.integers(0, 5), min_size=60, max_size=60))
def test_with_trades_out_of_order_exactly_what_was_lost_is_missing(lost: set[int], shifts: list[int]) -> None:
    sent = sorted(range(1, 61), key=lambda number: (number + shifts[number - 1], number))
    came = [number for number in sent if number not in lost]
    ledger = made(*map(nth, came))
    assert flat(ledger.missing(PAIR)) == {number for number in lost if min(came) < number < max(came)}


@given(losses, st.data())
def test_exactly_what_was_lost_is_told_and_each_gap_is_filled_once(lost: set[int], data: st.DataObject) -> None:
    ledger, gaps = Ledger(SUBSCRIPTIONS, PATIENCE_S), []
    for number in range(1, 61):
        now_s = data.draw(st.sampled_from([0.0, 1.0])) + number
        if number not in lost:
            assert told(ledger, [nth(number)], now_s=now_s) == []
        gaps += ledger.due(now_s)
    gaps += ledger.due(1000)
    assert flat(ledger.missing(PAIR)) == lost
    assert sum(each.missing or 0 for each in gaps) == len(lost)
    assert flat(stretch for each in gaps for stretch in each.holes) == lost
    told_of = [(each.from_ns // NS_PER_S, each.to_ns // NS_PER_S, each.holes) for each in gaps]
    assert all(from_s < 10 * found[0][0] <= 10 * found[-1][1] < to_s for from_s, to_s, found in told_of)
    filled = told(ledger, map(nth, data.draw(st.permutations(sorted(lost)))), now_s=1001)
    assert sorted(filled, key=str) == sorted(map(Filled, gaps), key=str)
    assert (ledger.missing(PAIR), ledger.due(2000)) == ([], [])


@given(losses, st.integers(2, 59), st.integers(1, 60), st.integers(1, 40))
def test_the_time_between_two_runs_is_a_gap_like_any_other(lost: set[int], end: int, off: int, kept: int) -> None:
    """The first run sees all up to `end` but the lost, then `off` numbers pass; the log keeps the last `kept`."""
    first_run = [number for number in range(1, end + 1) if number not in lost]
    in_log = first_run[-kept:]
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    ledger.restore(Earlier([*map(nth, reversed(in_log))]), 10_000 * NS_PER_S, "no run")
    assert ledger.due(1000) == []
    before = {number for number in lost if in_log[0] < number < in_log[-1]}
    assert flat(ledger.missing(PAIR)) == before
    resumed = end + off
    assert told(ledger, [nth(resumed), nth(resumed + 1)], now_s=1000) == []
    between = set(range(in_log[-1] + 1, resumed))
    assert flat(ledger.missing(PAIR)) == before | between
    expected = [hole(in_log[-1] + 1, resumed - 1, "no run")] if between else []
    assert ledger.due(1000 + PATIENCE_S) == expected
    assert ledger.end(20_000 * NS_PER_S) == []


def test_a_pair_without_numbers_is_restored_by_its_last_trade() -> None:
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    ledger.restore(Earlier([at(20), at(10)]), 30 * NS_PER_S, "no run")
    assert told(ledger, [at(90)]) == [gap(20, 90, "no run")]


def test_a_pair_that_the_log_has_nothing_of_begins_with_this_run() -> None:
    # (no run until 30)  T90
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    ledger.restore(Earlier([at(20, "Gemini")]), 30 * NS_PER_S, "no run")
    assert told(ledger, [at(90)]) == []
    assert ledger.end(99 * NS_PER_S) == [gap(20, 99, "no run", "Gemini")]


def test_what_was_missing_and_came_is_told_in_sentences() -> None:
    second = 1_000_000_000
    known = Gap("Kraken", "BTC", "USD", 60 * second, 65 * second, "it broke", ((3, 5),))
    place = "of BTC-USD on Kraken between 1970-01-01 00:01:00 and 00:01:05 UTC"
    assert str(known) == f"3 trades {place} are missing: it broke."
    assert str(Filled(known)) == f"3 trades {place} have come after all."
    one = Gap("Kraken", "BTC", "USD", 60 * second, 65 * second, "it broke", ((3, 3),))
    assert str(one) == f"1 trade {place} is missing: it broke."
    assert str(Filled(one)) == f"1 trade {place} has come after all."


# What is to be filled

NOW_NS = 10**6 * NS_PER_S
PAGE = 100


def ask(ledger: Ledger, now_s: float = 0, page: int = PAGE) -> tuple[int, int] | None:
    """The numbers between those on either side of what is asked for."""
    wanted = ledger.to_ask(now_s, page)
    if wanted is None:
        return None
    assert wanted.first is not None
    assert wanted.last is not None
    assert wanted.from_ns <= wanted.to_ns
    return wanted.first + 1, wanted.last - 1


def answer(ledger: Ledger, known: Iterable[int], now_s: float = 0, settled_s: int = 0, page: int = PAGE) -> list[Told]:
    """Ask once, of a venue that has these; what the ledger says, and what it gives up."""
    wanted = ledger.to_ask(now_s, page)
    if wanted is None:
        return []
    found = [each for each in map(nth, known) if wanted.holds(each)]
    told_of = ledger.filled([each for each in found if ledger.lacks(each)])
    highest = max((each.sequence or 0 for each in found), default=0)
    gone = ledger.asked(wanted, highest, now_s, settled_s * NS_PER_S)
    return [*told_of, *([gone] if gone else [])]


def due(*numbers: int) -> Ledger:
    """A ledger that has seen these, and told what is missing."""
    ledger = numbered(*numbers)
    assert ledger.due(PATIENCE_S)
    return ledger


def test_only_what_was_told_is_asked_for() -> None:
    ledger = numbered(1, 4)
    assert ask(ledger) is None
    [found] = ledger.due(PATIENCE_S)
    assert ask(ledger) == (2, 3)
    assert answer(ledger, range(1, 5)) == [Filled(found)]
    assert (ask(ledger, 1e9), ledger.missing(PAIR)) == (None, [])


def test_holes_that_fit_into_a_page_are_asked_for_at_once_the_oldest_first() -> None:
    # #1  #3  #6  #98  #102          2, 4 to 5, 7 to 97 | 99 to 101
    ledger = due(1, 3, 6, 98, 102)
    assert ask(ledger) == (2, 97)
    answer(ledger, range(1, 103))
    assert ask(ledger) == (99, 101)


def test_a_long_hole_is_asked_for_bit_by_bit_and_never_twice() -> None:
    ledger, asked = due(1, 2001), []
    while wanted := ask(ledger):
        asked.append(wanted)
        answer(ledger, range(1, 2002))
    # The number behind what is asked for is missing too, and comes with it.
    assert [first for first, _ in asked[1:]] == [last + 2 for _, last in asked[:-1]]
    assert (asked[0][0], asked[-1][1], ledger.missing(PAIR)) == (2, 2000, [])
    assert all(last - first + 3 <= 5 * PAGE for first, last in asked)


def test_what_the_venue_does_not_have_yet_is_asked_for_again_later_and_later() -> None:
    ledger, now_s, times_s = due(1, 3), 0.0, list[float]()
    while now_s < 2000:
        if ask(ledger, now_s):
            times_s.append(now_s)
            assert answer(ledger, [1], now_s) == []
        now_s += 1
    waits_s = [after - before for before, after in pairwise(times_s)]
    assert waits_s[:6] == [2, 4, 8, 16, 32, 64]
    assert waits_s == sorted(waits_s)
    assert max(waits_s) == 600


def test_an_answer_that_goes_beyond_a_hole_proves_that_it_is_for_good_once_it_is_old() -> None:
    # #10  #13: the venue has #10 and #13, and nothing between
    ledger = due(10, 13)
    assert answer(ledger, [10, 13], settled_s=130) == []  # it lies next to #13, at 130 s
    assert answer(ledger, [10], 10, settled_s=1000) == []  # it does not reach beyond
    assert answer(ledger, [10, 13], 100, settled_s=131) == [hole(11, 12)]
    assert (ask(ledger, 1e9), ledger.missing(PAIR)) == (None, [])


def test_pairs_take_turns() -> None:
    pairs = [("Kraken", "BTC", "USD"), ("Gemini", "BTC", "USD")]
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    for market, _, _ in pairs:
        told(ledger, [at(0, market, 1), at(1, market, 5001)])
    ledger.due(PATIENCE_S)
    asked = []
    for now_s in range(1, 5):
        wanted = ledger.to_ask(now_s, PAGE)
        assert wanted
        asked.append(wanted.pair)
        ledger.asked(wanted, 0, now_s, 0)
    assert asked == [*pairs, *pairs]


def test_a_pair_that_is_put_off_is_asked_for_later() -> None:
    ledger = due(1, 3)
    ledger.postpone(PAIR, 100)
    assert ask(ledger, 99) is None
    assert ask(ledger, 100) == (2, 2)


def test_what_is_longer_ago_than_the_limit_is_given_up_and_a_hole_that_reaches_further_is_cut_at_about_there() -> None:
    # 20 to 30 s, 1000 to 2000 s        limit: 1500 s
    ledger = due(1, 3, 100, 201)
    [found] = ledger.give_up(1500 * NS_PER_S, 0)
    assert found.holes[0] == (2, 2)
    assert found.to_ns == 1500 * NS_PER_S
    [(first, last)] = ledger.missing(PAIR)
    assert (last, abs(first - 150) < 3, first) == (200, True, found.holes[-1][1] + 1)
    assert ledger.give_up(1550 * NS_PER_S, 60 * NS_PER_S) == []
    assert ledger.give_up(3000 * NS_PER_S, 0) == [
        Gap(*PAIR, 1500 * NS_PER_S, 2010 * NS_PER_S, NOT_SENT, ((first, last),))
    ]


def test_what_an_earlier_run_was_to_fill_is_asked_for_though_the_log_has_nothing_of_it_in_reach() -> None:
    # (gap 5 to 7)   the log: #90 #91     |    (no trade in reach, gap 5 to 7)
    for trades, next_to in (([nth(90), nth(91)], 92), ([], 8)):
        ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
        ledger.restore(Earlier(trades, [nth(6)], {PAIR: Standing((hole(5, 7),))}), NOW_NS, "no run")
        assert ledger.missing(PAIR) == [(5, 5), (7, 7)]
        assert told(ledger, [nth(95)], now_s=5) == []
        assert ledger.missing(PAIR) == [(5, 5), (7, 7), (next_to, 94)]
        assert ask(ledger) == (5, 7)
        [filled] = answer(ledger, range(1, 96))
        assert isinstance(filled, Filled)


def test_a_pair_with_no_trade_in_reach_goes_on_from_its_last_pause_and_not_from_behind_a_hole_that_was_not_told() -> (
    None
):
    # #10 #11  (#12 is lacking, and no gap yet)  #13
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    assert ledger.newest(PAIR) is None
    told(ledger, [nth(10), nth(11), nth(13)])
    assert ledger.newest(PAIR) == (11, nth(11).event_time_ns)
    ledger.due(PATIENCE_S)
    assert ledger.newest(PAIR) == (13, nth(13).event_time_ns)
    for trades, first in (([], 14), ([nth(20)], 21)):
        second = Ledger(SUBSCRIPTIONS, PATIENCE_S)
        standing = Standing((hole(12, 12),), (13, nth(13).event_time_ns))
        second.restore(Earlier(trades, standings={PAIR: standing}), NOW_NS, "no run")
        told(second, [nth(30)])
        assert second.missing(PAIR) == [(12, 12), (first, 29)]


def test_numbers_that_began_anew_before_the_end_of_the_log_are_no_hole() -> None:
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    ledger.restore(Earlier([nth(7001, 710), nth(7002, 720), nth(1, 900), nth(3, 920)]), NOW_NS, "no run")
    assert ledger.missing(PAIR) == [(2, 2)]


@given(losses, losses, st.integers(1, 70), st.integers(0, 70), st.integers(0, 20), st.data())
def test_whatever_the_log_keeps_of_a_killed_run_the_next_one_fills_all_that_it_lacks(
    lost: set[int], filled: set[int], end: int, kept: int, off: int, data: st.DataObject
) -> None:
    """The first run is killed at `end`: it had put down a little before where it stood, the log's end keeps the rest.

    What was in reach of the log's end had been told or not, and some had been filled.
    """
    live, top = [number for number in range(1, end + 1) if number not in lost], 60 + end + off
    filled = {number for number in filled & lost if number < live[-1]}  # what lies above was no hole yet
    ledger = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    told(ledger, map(nth, live))
    told_until = live[-max(kept, 1) :][0]
    gaps = ledger.due(PATIENCE_S) and dict(ledger.gaps())[PAIR]
    put_down = [gap for gap in gaps if gap.holes[0][0] <= told_until or data.draw(st.booleans())]
    untold = min((gap.holes[0][0] for gap in gaps if gap not in put_down), default=end)
    pause = data.draw(st.sampled_from([None, *(number for number in live if number < untold)]))
    newest = None if pause is None else (pause, nth(pause).event_time_ns)
    second = Ledger(SUBSCRIPTIONS, PATIENCE_S)
    in_reach = live[-kept:] if kept else []
    standings = {PAIR: Standing((*put_down,), newest)}
    second.restore(Earlier([*map(nth, in_reach)], [*map(nth, filled)], standings), NOW_NS, "no run")
    after = range(end + off + 1, top + 1)
    told(second, map(nth, after), now_s=1)
    second.due(1 + PATIENCE_S)
    market, found = [*map(nth, range(1, top + 1))], set[int]()
    for now_s in range(100):
        wanted = second.to_ask(now_s, PAGE)
        if wanted is None:
            break
        trades = [each for each in market if wanted.holds(each) and second.lacks(each)]
        found |= {each.sequence or 0 for each in trades}
        second.filled(trades)
        second.asked(wanted, 0, now_s, 0)
    assert second.missing(PAIR) == []
    if in_reach or put_down or newest:
        begin = live[0]
        assert set(range(begin, top + 1)) <= {*live, *filled, *found, *after}
    if in_reach:
        assert found.isdisjoint({*filled, *in_reach})
