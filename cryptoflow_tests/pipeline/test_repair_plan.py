"""Laws of what a repair reads; that it is all it needs is tested with the repairs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cryptoflow.model.verdict import COMPLETE
from cryptoflow.pipeline.repair_plan import Plan, is_shared, late_place, late_places, merged, together, with_late
from cryptoflow.spark.kafka_log import Stretch
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


def a_plan(*stretches: Stretch) -> Plan:
    return Plan(HOUR, HOUR, HOUR, list(stretches), cut=False, partly=False, topic="live", ids=("a", "b"))


@given(st.lists(st.tuples(spans, spans), max_size=4))
def test_plans_read_together_each_record_once_and_live_ones_first(
    given: Sequence[tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]],
) -> None:
    plans = [a_plan(*merged("live", live), *merged("past", past)) for live, past in given]
    stretches = together(plans)
    for number, topic in enumerate(("live", "past")):
        alone = merged(topic, [span for each in given for span in each[number]])
        assert [stretch for stretch in stretches if stretch.topic == topic] == alone
    topics = [stretch.topic for stretch in stretches]
    assert topics == sorted(topics)


def test_an_hour_is_read_with_others_if_half_of_it_is_read_anyway() -> None:
    first = a_plan(Stretch("live", {0: 0}, {0: 100}))
    assert is_shared([first], a_plan(Stretch("live", {0: 90}, {0: 110})))
    assert not is_shared([first], a_plan(Stretch("live", {0: 90}, {0: 111})))
    assert not is_shared([first], a_plan(Stretch("past", {0: 0}, {0: 100})))
    assert is_shared([first], a_plan())


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
