"""What is told of gaps: each one where they are few, else how many there were; nothing is left out of the counts."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.feeds.events import ClientEvent, GapDigest, GapEvent, ManyGaps, NotFilling
from cryptoflow.feeds.gaps import Filled, Gap, Unfilled

GAP = Gap("Kraken", "BTC", "USD", 60 * 10**9, 65 * 10**9, "cut", ((3, 5),))
BY_TIME = Gap("Kraken", "BTC", "USD", 60 * 10**9, 65 * 10**9, "cut")
EVENTS: tuple[GapEvent, ...] = (GAP, BY_TIME, Filled(GAP), Unfilled(GAP, "why"))


def digested(events: Sequence[tuple[float, GapEvent]], within_s: float = 10, most: int = 5) -> list[ClientEvent]:
    found: list[ClientEvent] = []
    digest = GapDigest(found.append, within_s, most)
    for time_s, event in events:
        digest.take(event, time_s)
    digest.end()
    return found


def test_a_few_are_told_one_by_one_as_they_come() -> None:
    events = [(number * 2.0, EVENTS[number % 4]) for number in range(100)]
    assert digested(events) == [event for _, event in events]


def test_many_are_counted_and_told_when_the_while_is_over() -> None:
    found: list[ClientEvent] = []
    digest = GapDigest(found.append, 10, 2)
    for event in (*EVENTS, GAP):
        digest.take(event, 100)
    digest.due(109.9)
    assert found == [GAP, BY_TIME]
    digest.due(110)
    assert found[2:] == [ManyGaps(10, gaps=1, missing=3, filled=1, unfilled=1)]
    digest.take(GAP, 111)
    assert found[3:] == [GAP]


@given(st.lists(st.tuples(st.floats(0, 30), st.sampled_from(EVENTS))), st.integers(0, 5))
def test_each_is_told_or_counted_once(events: list[tuple[float, GapEvent]], most: int) -> None:
    found = digested(sorted(events, key=lambda event: event[0]), most=most)
    many = [event for event in found if isinstance(event, ManyGaps)]
    kinds = {"gaps": Gap, "filled": Filled, "unfilled": Unfilled}
    for name, kind in kinds.items():
        told = sum(isinstance(event, kind) for event in found) + sum(getattr(each, name) for each in many)
        assert told == sum(isinstance(event, kind) for _, event in events)
    missing = sum((event.missing or 0) for event in found if isinstance(event, Gap))
    assert missing + sum(each.missing for each in many) == 3 * sum(event is GAP for _, event in events)


def test_what_became_of_gaps_is_told_in_sentences() -> None:
    place = "of BTC-USD on Kraken between 1970-01-01 00:01:00 and 00:01:05 UTC"
    assert str(Unfilled(GAP, "why")) == f"3 trades {place} can't be filled: why."
    assert str(Unfilled(BY_TIME, "why")) == f"Trades {place} can't be filled: why."
    assert str(Filled(BY_TIME)) == f"Trades {place} have come after all."
    assert str(ManyGaps(10, 1200, 3400, 5, 1)) == (
        "Within 10 s: 1,200 more gaps, with 3,400 missing trades; 5 gaps were filled, 1 can't be."
    )
    assert str(NotFilling("kraken gives nothing.", 30)) == (
        "kraken gives nothing. Its gaps are filled in 30 s at the earliest."
    )
