"""Laws of what a repair reads; that it is all it needs is tested with the repairs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.verdict import COMPLETE
from cryptoflow.pipeline.repair_plan import late_place, late_places, merged, with_late
from cryptoflow.tables.schema import HourRow, MarkRow

BTC = ("Coinbase", "BTC", "USD")
HOUR = datetime(2021, 1, 8, 12, tzinfo=UTC)

spans = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 12)).map(lambda s: (s[0], s[1], s[1] + s[2]))
)


@given(spans)
def test_merged_stretches_hold_each_record_once(given: Sequence[tuple[int, int, int]]) -> None:
    stretches = merged("t", given)
    held = [
        (place, offset)
        for stretch in stretches
        for place, end in stretch.end.items()
        for offset in range(stretch.begin[place], end)
    ]
    assert sorted(held) == sorted({(place, offset) for place, first, end in given for offset in range(first, end)})


@given(spans)
def test_merged_stretches_are_as_few_as_can_be(given: Sequence[tuple[int, int, int]]) -> None:
    stretches = merged("t", given)
    by_place = {place: [s for s in stretches if place in s.end] for place, _, _ in given}
    assert len(stretches) == max(map(len, by_place.values()), default=0)
    for place, found in by_place.items():
        edges = [(stretch.begin[place], stretch.end[place]) for stretch in found]
        assert all(end < begin for (_, end), (begin, _) in pairwise(edges))


def a_mark(topic_id: str, partition: int, first: int, last: int) -> MarkRow:
    return MarkRow(HOUR, *BTC, topic_id, partition, first, last, "t", 1, HOUR, "late")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 3), st.integers(0, 9), st.integers(-1, 9))))
def test_an_hour_keeps_the_places_of_all_its_late_trades(given: Sequence[tuple[str, int, int, int]]) -> None:
    known: HourRow | None = None
    for place in given:  # each by a repair of its own
        stretches = with_late(known, [a_mark(*place)])
        known = HourRow(*BTC, HOUR.replace(hour=0), HOUR, 0, 0, 0, 0, 0, COMPLETE, "", None, stretches)
    kept = late_places(known) if known else []
    assert kept == sorted({late_place(a_mark(*place)) for place in given if place[2] <= place[3]})
    assert with_late(None, [a_mark(*place) for place in given]) == with_late(known, [])
