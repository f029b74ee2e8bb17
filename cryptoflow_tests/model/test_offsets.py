"""The laws of places in the log."""

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.offsets import Offsets, covers, earlier, later, records

places = st.dictionaries(st.integers(0, 3), st.integers(0, 1000))


def test_offsets_cover_others_when_no_partition_is_behind() -> None:
    assert covers({0: 5, 1: 2}, {0: 5, 1: 1})
    assert not covers({0: 5, 1: 2}, {0: 5, 1: 3})
    assert not covers({}, {0: 1})
    assert covers({}, {0: 0})


@given(places, places)
def test_the_later_place_covers_both_and_nothing_more(one: Offsets, other: Offsets) -> None:
    both = later(one, other)
    assert both == later(other, one)
    assert covers(both, one)
    assert covers(both, other)
    assert records(one, both) == records(one, other)


@given(places, places)
def test_the_earlier_place_is_behind_both_where_both_know_the_partition(one: Offsets, other: Offsets) -> None:
    both = earlier(one, other)
    assert both == earlier(other, one)
    assert both.keys() == one.keys() | other.keys()
    assert all(offset in (one.get(place), other.get(place)) for place, offset in both.items())
    assert all(offset <= known.get(place, offset) for known in (one, other) for place, offset in both.items())


@given(places, places)
def test_there_are_no_records_up_to_a_place_that_is_covered(one: Offsets, other: Offsets) -> None:
    assert (records(one, other) == 0) == covers(one, other)
