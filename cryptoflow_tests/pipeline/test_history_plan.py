"""The laws of a day that is fetched page by page, whatever the pages overlap and whenever it was broken off."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.trade import NS_PER_S
from cryptoflow.pipeline.history_plan import DAY_NS, Fetched, day_of, left_s, share_of
from cryptoflow.venues.events import Recorded
from cryptoflow.venues.past import Page, Request, by_id, page_of
from cryptoflow_tests.venues.speaking import TONGUES, Deal, Tongue, pages
from cryptoflow_tests.venues.test_venues import small

DAY = date(2026, 11, 3)
BEGIN_NS = 1_793_664_000 * NS_PER_S


@st.composite
def markets(draw: st.DrawFn) -> list[Deal]:
    """Trades of some days around the day, by id and time; some ids have none; never more of one time than a page."""
    deals: list[Deal] = []
    id_, time_ns = 1000, BEGIN_NS - DAY_NS
    for minutes, step in draw(st.lists(st.tuples(st.integers(0, 400), st.sampled_from([1, 1, 1, 4])), max_size=60)):
        id_, time_ns = id_ + step, time_ns + minutes * 60 * NS_PER_S + 1_000_000
        deals.append(Deal(id_, time_ns, "1.5", "0.25", buy=True))
    return deals


def fetched(tongue: Tongue, past: Sequence[Deal], at: Fetched, stop_after: int = 10**6) -> tuple[Fetched, list[int]]:
    """What a run makes of it that is broken off after some pages, and the ids that it writes, in order."""
    wanted, venue = day_of(tongue.pair, DAY), small(tongue.venue, 7)
    written: list[Recorded] = []
    # Where it goes on is kept as text.
    at = msgspec.json.decode(msgspec.json.encode(at), type=Fetched)
    answer: Any = tongue.rest(past)
    request: Request | None = at.next or venue.ask(wanted)
    while request and stop_after and not at.over:
        page = venue.read(request, answer(request))
        at, trades = at.with_page(page, wanted, venue.newest_first)
        written += trades
        request, stop_after = page.next, stop_after - 1
    return at, [by_id(each) for each in written]


@pytest.mark.parametrize("tongue", TONGUES, ids=lambda tongue: tongue.venue.name)
@given(markets(), st.lists(st.integers(1, 3), max_size=4))
def test_a_day_is_written_once_with_the_trades_next_to_it_however_often_it_is_broken_off(
    tongue: Tongue, past: list[Deal], breaks: list[int]
) -> None:
    at, written = Fetched(), []
    for stop_after in [*breaks, 10**6]:
        at, more = fetched(tongue, past, at, stop_after)
        written += more
    wanted = day_of(tongue.pair, DAY)
    here = [deal.id for deal in past if wanted.from_ns <= deal.time_ns <= wanted.to_ns]
    before = [deal.id for deal in past if deal.time_ns < wanted.from_ns][-1:]
    after = [deal.id for deal in past if deal.time_ns > wanted.to_ns][:1]
    if tongue.venue.name == "binance" and [*here, *after][:1] != [last + 1 for last in before]:
        before = []  # it is asked for by the id before the first one of the stretch: not across a hole
    assert at.over
    assert (at.trades, at.first, at.last) == (len(here), min(here, default=None), max(here, default=None))
    assert sorted(id_ for id_ in written if id_ in here) == here
    if tongue.venue.consecutive and before and after:
        assert (at.before, at.after) == (before[0], after[0])
        assert {*before, *after} <= {*written}
        assert at.missing == after[0] - before[0] - 1 - len(here)
        assert at.is_done(tongue.venue)
    if tongue.venue.consecutive and not after:
        assert at.missing is None
        assert not at.is_done(tongue.venue)


def test_a_day_without_a_trade_is_proven_by_those_around_it() -> None:
    tongue = TONGUES[0]
    past = [Deal(7, BEGIN_NS - NS_PER_S, "1", "1", buy=True), Deal(8, BEGIN_NS + DAY_NS, "1", "1", buy=True)]
    at, written = fetched(tongue, past, Fetched())
    assert (at.trades, at.missing, at.first, sorted(written)) == (0, 0, None, [7, 8])


def test_neighbours_in_time_are_neighbours_in_the_topic() -> None:
    for tongue in TONGUES:
        past = [Deal(1000 + at, BEGIN_NS + at * 60 * NS_PER_S, "1", "1", buy=True) for at in range(100)]
        _, written = fetched(tongue, past, Fetched())
        steps = {later - earlier for earlier, later in pairwise(written)}
        assert steps == ({-1} if tongue.venue.newest_first else {1})


def test_what_can_not_be_asked_for_is_kept() -> None:
    tongue = TONGUES[0]
    wanted = day_of(tongue.pair, DAY)
    at, _ = Fetched().with_page(Page(lost="the 4 with ids"), wanted, newest_first=False)
    at, _ = at.with_page(Page(), wanted, newest_first=False)
    assert at.lost == "the 4 with ids"


def test_the_share_grows_with_the_time_that_lies_behind() -> None:
    tongue = TONGUES[0]
    wanted = day_of(tongue.pair, DAY)
    past = [Deal(1 + hour, BEGIN_NS + hour * 3600 * NS_PER_S, "1", "1", buy=True) for hour in (6, 12)]
    trades = [
        each
        for page in pages(tongue.venue, wanted, tongue.rest(past))
        for each in page_of(wanted, page.trades, None).trades
    ]
    assert [round(share_of(wanted, trades, newest_first), 3) for newest_first in (False, True)] == [0.5, 0.75]
    assert share_of(wanted, [], newest_first=False) == 0


def test_the_rest_takes_as_long_as_what_is_done_has_taken() -> None:
    assert left_s(0.25, 60) == 180
    assert left_s(1.0, 60) == 0
    assert left_s(0.0, 60) is None
