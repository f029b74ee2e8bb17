"""Laws of judging hours one by one: in whatever order, in the end each lacks just what may have been its own."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from cryptoflow.model.candle import Candle, Side
from cryptoflow.model.trade import Pair
from cryptoflow.model.verdict import COMPLETE, LOG_CUT, NO_TRADE, NOT_AFTER, QUIET, REPAIRED, SUSPECT, Numbers, joined
from cryptoflow.model.window import HOUR, utc_midnight
from cryptoflow.pipeline.judge import Beside, disagreed, find, hour_row, is_doubted, settled
from cryptoflow.pipeline.recompute import Made
from cryptoflow.pipeline.repair_plan import Plan
from cryptoflow.tables.hours import is_pending, ranges_of
from cryptoflow.tables.schema import HourRow

BTC = ("Coinbase", "BTC", "USD")
START = datetime(2021, 1, 8, 20, tzinfo=UTC)
"""The hours go on over midnight."""


class Hours:
    """Some hours of a pair, of which some trades are lost."""

    def __init__(self, trades: Sequence[int], lost: set[int], sight: int = 0) -> None:
        self.sent: list[range] = []
        for many in trades:
            first = self.sent[-1].stop if self.sent else 100
            self.sent.append(range(first, first + many))
        self.lost, self.sight = set(lost), sight
        self.rows: dict[datetime, HourRow] = {}

    def known(self, place: int) -> list[int]:
        return [number for number in self.sent[place] if number not in self.lost]

    def _of_day(self, pair: Pair, date: datetime) -> list[HourRow]:
        return [row for row in self.rows.values() if row[:3] == pair and utc_midnight(row.hour) == date]

    def _seen(self, places: range) -> list[tuple[int, int]]:
        return joined((number, number) for place in places for number in self.known(place))

    def made(self, place: int) -> Made:
        """What the log says of an hour, read with some that are beside it."""
        here, start = self.known(place), START + place * HOUR
        candle = Candle(*BTC, start, 60, 1, 1, 1, 1, len(here), 1, 1, Side(), Side())
        earlier = range(max(0, place - self.sight), place)
        later = range(place + 1, min(len(self.sent), place + 1 + self.sight))
        numbers = Numbers(self._seen(range(place, place + 1)), self._seen(earlier), self._seen(later))
        return Made([candle] if here else [], 0, numbers)

    def judge(self, place: int, cut: bool = False, rewritten: int = 0) -> HourRow:
        """Judge an hour, and what that settles."""
        hour = START + place * HOUR
        beside, made = Beside(hour, self._of_day), self.made(place)
        earlier, later = beside.earlier(BTC), beside.later(BTC)
        finding = find(made, earlier, later)
        plan = Plan(hour, hour, hour + HOUR, [], cut, False, "t", ("live", "past"))
        self.rows[hour] = hour_row(
            BTC, plan, finding, self.rows.get(hour), [], trades=made.trades, added=0, duplicates=0,
            rewritten=rewritten, cut=cut and not finding.proven,
        )  # fmt: skip
        self.rows |= {row.hour: row for row in settled(finding, earlier, later, "past")}
        return self.rows[hour]

    def row(self, place: int) -> HourRow:
        return self.rows[START + place * HOUR]


trades = st.lists(st.integers(0, 4), min_size=1, max_size=9)
lost = st.sets(st.integers(100, 136))


def check(hours: Hours) -> None:
    """Each hour lacks the lost numbers between its neighbours', and is open where there are none."""
    for place in range(len(hours.sent)):
        row, here = hours.row(place), hours.known(place)
        before = [number for other in range(place) for number in hours.known(other)]
        after = [number for other in range(place + 1, len(hours.sent)) for number in hours.known(other)]
        low = before[-1] if before else here[0] if here else None
        high = after[0] if after else here[-1] if here else None
        lacking = {n for n in hours.lost if low is not None and high is not None and low < n < high}
        assert row.gaps == len(lacking)
        if lacking:
            assert row.verdict == SUSPECT
        elif before and after:
            assert row.verdict == (COMPLETE if here else QUIET)
        else:
            assert row.verdict == SUSPECT
            assert is_pending(row) == bool(before)


@given(trades, lost, st.integers(0, 2), st.randoms(use_true_random=False))
def test_in_whatever_order_hours_are_judged_each_lacks_what_may_be_its_own(
    trades: list[int], lost: set[int], sight: int, random: object
) -> None:
    hours = Hours(trades, lost, sight)
    places = list(range(len(trades)))
    random.shuffle(places)  # type: ignore[attr-defined]
    for place in places:
        hours.judge(place)
    check(hours)


@example([4, 4, 4, 4, 1, 0], {100, 101, 112, 116}, {100, 101, 112, 116}, 1)  # 116 is seen before its hour is judged
@given(trades, lost, st.sets(st.integers(100, 136)), st.integers(0, 2))
def test_hours_that_are_filled_later_and_those_beside_them_are_judged_again(
    trades: list[int], lost: set[int], found: set[int], sight: int
) -> None:
    hours = Hours(trades, lost, sight)
    for place in range(len(trades)):
        hours.judge(place)
    hours.lost -= found
    for place in range(len(trades)):
        if found & lost & set(hours.sent[place]):
            hours.judge(place)
    check(hours)


def test_a_quiet_hour_waits_for_the_next_trade() -> None:
    hours = Hours([3, 0, 0, 2], set())
    assert [hours.judge(place).reason for place in range(3)] == ["what came before its first trade is not known"] + [
        NO_TRADE
    ] * 2
    hours.judge(3)
    assert [hours.row(place).verdict for place in range(4)] == [SUSPECT, QUIET, QUIET, SUSPECT]
    assert hours.row(3).reason == NOT_AFTER


def test_a_repaired_hour_stays_so_when_its_end_is_proven() -> None:
    hours = Hours([1, 2, 1], set())
    hours.judge(0)
    assert hours.judge(1, rewritten=3).verdict == SUSPECT
    hours.judge(2)
    assert (hours.row(1).verdict, hours.row(1).reason) == (REPAIRED, "the rows differed")


def test_an_hour_that_was_left_as_it_is_stays_suspect_until_it_is_computed_anew() -> None:
    hours = Hours([1, 2, 1], set())
    hours.judge(0, cut=True)
    assert hours.judge(1, cut=True).reason == LOG_CUT
    hours.judge(2, cut=True)
    row = hours.row(1)
    assert (row.verdict, row.reason, ranges_of(row)) == (SUSPECT, LOG_CUT, [])
    assert hours.judge(1, cut=True).verdict == COMPLETE


def test_what_the_venues_candles_say_makes_an_hour_suspect_until_it_is_compared_with_the_log() -> None:
    hours = Hours([1, 2, 0, 1], set())
    for place in range(4):
        hours.judge(place)
    for place in (1, 2):
        row = hours.row(place)
        suspect = disagreed(row, "off by 1 trade", "past")
        assert (suspect.verdict, suspect.reason) == (SUSPECT, "off by 1 trade")
        assert is_doubted(suspect)
        assert disagreed(suspect, "", "past") == row._replace(disagreement="")
        hours.rows[row.hour] = suspect
        compared = hours.judge(place)
        assert (compared.verdict, compared.reason) == (row.verdict, f"{row.reason}; off by 1 trade")
        assert not is_doubted(compared)


def test_trades_without_numbers_are_as_complete_as_the_log() -> None:
    hours = Hours([2], set())
    made = hours.made(0)
    made.numbers = Numbers()
    finding = find(made, [], [])
    assert (finding.numbered, finding.proven, finding.missing) == (False, False, ())
    made.numbers = Numbers([(100, 100)])  # one of two
    assert not find(made, [], []).numbered


def test_a_break_of_the_known_hours_hides_what_lies_behind_it() -> None:
    hours = Hours([2, 1, 2], set())
    hours.judge(0)
    hours.judge(2)
    assert ranges_of(hours.row(2)) == [(None, 102), (105, None)]
    del hours.rows[START]
    beside = Beside(START + timedelta(hours=2), hours._of_day)
    assert beside.earlier(BTC) == []
